//! The filter never changes an answer: two stores, with and without it, are told the same.
//!
//! Random operations over few keys, so that most kinds of key meet most kinds of call: checks and
//! leases, removals, namespaces, time that passes, maintenance with compaction, and the end of the
//! process at any point, by a close or without one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oncelog::{
    Anchor, Answers, Begin, Check, CheckAll, Error, Lookups, ManualClock, Namespace, Policy, Store,
    Ttl,
};

use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const KEYS: u64 = 400;

fn open(path: &Path, clock: &Arc<ManualClock>, filter: bool) -> Store {
    small()
        .clock(clock.clone())
        .ttl(Duration::from_secs(60))
        .negative_filter(filter)
        .open(path)
        .unwrap()
}

fn key(number: u64) -> Vec<u8> {
    // Some longer than what is kept on the stack.
    let length = if number.is_multiple_of(17) { 300 } else { 9 };
    let mut key = format!("key {number}").into_bytes();
    key.resize(length, b'.');
    key
}

fn namespace(store: &Store) -> Namespace {
    let retention = Some(Ttl::After(Duration::from_secs(30)));
    store.namespace("orders", Policy { retention, ..Policy::default() }).unwrap()
}

/// A namespace in which duplicates write what they find once more.
fn prolonging(store: &Store) -> Namespace {
    let (retention, anchor) = (Some(Ttl::After(Duration::from_secs(20))), Anchor::LastSeen);
    store.namespace("seen", Policy { retention, anchor, ..Policy::default() }).unwrap()
}

/// What a call answers, but for versions.
fn check(answer: Result<Check, Error>) -> String {
    match answer {
        Ok(Check::New) => "new".to_owned(),
        Ok(Check::Duplicate(record)) => format!("duplicate {:?}", record.outcome()),
        Err(error) => error.to_string(),
    }
}

/// Some calls on one key, by the same numbers for either store; what they answered.
fn calls(store: &Store, random: &mut Random) -> String {
    let key = key(random.below(KEYS));
    let length = 1 + random.below(40);
    let outcome = random.bytes(length);
    match random.below(16) {
        0..2 => check(store.check_and_set(&key, &outcome)),
        2 => {
            let ttls = [Ttl::After(Duration::from_secs(2)), Ttl::Never];
            let ttl = ttls[usize::try_from(random.below(2)).unwrap()];
            check(store.check_and_set_for(&key, &outcome, ttl))
        }
        3 => format!("removed {:?}", store.remove(&key).unwrap()),
        4 => format!("contains {}", store.contains(&key).unwrap()),
        5 => format!("got {:?}", store.get(&key).unwrap().map(|r| r.outcome().to_vec())),
        6 => {
            let keys: Vec<_> = (0..20).map(|_| self::key(random.below(2 * KEYS))).collect();
            let mut lookups = Lookups::default();
            store.get_many(&keys, &mut lookups).unwrap();
            let found = lookups.iter().map(|found| found.map(|record| record.outcome().to_vec()));
            format!("{:?}", found.collect::<Vec<_>>())
        }
        7 => {
            // Now and then more than a bucket's filter was begun for.
            let many = if random.below(16) == 0 { 6_000 } else { 20 };
            let items: Vec<_> =
                (0..many).map(|_| (self::key(random.below(many * 40)), &outcome)).collect();
            let mut answers = Answers::new();
            let done = store.check_and_set_many(&items, &mut answers);
            let new: Vec<bool> = answers.iter().map(|answer| answer.is_new()).collect();
            format!("{new:?} {}", done.is_ok())
        }
        8 => match store.begin(&key) {
            Ok(Begin::Started(mut lease)) => match random.below(4) {
                3 => format!("renewed {:?}", lease.renew(Duration::from_secs(45)).is_ok()),
                0 => format!("completed {:?}", lease.complete(&outcome).is_ok()),
                1 => format!("released {:?}", lease.release(None).is_ok()),
                // It lasts until its deadline.
                _ => "abandoned".to_owned(),
            },
            Ok(other) => format!("{:?}", std::mem::discriminant(&other)),
            Err(error) => error.to_string(),
        },
        9 => format!("peeked {:?}", store.peek(&key).unwrap().map(|meta| meta.status)),
        12 => check(prolonging(store).check_and_set(&key, &outcome)),
        13 => format!("peeked {:?}", prolonging(store).peek(&key).unwrap().map(|meta| meta.status)),
        14 => {
            let found = store.peek(&key).unwrap().map(|meta| meta.version);
            let set = store.set_if(&key, found, &outcome, None);
            format!("set {} {}", found.is_some(), set.is_ok_and(|version| version.is_some()))
        }
        15 => {
            // Mostly few, so that all of them may be new.
            let keys: Vec<_> = (0..1 + random.below(4)).map(|_| random.below(KEYS)).collect();
            let items: Vec<_> = keys.iter().map(|number| (self::key(*number), &outcome)).collect();
            let together = match random.below(2) {
                0 => store.check_and_set_all(&items),
                _ => namespace(store).check_and_set_all(&items),
            };
            match together {
                Ok(CheckAll::New) => "all new".to_owned(),
                Ok(CheckAll::Known(known)) => {
                    format!("known {:?}", known.iter().map(|(index, _)| *index).collect::<Vec<_>>())
                }
                Err(error) => error.to_string(),
            }
        }
        10 => check(namespace(store).check_and_set(&key, &outcome)),
        _ => {
            let space = namespace(store);
            match random.below(4) {
                0 => format!("removed {}", space.remove(&key).unwrap()),
                1 => format!("contains {}", space.contains(&key).unwrap()),
                2 => format!("peeked {:?}", space.peek(&key).unwrap().map(|meta| meta.status)),
                _ => format!("got {:?}", space.get(&key).unwrap().map(|r| r.outcome().to_vec())),
            }
        }
    }
}

#[test]
fn answers_are_the_same_with_and_without_the_filter() {
    let (mut compacted, mut excluded) = (0, 0);
    for seed in 0..12 {
        let (with, without) = (fast_directory(), fast_directory());
        let time = clock();
        let mut stores = [(with.path(), true), (without.path(), false)]
            .map(|(path, filter)| (path, filter, Some(open(path, &time, filter))));
        let mut random = Random::new(seed);
        for step in 0..4_000 {
            let seed = random.next();
            let answers = stores
                .each_ref()
                .map(|(_, _, store)| calls(store.as_ref().unwrap(), &mut Random::new(seed)));
            assert_eq!(answers[0], answers[1], "step {step}");
            match random.below(200) {
                0..6 => time.advance(Duration::from_millis(random.below(9_000))),
                6..12 => stores.iter().for_each(|(_, _, store)| maintain(store.as_ref().unwrap())),
                12 => {
                    for (_, _, store) in &mut stores {
                        // As after the end of the process, or in good order.
                        let store = store.take().unwrap();
                        if seed.is_multiple_of(2) {
                            store.close().unwrap();
                        } else {
                            drop(store);
                        }
                    }
                    for (path, filter, store) in &mut stores {
                        *store = Some(open(path, &time, *filter));
                    }
                }
                _ => {}
            }
        }
        let stats = stores.each_ref().map(|(_, _, store)| store.as_ref().unwrap().stats());
        assert!(stats[0].filter.unwrap().keys > 0 && stats[1].filter.is_none());
        assert_eq!(stats[0].keys, stats[1].keys);
        compacted += stats[0].segments_compacted;
        excluded += stats[0].filter.unwrap().excluded;
    }
    assert!(compacted > 0 && excluded > 0, "{compacted} {excluded}");
}

#[test]
fn a_filter_is_there_again_after_a_restart_and_goes_when_its_keys_expire() {
    let directory = directory();
    let time = clock();
    let keys = 5_000_u64;
    let recorded = |store: &Store| {
        let stats = store.stats().filter.unwrap();
        assert!(stats.keys >= keys && stats.bytes > 0, "{stats:?}");
        assert!(stats.false_positive_rate() < 0.02, "{stats:?}");
        // Asks the filter as well, but not for the lock alone.
        assert!((0..keys).all(|i| store.peek(i.to_le_bytes()).unwrap().is_some()));
        let unknown = (keys..2 * keys).filter(|i| store.remove(i.to_le_bytes()).unwrap()).count();
        assert_eq!(unknown, 0);
        let asked = store.stats().filter.unwrap();
        assert!(asked.excluded - stats.excluded > keys * 9 / 10, "{asked:?}");
    };
    let store = open(directory.path(), &time, true);
    (0..keys).for_each(|i| assert!(store.insert(i.to_le_bytes()).unwrap()));
    recorded(&store);
    maintain(&store);
    maintain(&store);
    let laid_out = store.stats().filter.unwrap();
    assert!(laid_out.layers == laid_out.buckets && laid_out.bits_per_key() < 40.0);
    recorded(&store);
    drop(store);
    let store = open(directory.path(), &time, true);
    recorded(&store);
    store.close().unwrap();
    let store = open(directory.path(), &time, true);
    recorded(&store);
    time.advance(Duration::from_secs(70));
    maintain(&store);
    let stats = store.stats().filter.unwrap();
    assert_eq!((stats.buckets, stats.layers, stats.bytes, stats.keys), (0, 0, 0, 0));
    assert!(store.insert(1_u64.to_le_bytes()).unwrap());
    assert!(store.contains(1_u64.to_le_bytes()).unwrap());
}

#[test]
fn what_compaction_keeps_is_not_missed_when_its_filter_is_laid_out_anew() {
    let directory = directory();
    let store = small().clock(clock()).ttl(Ttl::Never).negative_filter(true);
    let store = store.open(directory.path()).unwrap();
    let keys = 60_000_u64;
    let is_kept = |i: &u64| i.is_multiple_of(50);
    (0..keys).for_each(|i| assert!(store.insert(i.to_le_bytes()).unwrap()));
    let removed = (0..keys).filter(|i| !is_kept(i));
    removed.for_each(|i| assert!(store.remove(i.to_le_bytes()).unwrap()));
    maintain(&store);
    assert!(store.stats().segments_compacted > 0);
    // As many again, so that a layer is added, and the filter made anew.
    (keys..2 * keys).for_each(|i| assert!(store.insert(i.to_le_bytes()).unwrap()));
    maintain(&store);
    maintain(&store);
    let filter = store.stats().filter.unwrap();
    assert_eq!((filter.buckets, filter.layers), (1, 1));
    let known = |i: u64| store.peek(i.to_le_bytes()).unwrap().is_some();
    assert!((0..keys).filter(is_kept).all(known) && (keys..2 * keys).all(known));
}

#[test]
fn no_key_is_missed_while_its_filter_grows_and_is_laid_out_anew() {
    let directory = directory();
    let store = open(directory.path(), &clock(), true);
    let (reached, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..60_000_u64 {
                assert!(namespace(&store).insert(i.to_le_bytes()).unwrap());
                reached.store(i + 1, Ordering::Release);
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                store.maintain(Duration::from_millis(1)).unwrap();
            }
        });
        let space = namespace(&store);
        let mut i = 0;
        while !over.load(Ordering::Acquire) {
            let end = reached.load(Ordering::Acquire);
            if end > 0 {
                i = (i + 7_919) % end;
                assert!(space.contains(i.to_le_bytes()).unwrap(), "{i} of {end}");
            }
        }
    });
    assert!(store.stats().filter.unwrap().keys >= 60_000);
}
