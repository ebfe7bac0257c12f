//! Keys that outlast their outcomes, where lifetimes count from, and requests too old to know.

use std::time::Duration;

use oncelog::{
    Anchor, Answers, Begin, BeginOptions, Check, CheckOptions, Error, Fingerprint,
    LongOutcomePolicy, Lookups, Policy, Record, Store, Timestamp, Ttl,
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

#[test]
fn keys_outside_of_any_namespace_outlast_their_outcomes_by_the_stores_policy_and_by_the_calls() {
    let (directory, clock) = (directory(), clock());
    let policy = Policy { outcome_ttl: Some(MINUTE), ..Policy::default() };
    let open = |policy: Policy| {
        small().clock(clock.clone()).ttl(HOUR).policy(policy).open(directory.path()).unwrap()
    };
    let store = open(policy);
    assert!(store.check_and_set("checked", "abc").unwrap().is_new());
    store.begin("begun").unwrap().started().unwrap().complete("abc").unwrap();
    assert!(store.check_and_set_for("kept for", "abc", 2 * HOUR).unwrap().is_new());
    let longer = CheckOptions::new().outcome_ttl(30 * MINUTE);
    assert!(store.check_and_set_with("longer", "abc", longer).unwrap().is_new());
    let longer = BeginOptions::new().outcome_ttl(30 * MINUTE);
    store.begin_with("begun longer", longer).unwrap().started().unwrap().fail("abc").unwrap();
    let mut answers = Answers::new();
    store.check_and_set_many(&[("batch", "abc"), ("batch", "")], &mut answers).unwrap();
    let keys = ["checked", "begun", "kept for", "batch", "longer", "begun longer"];
    let outcomes = |store: &Store| -> Vec<bool> {
        let mut lookups = Lookups::new();
        store.get_many(&keys, &mut lookups).unwrap();
        let mut there = Vec::new();
        for (key, found) in keys.iter().zip(lookups.iter()) {
            let (found, single) = (found.unwrap(), store.get(key).unwrap().unwrap());
            let checked = duplicate(store.check_and_set(key, "other").unwrap());
            let Begin::Completed(begun) = store.begin(key).unwrap() else { panic!("{key}") };
            for record in [&single, &checked, &begun, &found.to_owned()] {
                assert_eq!(record.outcome(), found.outcome());
                assert_eq!(record.outcome_gone(), found.outcome_gone());
                assert_eq!(record.meta(), store.peek(key).unwrap().unwrap());
                assert_eq!((record.meta(), record.meta().outcome_bytes), (found.meta(), 3));
            }
            let gone = found.outcome_gone().map(|gone| (gone.bytes, gone.digest));
            assert!(gone.is_none_or(|gone| gone == (3, Fingerprint::of(b"abc"))));
            assert_eq!(found.outcome().is_empty(), gone.is_some());
            there.push(gone.is_none());
        }
        there
    };
    assert_eq!(outcomes(&store), [true; 6]);
    clock.advance(MINUTE);
    assert_eq!(outcomes(&store), [false, false, false, false, true, true]);
    drop(store);
    // It is in the records: a store opened without the policy answers the same.
    let store = open(Policy::default());
    assert_eq!(outcomes(&store), [false, false, false, false, true, true]);
    clock.advance(29 * MINUTE);
    assert_eq!(outcomes(&store), [false; 6]);
    assert!(store.check_and_set("later", "abc").unwrap().is_new());
    clock.advance(HOUR - 30 * MINUTE);
    let known = keys.map(|key| store.contains(key).unwrap());
    assert_eq!(known, [false, false, true, false, false, false]);
    assert_eq!(store.get("later").unwrap().unwrap().outcome(), b"abc");
}

#[test]
fn a_policy_for_the_store_that_cannot_work_is_refused_with_what_to_use() {
    let directory = directory();
    let refused = |policy: Policy, names: &str| {
        let refused = small().ttl(HOUR).policy(policy).open(directory.path()).unwrap_err();
        assert!(refused.to_string().contains(names), "{refused}");
    };
    let plain = Policy::default();
    refused(Policy { retention: Some(HOUR.into()), ..plain }, "Builder::ttl");
    refused(Policy { max_keys: Some(1), ..plain }, "Builder::max_keys");
    refused(Policy { max_bytes: Some(1), ..plain }, "Builder::max_bytes");
    refused(Policy { outcome_ttl: Some(2 * HOUR), ..plain }, "outcome_ttl");
    refused(Policy { lease: Duration::ZERO, ..plain }, "lease");
    let store = small().ttl(HOUR).open(directory.path()).unwrap();
    let options = CheckOptions::new().outcome_ttl(2 * HOUR);
    let refused = store.check_and_set_with("a", "x", options);
    assert!(matches!(refused, Err(Error::InvalidTtl { .. })) && !store.contains("a").unwrap());
    let options = CheckOptions::new().sent_at(Timestamp::from_millis(1));
    assert!(matches!(store.check_and_set_with("a", "", options), Err(Error::Stale { .. })));
}

#[test]
fn an_outcome_that_is_too_long_is_refused_or_leaves_its_mark_and_is_never_truncated() {
    let (directory, clock) = (directory(), clock());
    let open = |policy: Policy| {
        let builder = small().clock(clock.clone()).outcome_bytes_max(1_000).policy(policy);
        builder.open(directory.path()).unwrap()
    };
    let (fits, long) = (vec![3; 1_000], vec![4; 1_001]);
    let too_long = |error: Error| matches!(error, Error::OutcomeTooLong { len: 1_001, max: 1_000 });
    let store = open(Policy::default());
    let mut answers = Answers::new();
    assert!(too_long(store.check_and_set("a", &long).unwrap_err()));
    assert!(too_long(store.check_and_set_many(&[("a", &long)], &mut answers).unwrap_err()));
    let mut lease = store.begin("refused").unwrap().started().unwrap();
    assert!(
        too_long(lease.complete(&long).unwrap_err()) && too_long(lease.fail(&long).unwrap_err())
    );
    lease.complete(&fits).unwrap();
    let keep = LongOutcomePolicy::KeepMark;
    let options = BeginOptions::new().on_long_outcome(keep);
    drop(store.begin_with("by another process", options).unwrap());
    drop((store, lease));
    let store = open(Policy { on_long_outcome: keep, ..Policy::default() });
    assert!(store.check_and_set("fits", &fits).unwrap().is_new());
    assert_eq!(store.get("fits").unwrap().unwrap().outcome(), fits);
    assert!(store.check_and_set("checked", &long).unwrap().is_new());
    store.begin("completed").unwrap().started().unwrap().complete(&long).unwrap();
    store.begin("failed").unwrap().started().unwrap().fail(&long).unwrap();
    let mut overdue = store.begin("resolved").unwrap().started().unwrap();
    overdue.release(None).unwrap();
    assert!(store.resolve("resolved", &long).unwrap());
    store.check_and_set_many(&[("batch", &long), ("batch", &fits)], &mut answers).unwrap();
    let Some(oncelog::Answer::Duplicate(second)) = answers.get(1) else { panic!("{answers:?}") };
    assert_eq!(second.outcome_gone().unwrap().bytes, 1_001);
    let run = store.run("run", BeginOptions::new(), |_| Ok::<_, ()>(&long)).unwrap();
    assert!(run.outcome().is_empty());
    let token = store.peek("by another process").unwrap().unwrap().version;
    store.complete_by("by another process", token, &long).unwrap();
    let space = store.namespace("refuses", Policy::default()).unwrap();
    assert!(too_long(space.check_and_set("a", &long).unwrap_err()));
    let options = CheckOptions::new().on_long_outcome(keep);
    assert!(space.check_and_set_with("a", &long, options).unwrap().is_new());
    drop((space, overdue, store));
    for closes in [false, true] {
        let store = open(Policy::default());
        let keys = ["checked", "completed", "failed", "resolved", "batch", "run"];
        for key in keys.into_iter().chain(["by another process"]) {
            let record = duplicate(store.check_and_set(key, "").unwrap());
            let gone = record.outcome_gone().unwrap();
            assert_eq!((gone.bytes, gone.digest), (1_001, Fingerprint::of(&long)), "{key}");
            assert!(record.outcome().is_empty() && record.is_failure() == (key == "failed"));
            let meta = store.peek(key).unwrap().unwrap();
            assert_eq!((meta.outcome_bytes, meta.outcome_gone), (1_001, true));
            assert_eq!(store.get(key).unwrap().unwrap().meta(), meta);
        }
        assert_eq!(store.get("refused").unwrap().unwrap().outcome(), fits);
        if closes {
            store.close().unwrap();
        }
    }
}

#[test]
fn an_outcome_that_is_gone_when_its_key_is_seen_takes_no_room_in_the_new_record() {
    let (directory, clock) = (directory(), clock());
    let policy =
        Policy { outcome_ttl: Some(MINUTE), anchor: Anchor::LastSeen, ..Policy::default() };
    let builder = small().clock(clock.clone()).ttl(HOUR);
    let store = builder.open(directory.path()).unwrap();
    let keys = store.namespace("keys", policy).unwrap();
    let outcome = vec![9; 50_000];
    assert!(keys.check_and_set("a", &outcome).unwrap().is_new());
    clock.advance(Duration::from_secs(30));
    assert_eq!(duplicate(keys.check_and_set("a", "").unwrap()).outcome(), outcome);
    for _ in 0..20 {
        clock.advance(20 * MINUTE);
        maintain(&store);
        let gone = duplicate(keys.check_and_set("a", "").unwrap()).outcome_gone().unwrap();
        assert_eq!((gone.bytes, gone.digest), (50_000, Fingerprint::of(&outcome)));
    }
    assert!(keys.stats().bytes < 200 && keys.stats().refreshes > 5);
}
