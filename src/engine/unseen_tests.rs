//! The filter on a simulated disk: full disks, power cuts, colliding hashes, places used again.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER, Random, maintain};
use crate::engine::finish::Ending;
use crate::error::Error;
use crate::meta::Meta;
use crate::policy::{BeginOptions, Policy};
use crate::record::Ignore;
use crate::version::Version;

fn with_filter() -> Bench {
    Bench::with(|config| config.negative_filter = true)
}

fn insert(engine: &Engine, key: &str, lifetime: u64) -> bool {
    !engine.check_and_set(key.as_bytes(), &[7; 100], lifetime, &mut Ignore).unwrap()
}

/// What [`Engine::peek`] says, which asks the filter before it takes the lock.
fn peek(engine: &Engine, key: &str) -> Option<Meta> {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.peek(full, now)).unwrap()
}

fn remove(engine: &Engine, key: &str) -> bool {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now)).unwrap()
}

fn begin(engine: &Engine, key: &str, retention: u64) -> Option<Version> {
    let terms = Policy::DEFAULT.terms(&BeginOptions::new(), retention).unwrap();
    let now = engine.clock.now();
    let begun = engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now));
    match begun.unwrap() {
        Begun::Started(grant) => Some(grant.version),
        _ => None,
    }
}

fn end(engine: &Engine, key: &str, token: Version, ending: Ending<'_>) {
    let now = engine.clock.now();
    let end = |full: crate::engine::claim::FullKey<'_>| engine.finish(full, token, ending, now);
    engine.with_key(None, key.as_bytes(), end).map(drop).unwrap();
}

#[test]
fn a_lease_completed_on_a_full_disk_is_known_when_nothing_else_of_its_key_is_left() {
    let bench = with_filter();
    let engine = bench.open();
    let token = begin(&engine, "a", 400 * MINUTE).unwrap();
    bench.advance(100 * MINUTE);
    *bench.disk.room.lock() = Some(0);
    for bytes in [3_000, 10] {
        let taken = |i: &u64| {
            let (key, outcome) = (format!("key {bytes} {i}"), vec![7; bytes]);
            engine.check_and_set(key.as_bytes(), &outcome, 400 * MINUTE, &mut Ignore)
        };
        let refused = (0..).map(|i| taken(&i)).find(Result::is_err);
        assert!(matches!(refused, Some(Err(Error::Full { .. }))));
    }
    end(&engine, "a", token, Ending::Complete(b"done"));
    let known = |engine: &Engine| peek(engine, "a").is_some_and(|meta| meta.version >= token);
    assert!(known(&engine));
    // The bucket of its first record ends; the completion lies in another one.
    let ends = engine.log.segments().into_iter().map(|segment| segment.ends);
    let (started, last) = (ends.clone().min().unwrap(), ends.max().unwrap());
    assert!(last > started, "the completion went to a kept segment");
    *bench.disk.room.lock() = None;
    bench.advance(350 * MINUTE);
    maintain(&engine);
    assert!(engine.log.segments().iter().all(|segment| segment.ends > started));
    assert!(known(&engine));
    drop(engine);
    assert!(known(&bench.open()), "filled at open");
}

#[test]
fn a_completion_outlives_the_filter_of_its_lease() {
    let bench = with_filter();
    let engine = bench.open();
    let token = begin(&engine, "a", 60 * MINUTE).unwrap();
    end(&engine, "a", token, Ending::Renew(50 * MINUTE));
    bench.advance(45 * MINUTE);
    end(&engine, "a", token, Ending::Complete(b"done"));
    bench.advance(30 * MINUTE);
    maintain(&engine);
    assert_eq!(engine.stats().filter.unwrap().buckets, 1, "that of the lease is gone");
    assert!(peek(&engine, "a").is_some());
}

#[test]
fn no_answer_changes_over_power_cuts_restarts_and_places_used_again() {
    let keys: Vec<_> = (0..60).map(|i| format!("key {i}")).collect();
    for seed in 0..4 {
        let (mut bench, mut random) = (with_filter(), Random(seed));
        let mut engine = bench.open();
        for step in 0..240 {
            let key = &keys[random.next(60) as usize];
            match random.next(12) {
                0 => drop(remove(&engine, key)),
                1 => {
                    if let Some(token) = begin(&engine, key, 9 * MINUTE) {
                        match random.next(3) {
                            0 => end(&engine, key, token, Ending::Complete(b"done")),
                            1 => end(&engine, key, token, Ending::Renew(5 * MINUTE)),
                            _ => {}
                        }
                    }
                }
                2 => {
                    bench.advance(random.next(2 * MINUTE));
                    maintain(&engine);
                }
                _ => {
                    let lifetime = [NEVER, MINUTE / 30, 5 * MINUTE, 90 * MINUTE];
                    let lifetime = lifetime[random.next(4) as usize];
                    let _ = engine.check_and_set(key.as_bytes(), b"x", lifetime, &mut Ignore);
                }
            }
            if step % 60 != 59 {
                continue;
            }
            let disk = match random.next(3) {
                0 => {
                    engine.close().unwrap();
                    bench.disk.copy()
                }
                1 => bench.disk.copy(),
                _ => bench.disk.after_power_cut(|| random.next(2) == 0),
            };
            drop(engine);
            // The same files, with the filter and without it.
            let mut plain = Bench { config: bench.config.clone(), ..Bench::with(|_| ()) };
            plain.config.negative_filter = false;
            let plain = plain.open_on(Arc::new(disk.copy()));
            bench.disk = Arc::new(disk);
            engine = bench.open();
            for key in keys.iter().cloned().chain((60..120).map(|i| format!("key {i}"))) {
                assert_eq!(peek(&engine, &key), peek(&plain, &key), "seed {seed} {step} {key}");
            }
        }
    }
}

#[test]
fn keys_that_all_have_one_hash_are_told_apart_as_without_the_filter() {
    let mut bench = with_filter();
    bench.constant_hash = true;
    let engine = bench.open();
    assert!(peek(&engine, "absent").is_none());
    assert_eq!(engine.stats().filter.unwrap().excluded, 1);
    for i in 0..60 {
        assert!(insert(&engine, &format!("key {i}"), NEVER));
        assert!(peek(&engine, &format!("key {i}")).is_some());
        assert!(peek(&engine, "absent").is_none());
    }
    assert!(remove(&engine, "key 7") && !remove(&engine, "key 7"));
    let filter = engine.stats().filter.unwrap();
    assert_eq!((filter.excluded, filter.false_positive_ppm), (1, filter.false_positive_ppm));
    drop(engine);
    let engine = bench.open();
    assert!((0..60).all(|i| peek(&engine, &format!("key {i}")).is_some() == (i != 7)));
}

#[test]
fn a_store_that_keeps_no_filter_has_none_to_tell_of() {
    let engine = Bench::with(|_| ()).open();
    assert!(insert(&engine, "a", NEVER) && peek(&engine, "b").is_none());
    assert!(engine.stats().filter.is_none() && engine.filter.is_none());
}
