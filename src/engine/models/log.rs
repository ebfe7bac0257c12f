//! Appending through lanes, creating segments, and being killed at any moment.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::bench::{Bench, get};
use crate::engine::models::{check_and_set, part, together};
use crate::sys::sync_model::check;

/// Many stripes: two keys of one are never appended at once.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.config.stripes = 64;
    bench
}

/// Longer than a word, so that a half-written one shows.
fn outcome(of: &str) -> Vec<u8> {
    of.repeat(9).into_bytes()
}

#[test]
fn one_of_two_threads_records_a_key_and_everybody_reads_its_outcome_whole() {
    for lanes in [1, 2] {
        check(400, move || {
            let mut bench = bench();
            bench.config.lanes = lanes;
            let engine = Arc::new(bench.open());
            check_and_set(&engine, "first", b"");
            let write = |own: &'static str| {
                part(&engine, move |engine| {
                    let new = check_and_set(engine, "key", &outcome(own));
                    usize::from(new) + 10 * usize::from(check_and_set(engine, own, b"x"))
                })
            };
            let read = part(&engine, |engine| {
                let found = get(engine, "key");
                let whole = [outcome("one"), outcome("two")];
                assert!(found.is_none_or(|found| whole.contains(&found)));
                0
            });
            let written: usize = together(vec![write("one"), write("two"), read]).iter().sum();
            assert_eq!(written, 21, "one was first at the key, both at their own");
            assert!(get(&engine, "key").is_some());
        });
    }
}

#[test]
fn two_threads_that_need_a_segment_at_once_create_one() {
    check(200, || {
        let bench = bench();
        let engine = Arc::new(bench.open());
        let write = |own: &'static str| {
            part(&engine, move |engine| assert!(check_and_set(engine, own, &outcome(own))))
        };
        let upkeep = part(&engine, |engine| {
            engine.maintain(Duration::ZERO).unwrap();
        });
        together(vec![write("one"), write("two"), upkeep]);
        assert_eq!((engine.wheel.bucket_count(), engine.stats().segments), (1, 1));
        let again = bench.open();
        for own in ["one", "two"] {
            assert_eq!(get(&again, own), Some(outcome(own)));
        }
    });
}

#[test]
fn whatever_was_answered_before_the_process_is_killed_is_found_by_the_next() {
    check(300, || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        check_and_set(&engine, "first", b"");
        let answered = Arc::new(std::sync::Mutex::new(Vec::new()));
        let write = |own: &'static [&'static str]| {
            let answered = answered.clone();
            part(&engine, move |engine| {
                for key in own {
                    assert!(check_and_set(engine, key, &outcome(key)));
                    answered.lock().unwrap().push(*key);
                }
            })
        };
        let (killed, known) = (bench.clone(), answered.clone());
        let kill = part(&engine, move |_| {
            // What is written between this line and the copy does no harm.
            let known = known.lock().unwrap().clone();
            let next = killed.open_on(Arc::new(killed.disk.copy()));
            for key in known {
                assert_eq!(get(&next, key), Some(outcome(key)), "{key} was answered");
            }
        });
        together(vec![write(&["a", "b"]), write(&["c", "d"]), kill]);
    });
}
