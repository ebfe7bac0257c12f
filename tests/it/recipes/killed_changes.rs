//! `kill -9` at any moment of the recipes whose calls are single changes: what was answered stays.

use std::collections::{BTreeMap, BTreeSet};

use oncelog::recipes::audit::Audit;
use oncelog::recipes::budget::{Attempt, Budgets, Limits, Retry};
use oncelog::recipes::debounce::{Admit, Debounce, Window};
use oncelog::recipes::fence::{Cancel, Confirm, Fence, Try};
use oncelog::recipes::nonce::{Accept, Nonces};
use oncelog::recipes::state::{States, Transition};
use oncelog::{Scope, Timestamp};

use crate::recipes::killed::{did, is_child, killed};
use crate::recipes::{HOUR, SECOND};
use crate::setup::{Random, directory, small};

const ROUNDS: usize = 8;

#[test]
fn a_count_kept_by_versions_loses_no_change_that_was_made() {
    let is_child = is_child(|store| {
        let states = States::open(store, "n").unwrap();
        let _ = states.create("count", "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let now = states.get("count").unwrap().unwrap();
                        let count: u64 = String::from_utf8_lossy(now.state()).parse().unwrap();
                        let next = (count + 1).to_string();
                        let changed = states.update("count", now.version(), &next).unwrap();
                        if let Transition::Made(_) = changed {
                            did(format_args!("count {next}"));
                        }
                    }
                });
            }
        });
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(11));
    let mut made = BTreeSet::new();
    for _ in 0..ROUNDS {
        let name = "killed_changes::a_count_kept_by_versions_loses_no_change_that_was_made";
        for words in killed(name, directory.path(), 1 + random.below(900)) {
            let count: u64 = words[1].parse().unwrap();
            assert!(made.insert(count), "{count} was reached twice");
        }
        let store = small().open(directory.path()).unwrap();
        let now = States::open(&store, "n").unwrap().get("count").unwrap().unwrap();
        let count: u64 = String::from_utf8_lossy(now.state()).parse().unwrap();
        assert!(Some(&count) >= made.last(), "{count} after {:?}", made.last());
        // What the two threads had under way was made without being told of.
        assert!(count - made.len() as u64 <= 2 * ROUNDS as u64);
    }
}

#[test]
fn a_branch_that_was_decided_stays_so_and_its_work_is_asked_for_until_it_is_done() {
    let is_child = is_child(|store| {
        let fence = Fence::open(store, "n", HOUR).unwrap();
        for number in 0.. {
            let tx = number.to_string();
            if number % 3 == 0 {
                if fence.on_cancel(&tx, "b").unwrap() == Cancel::Empty {
                    did(format_args!("{tx} empty"));
                }
                continue;
            }
            if fence.on_try(&tx, "b").unwrap() == Try::Proceed {
                did(format_args!("{tx} tried"));
            }
            if number % 3 == 1 && fence.on_confirm(&tx, "b").unwrap() == Confirm::Proceed {
                did(format_args!("{tx} confirming"));
                assert!(fence.confirmed(&tx, "b").unwrap());
                did(format_args!("{tx} confirmed"));
            }
            if number % 3 == 2 && fence.on_cancel(&tx, "b").unwrap() == Cancel::Proceed {
                did(format_args!("{tx} cancelling"));
                assert!(fence.cancelled(&tx, "b").unwrap());
                did(format_args!("{tx} cancelled"));
            }
        }
    });
    if is_child {
        return;
    }
    let mut random = Random::new(12);
    for _ in 0..ROUNDS {
        let directory = directory();
        let name = "killed_changes::\
            a_branch_that_was_decided_stays_so_and_its_work_is_asked_for_until_it_is_done";
        let lines = killed(name, directory.path(), 1 + random.below(500));
        let last = lines[lines.len() - 1][1].clone();
        let steps: BTreeMap<_, _> =
            lines.into_iter().map(|words| (words[0].clone(), words[1].clone())).collect();
        let store = small().open(directory.path()).unwrap();
        let fence = Fence::open(&store, "n", HOUR).unwrap();
        let newest = steps.keys().filter_map(|tx| tx.parse::<u64>().ok()).max().unwrap();
        for (tx, step) in &steps {
            // The call after the last line may have been made.
            if *tx == newest.to_string() {
                assert_eq!(*step, last);
                continue;
            }
            let (tried, confirm) = (fence.on_try(tx, "b"), fence.on_confirm(tx, "b"));
            let answers = (tried.unwrap(), confirm.unwrap(), fence.on_cancel(tx, "b").unwrap());
            let expected = match &**step {
                "empty" => (Try::Late, Confirm::Refused, Cancel::Empty),
                "confirmed" => (Try::Duplicate, Confirm::Done, Cancel::Refused),
                "cancelled" => (Try::Late, Confirm::Refused, Cancel::Done),
                other => panic!("{tx} was left {other} in the middle"),
            };
            assert_eq!(answers, expected, "{tx} {step}");
        }
    }
}

#[test]
fn an_attempt_is_counted_before_it_is_made_and_a_spent_budget_stays_spent() {
    let limits = Limits {
        attempts: 3,
        lease: SECOND / 1_000,
        pause_first: SECOND / 1_000,
        pause_max: SECOND / 1_000,
        ..Limits::default()
    };
    let is_child = is_child(|store| {
        let budgets = Budgets::open(store, "n", limits).unwrap();
        for number in 0.. {
            let key = number.to_string();
            loop {
                match budgets.attempt(&key).unwrap() {
                    Attempt::Go(attempt) => {
                        did(format_args!("go {key} {}", attempt.number()));
                        if let Ok(Retry::Never) = attempt.fail("no") {
                            did(format_args!("spent {key}"));
                        }
                    }
                    Attempt::Wait(_) => std::thread::yield_now(),
                    Attempt::Done(_) | Attempt::Spent { .. } => break,
                }
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(13));
    let (mut attempts, mut spent) = (BTreeMap::<String, u64>::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        let name = "killed_changes::\
            an_attempt_is_counted_before_it_is_made_and_a_spent_budget_stays_spent";
        for words in killed(name, directory.path(), 1 + random.below(200)) {
            let key = words[1].clone();
            if words[0] == "spent" {
                spent.insert(key);
                continue;
            }
            assert!(!spent.contains(&key), "{key} was attempted again");
            let number: u64 = words[2].parse().unwrap();
            let before = attempts.insert(key, number).unwrap_or(0);
            assert!(before < number && number <= 3, "{words:?} after attempt {before}");
        }
    }
    let store = small().open(directory.path()).unwrap();
    let budgets = Budgets::open(&store, "n", limits).unwrap();
    for key in &spent {
        assert!(matches!(budgets.attempt(key).unwrap(), Attempt::Spent { attempts: 3, .. }));
    }
}

#[test]
fn a_nonce_and_a_click_that_were_let_through_are_not_let_through_again() {
    let window = Window::Fixed(HOUR);
    let is_child = is_child(|store| {
        let nonces = Nonces::open(store, "n", HOUR).unwrap();
        let clicks = Debounce::open(store, "n", window).unwrap();
        let scope = Scope::new().principal("p");
        for number in 0.. {
            let key = number.to_string();
            let sent = Timestamp::from_millis(store.now().as_millis() - number % 1_000);
            if nonces.accept("app", &key, sent).unwrap() == Accept::New {
                did(format_args!("nonce {key}"));
            }
            if clicks.admit(&scope, &key).unwrap() == Admit::First {
                did(format_args!("click {key}"));
            }
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(14));
    let mut let_through = BTreeSet::new();
    for _ in 0..ROUNDS {
        let name = "killed_changes::\
            a_nonce_and_a_click_that_were_let_through_are_not_let_through_again";
        for words in killed(name, directory.path(), 1 + random.below(900)) {
            assert!(let_through.insert(words.clone()), "{words:?} twice");
        }
    }
}

#[test]
fn an_audit_has_counted_every_observation_that_returned() {
    let is_child = is_child(|store| {
        let audit = Audit::open(store, "n", HOUR).unwrap();
        for number in 0_u64.. {
            let key = number % 17;
            let observed = audit.observe(key.to_string(), (number % 5).to_string());
            assert!(!matches!(observed, oncelog::recipes::audit::Observe::Unrecorded(_)));
            did(format_args!("observe {key}"));
        }
    });
    if is_child {
        return;
    }
    let (directory, mut random) = (directory(), Random::new(15));
    let mut observed = BTreeMap::<String, u64>::new();
    for round in 1..=ROUNDS as u64 {
        let name = "killed_changes::an_audit_has_counted_every_observation_that_returned";
        for words in killed(name, directory.path(), 1 + random.below(900)) {
            *observed.entry(words[1].clone()).or_default() += 1;
        }
        let store = small().open(directory.path()).unwrap();
        let audit = Audit::open(&store, "n", HOUR).unwrap();
        let mut beyond = 0;
        for (key, count) in &observed {
            let tally = audit.tally(key).unwrap().unwrap();
            assert!(tally.repeats + 1 >= *count, "{key}: {tally:?} of {count}");
            beyond += tally.repeats + 1 - count;
        }
        let first = audit.tallies().count() as u64 - observed.len() as u64;
        assert!(beyond + first <= round, "{beyond} and {first} in round {round}");
    }
}
