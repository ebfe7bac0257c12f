//! Readers while segments end: dropped, swept, and their place used for others.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::bench::{MINUTE, get};
use crate::engine::models::{bench, check_and_set, part, together};
use crate::sys::sync_model::check;

#[test]
fn who_reads_while_a_segment_ends_finds_the_key_s_outcome_or_none() {
    check(400, || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        for key in ["a", "b"] {
            check_and_set(&engine, key, format!("outcome of {key}").as_bytes());
        }
        let read = |key: &'static str| {
            part(&engine, move |engine| {
                for _ in 0..2 {
                    let found = get(engine, key);
                    let own = format!("outcome of {key}").into_bytes();
                    assert!(found.is_none_or(|found| found == own), "another key's outcome");
                }
            })
        };
        let clock = bench.clone();
        let upkeep = part(&engine, move |engine| {
            clock.advance(12 * MINUTE);
            let mut dropped = 0;
            for _ in 0..3 {
                dropped += engine.maintain(Duration::ZERO).unwrap().segments_expired;
            }
            assert_eq!(dropped, 1);
            // In the place of the one that ended, as it is the first that is free.
            for key in ["b", "c"] {
                assert!(check_and_set(engine, key, format!("outcome of {key}").as_bytes()));
            }
        });
        together(vec![read("a"), read("b"), upkeep]);
        assert_eq!(get(&engine, "a"), None);
        assert!(get(&engine, "b").is_some() && get(&engine, "c").is_some());
    });
}

#[test]
fn a_key_recorded_anew_while_its_segment_ends_is_known_afterwards() {
    check(300, || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        check_and_set(&engine, "a", b"old");
        bench.advance(12 * MINUTE);
        let again =
            |_: usize| part(&engine, |engine| usize::from(check_and_set(engine, "a", b"new")));
        let upkeep = part(&engine, |engine| {
            engine.maintain(Duration::ZERO).unwrap();
            0
        });
        let new: usize = together(vec![again(0), again(1), upkeep]).iter().sum();
        assert_eq!(new, 1);
        assert_eq!(get(&engine, "a"), Some(b"new".to_vec()));
        engine.maintain(Duration::ZERO).unwrap();
        assert_eq!(get(&engine, "a"), Some(b"new".to_vec()));
        assert_eq!(get(&bench.open(), "a"), Some(b"new".to_vec()));
    });
}
