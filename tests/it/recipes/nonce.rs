//! Nonces: no replay at any time, nothing stored outside of the window, room given back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oncelog::Timestamp;
use oncelog::recipes::nonce::{Accept, Nonces};

use crate::lease::open;
use crate::recipes::{at_once, count};
use crate::setup::{Random, START, clock, directory, fast_directory, maintain, small};

const SKEW: u64 = 5_000;

fn moment(offset: i64) -> Timestamp {
    Timestamp::from_millis(START.checked_add_signed(offset).unwrap())
}

#[test]
fn a_replay_is_refused_for_as_long_as_its_timestamp_is_accepted() {
    for offset in [-5_000, -4_999, -1, 0, 1, 2_500, 4_999, 5_000] {
        let (directory, clock) = (fast_directory(), clock());
        let store = open(directory.path(), &clock);
        let nonces = Nonces::open(&store, "api", Duration::from_millis(SKEW)).unwrap();
        let sent = moment(offset);
        assert_eq!(nonces.accept("app", "n", sent).unwrap(), Accept::New, "{offset}");
        let mut replays = 0;
        loop {
            match nonces.accept("app", "n", sent).unwrap() {
                Accept::Duplicate => replays += 1,
                Accept::Late => break,
                other => panic!("{offset}, replay {replays}: {other:?}"),
            }
            clock.advance(Duration::from_millis(1));
            if replays % 500 == 0 {
                maintain(&store);
            }
        }
        assert_eq!(replays, 5_001 + offset);
    }
}

#[test]
fn nothing_is_stored_outside_of_the_window() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let nonces = Nonces::open(&store, "api", Duration::from_millis(SKEW)).unwrap();
    let (late, early) = (moment(-5_001), moment(5_001));
    for number in 0..100_u32 {
        let nonce = number.to_le_bytes();
        assert_eq!(nonces.accept("app", nonce, late).unwrap(), Accept::Late);
        assert_eq!(nonces.accept("app", nonce, early).unwrap(), Accept::Early);
    }
    for end in [0, u64::MAX] {
        assert_ne!(nonces.accept("app", "n", Timestamp::from_millis(end)).unwrap(), Accept::New);
    }
    assert_eq!(store.stats().keys, 0);
}

#[test]
fn memory_is_bounded_by_rate_times_window() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let nonces = Nonces::open(&store, "api", Duration::from_millis(SKEW)).unwrap();
    let mut most = 0;
    for number in 0..2_000_u32 {
        let sent = Timestamp::from_millis(store.now().as_millis() + SKEW);
        assert_eq!(nonces.accept("app", number.to_le_bytes(), sent).unwrap(), Accept::New);
        clock.advance(Duration::from_millis(100));
        maintain(&store);
        most = most.max(store.stats().keys);
    }
    // 10 a second for twice 5 s, and what a bucket of a second adds until it is dropped.
    assert!((100..160).contains(&most), "{most}");
}

#[test]
fn of_callers_who_bring_one_nonce_at_once_one_is_served() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let nonces = Nonces::open(&store, "api", Duration::from_secs(300)).unwrap();
    for round in 0..300_u32 {
        let sent = store.now();
        let accept = |_| nonces.accept("app", round.to_le_bytes(), sent).unwrap();
        assert_eq!(count(&at_once(accept), |answer| *answer == Accept::New), 1);
    }
}

#[test]
fn no_order_of_requests_replays_steps_of_time_and_crashes_accepts_a_nonce_twice() {
    for seed in 0..6 {
        let (directory, clock) = (fast_directory(), clock());
        let mut store = open(directory.path(), &clock);
        let (mut random, mut accepted) = (Random::new(seed), BTreeMap::new());
        let mut served = BTreeSet::new();
        for _ in 0..600 {
            let nonces = Nonces::open(&store, "api", Duration::from_millis(SKEW)).unwrap();
            let (app, nonce) = (random.bytes(1)[0] % 2, random.bytes(1)[0] % 8);
            // Few moments, so that requests are repeated as they were.
            let sent = moment(2_000 * random.below(30).cast_signed());
            let distance = sent.as_millis().cast_signed() - store.now().as_millis().cast_signed();
            let now = store.now().as_millis();
            // A nonce is remembered until the timestamp that it was accepted with is late.
            let known = accepted.get(&(app, nonce)).is_some_and(|end| now <= *end);
            let expected = match distance {
                ..-5_000 => Accept::Late,
                5_001.. => Accept::Early,
                _ if known => Accept::Duplicate,
                _ => Accept::New,
            };
            assert_eq!(nonces.accept([app], [nonce], sent).unwrap(), expected, "seed {seed}");
            if expected == Accept::New {
                accepted.insert((app, nonce), sent.as_millis() + SKEW);
                assert!(served.insert((app, nonce, sent)), "served twice");
            }
            match random.below(20) {
                0 => clock.advance(Duration::from_millis(random.below(4_000))),
                1 => maintain(&store),
                2 => {
                    drop(nonces);
                    drop(store);
                    store = open(directory.path(), &clock);
                }
                _ => {}
            }
        }
    }
}
