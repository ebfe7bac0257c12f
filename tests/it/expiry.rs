//! When keys are forgotten, and when their files are given back.
//!
//! Time is moved by hand; maintenance runs when the test says so.

use std::sync::Arc;
use std::time::Duration;

use oncelog::{Begin, ManualClock, Policy, Store, Timestamp, Ttl};

use crate::setup::{START, clock, directory, files, maintain, small};

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn open(directory: &std::path::Path, clock: &Arc<ManualClock>, ttl: Duration) -> Store {
    let opened = small().clock(clock.clone()).ttl(ttl).open(directory);
    opened.unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_key_is_known_until_just_before_its_end_and_new_from_then_on() {
    let lifetimes = [Duration::from_millis(1), Duration::from_secs(1), HOUR, 1000 * YEAR];
    for ttl in lifetimes {
        let (directory, clock) = (directory(), clock());
        let store = open(directory.path(), &clock, ttl);
        assert!(store.check_and_set("a", "1").unwrap().is_new());
        clock.advance(ttl - Duration::from_millis(1));
        assert!(store.check_and_set("a", "2").unwrap().is_duplicate(), "{ttl:?}");
        assert_eq!(store.get("a").unwrap().unwrap().outcome(), b"1");
        clock.advance(Duration::from_millis(1));
        assert!(store.get("a").unwrap().is_none(), "{ttl:?}");
        assert!(!store.contains("a").unwrap());
        assert!(!store.remove("a").unwrap());
        assert!(store.check_and_set("a", "3").unwrap().is_new(), "{ttl:?}");
        assert_eq!(store.get("a").unwrap().unwrap().outcome(), b"3");
    }
}

/// Records of other forms, and those of an earlier process, are read in other ways.
#[test]
fn every_way_to_read_a_record_knows_it_until_its_end() {
    let (directory, clock) = (directory(), clock());
    let long = vec![7; 10_000];
    let write = |store: &Store| {
        assert!(store.check_and_set("short", "1").unwrap().is_new());
        assert!(store.check_and_set("long", &long).unwrap().is_new());
        let Begin::Started(mut lease) = store.begin("leased").unwrap() else { panic!("new") };
        lease.complete("done").unwrap();
        let named = store.namespace("named", Policy::default()).unwrap();
        assert!(named.check_and_set("own", "1").unwrap().is_new());
    };
    let known = |store: &Store| {
        let plain = ["short", "long", "leased"].map(|key| {
            let found = store.get(key).unwrap().is_some();
            assert_eq!(store.contains(key).unwrap(), found, "{key}");
            assert_eq!(store.peek(key).unwrap().is_some(), found, "{key}");
            found
        });
        let named = store.namespace("named", Policy::default()).unwrap();
        [plain[0], plain[1], plain[2], named.contains("own").unwrap()]
    };
    let store = open(directory.path(), &clock, HOUR);
    for reopened in [false, true] {
        write(&store);
        clock.advance(HOUR - Duration::from_millis(1));
        let later = reopened.then(|| {
            store.sync().unwrap();
            let copy = self::directory();
            for file in files(directory.path(), "") {
                std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
            (open(copy.path(), &clock, HOUR), copy)
        });
        let store = later.as_ref().map_or(&store, |(store, _)| store);
        assert_eq!(known(store), [true; 4], "reopened: {reopened}");
        assert!(store.check_and_set("short", "2").unwrap().is_duplicate());
        assert!(store.check_and_set("long", "2").unwrap().is_duplicate());
        clock.advance(Duration::from_millis(1));
        assert_eq!(known(store), [false; 4], "reopened: {reopened}");
    }
}

#[test]
fn an_opening_starts_no_earlier_than_the_latest_record_that_it_finds() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, 8 * HOUR);
    assert!(store.check_and_set_for("early", "", Ttl::Never).unwrap().is_new());
    clock.advance(HOUR);
    // Nothing but this record is written at this time: it lies beside the first one.
    assert!(store.check_and_set_for("late", "", Ttl::Never).unwrap().is_new());
    let latest = store.now();
    drop(store);
    clock.set(Timestamp::from_millis(START));
    let store = open(directory.path(), &clock, 8 * HOUR);
    assert_eq!(store.now(), latest);
}

#[test]
fn a_duplicate_does_not_prolong_the_life_of_a_key() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    store.insert("a").unwrap();
    for _ in 0..3 {
        clock.advance(HOUR / 4);
        assert!(!store.insert("a").unwrap());
    }
    clock.advance(HOUR / 4);
    assert!(store.insert("a").unwrap());
}

#[test]
fn each_record_keeps_the_lifetime_of_its_call_across_reopening_with_another_default() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    store.insert("default").unwrap();
    for minutes in [1_u64, 59, 61, 600] {
        let ttl = Duration::from_secs(minutes * 60);
        assert!(store.check_and_set_for(format!("{minutes}"), "", ttl).unwrap().is_new());
    }
    store.close().unwrap();
    let store = open(directory.path(), &clock, YEAR);
    for minute in 0..=601_u64 {
        clock.set(Timestamp::from_millis(START + minute * 60_000));
        for minutes in [1_u64, 59, 61, 600] {
            let known = store.contains(format!("{minutes}")).unwrap();
            assert_eq!(known, minute < minutes, "{minutes} at {minute}");
        }
        assert_eq!(store.contains("default").unwrap(), minute < 60);
        if minute % 7 == 0 {
            maintain(&store);
        }
    }
}

#[test]
fn a_clock_set_back_stops_time_and_never_brings_a_key_back() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    store.insert("old").unwrap();
    clock.advance(HOUR);
    assert!(!store.contains("old").unwrap());
    clock.set(Timestamp::from_millis(START));
    assert!(!store.contains("old").unwrap());
    store.insert("late").unwrap();
    let created = store.get("late").unwrap().unwrap().created();
    assert_eq!(created.as_millis(), START + 3_600_000);
    clock.set(Timestamp::from_millis(START + 3_600_000 + 3_599_999));
    assert!(store.contains("late").unwrap());
    store.close().unwrap();
    clock.set(Timestamp::from_millis(START));
    let store = open(directory.path(), &clock, HOUR);
    assert!(!store.contains("old").unwrap());
    assert!(store.contains("late").unwrap());
    assert!(store.insert("old").unwrap());
}

#[test]
fn a_store_reopened_after_the_end_has_forgotten_and_dropped_the_files() {
    for close in [true, false] {
        let (directory, clock) = (directory(), clock());
        let store = open(directory.path(), &clock, HOUR);
        store.insert("a").unwrap();
        if close {
            store.close().unwrap();
        } else {
            drop(store);
        }
        clock.advance(HOUR * 3);
        let store = open(directory.path(), &clock, HOUR);
        assert_eq!(store.recovery().expired, 1, "close: {close}");
        assert!(store.insert("a").unwrap());
        maintain(&store);
        assert!(!directory.path().join("0000000001.seg").exists());
    }
}

#[test]
fn files_of_expired_buckets_go_while_the_store_is_idle() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    for minute in 0..60 {
        for i in 0..100 {
            store.insert(format!("{minute} {i}")).unwrap();
        }
        clock.advance(Duration::from_secs(60));
        maintain(&store);
    }
    let most = files(directory.path(), ".seg").len();
    assert!(most > 5, "{most}");
    for _ in 0..6 {
        clock.advance(HOUR / 2);
        for _ in 0..4 {
            maintain(&store);
        }
    }
    let left = files(directory.path(), ".seg").len();
    assert!(left <= 1 && files(directory.path(), ".run").is_empty(), "{left} of {most}");
    let stats = store.stats();
    assert_eq!((stats.keys, stats.buckets), (0, 0), "{stats:?}");
    assert!(stats.segments_expired >= 5);
    assert!((0..60).all(|minute| store.insert(format!("{minute} 5")).unwrap()));
}

#[test]
fn keys_that_live_on_survive_the_expiry_of_others_and_reopening() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock, HOUR);
    for round in 0..20_u64 {
        for i in 0..50_u64 {
            let ttl = Duration::from_secs(60 * (1 + (i * 37) % 600));
            let key = format!("{round} {i}");
            let end = clock_end(&clock, ttl);
            assert!(store.check_and_set_for(key, end.to_string(), ttl).unwrap().is_new());
        }
        clock.advance(HOUR / 2);
        maintain(&store);
        if round % 5 == 4 {
            store.close().unwrap();
            store = open(directory.path(), &clock, HOUR);
        }
        let now = clock_end(&clock, Duration::ZERO);
        for (past, i) in (0..=round).flat_map(|past| (0..50_u64).map(move |i| (past, i))) {
            let end = START + past * 1_800_000 + 60_000 * (1 + (i * 37) % 600);
            let found = store.get(format!("{past} {i}")).unwrap();
            assert_eq!(found.is_some(), now < end, "{past} {i} in round {round}");
            assert!(found.is_none_or(|r| r.outcome() == end.to_string().as_bytes()));
        }
    }
}

fn clock_end(clock: &ManualClock, ttl: Duration) -> u64 {
    use oncelog::Clock;
    clock.now().as_millis() + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
