//! The fence under every order of try, confirm and cancel: what may never follow what.

use std::sync::Arc;

use oncelog::recipes::fence::{Cancel, Confirm, Fence, Try};
use oncelog::{ManualClock, Store};

use crate::lease::open;
use crate::recipes::{HOUR, SECOND, at_once, count};
use crate::setup::{clock, directory, fast_directory, maintain, small};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Try,
    Confirm,
    Confirmed,
    Cancel,
    Cancelled,
}

const STEPS: [Step; 5] = [Step::Try, Step::Confirm, Step::Confirmed, Step::Cancel, Step::Cancelled];

/// What the participant has seen and done so far.
#[derive(Default)]
struct Seen {
    tried: bool,
    cancelled_first: bool,
    confirming: bool,
    confirmed: bool,
    cancelling: bool,
    cancelled: bool,
}

impl Seen {
    /// Takes the step, and checks the answer against what came before.
    fn step(&mut self, fence: &Fence, tx: &[u8], step: Step) {
        match step {
            Step::Try => match fence.on_try(tx, "b").unwrap() {
                Try::Proceed => {
                    assert!(!self.tried && !self.cancelled_first, "tried twice, or hanging");
                    self.tried = true;
                }
                Try::Duplicate => assert!(self.tried && !self.cancelling),
                Try::Late => assert!(self.cancelled_first || self.cancelling),
            },
            Step::Confirm => match fence.on_confirm(tx, "b").unwrap() {
                Confirm::Proceed => {
                    assert!(self.tried && !self.cancelling && !self.confirmed);
                    self.confirming = true;
                }
                Confirm::Done => assert!(self.confirmed),
                Confirm::Refused => assert!(self.cancelled_first || self.cancelling),
                Confirm::Unknown => assert!(!self.tried && !self.cancelled_first),
            },
            Step::Confirmed => {
                let done = fence.confirmed(tx, "b").unwrap();
                assert_eq!(done, self.confirming);
                self.confirmed |= done;
            }
            Step::Cancel => match fence.on_cancel(tx, "b").unwrap() {
                Cancel::Proceed => {
                    assert!(self.tried && !self.confirming && !self.cancelled);
                    self.cancelling = true;
                }
                Cancel::Done => assert!(self.cancelled),
                Cancel::Empty => {
                    assert!(!self.tried);
                    self.cancelled_first = true;
                }
                Cancel::Refused => assert!(self.confirming),
            },
            Step::Cancelled => {
                let done = fence.cancelled(tx, "b").unwrap();
                assert_eq!(done, self.cancelling);
                self.cancelled |= done;
            }
        }
    }
}

/// The steps that a number stands for.
fn order(mut number: usize, length: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..length {
        steps.push(STEPS[number % 5]);
        number /= 5;
    }
    steps
}

fn fence(store: &Store) -> Fence {
    Fence::open(store, "stock", HOUR).unwrap()
}

#[test]
fn every_order_of_try_confirm_and_cancel_confirms_or_cancels_and_never_both() {
    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    let fence = fence(&store);
    for length in 1..=6 {
        for number in 0..5_usize.pow(length) {
            let (mut seen, tx) = (Seen::default(), format!("{length} {number}"));
            for step in order(number, length) {
                seen.step(&fence, tx.as_bytes(), step);
            }
            assert!(!(seen.confirming && seen.cancelling));
        }
    }
}

#[test]
fn every_short_order_holds_with_a_crash_after_each_step() {
    let (directory, clock) = (fast_directory(), clock());
    let reopened = |clock: &Arc<ManualClock>| open(directory.path(), clock);
    let mut all: Vec<Seen> = (0..625).map(|_| Seen::default()).collect();
    // One step of every order, then a crash.
    for at in 0..4 {
        let fence = fence(&reopened(&clock));
        for (number, seen) in all.iter_mut().enumerate() {
            seen.step(&fence, &number.to_string().into_bytes(), order(number, 4)[at]);
        }
    }
}

#[test]
fn a_try_confirm_and_cancel_at_once_are_decided_in_some_order() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let fence = fence(&store);
    let mut ways = [0; 3];
    for round in 0..400_u32 {
        let tx = round.to_le_bytes();
        // Two of them find the branch tried.
        let tried = round % 2 == 0 && fence.on_try(tx, "b").unwrap() == Try::Proceed;
        let answers = at_once(|thread| match thread {
            0 if tried => [fence.on_confirm(tx, "b").unwrap() == Confirm::Proceed, false, false],
            0 => [false, fence.on_try(tx, "b").unwrap() == Try::Proceed, false],
            _ => [false, false, fence.on_cancel(tx, "b").unwrap() == Cancel::Proceed],
        });
        let [confirms, tries, cancels] =
            [0, 1, 2].map(|way| count(&answers, |answer: &[bool; 3]| answer[way]));
        assert!(confirms == 0 || cancels == 0, "confirmed and cancelled");
        if tried {
            assert_eq!(confirms + usize::from(cancels > 0), 1);
        } else if tries == 0 {
            assert_eq!(cancels, 0, "nothing was reserved");
        }
        ways = [ways[0] + confirms, ways[1] + tries, ways[2] + cancels];
    }
    assert!(ways.iter().sum::<usize>() > 0);
}

#[test]
fn a_decision_is_answered_again_until_its_work_is_reported_and_its_time_is_not_over() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let fence = fence(&store);
    for tx in ["confirmed", "cancelled"] {
        assert_eq!(fence.on_try(tx, "b").unwrap(), Try::Proceed);
        assert_eq!(fence.on_try(tx, "another branch").unwrap(), Try::Proceed);
    }
    for _ in 0..3 {
        assert_eq!(fence.on_confirm("confirmed", "b").unwrap(), Confirm::Proceed);
        assert_eq!(fence.on_cancel("cancelled", "b").unwrap(), Cancel::Proceed);
    }
    assert!(fence.confirmed("confirmed", "b").unwrap());
    assert!(fence.cancelled("cancelled", "b").unwrap());
    assert_eq!(fence.on_cancel("never tried", "b").unwrap(), Cancel::Empty);
    clock.advance(HOUR - SECOND);
    assert_eq!(fence.on_confirm("confirmed", "b").unwrap(), Confirm::Done);
    assert_eq!(fence.on_cancel("cancelled", "b").unwrap(), Cancel::Done);
    assert_eq!(fence.on_try("never tried", "b").unwrap(), Try::Late);
    clock.advance(HOUR);
    maintain(&store);
    assert_eq!(store.stats().keys, 0, "no mark stays for ever");
}
