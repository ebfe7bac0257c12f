//! DashMap, a hash map in shards, each behind a lock.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// A map of its own making: default shards, default keyed hash, no initial capacity.
///
/// Durability: none, whatever is asked for; it is memory. Check-and-set is the entry API,
/// which holds the shard's write lock from the check to the insert. A batch is a loop, for
/// the map has no call for many keys. Nothing ever expires. The entry API takes the key by value,
/// which is a copy of an array, and an allocation where keys are boxed slices.
#[derive(Debug)]
pub struct Dashmap<K: Bytes, V: Bytes>(DashMap<K, V>);

impl<K: Bytes, V: Bytes> Engine<K, V> for Dashmap<K, V> {
    type Session<'a> = &'a Dashmap<K, V>;

    fn open(_setup: &Setup<'_>) -> Result<Self> {
        Ok(Dashmap(DashMap::new()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes, V: Bytes> Dashmap<K, V> {
    #[inline]
    fn set_at(&self, at: usize, (key, outcome): &Item<K, V>, tally: &mut Tally<V>) {
        match self.0.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(outcome.clone());
                tally.answer(at, None);
            }
            Entry::Occupied(occupied) => tally.answer(at, Some(occupied.get().as_ref())),
        }
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Dashmap<K, V> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_at(0, item, tally);
        Ok(())
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        for (at, item) in items.iter().enumerate() {
            self.set_at(at, item, tally);
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.0.contains_key(key))
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        Ok(keys.iter().filter(|key| self.0.contains_key(*key)).count())
    }
}
