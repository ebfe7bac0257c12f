//! Debouncing: one first in a window, scopes that do not meet, marks that are not lost.

use std::collections::BTreeMap;
use std::time::Duration;

use oncelog::recipes::debounce::{Admit, Debounce, MARK_KEPT, Window};
use oncelog::{Scope, Store, Timestamp};

use crate::lease::open;
use crate::recipes::{SECOND, at_once, count};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

const WINDOW: Duration = Duration::from_secs(5);

fn clicks(store: &Store) -> Debounce {
    Debounce::open(store, "clicks", Window::Fixed(WINDOW)).unwrap()
}

fn user(name: &str) -> Scope {
    Scope::new().principal(name).operation("POST /orders")
}

#[test]
fn users_tenants_and_routes_do_not_swallow_each_others_calls() {
    let (directory, clock) = (directory(), clock());
    let clicks = clicks(&open(directory.path(), &clock));
    let scopes = [
        user("ann"),
        user("bob"),
        user("ann").operation("POST /refunds"),
        user("ann").tenant("acme"),
        Scope::new(),
    ];
    for scope in &scopes {
        assert_eq!(clicks.admit(scope, "k").unwrap(), Admit::First, "{scope:?}");
    }
    for scope in &scopes {
        assert!(matches!(clicks.admit(scope, "k").unwrap(), Admit::Repeat { .. }));
    }
}

#[test]
fn of_calls_at_once_one_is_the_first() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let window = Window::Refreshed(Duration::from_secs(600));
    let clicks = Debounce::open(&store, "clicks", window).unwrap().with_marks();
    for round in 0..300_u32 {
        let admit = |_| clicks.admit(&user("ann"), round.to_le_bytes()).unwrap();
        assert_eq!(count(&at_once(admit), |answer| *answer == Admit::First), 1);
        let take = |_| clicks.take_mark(&user("ann"), round.to_le_bytes()).unwrap();
        assert_eq!(count(&at_once(take), |taken| *taken), 1);
    }
}

#[test]
fn a_mark_outlasts_its_window_and_a_crash_until_it_is_taken() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let (ann, marking) = (user("ann"), clicks(&store).with_marks());
    assert_eq!(marking.admit(&ann, "k").unwrap(), Admit::First);
    assert!(!marking.take_mark(&ann, "k").unwrap());
    assert_ne!(marking.admit(&ann, "k").unwrap(), Admit::First);
    drop((marking, store));
    clock.advance(MARK_KEPT - SECOND);
    let store = open(directory.path(), &clock);
    maintain(&store);
    let marking = clicks(&store).with_marks();
    assert!(marking.take_mark(&ann, "k").unwrap());
    assert!(!marking.take_mark(&ann, "k").unwrap());
    assert_eq!(marking.admit(&ann, "k").unwrap(), Admit::First);
    // Without marks, repeats leave nothing behind.
    let plain = clicks(&store);
    assert_ne!(plain.admit(&ann, "k").unwrap(), Admit::First);
    assert!(!plain.take_mark(&ann, "k").unwrap());
}

#[test]
fn any_order_of_calls_steps_of_time_and_crashes_agrees_with_a_plain_window() {
    for seed in 0..8 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let mut random = Random::new(seed);
        let (refreshed, marks) = (seed % 2 == 0, seed % 4 < 2);
        // By key: the end of the window, and the mark.
        let mut model = BTreeMap::<u64, (u64, bool)>::new();
        for _ in 0..500 {
            let window = if refreshed { Window::Refreshed(WINDOW) } else { Window::Fixed(WINDOW) };
            let mut clicks = Debounce::open(&store, "clicks", window).unwrap();
            if marks {
                clicks = clicks.with_marks();
            }
            let (now, number) = (store.now().as_millis(), random.below(4));
            let key = number.to_le_bytes();
            match random.below(12) {
                0 => clock.advance(Duration::from_millis(random.below(12_000))),
                1 => maintain(&store),
                2 => {
                    drop((clicks, store));
                    store = open(directory.path(), &clock);
                }
                3 => {
                    let mark = model.get_mut(&number).map(|(_, mark)| std::mem::take(mark));
                    let taken = clicks.take_mark(&Scope::new(), key).unwrap();
                    assert_eq!(taken, mark.unwrap_or_default(), "seed {seed}");
                }
                _ => {
                    let next = now + 5_000;
                    let expected = match model.get(&number) {
                        Some((end, _)) if now < *end => {
                            let end = if refreshed { next } else { *end };
                            model.insert(number, (end, marks));
                            Admit::Repeat { until: Timestamp::from_millis(end) }
                        }
                        _ => {
                            model.insert(number, (next, false));
                            Admit::First
                        }
                    };
                    assert_eq!(clicks.admit(&Scope::new(), key).unwrap(), expected, "{seed}");
                }
            }
        }
    }
}
