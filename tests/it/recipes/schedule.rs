//! Schedules: no double fire and no missed one, at once, late, and after a crash.

use std::sync::Arc;
use std::time::Duration;

use oncelog::recipes::schedule::{Fire, Schedule};
use oncelog::{BeginOptions, Error, Lease, ManualClock, Store, Timestamp};

use crate::lease::{LEASE, open};
use crate::recipes::{HOUR, SECOND, at_once, count};
use crate::setup::{Random, START, clock, directory, fast_directory, maintain, small};

fn schedule(store: &Store) -> Schedule {
    Schedule::open(store, "cron", LEASE, 4 * HOUR).unwrap()
}

fn started(answer: Fire) -> Lease {
    match answer {
        Fire::Started(lease) => lease,
        other => panic!("not started: {other:?}"),
    }
}

#[test]
fn of_callers_at_once_one_fires_and_jobs_and_times_are_apart() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let (schedule, at) = (schedule(&store), store.now());
    for round in 0..200 {
        let job = format!("job {round}");
        let answers = at_once(|_| schedule.fire(&job, at).unwrap());
        assert_eq!(count(&answers, |answer| matches!(answer, Fire::Started(_))), 1);
        assert_eq!(count(&answers, |answer| matches!(answer, Fire::InProgress(_))), 3);
    }
    let earlier = Timestamp::from_millis(at.as_millis() - 1);
    started(schedule.fire("job 1", earlier).unwrap()).complete("").unwrap();
}

#[test]
fn a_run_that_was_cut_off_is_taken_over_and_one_that_ended_is_not_repeated() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let at = store.now();
    drop((started(schedule(&store).fire("report", at).unwrap()), store));
    let store = open(directory.path(), &clock);
    assert!(matches!(schedule(&store).fire("report", at).unwrap(), Fire::InProgress(_)));
    clock.advance(LEASE);
    let mut second = started(schedule(&store).fire("report", at).unwrap());
    assert_eq!(second.attempt(), 2);
    second.complete("12 pages").unwrap();
    drop((second, store));
    let store = open(directory.path(), &clock);
    let Fire::Done(record) = schedule(&store).fire("report", at).unwrap() else {
        panic!("it was done")
    };
    assert_eq!(record.outcome(), b"12 pages");
    let once = BeginOptions::new().attempts_max(1);
    drop(started(schedule(&store).fire_with("once", at, once).unwrap()));
    clock.advance(LEASE);
    let stopped = schedule(&store).fire_with("once", at, once).unwrap();
    assert!(matches!(stopped, Fire::Stopped(meta) if meta.attempts == 1));
}

#[test]
fn a_run_can_be_ended_by_its_token_from_elsewhere() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let (schedule, at) = (schedule(&store), store.now());
    let version = started(schedule.fire("report", at).unwrap()).version();
    let key = schedule.key("report", at);
    schedule.namespace().complete_by(&key, version, "done").unwrap();
    let again = schedule.namespace().complete_by(&key, version, "twice");
    assert!(matches!(again, Err(Error::LeaseLost)));
    assert!(matches!(schedule.fire("report", at).unwrap(), Fire::Done(_)));
}

#[test]
fn a_time_to_come_is_not_fired_and_one_that_may_be_forgotten_is_refused() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let schedule = schedule(&store);
    let soon = Timestamp::from_millis(START + 1_000);
    let answer = schedule.fire("report", soon).unwrap();
    assert!(matches!(answer, Fire::NotYet(left) if left == SECOND));
    clock.advance(SECOND);
    started(schedule.fire("report", soon).unwrap()).complete("").unwrap();
    clock.advance(4 * HOUR - Duration::from_millis(1));
    assert!(matches!(schedule.fire("report", soon).unwrap(), Fire::Done(_)));
    clock.advance(Duration::from_millis(1));
    let leases = store.stats().leases_started;
    for _ in 0..3 {
        assert!(matches!(schedule.fire("report", soon).unwrap(), Fire::TooOld));
    }
    assert_eq!(store.stats().leases_started, leases, "an old time costs no record");
    assert!(schedule.due("report", soon, SECOND * 60).is_ok());
    let endless = schedule.due("report", Timestamp::default(), Duration::from_millis(1));
    assert!(matches!(endless, Err(Error::InvalidConfig { .. })));
}

/// A clock that jumps while somebody is about to fire: it gives each look a later time.
#[derive(Debug)]
struct Striding(ManualClock, Duration);

impl oncelog::Clock for Striding {
    fn now(&self) -> Timestamp {
        let now = self.0.now();
        self.0.advance(self.1);
        now
    }
}

#[test]
fn a_caller_who_pauses_between_its_looks_at_the_time_fires_nothing_twice() {
    for stride in 1..60 {
        let directory = fast_directory();
        let stride = stride * HOUR / 10;
        let clock = Striding(ManualClock::new(Timestamp::from_millis(START)), stride);
        let store = small().clock(Arc::new(clock)).open(directory.path()).unwrap();
        let (schedule, at) = (schedule(&store), store.now());
        let mut runs = 0;
        for _ in 0..40 {
            if let Fire::Started(mut lease) = schedule.fire("report", at).unwrap() {
                runs += usize::from(lease.complete("").is_ok());
            }
        }
        assert!(runs <= 1, "fired {runs} times with looks {stride:?} apart");
    }
}

#[test]
fn what_was_missed_or_cut_off_is_due_until_it_is_done() {
    for seed in 0..4 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let (mut random, since) = (Random::new(seed), schedule(&store).latest(HOUR / 4));
        let mut done = std::collections::BTreeSet::new();
        for _ in 0..150 {
            clock.advance(Duration::from_millis(random.below(1_800_000)));
            let schedule = schedule(&store);
            let due = schedule.due("report", since, HOUR / 4).unwrap();
            assert!(due.is_sorted() && due.iter().all(|at| !done.contains(at)));
            // Everything of the last four hours is either done or due: no run is under way.
            let oldest = store.now().as_millis().saturating_sub(4 * 3_600_000) + 1;
            let first = oldest.max(since.as_millis()).div_ceil(900_000);
            for at in (first..=store.now().as_millis() / 900_000).map(|count| count * 900_000) {
                let at = Timestamp::from_millis(at);
                assert!(done.contains(&at) != due.contains(&at), "seed {seed}: {at}");
            }
            for at in due {
                match random.below(3) {
                    0 => {
                        let mut lease = started(schedule.fire("report", at).unwrap());
                        lease.complete("").unwrap();
                        assert!(done.insert(at), "fired twice");
                    }
                    1 => drop(started(schedule.fire("report", at).unwrap())),
                    _ => {}
                }
            }
            clock.advance(LEASE);
            if random.below(5) == 0 {
                drop((schedule, store));
                store = open(directory.path(), &clock);
                maintain(&store);
            }
        }
        assert!(done.len() > 20);
    }
}
