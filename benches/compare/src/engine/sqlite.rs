//! SQLite, the SQL database, with its write-ahead log.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::{CACHE_BYTES, Engine, Item, Session, Setup};
use crate::Result;
use crate::bytes::Bytes;
use crate::tally::Tally;

const INSERT: &str = "INSERT INTO seen (key, outcome) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const OUTCOME: &str = "SELECT outcome FROM seen WHERE key = ?1";
const KNOWN: &str = "SELECT 1 FROM seen WHERE key = ?1";

/// A table `WITHOUT ROWID`, keyed by the blob, in a file with a write-ahead log.
///
/// Durability `process`: `synchronous = OFF`, commits are in the page cache and survive the
/// process being killed, but a loss of power can damage the file. `synced`: `synchronous =
/// FULL`, every commit syncs the log. One connection writes, behind a lock, because SQLite
/// lets one transaction write at a time and its busy handler sleeps; each session has a
/// connection of its own for look-ups. A call, single or batch, is one transaction;
/// statements are prepared once; page cache 1 GiB; checkpoints every 16384 pages (64 MiB).
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    synced: bool,
    writer: Mutex<Connection>,
}

/// The shared writer and a reader of the session's own.
#[derive(Debug)]
pub struct SqliteSession<'a> {
    engine: &'a Sqlite,
    reader: Connection,
}

fn connect(path: &Path, synced: bool) -> Result<Connection> {
    let connection = Connection::open(path)?;
    let synchronous = if synced { "FULL" } else { "OFF" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -{};
         PRAGMA wal_autocheckpoint = 16384;
         PRAGMA busy_timeout = 60000;",
        CACHE_BYTES / 1024,
    ))?;
    Ok(connection)
}

impl<K: Bytes, V: Bytes> Engine<K, V> for Sqlite {
    type Session<'a> = SqliteSession<'a>;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        let path = setup.dir.join("seen.sqlite");
        let writer = connect(&path, setup.synced)?;
        writer.execute_batch(
            "CREATE TABLE IF NOT EXISTS seen (
                 key BLOB PRIMARY KEY NOT NULL,
                 outcome BLOB NOT NULL
             ) WITHOUT ROWID;",
        )?;
        Ok(Sqlite {
            path,
            synced: setup.synced,
            writer: Mutex::new(writer),
        })
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(SqliteSession {
            engine: self,
            reader: connect(&self.path, self.synced)?,
        })
    }
}

fn set_one<K: Bytes, V: Bytes>(
    insert: &mut CachedStatement<'_>,
    outcome: &mut CachedStatement<'_>,
    item: &Item<K, V>,
    (at, tally): (usize, &mut Tally<V>),
) -> Result<()> {
    if insert.execute((item.0.as_ref(), item.1.as_ref()))? == 1 {
        tally.answer(at, None);
        return Ok(());
    }
    outcome.query_row([item.0.as_ref()], |row| {
        tally.answer(at, Some(row.get_ref(0)?.as_blob()?));
        Ok(())
    })?;
    Ok(())
}

impl<K: Bytes, V: Bytes> Session<K, V> for SqliteSession<'_> {
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()> {
        let writer = self
            .engine
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut insert = writer.prepare_cached(INSERT)?;
        let mut outcome = writer.prepare_cached(OUTCOME)?;
        set_one(&mut insert, &mut outcome, item, (0, tally))
    }

    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()> {
        let writer = self
            .engine
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let txn = writer.unchecked_transaction()?;
        let mut insert = writer.prepare_cached(INSERT)?;
        let mut outcome = writer.prepare_cached(OUTCOME)?;
        for (at, item) in items.iter().enumerate() {
            set_one(&mut insert, &mut outcome, item, (at, tally))?;
        }
        txn.commit()?;
        Ok(())
    }

    fn has(&mut self, key: &K) -> Result<bool> {
        let mut known = self.reader.prepare_cached(KNOWN)?;
        Ok(known
            .query_row([key.as_ref()], |_| Ok(()))
            .optional()?
            .is_some())
    }

    fn has_many(&mut self, keys: &[K]) -> Result<usize> {
        let txn = self.reader.transaction()?;
        let mut known = 0;
        let mut statement = txn.prepare_cached(KNOWN)?;
        for key in keys {
            let found = statement.query_row([key.as_ref()], |_| Ok(())).optional()?;
            known += usize::from(found.is_some());
        }
        drop(statement);
        txn.commit()?;
        Ok(known)
    }
}
