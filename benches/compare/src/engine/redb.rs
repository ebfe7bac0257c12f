//! Redb, a copy-on-write B-tree with one writer at a time.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::marker::PhantomData;

use redb::{
    Builder, Database, Durability, Key, ReadableDatabase, ReadableTable, TableDefinition, TypeName,
    Value,
};

use super::{CACHE_BYTES, Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// One table in one file with a cache of 1 GiB.
///
/// Durability asked `process`: `Durability::None`. Other transactions see such a commit, but
/// it lives in redb's own memory until a later commit with `Durability::Immediate` or a
/// clean end; killing the process loses it. Reports therefore say `none`, a weaker class
/// than the other engines have, as redb has nothing between the two. `synced`:
/// `Durability::Immediate`, every commit syncs the file. A call, single or batch, is one
/// write transaction, which redb serializes, so a get and an insert in it are atomic; one
/// that wrote nothing is given up, which spares its sync.
#[derive(Debug)]
pub struct Redb<K: Bytes, V: Bytes> {
    database: Database,
    durability: Durability,
    table: PhantomData<(K, V)>,
}

impl<K: Bytes, V: Bytes> Redb<K, V> {
    const TABLE: TableDefinition<'static, Width<K>, Width<V>> = TableDefinition::new("seen");
}

/// Keys or outcomes as redb sees them: of one width where their type has only one.
#[derive(Debug)]
pub struct Width<B>(PhantomData<B>);

impl<B: Bytes> Value for Width<B> {
    type SelfType<'a> = &'a [u8];
    type AsBytes<'a> = &'a [u8];

    fn fixed_width() -> Option<usize> {
        B::LEN
    }

    fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
    where
        Self: 'a,
    {
        data
    }

    fn as_bytes<'a, 'b: 'a>(value: &'a &'b [u8]) -> &'a [u8] {
        value
    }

    fn type_name() -> TypeName {
        TypeName::new("bytes")
    }
}

impl<B: Bytes> Key for Width<B> {
    fn compare(left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }

    fn separator<'a>(left: &'a [u8], right: &'a [u8]) -> Cow<'a, [u8]> {
        match B::LEN {
            Some(_) => Cow::Borrowed(left),
            None => <&[u8] as Key>::separator(left, right),
        }
    }
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Redb<K, V> {
    type Session<'a> = &'a Redb<K, V>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let path = setup.dir.join("seen.redb");
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
        let txn = database.begin_write()?;
        txn.open_table(Self::TABLE)?;
        txn.commit()?;
        let durability = if setup.synced {
            Durability::Immediate
        } else {
            Durability::None
        };
        Ok(Redb {
            database,
            durability,
            table: PhantomData,
        })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }

    fn settle(&self) -> Result<()> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.commit()?;
        Ok(())
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Redb<K, V> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(self.durability)?;
        let mut table = txn.open_table(Redb::<K, V>::TABLE)?;
        let mut wrote = false;
        for (at, (key, outcome)) in items.iter().enumerate() {
            if let Some(found) = table.get(key.as_ref())? {
                tally.answer(at, Some(found.value()));
                continue;
            }
            table.insert(key.as_ref(), outcome.as_ref())?;
            tally.answer(at, None);
            wrote = true;
        }
        drop(table);
        if wrote {
            txn.commit()?
        } else {
            txn.abort()?
        }
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        self.has_many(std::slice::from_ref(key))
            .map(|known| known == 1)
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let table = self
            .database
            .begin_read()?
            .open_table(Redb::<K, V>::TABLE)?;
        let mut known = 0;
        for key in keys {
            known += usize::from(table.get(key.as_ref())?.is_some());
        }
        Ok(known)
    }
}
