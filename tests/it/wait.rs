//! Waiting for a lease: who is woken by what, and what futures leave behind when they are dropped.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use oncelog::{Begin, BeginOptions, DropPolicy, Maintenance, RunError, Store};

use crate::lease::{LEASE, SECOND, completed, in_progress, open, started};
use crate::setup::{clock, directory, small};

/// Longer than any wait that a test expects to end by a wake-up.
const LONG: Duration = Duration::from_secs(60);

/// Less than what is left of any lease: a wake-up that was lost does not come in that time.
const SOON: Duration = Duration::from_secs(15);

/// Waits in a thread until the store counts so many who wait.
fn until_waiting(store: &Store, count: u64) {
    while store.stats().waiting < count {
        std::thread::yield_now();
    }
}

/// A thread that waits for key "a", and its answer.
fn waiting(store: &Store) -> mpsc::Receiver<Begin> {
    let (sender, receiver) = mpsc::channel();
    let before = store.stats().waiting;
    let other = in_progress(store.begin("a").unwrap());
    std::thread::spawn(move || {
        let _ = sender.send(other.wait(LONG).unwrap());
    });
    until_waiting(store, before + 1);
    receiver
}

/// The answer that comes first, and where the other will come from.
fn first_of(
    first: mpsc::Receiver<Begin>,
    second: mpsc::Receiver<Begin>,
) -> (Begin, mpsc::Receiver<Begin>) {
    for _ in 0..60_000 {
        if let Ok(answer) = first.recv_timeout(Duration::from_micros(500)) {
            return (answer, second);
        }
        if let Ok(answer) = second.recv_timeout(Duration::from_micros(500)) {
            return (answer, first);
        }
    }
    panic!("nobody was answered");
}

#[test]
fn everybody_who_waits_is_answered_when_the_lease_completes_or_fails() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let answers = [waiting(&store), waiting(&store), waiting(&store)];
    lease.complete("x").unwrap();
    for answer in answers {
        assert_eq!(completed(answer.recv_timeout(SOON).unwrap()).outcome(), b"x");
    }
    assert!(store.remove("a").unwrap());
    let mut lease = started(store.begin("a").unwrap());
    let answer = waiting(&store);
    lease.fail("y").unwrap();
    assert!(completed(answer.recv_timeout(SOON).unwrap()).is_failure());
    assert_eq!(store.stats().waiting, 0);
}

#[test]
fn one_of_those_who_wait_gets_a_key_that_is_released_removed_or_dropped() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let options = BeginOptions::new().on_drop(DropPolicy::Release);
    for end in 0..3 {
        let mut lease = started(store.begin_with("a", options).unwrap());
        let (first, second) = (waiting(&store), waiting(&store));
        match end {
            0 => lease.release(None).unwrap(),
            1 => assert!(store.remove("a").unwrap()),
            _ => drop(lease),
        }
        let (winner, other) = first_of(first, second);
        let mut winner = started(winner);
        assert!(other.try_recv().is_err(), "two got the key");
        winner.complete("done").unwrap();
        completed(other.recv_timeout(SOON).unwrap());
        assert!(store.remove("a").unwrap());
    }
}

#[test]
fn those_who_wait_for_a_key_released_for_later_are_told_when_it_is_recorded_or_resolved() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    for resolve in [false, true] {
        started(store.begin("a").unwrap()).release(Some(LONG)).unwrap();
        let answer = waiting(&store);
        if resolve {
            assert!(store.resolve("a", "x").unwrap());
        } else {
            assert!(store.check_and_set("a", "x").unwrap().is_new());
        }
        assert_eq!(completed(answer.recv_timeout(SOON).unwrap()).outcome(), b"x");
        assert!(store.remove("a").unwrap());
    }
}

#[test]
fn a_lease_that_runs_out_wakes_those_who_wait_through_maintenance() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let _late = started(store.begin("a").unwrap());
    let answer = waiting(&store);
    clock.advance(LEASE);
    // The one who waits looks at the clock only when woken: until then it must be told again.
    let answer = (0..15_000).find_map(|_| {
        store.maintain(Duration::ZERO).unwrap();
        answer.recv_timeout(Duration::from_millis(1)).ok()
    });
    assert_eq!(started(answer.unwrap()).attempt(), 2);
}

#[test]
fn a_wait_ends_at_its_timeout_with_the_key_still_in_progress() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let other = in_progress(store.begin("a").unwrap());
    clock.advance(SECOND);
    lease.renew(2 * LEASE).unwrap();
    let other = in_progress(other.wait(Duration::from_millis(5)).unwrap());
    assert_eq!(other.deadline(), lease.deadline());
    let other = in_progress(other.wait(Duration::ZERO).unwrap());
    lease.complete("x").unwrap();
    completed(other.wait(Duration::ZERO).unwrap());
    assert_eq!(store.stats().waiting, 0);
}

#[test]
fn a_real_clock_ends_a_wait_at_the_deadline_without_any_maintenance() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let short = BeginOptions::new().lease(Duration::from_millis(30));
    drop(started(store.begin_with("a", short).unwrap()));
    // On a busy machine the lease may have run out before this.
    let lease = match store.begin("a").unwrap() {
        Begin::InProgress(other) => started(other.wait(LONG).unwrap()),
        answer => started(answer),
    };
    assert_eq!(lease.attempt(), 2);
}

#[test]
fn closing_the_store_ends_every_wait() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let _lease = started(store.begin("a").unwrap());
    let other = in_progress(store.begin("a").unwrap());
    let thread = std::thread::spawn(move || other.wait(LONG));
    until_waiting(&store, 1);
    store.close().unwrap();
    assert!(matches!(thread.join().unwrap(), Err(oncelog::Error::Closed)));
}

#[test]
fn no_wake_up_is_lost_when_ends_and_waits_meet() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for round in 0..2_000_u32 {
        let key = round.to_le_bytes();
        let mut lease = started(store.begin(key).unwrap());
        let barrier = Arc::new(Barrier::new(3));
        let (sender, receiver) = mpsc::channel();
        for _ in 0..2 {
            let other = in_progress(store.begin(key).unwrap());
            let (barrier, sender) = (barrier.clone(), sender.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let _ = sender.send(other.wait(LONG).unwrap());
            });
        }
        barrier.wait();
        lease.complete("x").unwrap();
        for _ in 0..2 {
            completed(receiver.recv_timeout(SOON).unwrap());
        }
    }
}

#[test]
fn one_caller_runs_and_all_get_its_outcome() {
    let directory = directory();
    let store = small().maintenance(Maintenance::Thread).open(directory.path()).unwrap();
    let calls = AtomicUsize::new(0);
    let worked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let run = store.run("a", BeginOptions::new(), |_lease| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, RunError<()>>("outcome")
                });
                let run = run.unwrap();
                assert_eq!(run.outcome(), b"outcome");
                worked.fetch_add(usize::from(run.worked()), Ordering::SeqCst);
            });
        }
    });
    assert_eq!((calls.into_inner(), worked.into_inner()), (1, 1));
}

#[test]
fn an_error_releases_the_key_and_one_of_those_who_wait_works() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let attempts = AtomicU32::new(0);
    let successes = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let run = store.run("a", BeginOptions::new(), |lease| {
                    attempts.fetch_add(1, Ordering::SeqCst);
                    if lease.attempt() < 4 { Err("not yet") } else { Ok("done") }
                });
                match run {
                    Ok(run) => assert_eq!(run.outcome(), b"done"),
                    Err(RunError::Work("not yet")) => return,
                    Err(other) => panic!("{other:?}"),
                }
                successes.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!((attempts.into_inner(), successes.into_inner()), (4, 5));
}

#[test]
fn a_panic_in_the_work_follows_the_drop_policy_and_leaves_the_store_usable() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let panics = |options: BeginOptions| {
        let work = std::panic::AssertUnwindSafe(|| {
            store.run("a", options, |_lease| -> Result<&str, ()> {
                std::panic::resume_unwind(Box::new("the work fails"))
            })
        });
        assert!(std::panic::catch_unwind(work).is_err());
    };
    panics(BeginOptions::new().on_drop(DropPolicy::Release));
    assert_eq!(store.peek("a").unwrap().unwrap().status, oncelog::Status::Released);
    panics(BeginOptions::new());
    in_progress(store.begin("a").unwrap());
    clock.advance(LEASE);
    let run = store.run("a", BeginOptions::new(), |lease| Ok::<_, ()>(lease.attempt().to_string()));
    assert_eq!(run.unwrap().outcome(), b"3");
}

#[test]
fn a_run_without_an_outcome_says_why() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let work = |_: &mut oncelog::Lease| Ok::<_, std::fmt::Error>("x");
    let limited = BeginOptions::new().attempts_max(1);
    started(store.begin_with("a", limited).unwrap()).release(None).unwrap();
    let error = store.run("a", limited, work).unwrap_err();
    assert!(matches!(&error, RunError::Exhausted(meta) if meta.attempts == 1), "{error}");
    // The work took longer than its lease, and somebody else has the key.
    let error = store.run("b", BeginOptions::new(), |_lease| {
        clock.advance(LEASE);
        drop(started(store.begin("b").unwrap()));
        Ok::<_, std::fmt::Error>("late")
    });
    assert!(matches!(error, Err(RunError::Store(oncelog::Error::LeaseLost))));
    let _: Arc<dyn std::error::Error> = Arc::new(error.unwrap_err());
}
