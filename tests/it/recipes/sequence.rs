//! Sequences against a set of all numbers, over epochs, crashes, changed widths and threads.

use std::collections::{BTreeMap, BTreeSet};

use oncelog::recipes::sequence::{Accept, Order, Sequences, WINDOW_MAX};
use oncelog::{Error, Store};

use crate::lease::open;
use crate::recipes::{HOUR, at_once};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const NEW: Accept = Accept::New { skipped: 0 };

fn sequences(store: &Store, order: Order) -> Sequences {
    Sequences::open(store, "s", order).unwrap()
}

/// All that was ever accepted of a source in its epoch.
#[derive(Clone, Default)]
struct Model {
    epoch: u64,
    accepted: BTreeSet<u64>,
}

impl Model {
    fn accept(&mut self, order: Order, epoch: u64, number: u64) -> Accept {
        if !self.accepted.is_empty() && epoch < self.epoch {
            return Accept::Fenced { epoch: self.epoch };
        }
        let begins = self.accepted.is_empty() || epoch > self.epoch;
        let known = if begins { BTreeSet::new() } else { self.accepted.clone() };
        let high = known.last().copied();
        let answer = match order {
            Order::Window(width) => {
                let low = high.map_or(0, |high| high.saturating_sub(u64::from(width) - 1));
                match high {
                    None => NEW,
                    Some(high) if number > high => Accept::New { skipped: number - high - 1 },
                    _ if number < low => Accept::TooOld { low },
                    _ if known.contains(&number) => Accept::Duplicate,
                    _ => NEW,
                }
            }
            Order::Strict { first } => match high.map_or(first, |high| high + 1) {
                _ if number < first => Accept::TooOld { low: first },
                expected if number > expected => Accept::Gap { expected },
                expected if number == expected => NEW,
                _ => Accept::Duplicate,
            },
        };
        if matches!(answer, Accept::New { .. }) {
            (self.epoch, self.accepted) = (epoch, known);
            self.accepted.insert(number);
        }
        answer
    }
}

#[test]
fn any_order_of_numbers_epochs_batches_and_crashes_agrees_with_a_set_of_all() {
    let orders = [Order::Window(64), Order::Window(192), Order::Strict { first: 3 }];
    for (seed, order) in (0..9).zip(orders.into_iter().cycle()) {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let (mut random, mut model) = (Random::new(seed), BTreeMap::<u64, Model>::new());
        for _ in 0..500 {
            let sequences = sequences(&store, order);
            let source = random.below(3);
            let known = model.entry(source).or_default();
            let near = known.accepted.last().copied().unwrap_or(3);
            let spread = if random.below(10) == 0 { 400 } else { 6 };
            let epoch = match random.below(60) {
                0 => known.epoch + 1,
                1 => known.epoch.saturating_sub(1),
                _ => known.epoch,
            };
            let length = random.below(5);
            let numbers: Vec<u64> = (0..length)
                .map(|_| (near + random.below(spread)).saturating_sub(random.below(spread)))
                .collect();
            let name = source.to_le_bytes();
            if let [number] = numbers[..] {
                let expected = known.clone().accept(order, epoch, number);
                assert_eq!(sequences.check(name, epoch, number).unwrap(), expected);
            }
            let expected: Vec<Accept> =
                numbers.iter().map(|number| known.accept(order, epoch, *number)).collect();
            let answers = sequences.accept_many(name, epoch, &numbers).unwrap();
            assert_eq!(answers, expected, "seed {seed}: {numbers:?}");
            match random.below(40) {
                0 => maintain(&store),
                1 => {
                    drop((sequences, store));
                    store = open(directory.path(), &clock);
                }
                _ => {}
            }
        }
        for (source, known) in &model {
            let Some(progress) = sequences(&store, order).progress(source.to_le_bytes()).unwrap()
            else {
                assert!(known.accepted.is_empty());
                continue;
            };
            assert_eq!(Some(&progress.high), known.accepted.last());
            assert!(progress.missing.iter().all(|number| !known.accepted.contains(number)));
        }
    }
}

#[test]
fn a_number_whose_early_response_was_lost_is_a_duplicate_however_late_it_is_repeated() {
    let (directory, clock) = (directory(), clock());
    let strict = sequences(&open(directory.path(), &clock), Order::Strict { first: 0 });
    let all: Vec<u64> = (0..10_000).collect();
    assert!(strict.accept_many("p", 1, &all).unwrap().iter().all(|answer| *answer == NEW));
    for early in [0, 1, 5_000, 9_999] {
        assert_eq!(strict.accept("p", 1, early).unwrap(), Accept::Duplicate);
    }
    assert_eq!(strict.accept("p", 1, 10_002).unwrap(), Accept::Gap { expected: 10_000 });
    assert_eq!(strict.accept("p", 1, 10_000).unwrap(), NEW);
}

#[test]
fn a_producer_that_was_replaced_is_fenced_also_after_a_crash() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let window = sequences(&store, Order::Window(64));
    assert_eq!(window.accept("p", 7, 100).unwrap(), NEW);
    assert_eq!(window.accept("p", 8, 0).unwrap(), NEW);
    drop((window, store));
    let window = sequences(&open(directory.path(), &clock), Order::Window(64));
    for number in [0, 100, 101] {
        assert_eq!(window.accept("p", 7, number).unwrap(), Accept::Fenced { epoch: 8 });
    }
    assert_eq!(window.accept("p", 8, 1).unwrap(), NEW);
}

#[test]
fn a_check_records_nothing() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let window = sequences(&store, Order::Window(64));
    for _ in 0..2 {
        assert_eq!(window.check("p", 9, u64::MAX).unwrap(), NEW);
    }
    assert_eq!((store.stats().sets, window.progress("p").unwrap()), (0, None));
    assert_eq!(window.accept("p", 1, 5).unwrap(), NEW);
    assert_eq!(window.check("p", 1, u64::MAX).unwrap(), Accept::New { skipped: u64::MAX - 6 });
    assert_eq!(window.accept("p", 1, u64::MAX).unwrap(), Accept::New { skipped: u64::MAX - 6 });
    assert_eq!(window.accept("p", 1, u64::MAX).unwrap(), Accept::Duplicate);
}

#[test]
fn between_threads_each_number_is_new_once() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let window = sequences(&store, Order::Window(4_096));
    let answers: Vec<Vec<u64>> = at_once(|thread| {
        let numbers = (0..2_000_u64).map(|step| (step * 7 + thread) % 500);
        let is_new =
            |number: &u64| matches!(window.accept("p", 1, *number).unwrap(), Accept::New { .. });
        numbers.filter(is_new).collect()
    });
    let mut new: Vec<u64> = answers.concat();
    new.sort_unstable();
    assert!(new.iter().copied().eq(0..500), "{new:?}");
}

#[test]
fn a_changed_order_or_width_accepts_nothing_twice() {
    let orders = [
        Order::Window(64),
        Order::Window(1_024),
        Order::Window(1),
        Order::Strict { first: 0 },
        Order::Window(300),
    ];
    for seed in 0..20 {
        let (directory, clock) = (fast_directory(), clock());
        let store = open(directory.path(), &clock);
        let (mut random, mut accepted) = (Random::new(seed), BTreeSet::<u64>::new());
        for _ in 0..400 {
            let order = orders[usize::try_from(random.below(5)).unwrap()];
            let high = accepted.last().copied().unwrap_or_default();
            let number = (high + random.below(40)).saturating_sub(random.below(400));
            if let Accept::New { .. } = sequences(&store, order).accept("p", 1, number).unwrap() {
                assert!(accepted.insert(number), "seed {seed}: {number} twice with {order:?}");
            }
        }
        assert!(accepted.len() > 20, "{}", accepted.len());
    }
}

#[test]
fn missing_numbers_are_told_and_a_source_is_forgotten_only_after_its_retention() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    for width in [0, WINDOW_MAX + 1] {
        let refused = Sequences::open(&store, "s", Order::Window(width));
        assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
    }
    let window = sequences(&store, Order::Window(64)).retention(HOUR);
    window.accept_many("p", 1, &[10, 13, 15]).unwrap().clear();
    let progress = window.progress("p").unwrap().unwrap();
    assert_eq!((progress.epoch, progress.high, progress.missing), (1, 15, vec![11, 12, 14]));
    clock.advance(HOUR / 2);
    assert_eq!(window.accept("p", 1, 14).unwrap(), NEW);
    clock.advance(HOUR * 3 / 4);
    assert_eq!(window.accept("p", 1, 10).unwrap(), Accept::Duplicate);
    clock.advance(HOUR / 4);
    assert_eq!(window.progress("p").unwrap(), None);
}
