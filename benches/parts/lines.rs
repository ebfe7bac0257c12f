//! The index: comparing a line, finding a slot with and without the lock, and setting one.

use std::hint::black_box;

use criterion::Criterion;

use crate::format::location::Location;
use crate::index::Index;
use crate::key::KeyHash;
use crate::mix;
use crate::sys::arena::Arena;
use crate::sys::compare::Upper;
use crate::sys::sync::atomic::Ordering;

/// Keys of the small index, which the nearest caches hold, and of the large one, which they do not.
const SIZES: [u64; 2] = [1 << 10, 1 << 21];
const STRIPES: usize = 256;

pub(crate) fn benches(criterion: &mut Criterion) {
    compare(criterion);
    let mut group = criterion.benchmark_group("index");
    for keys in SIZES {
        let index = filled(keys);
        let is_there = |at: u64| index.lock(hash(at)).find(hash(at), |_| true).is_some();
        assert!((0..keys).all(is_there));
        group.bench_function(format!("find_locked/{keys}"), |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at += 1;
                let hash = hash(mix(at) % keys);
                index.lock(hash).find(black_box(hash), |_| true).is_some()
            });
        });
        group.bench_function(format!("search_known/{keys}"), |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at += 1;
                let search = index.search_home(black_box(hash(mix(at) % keys)));
                search.and_then(|search| search.location())
            });
        });
        group.bench_function(format!("search_unknown/{keys}"), |bencher| {
            let mut at = keys;
            bencher.iter(|| {
                at += 1;
                let search = index.search_home(black_box(hash(at)));
                search.is_some_and(|search| search.is_conclusive())
            });
        });
    }
    // Growth of the stripes is part of it.
    group.bench_function("place", |bencher| {
        let index = Index::new(STRIPES).unwrap();
        let mut at = 0;
        bencher.iter(|| {
            place(&index, at);
            at += 1;
        });
    });
    group.finish();
}

fn compare(criterion: &mut Criterion) {
    let arena = Arena::reserve(1, 1).unwrap();
    let line = arena.line(0).unwrap();
    for (slot, number) in line.0.iter().zip(1_u64..) {
        slot.store(number << 40, Ordering::Relaxed);
    }
    assert_eq!(Upper::load::<40>(line).equal(3), 0b100);
    criterion.bench_function("line/compare", |bencher| {
        let mut wanted = 0;
        bencher.iter(|| {
            wanted = (wanted + 1) & 15;
            Upper::load::<40>(black_box(line)).equal(black_box(wanted))
        });
    });
}

fn hash(at: u64) -> KeyHash {
    KeyHash::from_u64(mix(at))
}

fn place(index: &Index, at: u64) {
    let mut stripe = index.lock(hash(at));
    stripe.reserve(|_| false).unwrap();
    stripe.place(hash(at), Location::from_units(at % (1 << 30) + 1));
}

fn filled(keys: u64) -> Index {
    let index = Index::new(STRIPES).unwrap();
    (0..keys).for_each(|at| place(&index, at));
    index
}
