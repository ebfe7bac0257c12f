//! LMDB, a memory-mapped B+ tree with one writer at a time.

use heed::types;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::{Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

/// One database in one environment; the map is only address space for three times the data.
///
/// Durability `process`: `MDB_NOSYNC`, so a commit writes to the page cache and never waits
/// for the disk; it survives the process being killed, and a loss of power can damage the
/// file. `synced`: default flags, every commit syncs data and meta page. A call, single or
/// batch, is one write transaction; check-and-set is a put with `MDB_NOOVERWRITE`, which
/// finds the present value in the same descent. Look-ups are one read transaction a call.
#[derive(Debug)]
pub struct Lmdb {
    env: Env,
    table: Database<'static, types::Bytes, types::Bytes>,
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Lmdb {
    type Session<'a> = &'a Lmdb;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let room = (setup.keys as usize) * (setup.item_bytes + 16) * 3 + (1 << 30);
        let mut options = EnvOpenOptions::new();
        options
            .map_size(room.next_multiple_of(1 << 20))
            .max_readers(setup.threads as u32 + 8);
        let flags = if setup.synced {
            EnvFlags::empty()
        } else {
            EnvFlags::NO_SYNC
        };
        #[expect(unsafe_code, reason = "heed hands LMDB's conditions on to its caller")]
        // SAFETY: NO_SYNC gives up crash safety at power loss, which the durability class
        // states, and breaks no promise that memory safety rests on.
        unsafe {
            options.flags(flags)
        };
        #[expect(unsafe_code, reason = "heed hands LMDB's conditions on to its caller")]
        // SAFETY: the folder belongs to this process alone, which opens it once and leaves
        // the mapped file to LMDB, on a local file system.
        let env = unsafe { options.open(setup.dir)? };
        let txn = env.write_txn()?;
        let table = env
            .create_databases_and_commit(txn, |opener, txn| {
                opener
                    .create_database(txn, None)
                    .map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Lmdb { env, table })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl<K: Bytes, V: Bytes> Session<K, V> for &Lmdb {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        self.set_many(std::slice::from_ref(item), tally)
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (at, (key, outcome)) in items.iter().enumerate() {
            let found = self
                .table
                .get_or_put(&mut txn, key.as_ref(), outcome.as_ref())?;
            tally.answer(at, found);
        }
        txn.commit()?;
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        let txn = self.env.read_txn()?;
        Ok(self.table.get(&txn, key.as_ref())?.is_some())
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let txn = self.env.read_txn()?;
        let mut known = 0;
        for key in keys {
            known += usize::from(self.table.get(&txn, key.as_ref())?.is_some());
        }
        Ok(known)
    }
}
