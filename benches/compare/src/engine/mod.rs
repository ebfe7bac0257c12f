//! One trait over all engines, and what is known of each by name.

pub mod dashmap;
pub mod fjall;
pub mod lifetime;
pub mod lmdb;
pub mod moka;
#[cfg(feature = "oncelog")]
pub mod oncelog;
pub mod papaya;
#[cfg(feature = "services")]
pub mod postgres;
pub mod redb;
#[cfg(feature = "services")]
pub mod redis;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "services")]
pub mod server;
pub mod sqlite;
#[cfg(feature = "oncelog")]
pub mod tickets;

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::lifetime::Lifetime;
use crate::kinds::Durability;
use crate::machine::Memory;
use crate::tally::Tally;

/// The cache given to every engine that has one of its own.
pub const CACHE_BYTES: usize = 1 << 30;

/// A key and the outcome to record for it.
pub type Item<K, V> = (K, V);

/// What an engine is opened with. Nothing is pre-sized from `keys` but address space.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// A folder of the engine's own, empty or as a killed process left it.
    pub dir: &'a Path,
    /// Keys the run will insert at most.
    pub keys: u64,
    /// Length of a key and its outcome together.
    pub item_bytes: usize,
    /// Threads that will have a session.
    pub threads: usize,
    /// Whether every call ends with a sync to stable storage.
    pub synced: bool,
}

impl<'a> Setup<'a> {
    /// What the command line asks for, in this folder.
    pub fn of(args: &Args, dir: &'a Path) -> Setup<'a> {
        Setup {
            dir,
            keys: args.keys(),
            item_bytes: args.key_shape.len() + args.outcome_bytes,
            threads: args.threads(),
            synced: args.synced(),
        }
    }
}

/// A store, map or cache under measurement.
pub trait Engine<K: Bytes, V: Bytes>: Sized + Send + Sync {
    /// What one thread uses to call the engine.
    type Session<'a>: Session<K, V>
    where
        Self: 'a;

    /// Creates the store, or opens the one a killed process left.
    fn open(setup: &Setup<'_>) -> Result<Self>;

    /// Creates the store in an empty folder, with a lifetime for what it records.
    fn open_for(_setup: &Setup<'_>, _lifetime: Lifetime) -> Result<Self> {
        Err("this engine does not expire what it holds".into())
    }

    /// A session for the calling thread.
    fn session(&self) -> Result<Self::Session<'_>>;

    /// Makes everything done so far survive the end of the process, if calls alone do not.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// What a server has in memory; `None` for a library, which is in this process.
    fn server_memory(&self) -> Result<Option<Memory>> {
        Ok(None)
    }

    /// Ends the use of a store as its users would; for most that is to drop it.
    fn close(self) -> Result<()> {
        drop(self);
        Ok(())
    }
}

/// The calls of one thread. Check-and-set is atomic against all other sessions.
pub trait Session<K: Bytes, V: Bytes> {
    /// Records the outcome unless the key is known; answers to `tally` as item 0.
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()>;

    /// The same for many items, answered in order.
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()>;

    /// Whether the key is known.
    fn has(&mut self, key: &K) -> Result<bool>;

    /// How many of the keys are known.
    fn has_many(&mut self, keys: &[K]) -> Result<usize>;

    /// As [`Session::set`], with a lifetime of this item's own, as [`lifetime::of_key`] says.
    fn set_for(
        &mut self,
        _item: &Item<K, V>,
        _lifetime: Option<Duration>,
        _tally: &mut Tally<V>,
    ) -> Result<()> {
        Err("this engine has no lifetimes".into())
    }

    /// Makes the key unknown; whether it was known.
    fn remove(&mut self, _key: &K) -> Result<bool> {
        Err("this engine's adapter removes nothing".into())
    }

    /// Whether the key is known, by a call that decides under a lock unless a filter spares it.
    fn probe(&mut self, _key: &K) -> Result<bool> {
        Err("this engine has no filter to compare".into())
    }

    /// Begins and completes every item, where the engine has leases; how many were new.
    fn lease(&mut self, _items: &[Item<K, V>]) -> Result<usize> {
        Err("this engine has no leases".into())
    }
}

/// The engines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// This repository's engine.
    Oncelog,
    /// The same with its negative filter on.
    OncelogFilter,
    /// The same, synced, with as many single calls in flight as a batch has keys.
    OncelogTickets,
    /// A sharded map in memory.
    Dashmap,
    /// A lock-free map in memory.
    Papaya,
    /// A cache in memory.
    Moka,
    /// A memory-mapped B+ tree, by heed.
    Lmdb,
    /// A log-structured merge tree.
    Fjall,
    /// A copy-on-write B-tree.
    Redb,
    /// The SQL database, by rusqlite.
    Sqlite,
    /// A log-structured merge tree; needs the feature `rocksdb`.
    Rocksdb,
    /// A server on the loopback, in memory; needs the feature `services`, as the next ones do.
    Redis,
    /// The same with its append-only file, synced as `--durability` says.
    RedisAof,
    /// The SQL server on the loopback.
    Postgres,
}

impl Name {
    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Oncelog => "oncelog",
            Name::OncelogFilter => "oncelog-filter",
            Name::OncelogTickets => "oncelog-tickets",
            Name::Dashmap => "dashmap",
            Name::Papaya => "papaya",
            Name::Moka => "moka",
            Name::Lmdb => "lmdb",
            Name::Fjall => "fjall",
            Name::Redb => "redb",
            Name::Sqlite => "sqlite",
            Name::Rocksdb => "rocksdb",
            Name::Redis => "redis",
            Name::RedisAof => "redis-aof",
            Name::Postgres => "postgres",
        }
    }

    /// Whether it is a server of its own, to which every call travels.
    pub fn is_service(self) -> bool {
        matches!(self, Name::Redis | Name::RedisAof | Name::Postgres)
    }

    /// Why it cannot be measured here, where that is known before trying.
    pub fn missing(self) -> Option<String> {
        match self {
            #[cfg(not(feature = "oncelog"))]
            Name::Oncelog | Name::OncelogFilter | Name::OncelogTickets => {
                Some("built without the feature oncelog".to_owned())
            }
            #[cfg(not(feature = "rocksdb"))]
            Name::Rocksdb => Some("built without the feature rocksdb".to_owned()),
            #[cfg(not(feature = "services"))]
            name if name.is_service() => Some("built without the feature services".to_owned()),
            #[cfg(feature = "services")]
            Name::Redis | Name::RedisAof => redis::missing(),
            #[cfg(feature = "services")]
            Name::Postgres => postgres::missing(),
            _ => None,
        }
    }

    /// Whether the engine has leases to measure.
    pub fn has_leases(self) -> bool {
        matches!(self, Name::Oncelog | Name::OncelogFilter)
    }

    /// Whether the engine can be asked with and without a filter.
    pub fn has_probes(self) -> bool {
        matches!(self, Name::Oncelog | Name::OncelogFilter)
    }

    /// Whether the engine expires records by itself, as the paced workloads need.
    ///
    /// RocksDB drops what is too old only when it happens to compact it, and answers with it until
    /// then; the maps and the other stores know no time. What a sweep written here would cost them
    /// says little of them.
    pub fn expires(self) -> bool {
        matches!(self, Name::Oncelog | Name::OncelogFilter | Name::Moka)
    }

    /// Whether the engine keeps anything past the end of its process.
    pub fn is_durable(self) -> bool {
        !matches!(
            self,
            Name::Dashmap | Name::Papaya | Name::Moka | Name::Redis
        )
    }

    /// Whether its store can be left and opened again by the process that measures. A server lives
    /// on when its client is killed.
    pub fn reopens(self) -> bool {
        self.is_durable() && !self.is_service()
    }

    /// What an answered call really survives under the durability asked for.
    ///
    /// `memory`: nothing. `none`: a clean end only. `process`: the process being killed.
    /// `synced`: loss of power.
    pub fn survives(self, asked: Durability) -> &'static str {
        match (self, asked) {
            (Name::Dashmap | Name::Papaya | Name::Moka | Name::Redis, _) => "memory",
            (Name::OncelogTickets, _) => "synced",
            (Name::Redb, Durability::Process) => "none",
            (_, Durability::Process) => "process",
            (_, Durability::Synced) => "synced",
        }
    }

    /// The versions measured, as the lock file names them.
    pub fn version(self) -> String {
        match self {
            Name::Lmdb => {
                let lmdb = heed::lmdb_version();
                let numbers = format!("{}.{}.{}", lmdb.major, lmdb.minor, lmdb.patch);
                format!("{numbers} (heed {})", locked("heed"))
            }
            Name::Sqlite => format!("{} (rusqlite {})", rusqlite::version(), locked("rusqlite")),
            Name::Rocksdb => locked("librocksdb-sys").to_owned(),
            Name::OncelogFilter | Name::OncelogTickets => locked("oncelog").to_owned(),
            #[cfg(feature = "services")]
            Name::Redis | Name::RedisAof => redis::version(),
            #[cfg(feature = "services")]
            Name::Postgres => postgres::version(),
            other => locked(other.as_str()).to_owned(),
        }
    }
}

/// The version of a package in this program's lock file.
fn locked(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \""));
    version.map_or("unknown", |version| version.trim_end_matches('"'))
}
