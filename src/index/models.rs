//! Searches without the lock beside writers: each finds what is there, or does not hold.
//!
//! Run by `scripts/models.sh`, with the locks and atomics of a model checker.

use std::sync::Arc;

use crate::format::location::Location;
use crate::index::Index;
use crate::key::KeyHash;
use crate::sys::sync_model::check;

fn hash_of(i: u64) -> KeyHash {
    KeyHash::from_u64(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()))
}

fn at(i: u64) -> Location {
    Location::from_units(i + 1)
}

fn insert(index: &Index, i: u64) {
    let mut stripe = index.lock(hash_of(i));
    stripe.reserve(|_| false).unwrap();
    stripe.place(hash_of(i), at(i));
}

/// What a search that holds says of a key: where it leads, or nothing; `None` if it says nothing.
fn held(index: &Index, i: u64) -> Option<Option<Location>> {
    let search = index.search(hash_of(i))?;
    let location = search.has_match().then(|| search.location()).flatten();
    let said = if search.has_match() { location.map(Some) } else { Some(None) };
    let conclusive = search.has_match() || search.is_conclusive();
    said.filter(|_| conclusive && search.holds())
}

/// An index of so many keys, and threads that change and search it at once.
fn model(keys: u64, change: fn(&Index), search: fn(&Index)) {
    check(1_500, move || {
        let index = Arc::new(Index::new(1).unwrap());
        (0..keys).for_each(|i| insert(&index, i));
        let own = index.clone();
        let changing = shuttle::thread::spawn(move || change(&own));
        let own = index.clone();
        let searching = shuttle::thread::spawn(move || search(&own));
        changing.join().unwrap();
        searching.join().unwrap();
    });
}

#[test]
fn a_search_that_holds_has_missed_no_key_while_the_stripe_grew() {
    // The seventh is the first for which the one line of eight is laid out anew.
    model(
        6,
        |index| insert(index, 100),
        |index| {
            for i in [0, 5] {
                let held = held(index, i);
                assert!(held.is_none_or(|found| found == Some(at(i))), "{i}: {held:?}");
            }
        },
    );
}

#[test]
fn a_search_that_holds_has_missed_no_key_while_the_blocks_were_replaced() {
    // Six blocks of one line are full at 39 of 48, and move to four of two.
    model(
        39,
        |index| insert(index, 100),
        |index| {
            let held = held(index, 20);
            assert!(held.is_none_or(|found| found == Some(at(20))), "{held:?}");
        },
    );
}

#[test]
fn a_search_that_holds_sees_the_slot_before_or_after_it_is_led_elsewhere() {
    let change = |index: &Index| {
        let mut stripe = index.lock(hash_of(1));
        let (cell, _) = stripe.find(hash_of(1), |_| true).unwrap();
        stripe.replace(cell, hash_of(1), at(50));
        drop(stripe);
        assert_eq!(held(index, 1), Some(Some(at(50))), "nobody else changes it");
    };
    model(3, change, |index| {
        let (first, then) = (held(index, 1), held(index, 1));
        for held in [first, then].into_iter().flatten() {
            assert!(held == Some(at(1)) || held == Some(at(50)), "{held:?}");
        }
        assert!(!(first == Some(Some(at(50))) && then == Some(Some(at(1)))), "back in time");
    });
}

#[test]
fn a_search_that_holds_has_missed_no_living_key_while_the_stripe_was_swept() {
    let change = |index: &Index| {
        assert_eq!(index.lock_stripe(0).sweep(|location| location == at(2)), 1);
        assert_eq!(held(index, 2), Some(None), "nobody else changes it");
        insert(index, 60);
    };
    model(5, change, |index| {
        let held_one = held(index, 1);
        assert!(held_one.is_none_or(|found| found == Some(at(1))), "{held_one:?}");
        let swept = held(index, 2).flatten();
        assert!(swept.is_none_or(|found| found == at(2)), "{swept:?}");
    });
}

#[test]
fn a_place_found_empty_without_the_lock_is_never_given_to_two_keys() {
    check(1_500, || {
        let index = Arc::new(Index::new(1).unwrap());
        insert(&index, 0);
        let place = |i: u64| {
            let index = index.clone();
            shuttle::thread::spawn(move || {
                let search = index.search(hash_of(i));
                let mut stripe = index.lock(hash_of(i));
                stripe.reserve(|_| false).unwrap();
                match search {
                    Some(search) => stripe.place_in(&search, hash_of(i), at(i)),
                    None => stripe.place(hash_of(i), at(i)),
                }
            })
        };
        let threads = [place(1), place(2), place(3)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for i in 0..4 {
            assert_eq!(held(&index, i), Some(Some(at(i))));
        }
    });
}
