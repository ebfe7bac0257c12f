//! Keys that are recorded together: against a model over crashes, between threads, and at limits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use oncelog::{
    BUNDLE_BYTES_MAX, BUNDLE_KEYS_MAX, CheckAll, CheckOptions, Durability, Error, ManualClock,
    Policy, Store, inspect,
};
use proptest::prelude::*;

use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const HOUR: Duration = Duration::from_secs(3600);

fn open(path: &Path, clock: &Arc<ManualClock>) -> Store {
    small().ttl(HOUR).clock(clock.clone()).open(path).unwrap()
}

fn all(store: &Store, keys: &[&str], outcome: &str) -> CheckAll {
    let items: Vec<_> = keys.iter().map(|key| (key, outcome)).collect();
    store.check_and_set_all(&items).unwrap()
}

/// Indexes and outcomes of the keys that stood against it.
fn known(answer: &CheckAll) -> Vec<(usize, &[u8])> {
    match answer {
        CheckAll::New => Vec::new(),
        CheckAll::Known(known) => {
            known.iter().map(|(index, record)| (*index, record.outcome())).collect()
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    All(Vec<u8>, u16),
    One(u8),
    Remove(u8),
    Pass(u16),
    Maintain,
    /// As the end of the process: what was recorded is there.
    Drop,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..30_u8;
    prop_oneof![
        8 => (proptest::collection::btree_set(key.clone(), 0..9), 0..3_000_u16)
            .prop_map(|(keys, length)| Step::All(keys.into_iter().collect(), length)),
        2 => key.clone().prop_map(Step::One),
        2 => key.prop_map(Step::Remove),
        2 => (0..2_000_u16).prop_map(Step::Pass),
        1 => Just(Step::Maintain),
        2 => Just(Step::Drop),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_life_agrees_with_a_map_that_takes_all_keys_or_none(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        // Of each key, when it is forgotten, and the outcome.
        let mut model = BTreeMap::<u8, (u64, Vec<u8>)>::new();
        let (mut now, life) = (0_u64, 3_600_000);
        for (number, step) in steps.into_iter().enumerate() {
            model.retain(|_, (until, _)| *until > now);
            match step {
                Step::All(keys, length) => {
                    let outcome = vec![number as u8; usize::from(length)];
                    let items: Vec<_> = keys.iter().map(|key| ([*key], &outcome)).collect();
                    let answer = store.check_and_set_all(&items).unwrap();
                    let expected: Vec<(usize, &[u8])> = (0..)
                        .zip(&keys)
                        .filter_map(|(index, key)| Some((index, &model.get(key)?.1[..])))
                        .collect();
                    prop_assert_eq!(known(&answer), expected.clone());
                    if expected.is_empty() {
                        prop_assert!(answer.is_new());
                        let entry = (now + life, outcome);
                        model.extend(keys.into_iter().map(|key| (key, entry.clone())));
                    }
                }
                Step::One(key) => {
                    let is_new = store.check_and_set([key], "one").unwrap().is_new();
                    prop_assert_eq!(is_new, !model.contains_key(&key));
                    model.entry(key).or_insert((now + life, b"one".to_vec()));
                }
                Step::Remove(key) => {
                    let removed = store.remove([key]).unwrap();
                    prop_assert_eq!(removed, model.remove(&key).is_some());
                }
                Step::Pass(seconds) => {
                    clock.advance(Duration::from_secs(seconds.into()));
                    now += u64::from(seconds) * 1000;
                }
                Step::Maintain => maintain(&store),
                Step::Drop => {
                    drop(store);
                    store = open(directory.path(), &clock);
                }
                Step::Close => {
                    store.close().unwrap();
                    store = open(directory.path(), &clock);
                }
            }
        }
        model.retain(|_, (until, _)| *until > now);
        for key in 0..30 {
            let found = store.get([key]).unwrap().map(|record| record.outcome().to_vec());
            prop_assert_eq!(found, model.get(&key).map(|(_, outcome)| outcome.clone()));
        }
        drop(store);
        let report = inspect::verify(directory.path()).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report.problems);
    }
}

#[test]
fn the_answer_says_which_keys_were_not_new_and_with_which_records() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    assert!(all(&store, &["a", "b"], "1").is_new());
    let answer = all(&store, &["x", "b", "y", "a"], "2");
    assert_eq!(known(&answer), [(1, &b"1"[..]), (3, b"1")]);
    let CheckAll::Known(records) = answer else { panic!("known") };
    assert_eq!(records[0].1.version(), store.get("b").unwrap().unwrap().version());
    assert!(!store.contains("x").unwrap() && !store.contains("y").unwrap());
    assert!(all(&store, &[], "").is_new());
    assert!(all(&store, &["alone"], "3").is_new());
    assert_eq!(store.stats().checks_new, 3);
    assert_eq!(store.stats().checks_duplicate, 2);
}

#[test]
fn what_cannot_be_recorded_together_is_refused_in_words() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let refused = store.check_and_set_all(&[("a", ""), ("b", ""), ("a", "")]);
    assert!(matches!(refused, Err(Error::RepeatedKey { first: 0, second: 2 })), "{refused:?}");
    let keys: Vec<_> = (0..=BUNDLE_KEYS_MAX).map(|number| (number.to_string(), "")).collect();
    let refused = store.check_and_set_all(&keys);
    assert!(matches!(refused, Err(Error::TooLarge { what: "keys", max: BUNDLE_KEYS_MAX, .. })));
    assert!(refused.unwrap_err().to_string().contains("4097 keys"));
    assert!(store.check_and_set_all(&keys[1..]).unwrap().is_new());
    let mebibyte = vec![0; 1 << 20];
    let many: Vec<_> = (0..32).map(|number| (format!("m{number}"), &mebibyte)).collect();
    let refused = store.check_and_set_all(&many);
    assert!(matches!(refused, Err(Error::TooLarge { what: "bytes", max: BUNDLE_BYTES_MAX, .. })));
    assert!(store.check_and_set_all(&many[..31]).unwrap().is_new());
    let refused = store.check_and_set_all(&[("new", ""), ("", "")]);
    assert!(matches!(refused, Err(Error::EmptyKey)));
    let long = vec![0; (1 << 20) + 1];
    let refused = store.check_and_set_all(&[("new", &[][..]), ("other", &long)]);
    assert!(matches!(refused, Err(Error::OutcomeTooLong { .. })));
    assert!(!store.contains("new").unwrap());
    drop(store);
    let store = open(directory.path(), &clock);
    assert!(keys[1..].iter().all(|(key, _)| store.contains(key).unwrap()));
    assert_eq!(store.get("m30").unwrap().unwrap().outcome(), mebibyte);
    assert!(!store.contains("m31").unwrap());
}

#[test]
fn a_namespace_s_limits_count_for_all_keys_or_none() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let policy = Policy { max_keys: Some(10), max_bytes: Some(2_000), ..Policy::default() };
    let space = store.namespace("orders", policy).unwrap();
    let eight: Vec<_> = (0..8).map(|number| (number.to_string(), "")).collect();
    assert!(space.check_and_set_all(&eight).unwrap().is_new());
    let three = [("x", ""), ("y", ""), ("z", "")];
    for _ in 0..20 {
        assert!(matches!(space.check_and_set_all(&three), Err(Error::Full { .. })));
        assert_eq!(space.stats().keys, 8);
    }
    let long = "o".repeat(1_200);
    assert!(matches!(
        space.check_and_set_all(&[("x", &long), ("y", &long)]),
        Err(Error::Full { .. })
    ));
    assert!(space.check_and_set_all(&three[..2]).unwrap().is_new());
    assert_eq!(space.stats().keys, 10);
    // A known key needs no room, and says so where a new one would find none.
    assert_eq!(known(&space.check_and_set_all(&[("x", "1"), ("w", "1")]).unwrap()).len(), 1);
    drop((space, store));
    let store = open(directory.path(), &clock);
    assert_eq!(store.namespace("orders", policy).unwrap().stats().keys, 10);
}

#[test]
fn options_hold_for_every_key() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let minute = Duration::from_secs(60);
    let options = CheckOptions::new().retention(2 * minute).outcome_ttl(minute);
    let items = [("a", "1"), ("b", "2")];
    assert!(store.check_and_set_all_with(&items, options).unwrap().is_new());
    clock.advance(minute);
    for (key, _) in items {
        assert!(store.get(key).unwrap().unwrap().outcome_gone().is_some());
    }
    clock.advance(minute);
    assert!(store.check_and_set_all_with(&items, options).unwrap().is_new());
    let sent = oncelog::Timestamp::from_millis(0);
    let stale = store.check_and_set_all_with(&[("c", "")], CheckOptions::new().sent_at(sent));
    assert!(matches!(stale, Err(Error::Stale { .. })));
}

#[test]
fn of_threads_whose_keys_overlap_one_gets_them_all_and_none_waits_for_ever() {
    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    let rounds = 3_000;
    let won: Vec<Vec<(u64, Vec<u64>)>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let store = &store;
                scope.spawn(move || {
                    let mut random = Random::new(worker);
                    let mut won = Vec::new();
                    for round in 0..rounds {
                        let mut keys: Vec<u64> =
                            (0..2 + random.below(6)).map(|_| round * 8 + random.below(8)).collect();
                        // In any order, each once.
                        let mut seen = std::collections::BTreeSet::new();
                        keys.retain(|key| seen.insert(*key));
                        let items: Vec<_> = keys
                            .iter()
                            .map(|key| (key.to_le_bytes(), worker.to_le_bytes()))
                            .collect();
                        match store.check_and_set_all(&items).unwrap() {
                            CheckAll::New => won.push((worker, keys)),
                            CheckAll::Known(known) => assert!(!known.is_empty()),
                        }
                    }
                    won
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut owner = BTreeMap::new();
    for (worker, keys) in won.into_iter().flatten() {
        for key in keys {
            assert_eq!(owner.insert(key, worker), None, "{key} was new twice");
        }
    }
    assert!(owner.len() as u64 > rounds);
    for key in 0..rounds * 8 {
        let found = store.get(key.to_le_bytes()).unwrap();
        let expected = owner.get(&key).map(|worker| worker.to_le_bytes().to_vec());
        assert_eq!(found.map(|record| record.outcome().to_vec()), expected);
    }
}

#[test]
fn whoever_sees_one_of_the_keys_sees_all_of_them() {
    let directory = fast_directory();
    let store = small().stripes(64).open(directory.path()).unwrap();
    let (round, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let key = |round: u64, part: u64| [round.to_le_bytes(), part.to_le_bytes()].concat();
    thread::scope(|scope| {
        for reader in 0..2 {
            let (store, round, done) = (&store, &round, &done);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                while !done.load(Ordering::Relaxed) {
                    let now = round.load(Ordering::Relaxed);
                    let (first, second) = (random.below(12), random.below(12));
                    if store.contains(key(now, first)).unwrap() {
                        assert!(store.contains(key(now, second)).unwrap(), "round {now}");
                    }
                }
            });
        }
        for now in 0..20_000 {
            round.store(now, Ordering::Relaxed);
            let items: Vec<_> = (0..12).map(|part| (key(now, part), "")).collect();
            assert!(store.check_and_set_all(&items).unwrap().is_new());
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn at_the_level_synced_the_answer_comes_after_the_disk_and_in_one_round() {
    let directory = directory();
    let store = small().durability(Durability::Synced).open(directory.path()).unwrap();
    let before = store.stats().syncs;
    assert!(all(&store, &["a", "b", "c"], "1").is_new());
    assert_eq!((store.stats().unsynced_bytes, store.stats().syncs), (0, before + 1));
    // Refused for records that are durable: no other round.
    assert!(!all(&store, &["c", "d"], "2").is_new());
    assert_eq!(store.stats().syncs, before + 1);
    let process = store.with_durability(Durability::Process).unwrap();
    assert!(all(&process, &["e", "f"], "3").is_new());
    assert!(store.stats().unsynced_bytes > 0);
    assert!(!all(&store, &["f", "g"], "4").is_new());
    assert_eq!(store.stats().unsynced_bytes, 0);
}
