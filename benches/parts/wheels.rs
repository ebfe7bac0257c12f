//! The wheel: which bucket a record belongs to, and taking the buckets that are due.

use std::hint::black_box;

use criterion::{BatchSize, Criterion};

use crate::mix;
use crate::time::Timestamp;
use crate::wheel::{Wheel, bucket_end};

const NOW_MS: u64 = 1_700_000_000_000;
const DAY_MS: u64 = 86_400_000;
/// Buckets of a store with one lifetime in steady state, and segments in each.
const BUCKETS: u64 = 17;
const SEGMENTS: u64 = 64;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    let now = Timestamp::from_millis(NOW_MS);
    group.bench_function("bucket_end", |bencher| {
        let mut at = 0;
        let mut end = || {
            at += 1;
            let lifetime = DAY_MS + (mix(at) & 0xffff);
            bucket_end(black_box(now), Timestamp::from_millis(NOW_MS + lifetime))
        };
        assert!(end() > now);
        bencher.iter(end);
    });
    group.bench_function("take_due", |bencher| {
        let after = Timestamp::from_millis(NOW_MS + BUCKETS * DAY_MS);
        assert_eq!(filled().take_due(after).len() as u64, BUCKETS * SEGMENTS);
        let take = |wheel: Wheel| {
            let due = wheel.take_due(after);
            (wheel, due)
        };
        bencher.iter_batched(filled, take, BatchSize::SmallInput);
    });
    group.finish();
}

/// Buckets that all end in time, with their segments.
fn filled() -> Wheel {
    let wheel = Wheel::default();
    for bucket in 0..BUCKETS {
        let ends = Timestamp::from_millis(NOW_MS + bucket * DAY_MS);
        (0..SEGMENTS).for_each(|segment| wheel.add(ends, bucket * SEGMENTS + segment));
    }
    wheel
}
