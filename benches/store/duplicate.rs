//! Check-and-set of keys already recorded, and look-ups of keys that are not.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use oncelog::{Answer, Answers, Check, Lookups, Store};

use crate::{BATCH, fill, item, key, mix, new_store};

/// Keys in the store: their index and records are larger than most caches.
const KEYS: u64 = 500_000;

/// Duplicates and misses, one a call and in batches, in random order.
pub(crate) fn benches(criterion: &mut Criterion) {
    let (_dir, store) = new_store();
    fill(&store, KEYS);
    duplicates(criterion, &store);
    misses(criterion, &store);
}

fn duplicates(criterion: &mut Criterion, store: &Store) {
    let mut group = criterion.benchmark_group("duplicate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |bencher| {
        let mut at = 0;
        let mut call = || {
            let (key, outcome) = item(mix(at) % KEYS);
            at += 1;
            match store.check_and_set(key, [0; 32]).unwrap() {
                Check::New => false,
                Check::Duplicate(record) => record.outcome() == outcome,
            }
        };
        assert!(call());
        bencher.iter(call);
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch", |bencher| {
        let mut answers = Answers::new();
        let mut items = Vec::with_capacity(BATCH);
        let mut at = 0;
        let mut call = || {
            items.clear();
            items.extend((at..at + BATCH as u64).map(|at| item(mix(at) % KEYS)));
            at += BATCH as u64;
            store.check_and_set_many(&items, &mut answers).unwrap();
            let right = |(answer, item): (Answer<'_>, &crate::Item)| match answer {
                Answer::New => false,
                Answer::Duplicate(record) => record.outcome() == item.1,
            };
            answers.iter().zip(&items).map(right).filter(|right| *right).count()
        };
        assert_eq!(call(), BATCH);
        bencher.iter(call);
    });
    group.finish();
}

fn misses(criterion: &mut Criterion, store: &Store) {
    let mut group = criterion.benchmark_group("miss");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |bencher| {
        let mut at = KEYS;
        let mut call = || {
            at += 1;
            store.contains(key(at)).unwrap()
        };
        assert!(!call());
        bencher.iter(call);
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch", |bencher| {
        let mut lookups = Lookups::default();
        let mut keys = Vec::with_capacity(BATCH);
        let mut at = KEYS;
        let mut call = || {
            keys.clear();
            keys.extend((at..at + BATCH as u64).map(key));
            at += BATCH as u64;
            store.get_many(&keys, &mut lookups).unwrap();
            black_box(&lookups).iter().flatten().count()
        };
        assert_eq!(call(), 0);
        bencher.iter(call);
    });
    group.finish();
}
