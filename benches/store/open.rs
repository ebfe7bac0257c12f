//! Opening a store that was closed, and one left as a crash leaves it.

use std::time::Duration;

use criterion::{BatchSize, Criterion};
use oncelog::{Check, Store};
use tempfile::TempDir;

use crate::{fill, item, new_store};

/// Keys in the store that is opened.
const KEYS: u64 = 100_000;

/// Both openings; the store is put back into its state before each one, untimed.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10).measurement_time(Duration::from_millis(500));
    group.bench_function("closed", |bencher| {
        let (dir, store) = new_store();
        fill(&store, KEYS);
        store.close().unwrap();
        assert_complete(&Store::open(dir.path()).unwrap());
        let close = || Store::open(dir.path()).unwrap().close().unwrap();
        let open = |()| Store::open(dir.path()).unwrap();
        bencher.iter_batched(close, open, BatchSize::PerIteration);
    });
    group.bench_function("crashed", |bencher| {
        let dir = crashed();
        assert_complete(&Store::open(dir.path()).unwrap());
        let open = |dir: TempDir| (Store::open(dir.path()).unwrap(), dir);
        bencher.iter_batched(crashed, open, BatchSize::PerIteration);
    });
    group.finish();
}

/// A filled store whose last handle was dropped without closing it.
fn crashed() -> TempDir {
    let (dir, store) = new_store();
    fill(&store, KEYS);
    drop(store);
    dir
}

/// Every key is a duplicate with its outcome.
fn assert_complete(store: &Store) {
    for index in 0..KEYS {
        let (key, outcome) = item(index);
        let Check::Duplicate(record) = store.check_and_set(key, []).unwrap() else {
            panic!("key {index} is lost");
        };
        assert_eq!(record.outcome(), outcome);
    }
}
