//! Budgets: no endless retry, whatever way the attempts end.

use std::collections::BTreeMap;
use std::time::Duration;

use oncelog::recipes::budget::{Attempt, Budgets, Limits, Retry, Trial};
use oncelog::{Error, Store};

use crate::lease::{LEASE, open};
use crate::recipes::{SECOND, at_once, count};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const LIMITS: Limits = Limits {
    attempts: 4,
    pause_first: Duration::from_secs(8),
    pause_max: Duration::from_secs(20),
    lease: LEASE,
    retention: oncelog::Ttl::After(Duration::from_secs(24 * 3600)),
};

fn budgets(store: &Store) -> Budgets {
    Budgets::open(store, "mails", LIMITS).unwrap()
}

fn go(answer: Attempt) -> Trial {
    match answer {
        Attempt::Go(trial) => trial,
        other => panic!("no attempt: {other:?}"),
    }
}

#[test]
fn a_message_that_kills_its_consumer_uses_up_its_budget() {
    let (directory, clock) = (directory(), clock());
    for number in 1..=4 {
        let store = open(directory.path(), &clock);
        let trial = go(budgets(&store).attempt("poison").unwrap());
        assert_eq!(trial.number(), number);
        // The process ends: nothing is dropped in an orderly way.
        drop((trial, store));
        clock.advance(LEASE);
    }
    let store = open(directory.path(), &clock);
    maintain(&store);
    for _ in 0..3 {
        let spent = budgets(&store).attempt("poison").unwrap();
        assert!(matches!(spent, Attempt::Spent { attempts: 4, reason: None }), "{spent:?}");
    }
    assert!(budgets(&store).reset("poison").unwrap());
    assert_eq!(go(budgets(&store).attempt("poison").unwrap()).number(), 1);
}

#[test]
fn pauses_double_up_to_the_longest_and_nobody_attempts_before_they_are_over() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let budgets = budgets(&store);
    for (number, most) in [(1, 8), (2, 16), (3, 20)] {
        let trial = go(budgets.attempt("m").unwrap());
        assert!(matches!(budgets.attempt("m").unwrap(), Attempt::Wait(left) if left == LEASE));
        let Retry::After(pause) = trial.fail("busy").unwrap() else { panic!("{number} of 4") };
        let most = most * SECOND;
        assert!(pause <= most && pause > most * 3 / 4, "{pause:?}");
        clock.advance(pause - Duration::from_millis(1));
        let Attempt::Wait(left) = budgets.attempt("m").unwrap() else { panic!("too early") };
        assert!(left <= Duration::from_millis(2));
        clock.advance(Duration::from_millis(2));
    }
    let last = go(budgets.attempt("m").unwrap());
    assert_eq!(last.fail("busy still").unwrap(), Retry::Never);
    let spent = budgets.attempt("m").unwrap();
    let reason = Some(b"busy still".to_vec());
    assert!(matches!(spent, Attempt::Spent { attempts: 4, reason: said } if said == reason));
}

#[test]
fn of_callers_at_once_one_attempts() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let budgets = budgets(&store);
    for round in 0..300_u32 {
        let answers = at_once(|_| budgets.attempt(round.to_le_bytes()).unwrap());
        assert_eq!(count(&answers, |answer| matches!(answer, Attempt::Go(_))), 1);
    }
    let none = Limits { attempts: 0, ..LIMITS };
    let refused = Budgets::open(&store, "none", none);
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
}

#[test]
fn an_error_that_no_repeating_cures_ends_it_at_once() {
    let (directory, clock) = (directory(), clock());
    let budgets = budgets(&open(directory.path(), &clock));
    go(budgets.attempt("m").unwrap()).give_up("no such mailbox").unwrap();
    assert!(matches!(budgets.attempt("m").unwrap(), Attempt::Spent { attempts: 1, .. }));
    go(budgets.attempt("n").unwrap()).succeed("sent").unwrap();
    assert!(matches!(budgets.attempt("n").unwrap(), Attempt::Done(outcome) if outcome == b"sent"));
}

/// What the model knows of a key.
#[derive(Clone, Copy, Default)]
struct Known {
    attempts: u32,
    /// When the next attempt may begin.
    next: u64,
    ended: bool,
}

#[test]
fn in_any_order_of_failures_crashes_and_steps_of_time_no_key_has_more_attempts_than_allowed() {
    for seed in 0..6 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let (mut random, mut model) = (Random::new(seed), BTreeMap::<u64, Known>::new());
        for _ in 0..300 {
            let (now, number) = (store.now().as_millis(), random.below(6));
            let known = model.entry(number).or_default();
            let answer = budgets(&store).attempt(number.to_le_bytes()).unwrap();
            match answer {
                Attempt::Go(trial) => {
                    assert!(!known.ended && known.attempts < 4 && now >= known.next);
                    known.attempts += 1;
                    assert_eq!(trial.number(), known.attempts);
                    known.next = now + 30_000;
                    match random.below(8) {
                        0 => {
                            trial.succeed("").unwrap();
                            known.ended = true;
                        }
                        1..4 => match trial.fail("").unwrap() {
                            Retry::After(pause) => {
                                known.next = now + pause.as_millis() as u64;
                            }
                            Retry::Never => known.ended = true,
                        },
                        4..6 => drop(trial),
                        _ => {
                            drop((trial, store));
                            store = open(directory.path(), &clock);
                        }
                    }
                }
                Attempt::Wait(left) => {
                    assert!(!known.ended && known.next > now);
                    assert!(left.as_millis() as u64 <= known.next - now + 1);
                }
                Attempt::Done(_) => assert!(known.ended),
                Attempt::Spent { attempts, .. } => assert_eq!((attempts, known.attempts), (4, 4)),
            }
            if random.below(3) == 0 {
                clock.advance(Duration::from_millis(random.below(20_000)));
            }
        }
    }
}
