//! Oncelog, the engine of this repository.

use std::time::Duration;

use oncelog::{Answer, Answers, Begin, BeginOptions, Check, Lookups, Store, Ttl};

use super::lifetime::Lifetime;
use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::tally::Tally;

/// A store with default settings: records live 24 hours, background work has its thread.
///
/// Durability `process`: an answered call is in the page cache, so it survives the process
/// being killed, but not a loss of power. `synced`: `sync` after every call, single or batch,
/// also when it wrote nothing, for a duplicate may be of another thread's record that is not
/// on the disk yet. A batch is one `check_and_set_many` or `get_many` with reused buffers; a
/// single look-up is `contains`. A lease is a `begin` and the `complete` of its answer; in
/// batches, a `begin_many` and a `complete_many`. With `FILTER` its negative filter is on, as
/// which it is measured by a name of its own; a probe is a `peek`, which locks.
#[derive(Debug)]
pub struct Oncelog<const FILTER: bool> {
    store: Store,
    synced: bool,
}

/// A handle and the buffers it reuses.
#[derive(Debug)]
pub struct OncelogSession<'a> {
    store: &'a Store,
    synced: bool,
    answers: Answers,
    lookups: Lookups,
    keys: Vec<u8>,
    begun: Vec<Begin>,
}

impl<const K: usize, const V: usize, const FILTER: bool> Engine<K, V> for Oncelog<FILTER> {
    type Session<'a> = OncelogSession<'a>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let builder = Store::builder().negative_filter(FILTER);
        Ok(Oncelog {
            store: builder.open(setup.dir)?,
            synced: setup.synced,
        })
    }

    fn open_for(setup: &Setup<'_>, lifetime: Lifetime) -> Result<Self> {
        let builder = match lifetime {
            Lifetime::Never => Store::builder().ttl(Ttl::Never),
            Lifetime::After(lifetime) => Store::builder().ttl(lifetime),
            Lifetime::Mixed => Store::builder(),
        };
        let builder = builder.negative_filter(FILTER);
        let (store, synced) = (builder.open(setup.dir)?, setup.synced);
        Ok(Oncelog { store, synced })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        let (answers, lookups) = (Answers::new(), Lookups::default());
        Ok(OncelogSession {
            store: &self.store,
            synced: self.synced,
            answers,
            lookups,
            keys: Vec::new(),
            begun: Vec::new(),
        })
    }
}

impl OncelogSession<'_> {
    #[inline]
    fn finish(&self) -> Result<()> {
        if self.synced {
            self.store.sync()?;
        }
        Ok(())
    }
}

impl<const K: usize, const V: usize> Session<K, V> for OncelogSession<'_> {
    #[inline]
    fn set(&mut self, (key, outcome): &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        // Looked at where it is: `?` would move the answer first.
        let checked = self.store.check_and_set(key, outcome);
        match &checked {
            Ok(Check::New) => tally.answer(0, None),
            Ok(Check::Duplicate(record)) => tally.answer(0, Some(record.outcome())),
            Err(_) => {}
        }
        if let Err(error) = checked {
            return Err(error.into());
        }
        self.finish()
    }

    #[inline]
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        self.store.check_and_set_many(items, &mut self.answers)?;
        for (at, answer) in self.answers.iter().enumerate() {
            match answer {
                Answer::New => tally.answer(at, None),
                Answer::Duplicate(record) => tally.answer(at, Some(record.outcome())),
            }
        }
        self.finish()
    }

    #[inline]
    fn has(&mut self, key: &[u8; K]) -> Result<bool> {
        Ok(self.store.contains(key)?)
    }

    #[inline]
    fn has_many(&mut self, keys: &[[u8; K]]) -> Result<usize> {
        self.store.get_many(keys, &mut self.lookups)?;
        Ok(self.lookups.iter().flatten().count())
    }

    #[inline]
    fn set_for(
        &mut self,
        (key, outcome): &Item<K, V>,
        lifetime: Option<Duration>,
        tally: &mut Tally<V>,
    ) -> Result<()> {
        let ttl = lifetime.map_or(Ttl::Never, Ttl::After);
        match self.store.check_and_set_for(key, outcome, ttl)? {
            Check::New => tally.answer(0, None),
            Check::Duplicate(record) => tally.answer(0, Some(record.outcome())),
        }
        self.finish()
    }

    #[inline]
    fn remove(&mut self, key: &[u8; K]) -> Result<bool> {
        let removed = self.store.remove(key)?;
        self.finish()?;
        Ok(removed)
    }

    #[inline]
    fn probe(&mut self, key: &[u8; K]) -> Result<bool> {
        Ok(self.store.peek(key)?.is_some())
    }

    #[inline]
    fn lease(&mut self, items: &[Item<K, V>]) -> Result<usize> {
        let store = self.store;
        let mut begun = 0;
        if let [(key, outcome)] = items {
            if let Begin::Started(mut lease) = store.begin(key)? {
                lease.complete(outcome)?;
                begun = 1;
            }
        } else {
            self.keys.clear();
            self.keys.extend(items.iter().flat_map(|(key, _)| key));
            let keys: Vec<&[u8]> = self.keys.chunks(K).collect();
            store.begin_many(&keys, BeginOptions::new(), &mut self.begun)?;
            let answers = self.begun.drain(..).zip(items);
            let started = |(answer, item): (Begin, &Item<K, V>)| Some((answer.started()?, item.1));
            let mut work: Vec<_> = answers.filter_map(started).collect();
            store.complete_many(&mut work)?;
            begun = work.len();
        }
        self.finish()?;
        Ok(begun)
    }
}
