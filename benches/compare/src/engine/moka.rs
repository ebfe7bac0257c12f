//! Moka, a concurrent cache that can expire its entries.

use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use super::lifetime::{self, Lifetime};
use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// A cache of unlimited capacity whose entries live 24 hours, as oncelog's do by default.
///
/// Durability: none, whatever is asked for; it is memory. Check-and-set is the entry API
/// with `or_insert_with`, whose check and insert are one step between threads; `or_insert`
/// is not used because it reads and then inserts, so that two threads can both be told that
/// their key is new. A batch is a loop. With no capacity to reach, nothing is evicted.
#[derive(Debug)]
pub struct Moka<K: Bytes, V: Bytes>(Cache<K, V>);

/// Gives each entry the lifetime that its key has in a mixture.
struct ByKey;

impl<K: Bytes, V: Bytes> Expiry<K, V> for ByKey {
    fn expire_after_create(&self, key: &K, _: &V, _: Instant) -> Option<Duration> {
        lifetime::of_key(key.as_ref())
    }
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Moka<K, V> {
    type Session<'a> = &'a Moka<K, V>;

    fn open(_setup: &Setup<'_>) -> Result<Self> {
        let day = Duration::from_secs(24 * 60 * 60);
        Ok(Moka(
            Cache::builder()
                .max_capacity(u64::MAX)
                .time_to_live(day)
                .build(),
        ))
    }

    fn open_for(_setup: &Setup<'_>, lifetime: Lifetime) -> Result<Self> {
        let builder = Cache::builder().max_capacity(u64::MAX);
        Ok(Moka(match lifetime {
            Lifetime::Never => builder.build(),
            Lifetime::After(lifetime) => builder.time_to_live(lifetime).build(),
            Lifetime::Mixed => builder.expire_after(ByKey).build(),
        }))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes, V: Bytes> Moka<K, V> {
    #[inline]
    fn set_at(&self, at: usize, (key, outcome): &Item<K, V>, tally: &mut Tally<V>) {
        let entry = self.0.entry_by_ref(key).or_insert_with(|| outcome.clone());
        let found = if entry.is_fresh() {
            None
        } else {
            Some(entry.value().as_ref())
        };
        tally.answer(at, found);
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Moka<K, V> {
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

    /// The lifetime is that of the key, which the cache was opened with.
    fn set_for(
        &mut self,
        item: &Item<K, V>,
        _lifetime: Option<Duration>,
        tally: &mut Tally<V>,
    ) -> Result<()> {
        self.set_at(0, item, tally);
        Ok(())
    }

    fn remove(&mut self, key: &K) -> Result<bool> {
        Ok(self.0.remove(key).is_some())
    }
}
