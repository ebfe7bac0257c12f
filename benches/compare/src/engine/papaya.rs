//! Papaya, a lock-free hash map.

use papaya::HashMap;

use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::tally::Tally;

/// A map with the default keyed hash, default incremental resizing and no initial capacity.
///
/// Durability: none, whatever is asked for; it is memory. Check-and-set is `try_insert`,
/// one atomic step that leaves the present value alone and returns it. A single call pins
/// once; a batch pins once for all its keys. Nothing ever expires.
#[derive(Debug)]
pub struct Papaya<const K: usize, const V: usize>(HashMap<[u8; K], [u8; V]>);

impl<const K: usize, const V: usize> Engine<K, V> for Papaya<K, V> {
    type Session<'a> = &'a Papaya<K, V>;

    fn open(_setup: &Setup<'_>) -> Result<Self> {
        Ok(Papaya(HashMap::new()))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<const K: usize, const V: usize> Session<K, V> for &Papaya<K, V> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    #[inline]
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let map = self.0.pin();
        for (at, (key, outcome)) in items.iter().enumerate() {
            match map.try_insert(*key, *outcome) {
                Ok(_) => tally.answer(at, None),
                Err(occupied) => tally.answer(at, Some(occupied.current)),
            }
        }
        Ok(())
    }

    fn has(&mut self, key: &[u8; K]) -> Result<bool> {
        Ok(self.0.pin().contains_key(key))
    }

    fn has_many(&mut self, keys: &[[u8; K]]) -> Result<usize> {
        let map = self.0.pin();
        Ok(keys.iter().filter(|key| map.contains_key(*key)).count())
    }
}
