//! RocksDB, a log-structured merge tree with a write-ahead log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteBatch, WriteOptions};

use super::{CACHE_BYTES, Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// One column family with a block cache of 1 GiB and Bloom filters of 10 bits a key.
///
/// Durability `process`: the write-ahead log is written but not synced, so a call survives
/// the process being killed, but not a loss of power. `synced`: every write syncs the log.
/// Check-and-set is a get and a put under a lock of the adapter; a batch is one write batch
/// under that lock, which also remembers the keys of the batch itself.
pub struct Rocksdb<K: Bytes> {
    database: DB,
    writer: Mutex<HashMap<K, usize>>,
    synced: bool,
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Rocksdb<K> {
    type Session<'a> = &'a Rocksdb<K>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.increase_parallelism(setup.threads as i32);
        options.set_block_based_table_factory(&table);
        let database = DB::open(&options, setup.dir)?;
        Ok(Rocksdb {
            database,
            writer: Mutex::new(HashMap::new()),
            synced: setup.synced,
        })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Rocksdb<K> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut pending = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        pending.clear();
        let mut batch = WriteBatch::default();
        for (at, (key, outcome)) in items.iter().enumerate() {
            if let Some(found) = self.database.get_pinned(key)? {
                tally.answer(at, Some(&found));
            } else if let Some(earlier) = pending.get(key) {
                tally.answer(at, Some(items[*earlier].1.as_ref()));
            } else {
                batch.put(key, outcome);
                pending.insert(key.clone(), at);
                tally.answer(at, None);
            }
        }
        if !pending.is_empty() {
            let mut options = WriteOptions::default();
            options.set_sync(self.synced);
            self.database.write_opt(batch, &options)?;
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.database.get_pinned(key)?.is_some())
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let mut known = 0;
        for key in keys {
            known += usize::from(self.database.get_pinned(key)?.is_some());
        }
        Ok(known)
    }
}
