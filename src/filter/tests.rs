//! The filter alone: nothing added is ever excluded, whatever layers come and go meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Filter;
use crate::time::Timestamp;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Forty bits, as the index keeps them.
fn imprint(i: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()) >> 24
}

fn add(filter: &Filter, chunk: u64, i: u64) {
    assert!(filter.add(chunk, imprint(i)), "chunk {chunk} is adopted");
}

/// Lays every bucket that is due out anew, from the keys given.
fn renew(filter: &Filter, keys: &[(u64, std::ops::Range<u64>)]) -> usize {
    let due = filter.due();
    for bucket in &due {
        let of = |(chunk, _): &&(u64, _)| filter.bucket_of(*chunk) == Some(*bucket);
        let keys: Vec<_> = keys.iter().filter(of).cloned().collect();
        let count = keys.iter().map(|(_, keys)| keys.end - keys.start).sum();
        let outgoing = filter.begin_anew(*bucket, count).unwrap();
        for (chunk, keys) in keys {
            keys.for_each(|i| add(filter, chunk, i));
        }
        filter.end_anew(&outgoing);
    }
    due.len()
}

#[test]
fn nothing_added_is_excluded_and_nearly_everything_else_is() {
    let filter = Filter::new(64).unwrap();
    assert!(filter.excludes(imprint(0)), "nothing was added");
    filter.adopt(at(100), 0..4);
    filter.adopt(Timestamp::NEVER, 4..5);
    for i in 0..200_000 {
        add(&filter, i % 5, i);
        assert!(!filter.excludes(imprint(i)), "{i} right after it was added");
    }
    assert!((0..200_000).all(|i| !filter.excludes(imprint(i))));
    let excluded = (0..100_000).filter(|i| filter.excludes(imprint(1_000_000 + i))).count();
    let stats = filter.stats();
    assert_eq!((stats.buckets, stats.keys), (2, 200_000));
    assert!(stats.layers > 4, "{stats:?}");
    let rate = 1.0 - excluded as f64 / 100_000.0;
    assert!((rate - stats.false_positive_rate()).abs() < 0.005, "{rate} {stats:?}");
    assert!(rate < 0.05 && stats.bits_per_key() < 40.0, "{rate} {stats:?}");
}

#[test]
fn a_bucket_at_rest_becomes_one_layer_of_the_size_it_needs() {
    let filter = Filter::new(64).unwrap();
    filter.adopt(at(100), 0..1);
    (0..50_000).for_each(|i| add(&filter, 0, i));
    let before = filter.stats();
    while renew(&filter, &[(0, 0..50_000)]) > 0 {}
    let after = filter.stats();
    assert!(before.layers > 3 && after.layers == 1, "{before:?} {after:?}");
    assert!(after.bytes < 2 * before.bytes && after.false_positive_ppm < 6_000, "{after:?}");
    assert!((0..50_000).all(|i| !filter.excludes(imprint(i))));
    assert_eq!(filter.due(), []);
}

#[test]
fn memory_stays_bounded_while_the_same_few_keys_are_recorded_for_ever() {
    let filter = Filter::new(64).unwrap();
    filter.adopt(Timestamp::NEVER, 0..1);
    let mut most = 0;
    for _ in 0..400 {
        (0..10_000).for_each(|i| add(&filter, 0, i));
        renew(&filter, &[(0, 0..10_000)]);
        most = most.max(filter.stats().bytes);
    }
    assert!(most < 200_000, "{most} bytes");
    assert!((0..10_000).all(|i| !filter.excludes(imprint(i))));
}

#[test]
fn a_filter_goes_with_its_bucket_and_its_memory_is_used_again() {
    let filter = Filter::new(1 << 10).unwrap();
    let mut bytes = 0;
    for round in 0..100_u64 {
        filter.adopt(at(round * 10 + 5), round..round + 1);
        (0..20_000).for_each(|i| add(&filter, round, round * 20_000 + i));
        filter.drop_ended(at(round * 10));
        filter.release(round.saturating_sub(1)..round);
        if round == 5 {
            bytes = filter.lines_used_ever();
        }
    }
    assert_eq!(filter.lines_used_ever(), bytes);
    filter.drop_ended(at(100_000));
    let stats = filter.stats();
    assert_eq!((stats.buckets, stats.layers, stats.bytes), (0, 0, 0));
    assert!((0..2_000_000).step_by(1_000).all(|i| filter.excludes(imprint(i))));
}

#[test]
fn where_no_bucket_fits_nothing_is_excluded_any_more() {
    let filter = Filter::new(1 << 14).unwrap();
    (0..5_000).for_each(|i| filter.adopt(at(i + 1), i..i + 1));
    assert!(!filter.excludes(imprint(7)));
    assert!(filter.add(4_999, imprint(7)), "it is taken as noted");
}

#[test]
fn no_key_is_excluded_while_others_add_and_layers_come_and_go() {
    let filter = Filter::new(1 << 10).unwrap();
    filter.adopt(Timestamp::NEVER, 0..1);
    let (reached, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..150_000 {
                add(&filter, 0, i);
                reached.store(i + 1, Ordering::Release);
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            // Buckets that come and go beside it, through the same memory.
            for round in 1_u64.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let chunk = 1 + round % 1_000;
                filter.adopt(at(round), chunk..chunk + 1);
                (0..6_000).for_each(|i| add(&filter, chunk, i << 30));
                filter.drop_ended(at(round));
                filter.release(chunk..chunk + 1);
            }
        });
        let mut i = 0_u64;
        while !over.load(Ordering::Acquire) {
            let end = reached.load(Ordering::Acquire).max(1);
            i = (i + 7_919) % end;
            assert!(end == 1 || !filter.excludes(imprint(i)), "{i} of {end}");
        }
    });
}

#[test]
fn no_key_is_excluded_while_its_only_layer_is_replaced() {
    let filter = Filter::new(1 << 13).unwrap();
    filter.adopt(at(1), 0..1);
    // A question goes through all of these between the two places that the layer lies in by turns.
    (1..4_000).for_each(|i| filter.adopt(at(1 + i), i..i + 1));
    let keys = 0..8;
    keys.clone().for_each(|i| add(&filter, 0, i));
    let bucket = filter.bucket_of(0).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                let outgoing = filter.begin_anew(bucket, 8).unwrap();
                keys.clone().for_each(|i| add(&filter, 0, i));
                filter.end_anew(&outgoing);
            }
            over.store(true, Ordering::Release);
        });
        while !over.load(Ordering::Acquire) {
            assert!(keys.clone().all(|i| !filter.excludes(imprint(i))));
        }
    });
}
