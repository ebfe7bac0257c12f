//! The negative filter: adding a key, and asking for known and unknown ones.

use std::hint::black_box;

use criterion::Criterion;

use crate::filter::Filter;
use crate::mix;
use crate::time::Timestamp;

/// Keys in the filter, whose lines are larger than the nearer caches.
const KEYS: u64 = 1 << 20;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter");
    let filter = filled(KEYS);
    // One in a hundred unknown keys or so cannot be excluded.
    let unknown = (0..10_000).filter(|at| filter.excludes(mix(KEYS + at))).count();
    assert!(unknown > 9_500, "{unknown}");
    assert!((0..10_000).all(|at| !filter.excludes(mix(at))));
    group.bench_function("known", |bencher| {
        let mut at = 0;
        bencher.iter(|| {
            at += 1;
            filter.excludes(black_box(mix(mix(at) % KEYS)))
        });
    });
    group.bench_function("unknown", |bencher| {
        let mut at = KEYS;
        bencher.iter(|| {
            at += 1;
            filter.excludes(black_box(mix(at)))
        });
    });
    group.bench_function("add", |bencher| {
        let mut at = KEYS;
        bencher.iter(|| {
            at += 1;
            filter.add(0, black_box(mix(mix(at) % (2 * KEYS))))
        });
    });
    group.finish();
}

/// A filter of one bucket with so many keys.
fn filled(keys: u64) -> Filter {
    let filter = Filter::new(16).unwrap();
    filter.adopt(Timestamp::NEVER, 0..16);
    assert!((0..keys).all(|at| filter.add(0, mix(at))));
    filter
}
