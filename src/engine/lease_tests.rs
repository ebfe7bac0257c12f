//! Leases on a simulated disk: a full one, one that loses power, and a hash that never differs.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::{Begun, Grant};
use crate::engine::bench::{Bench, MINUTE, get};
use crate::engine::finish::Ending;
use crate::error::{Error, Result};
use crate::policy::{BeginOptions, OUTCOME_BYTES_RESERVED, Policy, Terms};
use crate::record::Own;
use crate::version::Version;

fn terms(retention_ms: u64) -> Terms {
    let terms = Policy::default().terms(&BeginOptions::new(), retention_ms);
    terms.unwrap_or_else(|error| panic!("{error}"))
}

fn begin(engine: &Engine, key: &str, retention_ms: u64) -> Result<Begun> {
    let (terms, now) = (terms(retention_ms), engine.clock.now());
    engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now))
}

fn started(answer: Result<Begun>) -> Grant {
    match answer {
        Ok(Begun::Started(grant)) => grant,
        other => panic!("not started: {other:?}"),
    }
}

fn end(engine: &Engine, key: &str, token: Version, ending: Ending<'_>) -> Result<()> {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.finish(full, token, ending, now))?;
    Ok(())
}

/// Uses up all room, in every bucket that the keys could go to.
fn fill(engine: &Engine) {
    for (ttl, minutes) in [1, 10, 60, 600].into_iter().enumerate() {
        for number in 0.. {
            let (key, outcome) = (format!("fill {ttl} {number}"), vec![1; 600]);
            let filled = engine.check_and_set(key.as_bytes(), &outcome, minutes * MINUTE, &mut Own);
            match filled {
                Ok(_) => assert!(number < 100_000, "the disk never filled up"),
                Err(Error::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn every_lease_begun_before_the_disk_filled_up_can_be_completed() {
    let bench = Bench::new();
    let engine = bench.open();
    let retentions = [MINUTE, 10 * MINUTE, 60 * MINUTE, 600 * MINUTE];
    let key = |number: usize| format!("{number} {}", "k".repeat(number % 40 * 20));
    let grants: Vec<Grant> =
        (0..3_000).map(|n| started(begin(&engine, &key(n), retentions[n % 4]))).collect();
    *bench.disk.room.lock() = Some(0);
    fill(&engine);
    let largest = vec![7; OUTCOME_BYTES_RESERVED];
    for (number, grant) in grants.iter().enumerate() {
        let ending = match number % 8 {
            0 => Ending::Release(0),
            1 => Ending::Fail(&largest),
            _ => Ending::Complete(&largest),
        };
        end(&engine, &key(number), grant.version, ending)
            .unwrap_or_else(|error| panic!("lease {number}: {error}"));
    }
    let all_known =
        |engine: &Engine| (0..3_000).all(|n| get(engine, &key(n)).is_some() == (n % 8 != 0));
    assert!(all_known(&engine));
    assert!(matches!(begin(&engine, "one more", MINUTE), Err(Error::Full { .. })));
    engine.maintain(Duration::from_secs(5)).unwrap();
    drop(engine);
    *bench.disk.room.lock() = None;
    let engine = bench.open();
    assert!(all_known(&engine));
    started(begin(&engine, "one more", MINUTE));
    for minutes in [2, 600, 1_200] {
        bench.clock.advance(Duration::from_millis(minutes * MINUTE));
        while engine.maintain(Duration::from_secs(1)).unwrap().more {}
    }
    assert!(get(&engine, &key(2)).is_none());
    assert_eq!(engine.stats().segments, 0, "kept segments expire like all others");
}

#[test]
fn what_is_completed_in_kept_room_is_durable_once_it_was_synced() {
    let bench = Bench::new();
    let engine = bench.open();
    let key = |number: usize| format!("lease {number}");
    let grants: Vec<Grant> =
        (0..100).map(|number| started(begin(&engine, &key(number), 10 * MINUTE))).collect();
    *bench.disk.room.lock() = Some(0);
    fill(&engine);
    engine.sync().unwrap();
    let before = engine.log.segments().len();
    for (number, grant) in grants.iter().enumerate() {
        let ending = Ending::Complete(&[7; OUTCOME_BYTES_RESERVED]);
        end(&engine, &key(number), grant.version, ending).unwrap();
    }
    assert!(engine.log.segments().len() > before, "a kept segment is in use");
    let settled = |number: usize| engine.is_settled(engine.hasher().hash(key(number).as_bytes()));
    assert!(!settled(99));
    engine.settle_all().unwrap();
    assert!((0..100).all(settled));
    let engine = bench.open_on(Arc::new(bench.disk.after_power_cut(|| false)));
    assert!((0..100).all(|number| get(&engine, &key(number)).is_some()));
}

#[test]
fn a_promise_ends_with_its_lease_and_with_its_bucket() {
    let bench = Bench::new();
    let engine = bench.open();
    let promised = || engine.log.reserve.promised();
    started(begin(&engine, "one", 10 * MINUTE));
    let one = promised();
    assert!(one > OUTCOME_BYTES_RESERVED as u64);
    bench.clock.advance(Duration::from_millis(12 * MINUTE));
    engine.maintain(Duration::ZERO).unwrap();
    for round in 0..3 {
        for number in 0..50 {
            let key = format!("{round} {number}");
            let grant = started(begin(&engine, &key, 10 * MINUTE));
            let renewed = end(&engine, &key, grant.version, Ending::Renew(MINUTE));
            renewed.unwrap();
            match number % 4 {
                0 => end(&engine, &key, grant.version, Ending::Complete(b"x")).unwrap(),
                1 => end(&engine, &key, grant.version, Ending::Release(0)).unwrap(),
                2 => {
                    let now = engine.clock.now();
                    let removed = engine
                        .with_key(None, key.as_bytes(), |full| engine.remove(full, None, now));
                    assert!(removed.unwrap());
                }
                _ => {}
            }
        }
        assert_eq!(promised(), 12 * one, "12 leases are not ended");
        bench.clock.advance(Duration::from_millis(12 * MINUTE));
        engine.maintain(Duration::ZERO).unwrap();
        assert_eq!(promised(), 0);
    }
}

#[test]
fn what_was_synced_of_a_lease_survives_every_power_cut() {
    let mut seed = 5_u64;
    for round in 0..40 {
        let mut bench = Bench::new();
        bench.constant_hash = round % 4 == 0;
        let engine = bench.open();
        let grants: Vec<Grant> =
            (0..60).map(|n| started(begin(&engine, &n.to_string(), 10 * MINUTE))).collect();
        for (number, grant) in grants.iter().enumerate().take(30) {
            end(&engine, &number.to_string(), grant.version, Ending::Complete(b"x")).unwrap();
        }
        engine.sync().unwrap();
        for (number, grant) in grants.iter().enumerate().skip(30) {
            end(&engine, &number.to_string(), grant.version, Ending::Complete(b"y")).unwrap();
        }
        let cut = bench.disk.after_power_cut(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 63 == 0
        });
        drop(engine);
        bench.disk = Arc::new(cut);
        let engine = bench.open();
        for (number, grant) in grants.iter().enumerate() {
            let key = number.to_string();
            match begin(&engine, &key, MINUTE).unwrap() {
                Begun::Completed(record) => {
                    assert_eq!(record.outcome(), if number < 30 { b"x" } else { b"y" });
                }
                Begun::InProgress(meta) => {
                    assert!(number >= 30, "synced key {number} in round {round}");
                    assert_eq!(meta.version, grant.version);
                    end(&engine, &key, grant.version, Ending::Complete(b"again")).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_lease_of_an_earlier_process_can_be_completed_though_the_disk_is_full_now() {
    let largest = vec![7; OUTCOME_BYTES_RESERVED];
    for closed in [false, true] {
        let bench = Bench::new();
        let engine = bench.open();
        let retentions = [MINUTE, 10 * MINUTE, 60 * MINUTE];
        let grants: Vec<Grant> = (0..2_000)
            .map(|n| started(begin(&engine, &n.to_string(), retentions[n % 3])))
            .collect();
        for (number, grant) in grants.iter().enumerate().take(500) {
            end(&engine, &number.to_string(), grant.version, Ending::Complete(b"x")).unwrap();
        }
        let promised = engine.log.reserve.promised();
        if closed {
            engine.close().unwrap();
        }
        drop(engine);
        *bench.disk.room.lock() = Some(0);
        let engine = bench.open();
        assert_eq!(engine.log.reserve.promised(), promised, "closed: {closed}");
        fill(&engine);
        for (number, grant) in grants.iter().enumerate().skip(500) {
            end(&engine, &number.to_string(), grant.version, Ending::Complete(&largest))
                .unwrap_or_else(|error| panic!("lease {number}, closed: {closed}: {error}"));
        }
        assert_eq!(engine.log.reserve.promised(), 0);
        *bench.disk.room.lock() = None;
        started(begin(&engine, "one more", MINUTE));
    }
}

/// apache/pulsar#5218: a marker written before its message was kept made the retry a duplicate.
#[test]
fn a_begin_or_completion_that_found_no_room_has_changed_nothing() {
    let bench = Bench::new();
    let engine = bench.open();
    let grant = started(begin(&engine, "a", 10 * MINUTE));
    *bench.disk.room.lock() = Some(0);
    fill(&engine);
    let other = (0..10_000)
        .map(|number| format!("b {number}"))
        .find(|key| matches!(begin(&engine, key, 10 * MINUTE), Err(Error::Full { .. })))
        .unwrap();
    let large = vec![0; 900_000];
    let refused = end(&engine, "a", grant.version, Ending::Complete(&large));
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    assert!(matches!(begin(&engine, "a", 10 * MINUTE).unwrap(), Begun::InProgress(_)));
    *bench.disk.room.lock() = None;
    end(&engine, "a", grant.version, Ending::Complete(&large)).unwrap();
    assert_eq!(get(&engine, "a"), Some(large));
    assert_eq!(started(begin(&engine, &other, 10 * MINUTE)).attempt, 1);
}

#[test]
fn room_kept_by_a_process_that_was_killed_is_given_back_by_the_next_open() {
    let bench = Bench::new();
    for _ in 0..3 {
        let engine = bench.open();
        for number in 0..5_000 {
            // Left as they are: room for their completions is kept when the store goes away.
            let _ = begin(&engine, &number.to_string(), MINUTE).unwrap();
        }
        assert!(bench.disk.count(".seg") >= 4, "{}", bench.disk.count(".seg"));
        bench.clock.advance(Duration::from_millis(2 * MINUTE));
    }
    let engine = bench.open();
    assert_eq!(bench.disk.count(".seg"), 0);
    drop(engine);
}

#[test]
fn a_check_that_records_an_overdue_key_ends_its_promise() {
    let bench = Bench::new();
    let engine = bench.open();
    started(begin(&engine, "a", 10 * MINUTE));
    assert!(engine.log.reserve.promised() > 0);
    bench.clock.advance(Duration::from_millis(MINUTE));
    let checked = engine.check_and_set(b"a", b"x", MINUTE, &mut Own);
    assert!(checked.unwrap().is_none());
    assert_eq!(engine.log.reserve.promised(), 0);
}
