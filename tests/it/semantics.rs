//! What every call answers, alone and in batches, against what a plain map answers.
//!
//! Each test states one rule. Batches and single calls are compared over a random workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oncelog::{Answer, Answers, Check, Error, Lookups, Record, Store, Ttl};

use crate::setup::{Random, START, clock, directory, maintain, small};

fn record(store: &Store, key: &str) -> Record {
    let found = store.get(key).unwrap_or_else(|e| panic!("{key}: {e}"));
    found.unwrap_or_else(|| panic!("{key} is not known"))
}

#[test]
fn the_first_check_is_new_and_the_second_gets_the_record_of_the_first() {
    let (directory, clock) = (directory(), clock());
    let store =
        small().clock(clock.clone()).ttl(Duration::from_secs(60)).open(directory.path()).unwrap();
    assert!(store.check_and_set("a", "first").unwrap().is_new());
    clock.advance(Duration::from_secs(10));
    let again = store.check_and_set("a", "second").unwrap();
    assert!(again.is_duplicate());
    let Check::Duplicate(found) = again else { panic!("it was recorded above") };
    assert_eq!(found.outcome(), b"first");
    assert_eq!(found.created().as_millis(), START);
    assert_eq!(found.expires().map(|at| at.as_millis()), Some(START + 60_000));
    assert_eq!(found.version(), record(&store, "a").version());
    assert_eq!(record(&store, "a").outcome(), b"first");
}

#[test]
fn outcomes_of_every_size_class_come_back_before_and_after_reopening() {
    let directory = directory();
    let sizes = [0, 1, 46, 47, 48, 49, 65_535, 65_536, 65_537, 1 << 20];
    let outcome = |size: u64| Random::new(size).bytes(size);
    let mut store = small().open(directory.path()).unwrap();
    for size in sizes {
        assert!(store.check_and_set(format!("{size}"), outcome(size)).unwrap().is_new());
    }
    for closed in [false, true, true] {
        for size in sizes {
            assert_eq!(record(&store, &format!("{size}")).outcome(), outcome(size), "{size}");
            let Check::Duplicate(found) = store.check_and_set(format!("{size}"), "x").unwrap()
            else {
                panic!("{size} is not known")
            };
            assert_eq!(found.outcome(), outcome(size));
        }
        if closed {
            store.close().unwrap();
        } else {
            drop(store);
        }
        store = small().open(directory.path()).unwrap();
        assert_eq!(store.recovery().after_close, closed);
    }
}

#[test]
fn keys_of_every_length_are_told_apart() {
    let directory = directory();
    let store = small().key_bytes_max(65_535).open(directory.path()).unwrap();
    let lengths: Vec<usize> = (1..80).chain([255, 256, 257, 1024, 65_534, 65_535]).collect();
    for last in [0_u8, 1] {
        for len in &lengths {
            let mut key = vec![0; *len];
            key[len - 1] = last;
            assert!(store.check_and_set(&key, len.to_string()).unwrap().is_new(), "{len}");
        }
    }
    for len in &lengths {
        let found = store.get(vec![0; *len]).unwrap().unwrap();
        assert_eq!(found.outcome(), len.to_string().as_bytes());
    }
}

#[test]
fn a_batch_answers_in_order_and_sees_its_own_duplicates() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(store.check_and_set("old", "0").unwrap().is_new());
    let items = [("a", "1"), ("old", "2"), ("b", "3"), ("a", "4"), ("a", "5"), ("b", "6")];
    let mut answers = Answers::new();
    store.check_and_set_many(&items, &mut answers).unwrap();
    let outcomes: Vec<Option<Vec<u8>>> = answers
        .iter()
        .map(|answer| match answer {
            Answer::New => None,
            Answer::Duplicate(record) => Some(record.outcome().to_vec()),
        })
        .collect();
    let known = |outcome: &str| Some(outcome.as_bytes().to_vec());
    assert_eq!(outcomes, [None, known("0"), None, known("1"), known("1"), known("3")]);
    assert_eq!(answers.len(), items.len());
    assert!(answers.get(items.len()).is_none());
    store.check_and_set_many::<&str, &str>(&[], &mut answers).unwrap();
    assert!(answers.is_empty());
}

#[test]
fn batches_and_single_calls_and_a_map_agree_on_a_random_workload() {
    let (one, many) = (directory(), directory());
    let singles = small().open(one.path()).unwrap();
    let batches = small().open(many.path()).unwrap();
    let mut random = Random::new(3);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut answers = Answers::new();
    for round in 0..200 {
        let count = random.below(90);
        let items: Vec<(Vec<u8>, Vec<u8>)> = (0..count)
            .map(|_| {
                let key = format!("key {}", random.below(1_500)).into_bytes();
                let len = random.below(120);
                (key, random.bytes(len))
            })
            .collect();
        batches.check_and_set_many(&items, &mut answers).unwrap();
        assert_eq!(answers.len(), items.len());
        for (index, (key, outcome)) in items.iter().enumerate() {
            let single = match singles.check_and_set(key, outcome).unwrap() {
                Check::New => None,
                Check::Duplicate(record) => Some(record.outcome().to_vec()),
            };
            let batched = match answers.get(index).unwrap() {
                Answer::New => None,
                Answer::Duplicate(record) => Some(record.outcome().to_vec()),
            };
            assert_eq!(single.as_ref(), model.get(key), "round {round}");
            assert_eq!(batched, single, "round {round}, item {index}");
            model.entry(key.clone()).or_insert_with(|| outcome.clone());
        }
        let removed = format!("key {}", random.below(1_500)).into_bytes();
        let known = model.remove(&removed).is_some();
        assert_eq!(singles.remove(&removed).unwrap(), known);
        assert_eq!(batches.remove(&removed).unwrap(), known);
    }
    let keys: Vec<String> = (0..1_500).map(|i| format!("key {i}")).collect();
    let mut lookups = Lookups::new();
    batches.get_many(&keys, &mut lookups).unwrap();
    for (key, found) in keys.iter().zip(lookups.iter()) {
        let expected = model.get(key.as_bytes()).map(Vec::as_slice);
        assert_eq!(found.map(|record| record.outcome()), expected);
    }
}

#[test]
fn insert_contains_get_and_remove_are_one_set() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(!store.contains("a").unwrap());
    assert!(store.get("a").unwrap().is_none());
    assert!(!store.remove("a").unwrap());
    assert!(store.insert("a").unwrap());
    assert!(!store.insert("a").unwrap());
    assert!(store.contains("a").unwrap());
    assert_eq!(record(&store, "a").outcome(), b"");
    let first = record(&store, "a").version();
    assert!(store.remove("a").unwrap());
    assert!(!store.remove("a").unwrap());
    assert!(!store.contains("a").unwrap());
    assert!(store.check_and_set("a", "again").unwrap().is_new());
    assert!(record(&store, "a").version() > first);
}

#[test]
fn a_removal_outlives_closing_and_dropping() {
    let directory = directory();
    for close in [true, false] {
        let store = small().open(directory.path()).unwrap();
        assert!(store.insert("a").unwrap());
        assert!(store.remove("a").unwrap());
        if close {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let store = small().open(directory.path()).unwrap();
        assert!(!store.contains("a").unwrap(), "close: {close}");
        store.close().unwrap();
    }
}

#[test]
fn clones_are_the_same_store_and_closing_one_closes_all() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let other = store.clone();
    assert!(store.insert("a").unwrap());
    assert!(!other.insert("a").unwrap());
    store.close().unwrap();
    let mut answers = Answers::new();
    let items = [("b", "")];
    assert!(matches!(other.insert("b"), Err(Error::Closed)));
    assert!(matches!(other.check_and_set("b", ""), Err(Error::Closed)));
    assert!(matches!(other.get("a"), Err(Error::Closed)));
    assert!(matches!(other.contains("a"), Err(Error::Closed)));
    assert!(matches!(other.remove("a"), Err(Error::Closed)));
    assert!(matches!(other.sync(), Err(Error::Closed)));
    assert!(matches!(other.maintain(Duration::ZERO), Err(Error::Closed)));
    assert!(matches!(other.check_and_set_many(&items, &mut answers), Err(Error::Closed)));
    assert!(matches!(other.get_many(&["a"], &mut Lookups::new()), Err(Error::Closed)));
    let reopened = small().open(directory.path()).unwrap();
    assert!(reopened.contains("a").unwrap());
    drop(other);
    assert!(matches!(small().open(directory.path()), Err(Error::AlreadyOpen { .. })));
}

#[test]
fn a_store_is_sent_and_shared_between_threads() {
    fn usable<T: Send + Sync + Clone + 'static>() {}
    usable::<Store>();
    fn sendable<T: Send + Sync + 'static>() {}
    sendable::<Record>();
    sendable::<Answers>();
    sendable::<Error>();
}

#[test]
fn a_record_for_ever_has_no_end_and_stays() {
    let (directory, clock) = (directory(), clock());
    let store = small().clock(clock.clone()).open(directory.path()).unwrap();
    assert!(store.check_and_set_for("a", "kept", Ttl::Never).unwrap().is_new());
    assert!(store.check_and_set_for("b", "gone", Duration::from_secs(1)).unwrap().is_new());
    assert_eq!(record(&store, "a").expires(), None);
    clock.advance(Duration::from_secs(900 * 365 * 24 * 3600));
    maintain(&store);
    assert!(store.get("b").unwrap().is_none());
    assert_eq!(record(&store, "a").outcome(), b"kept");
    drop(store);
    let store = small().clock(clock.clone()).open(directory.path()).unwrap();
    assert_eq!(record(&store, "a").expires(), None);
    assert!(store.remove("a").unwrap());
    store.close().unwrap();
    let store = small().clock(clock).open(directory.path()).unwrap();
    assert!(!store.contains("a").unwrap());
}

#[test]
fn debug_output_shows_no_outcome_bytes() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(store.check_and_set("a", "confidential").unwrap().is_new());
    let shown = format!("{store:?} {:?}", record(&store, "a"));
    assert!(!shown.contains("confidential") && shown.contains("12"), "{shown}");
}

#[test]
fn the_counters_count_what_was_answered() {
    let directory = directory();
    let store = Arc::new(small().open(directory.path()).unwrap());
    for i in 0..100 {
        store.insert(format!("{}", i % 60)).unwrap();
    }
    store.remove("7").unwrap();
    let stats = store.stats();
    assert_eq!((stats.checks_new, stats.checks_duplicate, stats.removals), (60, 40, 1));
    assert!(stats.disk_bytes > 0 && stats.index_bytes > 0 && stats.segments >= 1);
}
