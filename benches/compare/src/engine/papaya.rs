//! Papaya, a lock-free hash map.

use papaya::HashMap;

use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// A map with the default keyed hash, default incremental resizing and no initial capacity.
///
/// Durability: none, whatever is asked for; it is memory. Check-and-set is `try_insert`,
/// one atomic step that leaves the present value alone and returns it. A single call pins
/// once; a batch pins once for all its keys. Nothing ever expires.
#[derive(Debug)]
pub struct Papaya<K: Bytes, V: Bytes>(HashMap<K, V>);

impl<K: Bytes, V: Bytes> Engine<K, V> for Papaya<K, V> {
    type Session<'a> = &'a Papaya<K, V>;

    fn open(_setup: &Setup<'_>) -> Result<Self> {
        Ok(Papaya(HashMap::new()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Papaya<K, V> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    #[inline]
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let map = self.0.pin();
        for (at, (key, outcome)) in items.iter().enumerate() {
            match map.try_insert(key.clone(), outcome.clone()) {
                Ok(_) => tally.answer(at, None),
                Err(occupied) => tally.answer(at, Some(occupied.current.as_ref())),
            }
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.0.pin().contains_key(key))
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let map = self.0.pin();
        Ok(keys.iter().filter(|key| map.contains_key(*key)).count())
    }
}
