//! Setting an outcome by the version that was seen: against a model, between threads, over crashes.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use oncelog::{Begin, Error, LongOutcomePolicy, Policy, Store, Ttl, Version};

use crate::lease::{open, started};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const MINUTE: Duration = Duration::from_secs(60);

fn outcome(store: &Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|record| record.outcome().to_vec())
}

#[test]
fn no_increment_of_a_counter_is_lost_between_threads() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let increment = || {
        loop {
            let seen = store.get("counter").unwrap();
            let number = seen
                .as_ref()
                .map_or(0, |record| u64::from_le_bytes(record.outcome().try_into().unwrap()));
            let next = (number + 1).to_le_bytes();
            let version = seen.map(|record| record.version());
            if store.set_if("counter", version, next, None).unwrap().is_some() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20_000).for_each(|_| increment()));
        }
    });
    assert_eq!(outcome(&store, "counter").unwrap(), 80_000_u64.to_le_bytes());
    assert_eq!(store.stats().sets, 80_000);
}

#[test]
fn of_many_who_expect_nothing_one_sets_a_key() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for round in 0..200 {
        let key = format!("key {round}");
        let set = || store.set_if(&key, None, "x", None).unwrap().is_some();
        let winners = thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(set)).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(winners, 1);
    }
}

#[test]
fn a_version_of_a_removed_or_expired_key_is_never_expected_again() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let first = store.set_if("k", None, "a", Some(Ttl::After(MINUTE))).unwrap().unwrap();
    assert!(store.remove("k").unwrap());
    assert!(store.set_if("k", Some(first), "late", None).unwrap().is_none());
    let second = store.set_if("k", None, "a", Some(Ttl::After(MINUTE))).unwrap().unwrap();
    assert!(second > first && store.set_if("k", Some(first), "late", None).unwrap().is_none());
    clock.advance(MINUTE);
    assert!(store.set_if("k", Some(second), "late", None).unwrap().is_none());
    let third = store.set_if("k", None, "a", None).unwrap().unwrap();
    assert!(third > second && store.set_if("k", None, "late", None).unwrap().is_none());
    assert_eq!(outcome(&store, "k").unwrap(), b"a");
}

#[test]
fn a_key_that_somebody_has_begun_is_not_set() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("k").unwrap());
    for expected in [None, Some(lease.version())] {
        assert!(store.set_if("k", expected, "x", None).unwrap().is_none());
    }
    clock.advance(MINUTE);
    assert!(store.set_if("k", Some(lease.version()), "x", None).unwrap().is_none());
    let version = lease.complete("done").unwrap();
    assert!(store.set_if("k", Some(version), "set", None).unwrap().is_some());
    let meta = store.peek("k").unwrap().unwrap();
    assert_eq!((meta.attempts, outcome(&store, "k").unwrap()), (1, b"set".to_vec()));
    assert!(matches!(store.begin("k").unwrap(), Begin::Completed(_)));
}

#[test]
fn a_key_that_is_set_again_ends_no_sooner_than_it_was_to_end() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let set = |version, ttl: Option<Duration>| {
        store.set_if("k", version, "x", ttl.map(Ttl::After)).unwrap()
    };
    let ends = || store.get("k").unwrap().unwrap().expires().unwrap().as_millis();
    let first = set(None, Some(10 * MINUTE));
    let end = ends();
    clock.advance(MINUTE);
    let second = set(first, None);
    assert_eq!(ends(), end);
    let third = set(second, Some(MINUTE));
    assert_eq!(ends(), end);
    set(third, Some(10 * MINUTE));
    assert_eq!(ends(), end + 60_000);
    let too_long = vec![0; oncelog::OUTCOME_BYTES_MAX + 1];
    assert!(matches!(store.set_if("l", None, too_long, None), Err(Error::OutcomeTooLong { .. })));
    assert!(matches!(
        store.set_if("l", None, "x", Some(Ttl::After(Duration::ZERO))),
        Err(Error::InvalidTtl { .. })
    ));
}

#[test]
fn a_namespace_sets_its_own_keys_for_its_own_retention() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let policy = Policy { retention: Some(Ttl::After(MINUTE)), ..Policy::default() };
    let (one, two) = (store.namespace("1", policy).unwrap(), store.namespace("2", policy).unwrap());
    let version = one.set_if("k", None, "one", None).unwrap();
    assert!(two.set_if("k", version, "two", None).unwrap().is_none());
    assert!(two.set_if("k", None, "two", None).unwrap().is_some());
    assert!(one.check_and_set_for("long", "x", 3 * MINUTE).unwrap().is_new());
    assert_eq!((one.stats().sets, one.now()), (1, store.now()));
    clock.advance(MINUTE);
    assert!(one.get("k").unwrap().is_none() && one.contains("long").unwrap());
}

/// What the model knows of a key: outcome, version, end.
type Known = (Vec<u8>, Version, u64);

#[test]
fn any_order_of_setting_removing_reopening_and_compacting_agrees_with_a_map() {
    for seed in 0..6 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let (mut random, mut model) = (Random::new(seed), BTreeMap::<u64, Known>::new());
        let mut stale = Vec::new();
        for _ in 0..500 {
            let now = store.now().as_millis();
            model.retain(|_, (_, _, end)| now < *end);
            let number = random.below(20);
            let (key, known) = (number.to_le_bytes(), model.get(&number).cloned());
            match random.below(20) {
                0 => clock.advance(Duration::from_millis(random.below(100_000))),
                1 => maintain(&store),
                2 => {
                    drop(store);
                    store = open(directory.path(), &clock);
                }
                3 => assert_eq!(store.remove(key).unwrap(), model.remove(&number).is_some()),
                4 if !stale.is_empty() => {
                    let (number, version): (u64, Version) =
                        stale[usize::try_from(random.below(stale.len() as u64)).unwrap()];
                    let is_current = model.get(&number).is_some_and(|(_, v, _)| *v == version);
                    let key = number.to_le_bytes();
                    if !is_current {
                        assert!(store.set_if(key, Some(version), "late", None).unwrap().is_none());
                    }
                }
                _ => {
                    let long = if random.below(4) == 0 { 20_000 } else { 40 };
                    let outcome = {
                        let length = random.below(long);
                        random.bytes(length)
                    };
                    let life = 1_000 * (1 + random.below(1_000));
                    let ttl = Some(Ttl::After(Duration::from_millis(life)));
                    let expected = known.as_ref().map(|(_, version, _)| *version);
                    let version = store.set_if(key, expected, &outcome, ttl).unwrap().unwrap();
                    assert!(expected.is_none_or(|before| before < version));
                    let end = known.map_or(0, |(_, _, end)| end).max(now + life);
                    model.insert(number, (outcome, version, end));
                    stale.push((number, version));
                }
            }
            let found = store.get(key).unwrap();
            let found = found.map(|r| (r.outcome().to_vec(), r.version(), r.expires()));
            let now = store.now().as_millis();
            let known = model.get(&number).filter(|(_, _, end)| now < *end).cloned();
            let known = known.map(|(outcome, version, end)| {
                (outcome, version, Some(oncelog::Timestamp::from_millis(end)))
            });
            assert_eq!(found, known, "seed {seed}");
        }
    }
}

#[test]
fn an_outcome_set_over_one_that_was_too_long_to_keep_is_replayed_whole() {
    let directory = directory();
    let policy = Policy { on_long_outcome: LongOutcomePolicy::KeepMark, ..Policy::default() };
    let store = small().outcome_bytes_max(100).policy(policy).open(directory.path()).unwrap();
    assert!(store.check_and_set("a", vec![7; 101]).unwrap().is_new());
    let record = store.get("a").unwrap().unwrap();
    assert!(record.outcome_gone().is_some());
    store.set_if("a", Some(record.version()), "short", None).unwrap().unwrap();
    assert_eq!(outcome(&store, "a").unwrap(), b"short");
    assert_eq!(store.get("a").unwrap().unwrap().outcome_gone(), None);
}

#[test]
fn a_new_key_that_is_set_keeps_to_its_namespaces_limit_and_lifetime_of_outcomes() {
    let (directory, clock) = (directory(), clock());
    let store = small().clock(clock.clone()).open(directory.path()).unwrap();
    let policy = Policy { max_keys: Some(1), outcome_ttl: Some(MINUTE), ..Policy::default() };
    let space = store.namespace("one", policy).unwrap();
    let version = space.set_if("a", None, "x", None).unwrap().unwrap();
    assert!(matches!(space.set_if("b", None, "x", None), Err(Error::Full { .. })));
    let version = space.set_if("a", Some(version), "y", None).unwrap();
    assert!(version.is_some());
    clock.advance(MINUTE);
    let record = space.get("a").unwrap().unwrap();
    assert_eq!(record.outcome_gone().map(|gone| gone.bytes), Some(1));
}
