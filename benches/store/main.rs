//! What the calls of a store cost, and its opening, at a size that takes seconds to measure.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

mod check;
mod duplicate;
mod open;

use std::time::Duration;

use criterion::Criterion;
use oncelog::{Answers, Store};
use tempfile::TempDir;

/// Keys in one batched call.
const BATCH: usize = 64;

/// A key and its outcome.
type Item = ([u8; 16], [u8; 32]);

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    check::benches(&mut criterion);
    duplicate::benches(&mut criterion);
    open::benches(&mut criterion);
    criterion.final_summary();
}

/// The finalizer of SplitMix64: a bijection, so that no two indexes make the same key.
fn mix(index: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The random-looking key of an index.
fn key(index: u64) -> [u8; 16] {
    let first = mix(index);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_le_bytes());
    key[8..].copy_from_slice(&mix(first).to_le_bytes());
    key
}

/// The key of an index with its outcome.
fn item(index: u64) -> Item {
    let mut outcome = [0; 32];
    outcome[..8].copy_from_slice(&index.to_le_bytes());
    (key(index), outcome)
}

/// A store in a temporary folder, which is removed with the guard.
fn new_store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Inserts the items `0..count`, all of them new.
fn fill(store: &Store, count: u64) {
    let mut answers = Answers::new();
    let mut items = Vec::with_capacity(BATCH);
    let mut next = 0;
    while next < count {
        let end = count.min(next + BATCH as u64);
        items.clear();
        items.extend((next..end).map(item));
        store.check_and_set_many(&items, &mut answers).unwrap();
        assert!(answers.iter().all(|answer| answer.is_new()));
        next = end;
    }
}
