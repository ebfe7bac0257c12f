//! Oncelog, the engine of this repository.

use std::time::Duration;

use oncelog::{
    Answer, Answers, Begin, BeginOptions, Check, Durability, Lease, Lookups, Store, Ttl,
};

use super::lifetime::Lifetime;
use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// A store with default settings: records live 24 hours, background work has its thread.
///
/// Durability `process`: an answered call is in the page cache, so it survives the process
/// being killed, but not a loss of power. `synced`: the store's own level of that name, at which a
/// call, single or batch, returns once its records, and what its answers rest on, are on the disk;
/// calls that wait at the same time share a sync. A batch is one `check_and_set_many` or `get_many`
/// with reused buffers; a single look-up is `contains`. A lease is a `begin` and the `complete` of
/// its answer; in batches, a `begin_many` and a `complete_many`. With `FILTER` its negative filter
/// is on, as which it is measured by a name of its own; a probe is a `peek`, which locks.
#[derive(Debug)]
pub struct Oncelog<const FILTER: bool> {
    store: Store,
}

/// A handle and the buffers it reuses.
#[derive(Debug)]
pub struct OncelogSession<'a> {
    store: &'a Store,
    answers: Answers,
    lookups: Lookups,
    begun: Vec<Begin>,
}

impl<K: Bytes, V: Bytes, const FILTER: bool> Engine<K, V> for Oncelog<FILTER> {
    type Session<'a> = OncelogSession<'a>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let builder = Store::builder()
            .negative_filter(FILTER)
            .durability(level(setup));
        Ok(Oncelog {
            store: builder.open(setup.dir)?,
        })
    }

    fn open_for(setup: &Setup<'_>, lifetime: Lifetime) -> Result<Self> {
        let builder = match lifetime {
            Lifetime::Never => Store::builder().ttl(Ttl::Never),
            Lifetime::After(lifetime) => Store::builder().ttl(lifetime),
            Lifetime::Mixed => Store::builder(),
        };
        let builder = builder.negative_filter(FILTER).durability(level(setup));
        Ok(Oncelog {
            store: builder.open(setup.dir)?,
        })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        let (answers, lookups) = (Answers::new(), Lookups::default());
        Ok(OncelogSession {
            store: &self.store,
            answers,
            lookups,
            begun: Vec::new(),
        })
    }

    fn close(self) -> Result<()> {
        Ok(self.store.close()?)
    }
}

fn level(setup: &Setup<'_>) -> Durability {
    match setup.synced {
        true => Durability::Synced,
        false => Durability::Process,
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for OncelogSession<'_> {
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
        Ok(())
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
        Ok(())
    }

    #[inline]
    fn has(&mut self, key: &K) -> Result<bool> {
        Ok(self.store.contains(key)?)
    }

    #[inline]
    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
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
        Ok(())
    }

    #[inline]
    fn remove(&mut self, key: &K) -> Result<bool> {
        Ok(self.store.remove(key)?)
    }

    #[inline]
    fn probe(&mut self, key: &K) -> Result<bool> {
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
            let keys: Vec<&K> = items.iter().map(|(key, _)| key).collect();
            store.begin_many(&keys, BeginOptions::new(), &mut self.begun)?;
            let outcomes = items.iter().map(|(_, outcome)| outcome);
            let answers = self.begun.drain(..).zip(outcomes);
            let mut work: Vec<(Lease, &V)> = answers
                .filter_map(|(answer, outcome)| Some((answer.started()?, outcome)))
                .collect();
            store.complete_many(&mut work)?;
            begun = work.len();
        }
        Ok(begun)
    }
}
