//! States: no lost update, no change upon what was deleted and made anew.

use std::collections::BTreeMap;

use oncelog::recipes::state::{States, Transition};
use oncelog::{Store, Version};

use crate::lease::open;
use crate::recipes::{HOUR, at_once, count};
use crate::setup::{Random, clock, directory, fast_directory, maintain, small};

fn states(store: &Store) -> States {
    States::open(store, "orders").unwrap()
}

fn made(answer: &Transition) -> Version {
    match answer {
        Transition::Made(version) => *version,
        other => panic!("not made: {other:?}"),
    }
}

#[test]
fn of_callers_who_expect_one_state_one_changes_it() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let orders = states(&store);
    for round in 0..300_u32 {
        let key = round.to_le_bytes();
        assert_eq!(count(&at_once(|_| orders.create(key, "new").unwrap()), Transition::is_made), 1);
        let next = |thread: u64| format!("paid by {thread}");
        let answers = at_once(|thread| orders.transition(key, "new", next(thread)).unwrap());
        assert_eq!(count(&answers, Transition::is_made), 1);
        let winner = answers.iter().position(Transition::is_made).unwrap();
        let current = orders.get(key).unwrap().unwrap();
        assert_eq!(current.state(), next(winner as u64).as_bytes());
        for answer in answers {
            match answer {
                Transition::Made(version) => assert_eq!(version, current.version()),
                Transition::Refused(found) => assert_eq!(found.unwrap(), current),
            }
        }
    }
}

#[test]
fn a_version_from_before_a_deletion_changes_nothing_after_it() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let orders = states(&store);
    let mut versions = Vec::new();
    for _ in 0..5 {
        versions.push(made(&orders.create("k", "new").unwrap()));
        versions.push(made(&orders.update("k", *versions.last().unwrap(), "new").unwrap()));
        for late in &versions[..versions.len() - 1] {
            assert!(!orders.update("k", *late, "lost").unwrap().is_made());
            assert!(!orders.delete("k", *late).unwrap());
        }
        assert!(orders.delete("k", *versions.last().unwrap()).unwrap());
        let refused = orders.update("k", *versions.last().unwrap(), "lost").unwrap();
        assert_eq!(refused, Transition::Refused(None));
    }
    assert!(versions.is_sorted_by(|earlier, later| earlier < later));
}

#[test]
fn states_stay_until_they_are_deleted_or_for_their_retention_without_a_change() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let (kept, short) = (states(&store), States::open(&store, "short").unwrap().retention(HOUR));
    for orders in [&kept, &short] {
        made(&orders.create("k", "new").unwrap());
    }
    clock.advance(HOUR / 2);
    let version = made(&short.transition("k", "new", "paid").unwrap());
    clock.advance(HOUR * 3 / 4);
    assert_eq!(short.get("k").unwrap().unwrap().version(), version);
    clock.advance(1_000 * HOUR);
    assert!(short.get("k").unwrap().is_none() && kept.get("k").unwrap().is_some());
}

#[test]
fn any_order_of_changes_deletions_and_crashes_agrees_with_a_map() {
    for seed in 0..6 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let mut random = Random::new(seed);
        let mut model = BTreeMap::<u64, (u64, Version)>::new();
        let mut versions = Vec::new();
        for _ in 0..500 {
            let orders = states(&store);
            let (number, expected, next) = (random.below(3), random.below(3), random.below(3));
            let (key, wanted, to) =
                (number.to_le_bytes(), expected.to_le_bytes(), next.to_le_bytes());
            let known = model.get(&number).copied();
            let pick = random.below(versions.len() as u64 + 1);
            let version = usize::try_from(pick).ok().and_then(|at| versions.get(at)).copied();
            let (answer, fits) = match (random.below(10), version) {
                (0, _) => {
                    drop((orders, store));
                    store = open(directory.path(), &clock);
                    maintain(&store);
                    continue;
                }
                (1, Some(version)) => {
                    let deleted = orders.delete(key, version).unwrap();
                    assert_eq!(deleted, known.is_some_and(|(_, is)| is == version));
                    if deleted {
                        model.remove(&number);
                    }
                    continue;
                }
                (2..5, _) => (orders.create(key, to).unwrap(), known.is_none()),
                (5..7, Some(version)) => {
                    let fits = known.is_some_and(|(_, is)| is == version);
                    (orders.update(key, version, to).unwrap(), fits)
                }
                _ => {
                    let fits = known.is_some_and(|(state, _)| state == expected);
                    (orders.transition(key, wanted, to).unwrap(), fits)
                }
            };
            match answer {
                Transition::Made(version) => {
                    assert!(fits && versions.iter().all(|earlier| *earlier != version));
                    model.insert(number, (next, version));
                    versions.push(version);
                }
                Transition::Refused(current) => {
                    let current = current.map(|current| {
                        let state = u64::from_le_bytes(current.state().try_into().unwrap());
                        (state, current.version())
                    });
                    assert!(!fits && current == known, "seed {seed}");
                }
            }
        }
    }
}
