//! The order in which locks are taken, learned while models run; going against it fails.
//!
//! A class of locks is what one line of the engine makes. Whoever takes a lock while holding
//! another says that the second class comes after the first. Were two classes to come after each
//! other, two threads could wait for one another for ever; here it shows when one thread takes each
//! way once, at whatever time. Locks of one class are held together only in the order of their
//! places in memory, as those of stripes are by a bundle.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

/// What is locked, and where such locks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    what: &'static str,
    file: &'static str,
    line: u32,
}

/// By class, those that were taken while it was held. For all models of the process.
static AFTER: Mutex<BTreeMap<Class, BTreeSet<Class>>> = Mutex::new(BTreeMap::new());

shuttle::thread_local! {
    static HELD: RefCell<Vec<(Class, usize)>> = const { RefCell::new(Vec::new()) };
}

impl Class {
    #[track_caller]
    pub(crate) fn new(what: &'static str) -> Self {
        let place = Location::caller();
        Self { what, file: place.file(), line: place.line() }
    }

    /// The lock at this place is about to be taken.
    ///
    /// # Panics
    /// If the thread holds a lock that must come after it, also one of its class at a later place.
    pub(crate) fn about_to_lock(self, at: usize) {
        let held = HELD.try_with(|held| held.borrow().clone()).unwrap_or_default();
        let mut after = AFTER.lock().unwrap_or_else(PoisonError::into_inner);
        for (before, place) in held {
            let turned = if before == self { at <= place } else { is_after(&after, self, before) };
            assert!(
                !turned,
                "{self:?} is taken while {before:?} is held, elsewhere it comes first"
            );
            if before != self {
                after.entry(before).or_default().insert(self);
            }
        }
    }

    pub(crate) fn locked(self, at: usize) {
        let _ = HELD.try_with(|held| held.borrow_mut().push((self, at)));
    }

    pub(crate) fn unlocked(self, at: usize) {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(place) = held.iter().rposition(|one| *one == (self, at)) {
                held.remove(place);
            }
        });
    }
}

/// True when `last` comes after `first`, by way of others too.
fn is_after(after: &BTreeMap<Class, BTreeSet<Class>>, first: Class, last: Class) -> bool {
    let (mut open, mut seen) = (vec![first], BTreeSet::new());
    while let Some(class) = open.pop() {
        if class == last {
            return true;
        }
        if seen.insert(class) {
            open.extend(after.get(&class).into_iter().flatten().copied());
        }
    }
    false
}

#[test]
#[should_panic(expected = "elsewhere it comes first")]
fn two_locks_taken_in_both_orders_fail_a_model_though_nobody_waits_for_ever() {
    use crate::sys::sync_model;

    sync_model::once(|| {
        let (one, two) = (sync_model::Mutex::new(1_u8), sync_model::Mutex::new(2_u16));
        for turned in [false, true] {
            let (_first, _second);
            if turned {
                (_second, _first) = (two.lock(), one.lock());
            } else {
                (_first, _second) = (one.lock(), two.lock());
            }
        }
    });
}

#[test]
#[should_panic(expected = "elsewhere it comes first")]
fn two_locks_of_one_class_taken_against_their_places_fail_a_model() {
    use crate::sys::sync_model;

    sync_model::once(|| {
        let both: Vec<_> = (0..2_u32).map(sync_model::Mutex::new).collect();
        drop((both[0].lock(), both[1].lock()));
        drop((both[1].lock(), both[0].lock()));
    });
}
