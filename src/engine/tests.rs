//! The engine on a simulated disk: crashes, power cuts, full disks, and a hash that never differs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, START, get};
use crate::engine::claim::FullKey;
use crate::error::Error;
use crate::format::record::Marks;
use crate::record::Own;
use crate::time::{Clock, Timestamp};

fn check(engine: &Engine, key: &str, outcome: &[u8]) -> Option<Vec<u8>> {
    let found = engine.check_and_set(key.as_bytes(), outcome, engine.lifetime(), &mut Own);
    found.unwrap().map(|record| record.outcome().to_vec())
}

fn remove(engine: &Engine, key: &str) -> bool {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now)).unwrap()
}

#[test]
fn every_answer_is_right_under_a_hash_that_never_differs() {
    let mut bench = Bench::new();
    bench.constant_hash = true;
    let engine = bench.open();
    for i in 0..600 {
        assert_eq!(check(&engine, &format!("key {i}"), format!("{i}").as_bytes()), None);
    }
    for i in 0..600 {
        let outcome = Some(format!("{i}").into_bytes());
        assert_eq!(check(&engine, &format!("key {i}"), b"other"), outcome);
    }
    assert!(remove(&engine, "key 7"));
    drop(engine);
    let engine = bench.open();
    assert_eq!(get(&engine, "key 7"), None);
    assert_eq!(get(&engine, "key 8"), Some(b"8".to_vec()));
    assert_eq!(get(&engine, "key 600"), None);
}

#[test]
fn what_was_synced_survives_every_power_cut_and_the_rest_is_there_whole_or_not_at_all() {
    let mut seed = 7_u64;
    for round in 0..60 {
        let mut bench = Bench::new();
        let engine = bench.open();
        let fill = |from: u64, to: u64| {
            for i in from..to {
                let outcome = vec![i as u8; (i % 700) as usize];
                assert_eq!(check(&engine, &format!("key {i}"), &outcome), None);
            }
        };
        fill(0, 300);
        engine.sync().unwrap();
        fill(300, 300 + round * 150);
        let cut = bench.disk.after_power_cut(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 63 == 0
        });
        drop(engine);
        bench.disk = Arc::new(cut);
        let engine = bench.open();
        for i in 0..300 + round * 150 {
            let outcome = vec![i as u8; (i % 700) as usize];
            match get(&engine, &format!("key {i}")) {
                Some(found) => assert_eq!(found, outcome, "key {i}"),
                None => assert!(i >= 300, "synced key {i} is gone in round {round}"),
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_new_keys_loses_nothing_and_heals() {
    let bench = Bench::new();
    let engine = bench.open();
    *bench.disk.room.lock() = Some(1);
    let mut kept = 0;
    let refused = loop {
        let (key, outcome) = (format!("key {kept}"), vec![1; 1000]);
        match engine.check_and_set(key.as_bytes(), &outcome, MINUTE, &mut Own) {
            Ok(None) => kept += 1,
            Ok(Some(_)) => panic!("{key} was known"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    assert!(kept > 500);
    assert!(get(&engine, "key 0").is_some());
    assert!(check(&engine, "key 1", b"").is_some());
    *bench.disk.room.lock() = None;
    assert_eq!(check(&engine, &format!("key {kept}"), b"late"), None);
    assert!((0..=kept).all(|i| get(&engine, &format!("key {i}")).is_some()));
}

#[test]
fn a_failed_sync_ends_all_writing_but_not_reading() {
    let bench = Bench::new();
    let engine = bench.open();
    check(&engine, "a", b"1");
    bench.disk.sync_fails.store(true, Ordering::SeqCst);
    assert!(engine.sync().is_err());
    bench.disk.sync_fails.store(false, Ordering::SeqCst);
    let refused = engine.check_and_set(b"b", b"", MINUTE, &mut Own);
    assert!(matches!(refused, Err(Error::Poisoned { .. })));
    assert!(matches!(engine.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(get(&engine, "a"), Some(b"1".to_vec()));
    drop(engine);
    assert_eq!(get(&bench.open(), "a"), Some(b"1".to_vec()));
}

#[test]
fn versions_of_a_key_rise_through_removal_expiry_and_reopening() {
    let bench = Bench::new();
    let mut last = None;
    for round in 0..12 {
        let engine = bench.open();
        for _ in 0..3 {
            assert_eq!(check(&engine, "a", b""), None, "round {round}");
            let found = engine.get(b"a", &mut Own).unwrap();
            let version = found.map(|record| record.version());
            assert!(version > last, "round {round}");
            last = version;
            remove(&engine, "a");
        }
        bench.clock.advance(Duration::from_millis(3 * MINUTE * (round % 7)));
        engine.maintain(Duration::from_secs(1)).unwrap();
    }
}

#[test]
fn dropped_segments_give_memory_and_disk_back() {
    let bench = Bench::new();
    let engine = bench.open();
    let mut most = 0;
    for minute in 0..120 {
        for i in 0..500 {
            assert_eq!(check(&engine, &format!("{minute}.{i}"), &[0; 100]), None);
        }
        bench.clock.advance(Duration::from_millis(MINUTE));
        while engine.maintain(Duration::from_secs(1)).unwrap().more {}
        if minute == 40 {
            most = engine.stats().disk_bytes;
        }
    }
    let stats = engine.stats();
    assert!(stats.keys <= 500 * 12, "{stats:?}");
    assert!(stats.disk_bytes <= most * 5 / 4, "{stats:?} after {most}");
    assert!(stats.segments_expired > 50, "{stats:?}");
    for minute in 111..120 {
        assert!((0..500).all(|i| get(&engine, &format!("{minute}.{i}")).is_some()), "{minute}");
    }
    assert_eq!(get(&engine, "109.0"), None);
}

#[test]
fn a_record_read_without_the_lock_is_taken_back_once_its_slot_was_swept() {
    let bench = Bench::new();
    let engine = bench.open();
    check(&engine, "key", b"outcome");
    let before = engine.clock.now();
    let search = engine.index.search(engine.hasher().hash(b"key")).unwrap();
    let location = search.location().unwrap();
    let replay = engine.log.glance_wide(location, b"key", Marks::NONE).unwrap();
    let hand_over = || Engine::hand_over_glanced(&search, &replay, before, &mut Own);
    let found = hand_over();
    assert_eq!(found.flatten().unwrap().outcome(), b"outcome");
    // The segment is dropped and its place free for others, so what is read there is nobody's.
    bench.clock.advance(Duration::from_millis(30 * MINUTE));
    while engine.maintain(Duration::from_secs(1)).unwrap().more {}
    assert!(hand_over().is_none());
}

#[test]
fn nothing_seen_of_a_stripe_without_its_lock_counts_while_or_after_it_changes() {
    let bench = Bench::new();
    let engine = bench.open();
    check(&engine, "key", b"outcome");
    let (hash, now) = (engine.hasher().hash(b"key"), engine.clock.now());
    let before = engine.index.search(hash).unwrap();
    assert_eq!(engine.brief_found(&before, b"key", now).unwrap().outcome_len, 7);
    let mut stripe = engine.index.lock(hash);
    stripe.hide();
    let meanwhile = engine.index.search(hash).unwrap();
    assert!(engine.brief_found(&before, b"key", now).is_none());
    assert!(engine.brief_found(&meanwhile, b"key", now).is_none());
    stripe.show();
    drop(stripe);
    assert!(engine.brief_found(&before, b"key", now).is_none());
    assert!(engine.brief_found(&meanwhile, b"key", now).is_none());
    let after = engine.index.search(hash).unwrap();
    assert!(engine.brief_found(&after, b"key", now).is_some());
    // Nor does it count as a search for a key that is not there.
    let absent = engine.hasher().hash(b"absent");
    let mut stripe = engine.index.lock(absent);
    stripe.hide();
    assert!(engine.index.search(absent).is_none_or(|search| !search.holds()));
    stripe.show();
}

#[test]
fn after_a_close_no_maintenance_under_way_writes_to_the_directory() {
    let bench = Bench::new();
    let engine = bench.open();
    check(&engine, "key", b"outcome");
    assert!(engine.close().unwrap());
    let next = bench.open();
    assert_eq!(get(&next, "key").as_deref(), Some(&b"outcome"[..]));
    // As a step would that had looked whether the store is open just before it was closed.
    bench.clock.advance(Duration::from_millis(30 * MINUTE));
    let now = engine.clock.now();
    assert!(matches!(engine.expire(now), Err(Error::Closed)));
    assert!(matches!(engine.log.save_manifest(now, false), Err(Error::Closed)));
    drop(next);
    // The segment is still listed, and dropped by whoever has the directory.
    assert_eq!(bench.open().recovery.expired, 1);
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Check(u8, u16, u8),
    Get(u8),
    Remove(u8),
    Advance(u32),
    Back(u32),
    Maintain,
    Crash,
    Close,
}

/// What the engine must answer: key to outcome and end, and the time that never runs back.
struct Model {
    records: BTreeMap<u8, (Vec<u8>, u64)>,
    now: u64,
}

impl Model {
    fn live(&self, key: u8) -> Option<&Vec<u8>> {
        self.records.get(&key).filter(|(_, end)| self.now < *end).map(|(outcome, _)| outcome)
    }
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    let step = prop_oneof![
        8 => (any::<u8>(), 0..3000_u16, 0..6_u8).prop_map(|(k, l, t)| Step::Check(k % 48, l, t)),
        4 => any::<u8>().prop_map(|k| Step::Get(k % 48)),
        3 => any::<u8>().prop_map(|k| Step::Remove(k % 48)),
        3 => (1..2_000_000_u32).prop_map(Step::Advance),
        1 => (1..2_000_000_u32).prop_map(Step::Back),
        3 => Just(Step::Maintain),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..150)
}

/// Does one step on both and compares the answers.
fn compare(bench: &Bench, open: &Engine, model: &mut Model, step: &Step, outcome_byte: u8) {
    const LIFETIMES: [u64; 6] = [1, 999, 30_000, 10 * MINUTE, 700 * MINUTE, u64::MAX];
    match *step {
        Step::Check(key, len, lifetime) => {
            let outcome = vec![outcome_byte; usize::from(len)];
            let lifetime = LIFETIMES[usize::from(lifetime)];
            let found = open.check_and_set(&[key], &outcome, lifetime, &mut Own).unwrap();
            let new = found.is_none();
            let answer = found.map(|record| record.outcome().to_vec());
            assert_eq!(answer.as_ref(), model.live(key));
            if new {
                model.records.insert(key, (outcome, model.now.saturating_add(lifetime)));
            }
        }
        Step::Get(key) => {
            let found = open.get(&[key], &mut Own).unwrap();
            let answer = found.map(|record| record.outcome().to_vec());
            assert_eq!(answer.as_ref(), model.live(key));
        }
        Step::Remove(key) => {
            let known = model.live(key).is_some();
            model.records.remove(&key);
            let full = |full: FullKey<'_>| open.remove(full, None, open.clock.now());
            assert_eq!(open.with_key(None, &[key], full).unwrap(), known);
        }
        Step::Advance(by) => {
            bench.clock.advance(Duration::from_millis(u64::from(by)));
            model.now = model.now.max(bench.clock.now().as_millis());
        }
        Step::Back(by) => {
            // The engine only knows of a time at which it looked at the clock.
            open.clock.now();
            let back = bench.clock.now().as_millis() - u64::from(by);
            bench.clock.set(Timestamp::from_millis(back));
        }
        Step::Maintain => {
            open.maintain(Duration::ZERO).unwrap();
        }
        // A crash forgets the time of which nothing was written down.
        Step::Crash => open.log.save_manifest(open.clock.now(), false).unwrap(),
        Step::Close => {
            open.close().unwrap();
        }
    }
}

#[test]
fn closing_while_others_maintain_seals_every_segment_once() {
    for _ in 0..20 {
        let bench = Bench::new();
        let engine = bench.open();
        for i in 0..3000 {
            check(&engine, &format!("key {i}"), &[7; 2000]);
        }
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| match engine.maintain(Duration::from_secs(1)) {
                    Ok(_) | Err(Error::Closed) => {}
                    Err(error) => panic!("{error}"),
                });
            }
            assert!(engine.close().unwrap());
        });
        drop(engine);
        let engine = bench.open();
        assert!(engine.recovery.after_close && engine.recovery.records == 3000);
        assert_eq!(engine.recovery.sealed, engine.recovery.segments);
    }
}

#[test]
fn a_plain_map_and_the_engine_agree_through_crashes_and_clock_moves() {
    let config = proptest::test_runner::Config {
        cases: 96,
        failure_persistence: None,
        ..Default::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&steps(), |steps| {
        let bench = Bench::new();
        let mut engine = bench.open();
        let mut model = Model { records: BTreeMap::new(), now: START };
        for (number, step) in steps.iter().enumerate() {
            compare(&bench, &engine, &mut model, step, number as u8);
            if matches!(step, Step::Crash | Step::Close) {
                drop(engine);
                engine = bench.open();
            }
        }
        Ok(())
    });
    result.unwrap();
}
