//! In steady state no caller creates a segment, and what is prepared for that costs no room.

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, NEVER, get, maintain};
use crate::error::{Error, Result};
use crate::record::Ignore;

/// The pause between two looks of the maintenance thread.
const PERIOD: u64 = 100;

fn insert(engine: &Engine, key: u64, bytes: usize, lifetime: u64) -> Result<bool> {
    let key = format!("key {key}");
    Ok(!engine.check_and_set(key.as_bytes(), &vec![1; bytes], lifetime, &mut Ignore)?)
}

fn awaited(engine: &Engine) -> u64 {
    engine.stats().segments_awaited
}

/// Keys of each lifetime at a constant rate, for `millis`.
fn run(bench: &Bench, engine: &Engine, next: &mut u64, lifetimes: &[u64], millis: u64) {
    for _ in 0..millis / PERIOD {
        for lifetime in lifetimes {
            for _ in 0..5 {
                assert!(insert(engine, *next, 1_000, *lifetime).unwrap());
                *next += 1;
            }
        }
        bench.advance(PERIOD);
        maintain(engine);
    }
}

#[test]
fn in_steady_state_no_caller_waits_for_a_segment_to_be_created() {
    let bench = Bench::with(|config| config.segment_bytes_max = 8 << 20);
    for lifetimes in [&[20_000][..], &[1_000], &[10 * MINUTE], &[1_000, 20_000, 150_000, MINUTE]] {
        let engine = bench.open();
        let mut next = 1;
        let longest = *lifetimes.iter().max().unwrap();
        run(&bench, &engine, &mut next, lifetimes, longest / 4 + 3_000);
        let before = awaited(&engine);
        run(&bench, &engine, &mut next, lifetimes, longest / 2 + 10_000);
        assert_eq!(awaited(&engine), before, "{lifetimes:?}");
        bench.advance(2 * longest);
        maintain(&engine);
        assert_eq!(engine.stats().keys, 0);
    }
}

#[test]
fn spares_of_buckets_that_are_over_are_used_again_or_removed() {
    let bench = Bench::with(|config| config.segment_bytes_max = 8 << 20);
    let (engine, mut next) = (bench.open(), 1);
    for lifetime in [1_000, 2_000, 30_000, 1_000_000, MINUTE] {
        run(&bench, &engine, &mut next, &[lifetime], 3 * PERIOD);
    }
    bench.advance(10 * MINUTE);
    maintain(&engine);
    bench.advance(100 * MINUTE);
    maintain(&engine);
    let (files, unused) = (bench.disk.count(""), engine.log.unused_bytes());
    // What is kept for removals, one spare, and the two files of the store itself.
    assert!(files <= 4 && unused <= 3 << 20, "{files} files, {unused} bytes");
}

#[test]
fn what_is_prepared_ahead_takes_no_room_from_records() {
    let bench = Bench::with(|config| config.max_bytes = Some(16 << 20));
    let engine = bench.open();
    let fill = |from: u64, lifetime: u64| {
        (from..).find(|key| insert(&engine, *key, 10_000, lifetime).is_err()).unwrap() - from
    };
    // Spares for the next buckets of several lifetimes.
    let mut next = 1;
    run(&bench, &engine, &mut next, &[10_000, 100_000, 1_000_000], 6_000);
    let taken = next + fill(next, NEVER);
    let bytes: u64 = engine.log.sizes().1;
    // All but what is kept for removals, and less than a segment.
    assert!(bytes >= 14 << 20, "{bytes}");
    assert!(matches!(insert(&engine, taken, 10_000, NEVER), Err(Error::Full { .. })));
    assert_eq!(get(&engine, &format!("key {next}")), Some(vec![1; 10_000]));
}

#[test]
fn a_spare_outlives_a_crash_and_a_restart_as_an_empty_segment() {
    let bench = Bench::with(|config: &mut Config| config.segment_bytes_max = 8 << 20);
    let (engine, mut next) = (bench.open(), 1);
    run(&bench, &engine, &mut next, &[20_000, 1_000_000], 5_000);
    drop(engine);
    let engine = bench.open();
    assert!((next - 50..next).all(|key| get(&engine, &format!("key {key}")).is_some()));
    run(&bench, &engine, &mut next, &[20_000, 1_000_000], 5_000);
    bench.advance(2_000_000);
    maintain(&engine);
    assert_eq!(engine.stats().keys, 0);
    assert!(engine.close().unwrap());
    assert!(bench.disk.count("") <= 2, "{:?}", bench.disk.count(""));
}
