//! Check-and-set of keys never seen, into a store that grows from empty.

use criterion::{Criterion, Throughput};
use oncelog::Answers;

use crate::{BATCH, item, new_store};

/// New keys, one a call, in batches, and all or none of a batch.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |bencher| {
        let (_dir, store) = new_store();
        let mut next = 0;
        let mut call = || {
            let (key, outcome) = item(next);
            next += 1;
            store.check_and_set(key, outcome).unwrap()
        };
        assert!(call().is_new());
        bencher.iter(call);
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("batch", |bencher| {
        let (_dir, store) = new_store();
        let mut answers = Answers::new();
        let mut items = Vec::with_capacity(BATCH);
        let mut next = 0;
        let mut call = || {
            items.clear();
            items.extend((next..next + BATCH as u64).map(item));
            next += BATCH as u64;
            store.check_and_set_many(&items, &mut answers).unwrap();
            answers.iter().filter(|answer| answer.is_new()).count()
        };
        assert_eq!(call(), BATCH);
        bencher.iter(call);
    });
    group.bench_function("together", |bencher| {
        let (_dir, store) = new_store();
        let mut items = Vec::with_capacity(BATCH);
        let mut next = 0;
        let mut call = || {
            items.clear();
            items.extend((next..next + BATCH as u64).map(item));
            next += BATCH as u64;
            store.check_and_set_all(&items).unwrap().is_new()
        };
        assert!(call());
        bencher.iter(call);
    });
    group.finish();
}
