//! Keys that outlast their outcomes, where lifetimes count from, and requests too old to know.

use std::time::Duration;

use oncelog::{
    Anchor, Begin, BeginOptions, Check, Error, Fingerprint, Policy, Record, Timestamp, Ttl,
};

use crate::setup::{START, clock, directory, maintain, small};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn brief() -> Policy {
    Policy { retention: Some(HOUR.into()), outcome_ttl: Some(MINUTE), ..Policy::default() }
}

fn duplicate(check: Check) -> Record {
    match check {
        Check::Duplicate(record) => record,
        Check::New => panic!("the key was not known"),
    }
}

/// nats-io/nats-server#3272: with the payload, the knowledge of the key was gone.
#[test]
fn a_key_outlasts_its_outcome_and_says_what_is_gone() {
    let (directory, clock) = (directory(), clock());
    let outcome = vec![7; 3_000];
    for closes in [false, true] {
        let store = small().clock(clock.clone()).open(directory.path()).unwrap();
        let keys = store.namespace("keys", brief()).unwrap();
        let (checked, begun) = (format!("checked {closes}"), format!("begun {closes}"));
        assert!(keys.check_and_set(&checked, &outcome).unwrap().is_new());
        keys.begin(&begun).unwrap().started().unwrap().complete(&outcome).unwrap();
        clock.advance(MINUTE - Duration::from_millis(1));
        for key in [&checked, &begun] {
            let record = duplicate(keys.check_and_set(key, "").unwrap());
            assert!(record.outcome() == outcome && record.outcome_gone().is_none());
        }
        clock.advance(Duration::from_millis(1));
        // A namespace keeps its store open.
        drop(keys);
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let store = small().clock(clock.clone()).open(directory.path()).unwrap();
        let keys = store.namespace("keys", brief()).unwrap();
        for key in [&checked, &begun] {
            let record = duplicate(keys.check_and_set(key, "other").unwrap());
            let gone = record.outcome_gone().unwrap();
            assert_eq!((gone.bytes, gone.digest), (3_000, Fingerprint::of(&outcome)));
            assert!(record.outcome().is_empty() && record.meta().outcome_gone);
            assert_eq!(keys.peek(key).unwrap(), Some(record.meta()));
            let Begin::Completed(again) = keys.begin(key).unwrap() else { panic!("{key}") };
            assert_eq!(again.outcome_gone(), Some(gone));
            assert_eq!(keys.get(key).unwrap().unwrap().outcome_gone(), Some(gone));
        }
        clock.advance(HOUR - MINUTE);
        assert!([&checked, &begun].iter().all(|key| keys.peek(key).unwrap().is_none()));
    }
}

#[test]
fn an_outcome_cannot_outlast_its_key() {
    let (directory, clock) = (directory(), clock());
    let store = small().clock(clock).open(directory.path()).unwrap();
    let policy = Policy { outcome_ttl: Some(2 * HOUR), ..brief() };
    assert!(matches!(store.namespace("keys", policy), Err(Error::InvalidTtl { .. })));
    let policy = Policy { retention: Some(Ttl::Never), ..policy };
    assert!(store.namespace("keys", policy).is_ok());
}

#[test]
fn a_lifetime_from_first_sight_is_not_prolonged_and_one_from_completion_is() {
    for (anchor, minutes) in [(Anchor::FirstSeen, 60), (Anchor::Completion, 110)] {
        let (directory, clock) = (directory(), clock());
        let store = small().clock(clock.clone()).open(directory.path()).unwrap();
        let policy = Policy { retention: Some(HOUR.into()), anchor, ..Policy::default() };
        let keys = store.namespace("keys", policy).unwrap();
        drop(keys.begin("a").unwrap());
        clock.advance(20 * MINUTE);
        let mut lease = keys.begin("a").unwrap().started().unwrap();
        assert_eq!(lease.attempt(), 2);
        clock.advance(30 * MINUTE);
        lease.complete("x").unwrap();
        let expires = keys.peek("a").unwrap().unwrap().expires.unwrap();
        assert_eq!(expires.as_millis(), START + minutes * 60_000);
        // A lease is never longer than the memory of it.
        let long = BeginOptions::new().lease(3 * HOUR);
        let lease = keys.begin_with("b", long).unwrap().started().unwrap();
        assert!(keys.peek("b").unwrap().unwrap().expires.unwrap() >= lease.deadline());
    }
}

#[test]
fn a_request_older_than_the_memory_is_stale_and_a_known_one_is_answered() {
    let (directory, clock) = (directory(), clock());
    let store = small().clock(clock.clone()).ttl(HOUR).open(directory.path()).unwrap();
    let at = |minutes: u64| Timestamp::from_millis(START + minutes * 60_000);
    let stale = |result: oncelog::Result<Check>, horizon: Timestamp| match result {
        Err(Error::Stale { horizon_ms }) => assert_eq!(horizon_ms, horizon.as_millis()),
        other => panic!("{other:?}"),
    };
    // Before the store was there, nothing is known.
    let before = Timestamp::from_millis(START - 1);
    stale(store.check_and_set_sent("a", "", before), at(0));
    assert!(store.check_and_set_sent("a", "", at(0)).unwrap().is_new());
    clock.advance(30 * MINUTE);
    let policy = Policy { retention: Some((HOUR / 2).into()), ..Policy::default() };
    let keys = store.namespace("keys", policy).unwrap();
    stale(keys.check_and_set_sent("a", "", at(29)), at(30));
    assert!(keys.check_and_set_sent("a", "", at(30)).unwrap().is_new());
    // What is known is answered, whenever it was sent.
    assert!(keys.check_and_set_sent("a", "", before).unwrap().is_duplicate());
    clock.advance(60 * MINUTE);
    maintain(&store);
    stale(store.check_and_set_sent("a", "", at(29)), at(30));
    stale(keys.check_and_set_sent("a", "", at(59)), at(60));
    assert!(keys.check_and_set_sent("a", "", at(60)).unwrap().is_new());
    let options = BeginOptions::new().sent_at(at(29));
    assert!(matches!(store.begin_with("b", options), Err(Error::Stale { .. })));
    assert!(store.peek("b").unwrap().is_none());
    let mut lease = store.begin_with("b", options.sent_at(at(30))).unwrap().started().unwrap();
    lease.complete("x").unwrap();
    assert!(store.begin_with("b", options).unwrap().completed().is_some());
    drop((lease, keys, store));
    let store = small().clock(clock).ttl(HOUR).open(directory.path()).unwrap();
    let keys = store.namespace("keys", policy).unwrap();
    stale(keys.check_and_set_sent("c", "", at(59)), at(60));
}

#[test]
fn only_identifiers_that_carry_a_time_are_read_for_one() {
    let uuids =
        ["", "-", "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f"];
    assert!(uuids.into_iter().all(|text| Timestamp::of_uuid_v7(text).is_none()));
    let wrong = ["017f22e2-79b0-7cc3-c8c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c0739-f"];
    assert!(wrong.into_iter().all(|text| Timestamp::of_uuid_v7(text).is_none()));
    let plain = "ffffffffffff7cc398c4dc0c0c07398f";
    assert_eq!(Timestamp::of_uuid_v7(plain), Some(Timestamp::from_millis((1 << 48) - 1)));
    let latest = "7ZZZZZZZZZ0000000000000000";
    assert_eq!(Timestamp::of_ulid(latest), Some(Timestamp::from_millis((1 << 48) - 1)));
    for text in ["", "8ZZZZZZZZZ0000000000000000", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEK"] {
        assert_eq!(Timestamp::of_ulid(text), None, "{text}");
    }
}
