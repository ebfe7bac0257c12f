//! Races for one key: of any number of callers one wins, and whoever was overtaken is refused.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncelog::{Begin, BeginOptions, Error, Version};

use crate::lease::{LEASE, completed, open, started};
use crate::setup::{clock, directory, small};

const THREADS: usize = 64;

/// Rounds of the race; `ONCELOG_TEST_RACE_ROUNDS=100000` for the long run.
fn rounds() -> u64 {
    let given = std::env::var("ONCELOG_TEST_RACE_ROUNDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// aws-powertools/powertools-lambda-python#245 let an expired record's key be worked on without
/// claiming it again.
#[test]
fn of_64_threads_on_one_expiring_key_one_wins_each_round() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    // A thread that panicked would leave the others at the barrier: what is wrong is counted.
    let (winners, latest, wrong) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let check = |right: bool| {
        wrong.fetch_add(u64::from(!right), Ordering::SeqCst);
    };
    let barrier = Barrier::new(THREADS);
    let rounds = rounds();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 1..=rounds {
                    barrier.wait();
                    match store.begin("a") {
                        Ok(Begin::Started(lease)) => {
                            winners.fetch_add(1, Ordering::SeqCst);
                            let token = lease.version().as_u64();
                            check(latest.swap(token, Ordering::SeqCst) < token);
                            check(u64::from(lease.attempt()) == round);
                        }
                        answer => check(matches!(answer, Ok(Begin::InProgress(_)))),
                    }
                    if barrier.wait().is_leader() {
                        check(winners.load(Ordering::SeqCst) == round);
                        clock.advance(LEASE);
                    }
                }
            });
        }
    });
    assert_eq!((winners.into_inner(), wrong.into_inner()), (rounds, 0));
}

#[test]
fn of_all_who_complete_with_one_token_one_outcome_is_recorded() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    for round in 0..500_u32 {
        let key = round.to_le_bytes();
        let token = started(store.begin(key).unwrap()).version();
        let (done, barrier) = (AtomicU64::new(u64::MAX), Barrier::new(4));
        std::thread::scope(|scope| {
            for number in 0..4_u64 {
                let (store, done, barrier) = (&store, &done, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    match store.complete_by(key, token, number.to_le_bytes()) {
                        Ok(_) => assert_eq!(done.swap(number, Ordering::SeqCst), u64::MAX),
                        Err(error) => assert!(matches!(error, Error::LeaseLost), "{error}"),
                    }
                });
            }
        });
        let record = completed(store.begin(key).unwrap());
        assert_eq!(record.outcome(), done.into_inner().to_le_bytes());
    }
}

/// The worker is another process, which is stopped past the lease that it works under.
#[test]
fn a_stopped_holder_is_refused_after_its_lease_went_to_another() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let lease = Duration::from_millis(40);
    let token = started(store.begin_with("a", BeginOptions::new().lease(lease)).unwrap()).version();
    let Ok(mut worker) = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        return;
    };
    let (mut to, from) = (worker.stdin.take().unwrap(), worker.stdout.take().unwrap());
    let signal = |name: &str| {
        let id = worker.id().to_string();
        Command::new("kill").args([name, &id]).status().is_ok_and(|status| status.success())
    };
    assert!(signal("-STOP"));
    writeln!(to, "{}", token.as_u64()).unwrap();
    let other = match store.begin("a").unwrap() {
        Begin::InProgress(other) => other.wait(Duration::from_secs(60)).unwrap(),
        answer => answer,
    };
    let mut current = started(other);
    assert_eq!(current.attempt(), 2);
    assert!(signal("-CONT"));
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).unwrap();
    drop(to);
    worker.wait().unwrap();
    assert_eq!(line.trim().parse::<u64>().unwrap(), token.as_u64());
    let refused: Result<Version, _> = store.complete_by("a", token, "by the stopped one");
    assert!(matches!(refused, Err(Error::LeaseLost)));
    current.complete("by the other").unwrap();
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"by the other");
}
