//! At every limit: new keys are refused, all else goes on, nothing is lost, and service resumes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER, START, maintain};
use crate::engine::finish::Ending;
use crate::error::{Error, Result};
use crate::options::CheckOptions;
use crate::policy::{Anchor, BeginOptions, OUTCOME_BYTES_RESERVED, Policy};
use crate::record::{Ignore, Own, Record};
use crate::sys::memory_disk::Fault;
use crate::time::Timestamp;
use crate::version::Version;

fn insert(engine: &Engine, key: &str, bytes: usize, lifetime: u64) -> Result<bool> {
    let known = engine.check_and_set(key.as_bytes(), &vec![1; bytes], lifetime, &mut Ignore)?;
    Ok(!known)
}

fn known(engine: &Engine, key: &str) -> bool {
    engine.get(key.as_bytes(), &mut Ignore).unwrap()
}

fn remove(engine: &Engine, key: &str) -> Result<bool> {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now))
}

fn begin(engine: &Engine, key: &str) -> Result<Option<Version>> {
    let terms = Policy::DEFAULT.terms(&BeginOptions::new(), 60 * MINUTE)?;
    let now = engine.clock.now();
    let begun = engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now))?;
    Ok(match begun {
        Begun::Started(grant) => Some(grant.version),
        _ => None,
    })
}

fn complete(engine: &Engine, key: &str, token: Version) {
    let (now, ending) = (engine.clock.now(), Ending::Complete(&[7; OUTCOME_BYTES_RESERVED]));
    let end = |full: crate::engine::claim::FullKey<'_>| engine.finish(full, token, ending, now);
    engine.with_key(None, key.as_bytes(), end).unwrap();
}

/// Inserts `key 0`, `key 1` and so on until one is refused; how many there are.
fn fill(engine: &Engine, bytes: usize, lifetime: u64) -> u64 {
    (0..).find(|i| insert(engine, &format!("key {i}"), bytes, lifetime).is_err()).unwrap()
}

/// Inserts keys until no stripe takes another; those that were taken.
fn saturate(engine: &Engine, name: &str, lifetime: u64) -> Vec<String> {
    let (mut taken, mut refused) = (Vec::new(), 0);
    for i in 0.. {
        let key = format!("{name} {i}");
        match insert(engine, &key, 10, lifetime) {
            Ok(new) => {
                assert!(new);
                taken.push(key);
                refused = 0;
            }
            Err(error) => {
                assert!(matches!(error, Error::Full { what: "max_keys" }), "{error}");
                refused += 1;
            }
        }
        if refused == 200 {
            break;
        }
    }
    taken
}

fn is_full<T>(result: Result<T>, of: &str) -> bool {
    matches!(result, Err(Error::Full { what }) if what == of)
}

#[test]
fn at_the_limit_of_keys_only_new_ones_are_refused_until_others_are_gone() {
    let bench = Bench::with(|config| config.max_keys = Some(1_000));
    let engine = bench.open();
    let token = begin(&engine, "lease").unwrap().unwrap();
    let keys = saturate(&engine, "key", 60 * MINUTE);
    assert_eq!(keys.len(), 999);
    assert!(is_full(insert(&engine, "new", 1, NEVER), "max_keys"));
    assert!(is_full(begin(&engine, "new"), "max_keys"));
    assert!(!known(&engine, "new"));
    assert!(keys.iter().all(|key| known(&engine, key)));
    assert!(keys.iter().all(|key| !insert(&engine, key, 1, NEVER).unwrap()));
    complete(&engine, "lease", token);
    assert!(keys.iter().take(500).all(|key| remove(&engine, key).unwrap()));
    // A key that was removed has a slot, and may come back.
    assert!(insert(&engine, &keys[0], 1, 60 * MINUTE).unwrap());
    bench.clock.advance(Duration::from_millis(70 * MINUTE));
    maintain(&engine);
    assert_eq!(saturate(&engine, "later", 60 * MINUTE).len(), 1_000);
}

#[test]
fn the_limit_of_keys_is_not_exceeded_by_many_threads_and_counts_what_is_found_at_open() {
    let bench = Bench::with(|config| config.max_keys = Some(500));
    let engine = bench.open();
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, taken) = (&engine, &taken);
            scope.spawn(move || {
                for i in 0..400 {
                    match insert(engine, &format!("{thread} {i}"), 0, NEVER) {
                        Ok(new) => assert!(new && taken.fetch_add(1, Ordering::SeqCst) < 500),
                        Err(error) => assert!(matches!(error, Error::Full { .. }), "{error}"),
                    }
                }
            });
        }
    });
    let taken = taken.into_inner();
    assert_eq!((taken, engine.stats().keys), (500, 500));
    drop(engine);
    let smaller = Bench {
        disk: bench.disk.clone(),
        clock: bench.clock.clone(),
        config: Config { max_keys: Some(100), ..bench.config.clone() },
        constant_hash: false,
        secret: None,
    };
    let engine = smaller.open();
    assert_eq!(engine.stats().keys, taken);
    assert!(is_full(insert(&engine, "new", 0, NEVER), "max_keys"));
    drop(engine);
    let larger = Bench { config: Config { max_keys: Some(600), ..bench.config.clone() }, ..bench };
    let engine = larger.open();
    // What is found at open takes whole shares, of 9 keys here.
    let more = saturate(&engine, "more", NEVER).len();
    assert!((60..=100).contains(&more), "{more} more than {taken}");
}

#[test]
fn at_the_limit_of_bytes_only_new_keys_are_refused_until_removed_ones_make_room() {
    let limit = 12 << 20;
    let bench = Bench::with(|config| config.max_bytes = Some(limit));
    let engine = bench.open();
    let token = begin(&engine, "lease").unwrap().unwrap();
    insert(&engine, "first", 0, NEVER).unwrap();
    maintain(&engine);
    let count = fill(&engine, 1_000, NEVER);
    let within = |engine: &Engine| {
        let bytes = engine.stats().disk_bytes;
        assert!(bytes <= limit, "{bytes}");
    };
    within(&engine);
    assert!(count > 8_000, "{count}");
    assert!(is_full(insert(&engine, &format!("key {count}"), 1_000, NEVER), "max_bytes"));
    assert!((0..count).all(|i| !insert(&engine, &format!("key {i}"), 1, NEVER).unwrap()));
    complete(&engine, "lease", token);
    for i in 0..count / 2 {
        assert!(remove(&engine, &format!("key {i}")).unwrap(), "{i}");
        if i % 500 == 0 {
            maintain(&engine);
        }
    }
    maintain(&engine);
    within(&engine);
    for i in 0..count / 4 {
        assert!(insert(&engine, &format!("more {i}"), 1_000, NEVER).unwrap(), "{i}");
    }
    maintain(&engine);
    drop(engine);
    let engine = bench.open();
    assert!((0..count).all(|i| known(&engine, &format!("key {i}")) == (i >= count / 2)));
    assert!((0..count / 4).all(|i| known(&engine, &format!("more {i}"))));
    assert!(known(&engine, "lease"));
}

#[test]
fn keys_can_be_removed_on_a_full_disk_and_no_lease_loses_its_room_to_that() {
    let bench = Bench::with(|_| {});
    let engine = bench.open();
    let leases: Vec<_> = (0..500).map(|i| format!("lease {i}")).collect();
    let tokens: Vec<_> = leases.iter().map(|key| begin(&engine, key).unwrap().unwrap()).collect();
    insert(&engine, "first", 0, NEVER).unwrap();
    maintain(&engine);
    *bench.disk.room.lock() = Some(2);
    let count = fill(&engine, 0, NEVER);
    fill(&engine, 300, 60 * MINUTE);
    let removed = (0..count).take_while(|i| remove(&engine, &format!("key {i}")).is_ok()).count();
    assert!(removed > 1_000 && (removed as u64) < count / 2, "{removed} of {count}");
    for (key, token) in leases.iter().zip(tokens) {
        complete(&engine, key, token);
    }
    assert!(leases.iter().all(|key| known(&engine, key)));
    drop(engine);
    *bench.disk.room.lock() = None;
    let engine = bench.open();
    let removed = removed as u64;
    assert!((0..count).all(|i| known(&engine, &format!("key {i}")) == (i >= removed)));
    maintain(&engine);
    assert!(remove(&engine, &format!("key {removed}")).unwrap());
    assert!(insert(&engine, "new", 300, NEVER).unwrap());
}

#[test]
fn room_under_the_limit_that_one_stripe_does_not_need_any_more_goes_to_the_others() {
    let bench = Bench::with(|config| config.max_keys = Some(400));
    let engine = bench.open();
    assert!(saturate(&engine, "old", MINUTE).len() > 350);
    bench.advance(30 * MINUTE);
    while engine.maintain(Duration::from_secs(1)).unwrap().more {}
    assert_eq!(engine.stats().keys, 0);
    // All of these have their slots in the first of the four stripes.
    let in_first = |key: &String| engine.hasher().hash(key.as_bytes()).as_u64() >> 62 == 0;
    let keys = (0..).map(|i| format!("new {i}")).filter(in_first);
    for (taken, key) in keys.take(300).enumerate() {
        assert!(insert(&engine, &key, 10, MINUTE).unwrap(), "after {taken} keys");
    }
}

#[test]
fn a_duplicate_that_finds_no_room_to_prolong_its_key_is_answered_all_the_same() {
    let bench = Bench::with(|_| {});
    let engine = bench.open();
    let options = CheckOptions::new().anchor(Anchor::LastSeen);
    let kept = Policy::DEFAULT.kept(&options, 60 * MINUTE).unwrap();
    let seen = |key: &str, outcome: &[u8]| -> Result<Option<Record>> {
        let now = engine.clock.now();
        engine.with_key(None, key.as_bytes(), |full| {
            engine.check_full(full, outcome, kept, now, &mut Own)
        })
    };
    assert!(seen("seen", &[5; 2_000]).unwrap().is_none());
    *bench.disk.room.lock() = Some(1);
    fill(&engine, 900, NEVER);
    bench.advance(30 * MINUTE);
    fill(&engine, 900, 60 * MINUTE);
    let before = engine.stats();
    let record = seen("seen", b"other").unwrap().unwrap();
    assert_eq!((record.outcome(), record.expires()), (&[5; 2_000][..], at(68 * MINUTE - 30_000)));
    let after = engine.stats();
    assert_eq!((after.refreshes, after.refreshes_missed - before.refreshes_missed), (0, 1));
    *bench.disk.room.lock() = None;
    let record = seen("seen", b"other").unwrap().unwrap();
    assert_eq!((record.outcome(), record.expires()), (&[5; 2_000][..], at(98 * MINUTE - 30_000)));
    assert_eq!(engine.stats().refreshes, 1);
    drop(engine);
    bench.advance(60 * MINUTE);
    assert!(known(&bench.open(), "seen"));
}

/// So many milliseconds after the clock's beginning.
fn at(millis: u64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(START + millis))
}

#[test]
fn segments_whose_drop_had_to_be_repeated_are_swept_like_any_others() {
    let bench = Bench::with(|_| {});
    let engine = bench.open();
    assert!(insert(&engine, "short", 300, MINUTE).unwrap());
    bench.advance(10 * MINUTE);
    let (at, kind) = (bench.disk.calls.lock().len() as u64, std::io::ErrorKind::StorageFull);
    *bench.disk.fault.lock() = Some(Fault { at, from_then_on: true, kind });
    for _ in 0..3 {
        assert!(engine.expire(engine.clock.now()).is_err());
    }
    *bench.disk.fault.lock() = None;
    assert_eq!(engine.expire(engine.clock.now()).unwrap(), 1);
    while engine.sweep_step().unwrap().1 {}
    assert!(!engine.log.has_dead() && !known(&engine, "short"));
}
