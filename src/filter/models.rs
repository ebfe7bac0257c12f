//! Questions beside those who add keys, lay filters out anew and drop them: none excludes a key.
//!
//! Run by `scripts/models.sh`, with the locks and atomics of a model checker. A lock stands for the
//! stripe of all keys, and a list under it for its slots.

use std::sync::Arc;

use crate::filter::Filter;
use crate::sys::sync::Mutex;
use crate::sys::sync_model::check;
use crate::time::Timestamp;

const KEY: u64 = 0x12_3456_789a;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A filter, and the keys that have a slot, each with the chunk that it leads to.
struct Store {
    filter: Filter,
    slots: Mutex<Vec<(u64, u64)>>,
}

impl Store {
    /// Buckets that end at 1, at 2 and never, with the chunks 1, 2 and 3.
    fn new() -> Arc<Self> {
        let filter = Filter::new(8).unwrap();
        filter.adopt(at(1), 1..2);
        filter.adopt(at(2), 2..3);
        filter.adopt(Timestamp::NEVER, 3..4);
        Arc::new(Self { filter, slots: Mutex::new(Vec::new()) })
    }

    fn place(&self, chunk: u64, key: u64) {
        let mut slots = self.slots.lock();
        assert!(self.filter.add(chunk, key), "the chunk is adopted");
        slots.retain(|(_, other)| *other != key);
        slots.push((chunk, key));
    }

    /// Lays the filter of the chunk's bucket out anew, as maintenance does.
    fn renew(&self, chunk: u64) {
        let bucket = self.filter.bucket_of(chunk).unwrap();
        let Some(outgoing) = self.filter.begin_anew(bucket, 1) else { return };
        let slots = self.slots.lock();
        for (place, key) in slots.iter().filter(|(place, _)| *place == chunk) {
            assert!(self.filter.add(*place, *key));
        }
        drop(slots);
        self.filter.end_anew(&outgoing);
    }

    fn is_known(&self, key: u64) -> bool {
        !self.filter.excludes(key)
    }
}

type Part = fn(&Store);

/// A store with the key in a chunk, and parts that run at the same time.
fn model(orders: usize, chunk: u64, parts: [Part; 3]) {
    check(orders, move || {
        let store = Store::new();
        store.place(chunk, KEY);
        let start = |part: Part| {
            let store = store.clone();
            shuttle::thread::spawn(move || part(&store))
        };
        let threads = parts.map(start);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(store.is_known(KEY));
    });
}

fn ask(store: &Store) {
    assert!(store.is_known(KEY) && store.is_known(KEY));
}

#[test]
fn a_key_is_known_all_the_while_its_filter_is_laid_out_anew() {
    let add: Part = |store| {
        store.place(3, KEY + 1);
        assert!(store.is_known(KEY + 1), "its caller has been told");
    };
    let renew: Part = |store| {
        // The second time into a layer that questions come by before the one that goes.
        store.renew(3);
        store.renew(3);
    };
    model(400, 3, [ask, add, renew]);
}

#[test]
fn a_key_that_moves_to_another_bucket_is_known_while_the_first_one_goes() {
    let move_on: Part = |store| {
        // A record written again, or a copy of compaction.
        store.place(2, KEY);
        store.filter.drop_ended(at(1));
        store.filter.release(1..2);
    };
    model(400, 1, [ask, move_on, |store| store.renew(3)]);
}

#[test]
fn a_key_is_known_while_another_bucket_is_dropped_and_its_memory_used_again() {
    let turn_over: Part = |store| {
        store.filter.drop_ended(at(1));
        store.filter.release(1..2);
        store.filter.adopt(at(9), 1..2);
        store.place(1, KEY + 2);
        assert!(store.is_known(KEY + 2));
    };
    // Late, with what was true before its bucket was dropped.
    let late: Part = |store| {
        let _added = store.filter.add(1, KEY + 3);
    };
    model(400, 2, [ask, turn_over, late]);
}

#[test]
fn two_that_fill_a_layer_at_once_lose_no_key() {
    let add: Part = |store| {
        for key in 0..3 {
            store.place(3, KEY + key);
            assert!(store.is_known(KEY + key));
        }
    };
    check(200, move || {
        let store = Store::new();
        // One is missing until a layer is added.
        (1..2_559).for_each(|key| store.place(3, key << 12));
        let start = || {
            let store = store.clone();
            shuttle::thread::spawn(move || add(&store))
        };
        let threads = [start(), start()];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((1..2_559).all(|key| store.is_known(key << 12)));
    });
}
