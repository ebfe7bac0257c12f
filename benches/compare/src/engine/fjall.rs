//! Fjall, a log-structured merge tree with a journal.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{CACHE_BYTES, Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// One keyspace with default settings and a cache of 1 GiB.
///
/// Durability `process`: the default, each write hands its journal record to the operating
/// system, so it survives the process being killed, but not a loss of power. `synced`:
/// `persist(SyncData)` ends every call that wrote, before the lock below is released, so that
/// a duplicate is already on the disk when it is answered. Check-and-set is a get and an
/// insert under a lock of the adapter, which is cheaper here than the crate's own
/// transactions; a batch is one atomic write batch under that lock, which also remembers the
/// keys of the batch itself.
pub struct Fjall<K: Bytes> {
    database: Database,
    keyspace: Keyspace,
    writer: Mutex<HashMap<K, usize>>,
    synced: bool,
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Fjall<K> {
    type Session<'a> = &'a Fjall<K>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let database = Database::builder(setup.dir)
            .cache_size(CACHE_BYTES as u64)
            .open()?;
        let keyspace = database.keyspace("seen", KeyspaceCreateOptions::default)?;
        let writer = Mutex::new(HashMap::new());
        Ok(Fjall {
            database,
            keyspace,
            writer,
            synced: setup.synced,
        })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes> Fjall<K> {
    fn finish(&self) -> Result<()> {
        if self.synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Fjall<K> {
    fn set(&mut self, (key, outcome): &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.keyspace.get(key.as_ref())? {
            Some(found) => tally.answer(0, Some(&found)),
            None => {
                self.keyspace.insert(key.as_ref(), outcome.as_ref())?;
                tally.answer(0, None);
                self.finish()?;
            }
        }
        Ok(())
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut pending = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        pending.clear();
        let mut batch = self.database.batch();
        for (at, (key, outcome)) in items.iter().enumerate() {
            if let Some(found) = self.keyspace.get(key.as_ref())? {
                tally.answer(at, Some(&found));
            } else if let Some(earlier) = pending.get(key) {
                tally.answer(at, Some(items[*earlier].1.as_ref()));
            } else {
                batch.insert(&self.keyspace, key.as_ref(), outcome.as_ref());
                pending.insert(key.clone(), at);
                tally.answer(at, None);
            }
        }
        if !pending.is_empty() {
            batch.commit()?;
            self.finish()?;
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.keyspace.contains_key(key.as_ref())?)
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let mut known = 0;
        for key in keys {
            known += usize::from(self.keyspace.contains_key(key.as_ref())?);
        }
        Ok(known)
    }
}
