//! The lease protocol in single steps: who gets a key, who may end it, and what is remembered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oncelog::{
    AbandonPolicy, Begin, BeginOptions, Check, DropPolicy, Error, Fingerprint, InProgress, Lease,
    ManualClock, Meta, Record, Status, Store,
};

use crate::setup::{clock, directory, small};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn open(path: &Path, clock: &Arc<ManualClock>) -> Store {
    small().clock(clock.clone()).open(path).unwrap()
}

pub(crate) fn started(answer: Begin) -> Lease {
    match answer {
        Begin::Started(lease) => lease,
        other => panic!("not started: {other:?}"),
    }
}

pub(crate) fn in_progress(answer: Begin) -> InProgress {
    match answer {
        Begin::InProgress(other) => other,
        other => panic!("not in progress: {other:?}"),
    }
}

pub(crate) fn completed(answer: Begin) -> Record {
    match answer {
        Begin::Completed(record) => record,
        other => panic!("not completed: {other:?}"),
    }
}

fn unknown(answer: Begin) -> Meta {
    match answer {
        Begin::Unknown(meta) => meta,
        other => panic!("not unknown: {other:?}"),
    }
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::LeaseLost))
}

#[test]
fn a_lease_can_be_sent_to_another_thread_and_outlives_its_store_handle() {
    fn is_free<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = is_free(started(store.begin("a").unwrap()));
    drop(store);
    let thread = std::thread::spawn(move || lease.complete("x").map(drop));
    thread.join().unwrap().unwrap();
    let store = open(directory.path(), &clock);
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"x");
}

#[test]
fn the_first_to_begin_works_and_everybody_after_completion_gets_its_outcome() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    assert_eq!((lease.attempt(), lease.key(), lease.remaining()), (1, &b"a"[..], LEASE));
    clock.advance(SECOND);
    let other = in_progress(store.begin("a").unwrap());
    assert_eq!(other.deadline(), lease.deadline());
    assert_eq!(other.retry_after(), 29 * SECOND);
    let version = lease.complete("receipt").unwrap();
    assert!(version > lease.version());
    let record = completed(store.begin("a").unwrap());
    assert_eq!(
        (record.outcome(), record.version(), record.is_failure()),
        (&b"receipt"[..], version, false)
    );
    assert_eq!(store.get("a").unwrap().unwrap().outcome(), b"receipt");
    assert!(matches!(store.check_and_set("a", "x").unwrap(), Check::Duplicate(_)));
}

#[test]
fn what_is_known_of_a_key_is_told_at_every_step() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    assert_eq!(store.peek("a").unwrap(), None);
    let options = BeginOptions::new().fingerprint(Fingerprint::of(b"body"));
    let mut lease = started(store.begin_with("a", options).unwrap());
    let begun = lease.first_seen();
    let meta = store.peek("a").unwrap().unwrap();
    assert_eq!(
        (meta.status, meta.attempts, meta.version),
        (Status::InProgress, 1, lease.version())
    );
    assert_eq!((meta.deadline, meta.first_seen), (Some(lease.deadline()), begun));
    assert!(meta.has_fingerprint && meta.completed_at.is_none() && meta.outcome_bytes == 0);
    clock.advance(LEASE);
    assert_eq!(store.peek("a").unwrap().unwrap().status, Status::Overdue);
    lease.fail("no such account").unwrap();
    let meta = store.peek("a").unwrap().unwrap();
    assert_eq!((meta.status, meta.outcome_bytes, meta.deadline), (Status::Failed, 15, None));
    assert_eq!(meta.completed_at.unwrap().as_millis(), begun.as_millis() + 30_000);
    let record = completed(store.begin("a").unwrap());
    assert!(record.is_failure() && record.meta() == meta);
    assert_eq!(store.get("a").unwrap().unwrap().meta(), meta);
}

#[test]
fn a_lease_that_ran_out_goes_to_the_next_and_its_late_holder_changes_nothing() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut late = started(store.begin("a").unwrap());
    clock.advance(LEASE - Duration::from_millis(1));
    in_progress(store.begin("a").unwrap());
    clock.advance(Duration::from_millis(1));
    let mut current = started(store.begin("a").unwrap());
    assert_eq!(current.attempt(), 2);
    assert!(current.version() > late.version());
    assert!(is_lost(late.complete("late")));
    assert!(is_lost(late.fail("late")));
    assert!(is_lost(late.renew(SECOND)));
    assert!(is_lost(late.release(None)));
    assert_eq!(store.peek("a").unwrap().unwrap().version, current.version());
    current.complete("in time").unwrap();
    assert!(is_lost(late.complete("late")));
    assert!(is_lost(current.complete("again")));
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"in time");
}

#[test]
fn an_overdue_holder_whom_nobody_replaced_may_still_complete_or_renew() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let (mut a, mut b) = (started(store.begin("a").unwrap()), started(store.begin("b").unwrap()));
    clock.advance(100 * LEASE);
    a.complete("late but alone").unwrap();
    b.renew(LEASE).unwrap();
    assert_eq!(b.remaining(), LEASE);
    in_progress(store.begin("b").unwrap());
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"late but alone");
}

#[test]
fn one_attempt_has_one_token_however_often_it_is_renewed() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let token = lease.version();
    for _ in 0..5 {
        clock.advance(20 * SECOND);
        lease.renew(LEASE).unwrap();
        assert_eq!((lease.version(), store.peek("a").unwrap().unwrap().version), (token, token));
        in_progress(store.begin("a").unwrap());
    }
    store.renew_by("a", token, SECOND).unwrap();
    clock.advance(SECOND);
    let next = started(store.begin("a").unwrap());
    assert!(next.version() > token);
    assert!(is_lost(store.renew_by("a", token, SECOND)));
}

#[test]
fn a_released_key_is_free_again_with_its_attempts_counted() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut first = started(store.begin("a").unwrap());
    first.release(None).unwrap();
    assert_eq!(store.peek("a").unwrap().unwrap().status, Status::Released);
    assert!(store.get("a").unwrap().is_none());
    let mut second = started(store.begin("a").unwrap());
    assert_eq!(second.attempt(), 2);
    second.release(Some(10 * SECOND)).unwrap();
    let waiting = in_progress(store.begin("a").unwrap());
    assert_eq!((waiting.retry_after(), waiting.meta().status), (10 * SECOND, Status::Released));
    clock.advance(10 * SECOND);
    assert_eq!(started(store.begin("a").unwrap()).attempt(), 3);
    assert!(is_lost(first.complete("x")));
}

#[test]
fn attempts_are_limited_by_the_limit_of_the_call() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let options = BeginOptions::new().attempts_max(2);
    started(store.begin_with("a", options).unwrap()).release(None).unwrap();
    drop(started(store.begin_with("a", options).unwrap()));
    in_progress(store.begin_with("a", options).unwrap());
    clock.advance(LEASE);
    let Begin::Exhausted(meta) = store.begin_with("a", options).unwrap() else {
        panic!("a third attempt")
    };
    assert_eq!((meta.attempts, meta.status), (2, Status::Overdue));
    assert!(matches!(
        store.begin_with("b", BeginOptions::new().attempts_max(0)),
        Err(Error::InvalidConfig { .. })
    ));
    assert_eq!(started(store.begin("a").unwrap()).attempt(), 3);
}

#[test]
fn another_fingerprint_is_a_mismatch_in_every_state_and_shows_no_outcome() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let ours = BeginOptions::new().fingerprint(Fingerprint::of(b"100"));
    let other = BeginOptions::new().fingerprint(Fingerprint::of(b"200"));
    let mismatch = || {
        let Begin::Mismatch(meta) = store.begin_with("a", other).unwrap() else {
            panic!("taken for the same request")
        };
        meta.status
    };
    let mut lease = started(store.begin_with("a", ours).unwrap());
    assert_eq!(mismatch(), Status::InProgress);
    lease.release(None).unwrap();
    assert_eq!(mismatch(), Status::Released);
    let mut lease = started(store.begin_with("a", ours).unwrap());
    clock.advance(LEASE);
    assert_eq!(mismatch(), Status::Overdue);
    lease.complete("secret").unwrap();
    assert_eq!(mismatch(), Status::Completed);
    assert_eq!(completed(store.begin_with("a", ours).unwrap()).outcome(), b"secret");
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"secret");
}

#[test]
fn a_held_key_stays_unknown_until_it_is_resolved_also_across_reopening() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    let lease = started(store.begin_with("a", hold).unwrap());
    assert!(matches!(store.resolve("a", "x"), Err(Error::InProgress { .. })));
    clock.advance(LEASE);
    assert_eq!(unknown(store.begin("a").unwrap()).attempts, 1);
    assert!(matches!(store.check_and_set("a", "x"), Err(Error::Unresolved)));
    drop(lease);
    drop(store);
    store = open(directory.path(), &clock);
    assert_eq!(unknown(store.begin_with("a", hold).unwrap()).status, Status::Unknown);
    assert!(store.resolve("a", "it had happened").unwrap());
    assert!(!store.resolve("a", "twice").unwrap());
    assert!(!store.resolve("never seen", "x").unwrap());
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"it had happened");
}

#[test]
fn dropping_a_lease_holds_the_key_or_releases_it_as_the_policy_says() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    drop(started(store.begin("held").unwrap()));
    in_progress(store.begin("held").unwrap());
    let release = BeginOptions::new().on_drop(DropPolicy::Release);
    drop(started(store.begin_with("free", release).unwrap()));
    let mut lease = started(store.begin_with("free", release).unwrap());
    assert_eq!(lease.attempt(), 2);
    // An outcome that could not be recorded was an effect all the same.
    assert!(matches!(lease.complete(vec![0; 2 << 20]), Err(Error::OutcomeTooLong { .. })));
    drop(lease);
    in_progress(store.begin("free").unwrap());
}

#[test]
fn a_plain_check_of_a_key_in_progress_is_refused_and_never_new() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let refused = store.check_and_set("a", "x").unwrap_err();
    assert!(matches!(refused, Error::InProgress { .. }) && refused.is_retryable(), "{refused}");
    assert!(store.insert("a").is_err() && !store.contains("a").unwrap());
    clock.advance(LEASE);
    assert!(store.check_and_set("a", "overdue").unwrap().is_new());
    assert!(is_lost(lease.complete("late")));
    assert_eq!(completed(store.begin("a").unwrap()).meta().attempts, 0);
}

#[test]
fn a_removed_key_is_new_and_its_lease_is_lost() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    assert!(!store.remove_if("a", store.begin("b").unwrap().started().unwrap().version()).unwrap());
    assert!(store.remove_if("a", lease.version()).unwrap());
    assert!(is_lost(lease.complete("x")) && is_lost(lease.renew(SECOND)));
    let next = started(store.begin("a").unwrap());
    assert_eq!(next.attempt(), 1);
    assert!(next.version() > lease.version());
    assert!(store.remove("a").unwrap() && !store.remove("a").unwrap());
}

#[test]
fn retention_counts_from_completion_and_nothing_older_comes_back_after_it() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let options = BeginOptions::new().retention(60 * SECOND).lease(SECOND);
    let mut lease = started(store.begin_with("a", options).unwrap());
    clock.advance(50 * SECOND);
    lease.complete("x").unwrap();
    clock.advance(59 * SECOND);
    assert!(store.contains("a").unwrap());
    clock.advance(SECOND);
    assert!(!store.contains("a").unwrap());
    // A long first attempt, then a short retention: the first one's record outlives the second's.
    let long = BeginOptions::new().retention(DAY).lease(SECOND);
    drop(started(store.begin_with("b", long).unwrap()));
    clock.advance(SECOND);
    started(store.begin_with("b", options).unwrap()).complete("x").unwrap();
    clock.advance(60 * SECOND);
    store.maintain(SECOND).unwrap();
    // A lease keeps the store open as a handle does.
    drop((lease, store));
    store = open(directory.path(), &clock);
    assert!(store.contains("b").unwrap(), "the earlier attempt would have come back");
}

#[test]
fn leases_versions_and_attempts_survive_reopening() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let lease = started(store.begin("a").unwrap());
    let (token, deadline) = (lease.version(), lease.deadline());
    drop(lease);
    for close in [false, true] {
        if close {
            store.close().unwrap()
        } else {
            drop(store)
        }
        store = open(directory.path(), &clock);
        assert_eq!(in_progress(store.begin("a").unwrap()).deadline(), deadline);
    }
    store.complete_by("a", token, "by another process").unwrap();
    assert!(is_lost(store.complete_by("a", token, "twice")));
    drop(store);
    store = open(directory.path(), &clock);
    let record = completed(store.begin("a").unwrap());
    assert_eq!((record.outcome(), record.meta().attempts), (&b"by another process"[..], 1));
    drop(started(store.begin("b").unwrap()));
    clock.advance(LEASE);
    drop(store);
    store = open(directory.path(), &clock);
    let lease = started(store.begin("b").unwrap());
    assert!(lease.attempt() == 2 && lease.version() > token);
}

#[test]
fn a_batch_begins_each_key_as_a_single_call_would() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    store.insert("done").unwrap();
    let mut answers = Vec::new();
    store.begin_many(&["a", "done", "a"], BeginOptions::new(), &mut answers).unwrap();
    let [Begin::Started(_), Begin::Completed(_), Begin::InProgress(_)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(store.begin_many(&["b", "", "c"], BeginOptions::new(), &mut answers).is_err());
    assert_eq!(answers.len(), 1);
    assert!(store.peek("c").unwrap().is_none());
}

#[test]
fn a_batch_of_completions_stops_at_the_first_that_fails() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut answers = Vec::new();
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    store.begin_many(&keys, BeginOptions::new(), &mut answers).unwrap();
    let leases = answers.into_iter().filter_map(Begin::started);
    let mut work: Vec<(Lease, String)> = leases.zip(keys.clone()).collect();
    store.remove("50").unwrap();
    assert!(is_lost(store.complete_many(&mut work)));
    assert!(work.iter().enumerate().all(|(at, (lease, _))| lease.is_over() == (at < 50)));
    store.complete_many(&mut work.split_off(51)).unwrap();
    for (at, key) in keys.iter().enumerate().filter(|(at, _)| *at != 50) {
        assert_eq!(completed(store.begin(key).unwrap()).outcome(), key.as_bytes(), "{at}");
    }
}
