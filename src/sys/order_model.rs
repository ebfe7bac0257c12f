//! The order in which locks are taken, learned while models run; going against it fails.
//!
//! A class of locks is what one line of the engine makes. Whoever takes a lock while holding
//! another says that the second class comes after the first. Were two classes to come after each
//! other, two threads could wait for one another for ever; here it shows when one thread takes each
//! way once, at whatever time. Locks of one class are never held together.

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
    static HELD: RefCell<Vec<Class>> = const { RefCell::new(Vec::new()) };
}

impl Class {
    #[track_caller]
    pub(crate) fn new(what: &'static str) -> Self {
        let place = Location::caller();
        Self { what, file: place.file(), line: place.line() }
    }

    /// # Panics
    /// If the thread holds a lock that must come after this one, or another one of the class.
    pub(crate) fn about_to_lock(self) {
        let held = HELD.try_with(|held| held.borrow().clone()).unwrap_or_default();
        let mut after = AFTER.lock().unwrap_or_else(PoisonError::into_inner);
        for before in held {
            let turned = before == self || is_after(&after, self, before);
            assert!(
                !turned,
                "{self:?} is taken while {before:?} is held, elsewhere it comes first"
            );
            after.entry(before).or_default().insert(self);
        }
    }

    pub(crate) fn locked(self) {
        let _ = HELD.try_with(|held| held.borrow_mut().push(self));
    }

    pub(crate) fn unlocked(self) {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(place) = held.iter().rposition(|class| *class == self) {
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
