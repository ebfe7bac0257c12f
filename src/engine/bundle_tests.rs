//! Bundles on a simulated disk: cut off at every moment, full, compacted, damaged, on one hash.

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, NEVER, begin, cut, get, watched};
use crate::engine::bundle::{Act, Part, Refusal, Together};
use crate::error::{Error, Result};
use crate::meta::Status;
use crate::options::{CheckOptions, Kept};
use crate::policy::Policy;
use crate::record::{Ignore, Own};
use crate::version::Version;

const LIFE: u64 = 10 * MINUTE;

fn kept() -> Kept {
    Policy::DEFAULT.kept(&CheckOptions::new(), LIFE).unwrap()
}

fn part<'a>(engine: &Engine, key: &str, act: Act<'a>) -> Part<'a> {
    let key = engine.with_key(None, key.as_bytes(), |full| Ok(full.to_owned())).unwrap();
    Part { key, act }
}

fn new<'a>(engine: &Engine, key: &str, outcome: &'a [u8]) -> Part<'a> {
    part(engine, key, Act::New { outcome, kept: kept() })
}

fn together(engine: &Engine, parts: &[Part<'_>]) -> Result<Together> {
    engine.together(parts, engine.clock.now())
}

fn set_all(engine: &Engine, keys: &[&str], outcome: &[u8]) -> bool {
    let parts: Vec<_> = keys.iter().map(|key| new(engine, key, outcome)).collect();
    matches!(together(engine, &parts).unwrap(), Together::Done(_))
}

fn version(engine: &Engine, key: &str) -> Version {
    engine.get(key.as_bytes(), &mut Own).unwrap().unwrap().version()
}

/// How many of the keys are known with the outcome; any other outcome is wrong.
fn known(engine: &Engine, keys: &[String], outcome: &[u8]) -> usize {
    let found = keys.iter().filter_map(|key| get(engine, key));
    found.inspect(|found| assert_eq!(found, outcome)).count()
}

#[test]
fn after_every_power_cut_all_keys_of_a_bundle_are_known_or_none_is() {
    // From two short records in one line to some that reach over blocks.
    for (count, length) in [(2, 3), (3, 40), (40, 100), (3, 9_000), (5, 30_000)] {
        let bench = Bench::new();
        let engine = bench.open();
        engine.check_and_set(b"before", &[1; 1000], LIFE, &mut Ignore).unwrap();
        let keys: Vec<String> = (0..count).map(|number| format!("key {number}")).collect();
        let outcome: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0] | 1).collect();
        let looks = watched(&bench, || {
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            assert!(set_all(&engine, &names, &outcome));
            // What follows in the block may be on stable storage before the bundle is.
            engine.check_and_set(b"after", &[1; 1000], LIFE, &mut Ignore).unwrap();
        });
        let (none, all) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let images = cut(&bench, &looks, 150, |engine| match known(&engine, &keys, &outcome) {
            0 => none.set(none.get() + 1),
            found if found == keys.len() => all.set(all.get() + 1),
            found => panic!("{found} of {count} keys of {length} bytes are known"),
        });
        assert!(none.get() > 0 && all.get() > 0, "{images} images say nothing");
    }
}

#[test]
fn a_bundle_that_was_synced_survives_every_power_cut_and_one_that_follows_it_whole_or_not() {
    for constant in [false, true] {
        let mut bench = Bench::new();
        bench.config.durability = Durability::Synced;
        bench.constant_hash = constant;
        let engine = bench.open();
        let (first, second) = (["a", "b", "c"], ["d", "e", "f"]);
        assert!(set_all(&engine, &first, b"first"));
        engine.sync().unwrap();
        let looks = watched(&bench, || {
            assert!(set_all(&engine, &second, b"second"));
            engine.sync().unwrap();
        });
        cut(&bench, &looks, 60, |engine| {
            assert_eq!(known(&engine, &first.map(String::from), b"first"), 3);
            let found = known(&engine, &second.map(String::from), b"second");
            assert!(found == 0 || found == 3, "{found} of 3");
        });
    }
}

#[test]
fn a_lease_is_complete_after_a_power_cut_if_and_only_if_what_was_recorded_with_it_is_there() {
    let bench = Bench::new();
    let engine = bench.open();
    let grant = begin(&engine, "job", LIFE);
    engine
        .with_key(None, b"position", |full| {
            let now = engine.clock.now();
            engine.set_if(full, None, b"old", (None, kept()), now)
        })
        .unwrap()
        .unwrap();
    engine.check_and_set(b"gone", b"x", LIFE, &mut Ignore).unwrap();
    engine.sync().unwrap();
    let (position, gone) = (version(&engine, "position"), version(&engine, "gone"));
    let looks = watched(&bench, || {
        let set =
            Act::Set { expected: Some(position), outcome: b"new", lifetime_ms: None, kept: kept() };
        let parts = [
            part(&engine, "job", Act::Complete { token: grant.version, outcome: b"done" }),
            new(&engine, "message 1", b"m"),
            part(&engine, "position", set),
            part(&engine, "gone", Act::Remove { expected: gone }),
        ];
        let Together::Done(versions) = together(&engine, &parts).unwrap() else {
            panic!("refused")
        };
        assert_eq!(versions.len(), 4);
    });
    let images = cut(&bench, &looks, 200, |engine| {
        let now = engine.clock.now();
        let status = engine.with_key(None, b"job", |full| engine.peek(full, now)).unwrap();
        let done = status.unwrap().status == Status::Completed;
        assert_eq!(get(&engine, "message 1").is_some(), done);
        assert_eq!(get(&engine, "position").unwrap() == b"new", done);
        assert_eq!(get(&engine, "gone").is_none(), done);
    });
    assert!(images > 100, "{images}");
}

#[test]
fn whatever_stands_against_one_part_leaves_all_as_they_were_and_is_told() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(set_all(&engine, &["a", "b"], b"1"));
    let grant = begin(&engine, "job", LIFE);
    let stale = Version::from_u64(grant.version.as_u64() - 1);
    let set = Act::Set { expected: None, outcome: b"2", lifetime_ms: None, kept: kept() };
    let parts = [
        new(&engine, "c", b"2"),
        new(&engine, "b", b"2"),
        part(&engine, "a", set),
        part(&engine, "job", Act::Complete { token: stale, outcome: b"2" }),
        part(&engine, "d", Act::Remove { expected: stale }),
    ];
    let Together::Refused(refused) = together(&engine, &parts).unwrap() else { panic!("done") };
    assert!(matches!(
        &refused[..],
        [
            (1, Refusal::Known(record)),
            (2, Refusal::Changed),
            (3, Refusal::LeaseLost),
            (4, Refusal::Changed)
        ] if record.outcome() == b"1"
    ));
    assert_eq!((get(&engine, "a"), get(&engine, "c")), (Some(b"1".to_vec()), None));
    // The lease is as it was.
    let act = Act::Complete { token: grant.version, outcome: b"3" };
    let parts = [part(&engine, "job", act), new(&engine, "c", b"3")];
    assert!(matches!(together(&engine, &parts).unwrap(), Together::Done(_)));
    assert_eq!(get(&engine, "job"), Some(b"3".to_vec()));
}

#[test]
fn one_key_in_progress_refuses_the_others_with_its_deadline() {
    let bench = Bench::new();
    let engine = bench.open();
    let grant = begin(&engine, "b", LIFE);
    let parts = [new(&engine, "a", b"1"), new(&engine, "b", b"1"), new(&engine, "c", b"1")];
    let refused = together(&engine, &parts);
    let deadline = grant.deadline.as_millis();
    assert!(matches!(refused, Err(Error::InProgress { deadline_ms }) if deadline_ms == deadline));
    assert_eq!((get(&engine, "a"), get(&engine, "c")), (None, None));
}

#[test]
fn a_bundle_that_finds_no_room_leaves_everything_and_takes_nothing_from_a_lease() {
    let bench = Bench::new();
    let engine = bench.open();
    let grant = begin(&engine, "job", LIFE);
    *bench.disk.room.lock() = Some(0);
    let large = vec![7; 400_000];
    let parts = [
        part(&engine, "job", Act::Complete { token: grant.version, outcome: b"done" }),
        new(&engine, "a", &large),
        new(&engine, "b", &large),
        new(&engine, "c", &large),
    ];
    assert!(matches!(together(&engine, &parts), Err(Error::Full { .. })));
    assert_eq!(get(&engine, "a"), None);
    *bench.disk.room.lock() = None;
    assert!(matches!(together(&engine, &parts).unwrap(), Together::Done(_)));
    assert_eq!(get(&engine, "c"), Some(large.clone()));
    assert_eq!(engine.log.reserve.promised(), 0);
}

#[test]
fn members_are_compacted_superseded_and_removed_one_by_one() {
    for constant in [false, true] {
        let mut bench = Bench::with(|_| {});
        bench.constant_hash = constant;
        let mut engine = bench.open();
        let forever = Policy::DEFAULT.kept(&CheckOptions::new(), NEVER).unwrap();
        let count = if constant { 40 } else { 1_000 };
        let keys: Vec<[String; 4]> = (0..count)
            .map(|number| ["w", "x", "y", "z"].map(|name| format!("{name} {number}")))
            .collect();
        let outcome = vec![9; if constant { 20_000 } else { 700 }];
        for bundle in &keys {
            let act = Act::New { outcome: &outcome, kept: forever };
            let parts = bundle.each_ref().map(|key| part(&engine, key, act));
            assert!(matches!(together(&engine, &parts).unwrap(), Together::Done(_)));
        }
        for [_, x, y, z] in &keys {
            for key in [x, y, z] {
                let now = engine.clock.now();
                let removed =
                    engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now));
                assert!(removed.unwrap());
            }
        }
        let before = engine.log.sizes().1;
        while engine.maintain(std::time::Duration::from_secs(1)).unwrap().more {}
        assert!(engine.log.sizes().1 < before);
        for _ in 0..2 {
            for [w, x, y, z] in &keys {
                assert_eq!(get(&engine, w).as_ref(), Some(&outcome));
                assert!([x, y, z].iter().all(|key| get(&engine, key).is_none()));
            }
            drop(engine);
            engine = bench.open();
        }
    }
}

#[test]
fn a_removed_or_expired_member_is_new_again_and_so_is_a_key_after_a_release() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(set_all(&engine, &["a", "b"], b"1"));
    let now = engine.clock.now();
    engine.with_key(None, b"a", |full| engine.remove(full, None, now)).unwrap();
    assert!(!set_all(&engine, &["a", "b"], b"2"));
    assert!(set_all(&engine, &["a", "c"], b"3"));
    bench.advance(LIFE);
    assert!(set_all(&engine, &["a", "b", "c", "d"], b"4"));
    assert_eq!(get(&engine, "b"), Some(b"4".to_vec()));
    let engine = bench.open();
    assert!(["a", "b", "c", "d"].iter().all(|key| get(&engine, key) == Some(b"4".to_vec())));
}

#[test]
fn a_bundle_over_the_store_s_limit_on_keys_takes_none_of_it() {
    let bench = Bench::with(|config| config.max_keys = Some(100));
    let engine = bench.open();
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let parts: Vec<_> = all.iter().map(|key| new(&engine, key, b"")).collect();
    for _ in 0..3 {
        assert!(matches!(together(&engine, &parts), Err(Error::Full { what: "max_keys" })));
        assert_eq!(engine.stats().keys, 0);
    }
    // What stripes keep of a refused call is a share each at most, as after single ones.
    assert!(set_all(&engine, &all[..80], b""));
    let held = engine.stats().keys;
    assert_eq!(held, 80);
}

#[test]
fn slots_that_making_room_moves_are_led_to_their_new_records_all_the_same() {
    for (old, more) in [(5, 60), (40, 300), (200, 2_000)] {
        let mut bench = Bench::new();
        bench.config.stripes = 1;
        let engine = bench.open();
        let names: Vec<String> = (0..old + more).map(|number| number.to_string()).collect();
        for key in names.iter().take(old) {
            engine.check_and_set(key.as_bytes(), b"old", LIFE, &mut Ignore).unwrap();
        }
        // Expired and not reclaimed: they have slots, and are new.
        bench.advance(LIFE);
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        for _ in 0..2 {
            let known = all.iter().filter(|key| get(&engine, key).is_some()).count();
            assert_eq!(known, 0);
            assert!(set_all(&engine, &all, b"new"));
            assert!(all.iter().all(|key| get(&engine, key) == Some(b"new".to_vec())));
            assert_eq!(engine.stats().keys, names.len() as u64);
            bench.advance(LIFE);
        }
    }
}
