//! One trait over all engines, and what is known of each by name.

pub mod dashmap;
pub mod fjall;
pub mod lifetime;
pub mod lmdb;
pub mod moka;
#[cfg(feature = "oncelog")]
pub mod oncelog;
pub mod papaya;
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
pub mod sqlite;

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::args::Durability;
use crate::engine::lifetime::Lifetime;
use crate::tally::Tally;

/// The cache given to every engine that has one of its own.
pub const CACHE_BYTES: usize = 1 << 30;

/// A key and the outcome to record for it.
pub type Item<const K: usize, const V: usize> = ([u8; K], [u8; V]);

/// What an engine is opened with. Nothing is pre-sized from `keys` but address space.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// A folder of the engine's own, empty or as a killed process left it.
    pub dir: &'a Path,
    /// Keys the run will insert at most.
    pub keys: u64,
    /// Threads that will have a session.
    pub threads: usize,
    /// Whether every call ends with a sync to stable storage.
    pub synced: bool,
}

/// A store, map or cache under measurement.
pub trait Engine<const K: usize, const V: usize>: Sized + Send + Sync {
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
}

/// The calls of one thread. Check-and-set is atomic against all other sessions.
pub trait Session<const K: usize, const V: usize> {
    /// Records the outcome unless the key is known; answers to `tally` as item 0.
    fn set(&mut self, item: &Item<K, V>, tally: &mut Tally<V>) -> Result<()>;

    /// The same for many items, answered in order.
    fn set_many(&mut self, items: &[Item<K, V>], tally: &mut Tally<V>) -> Result<()>;

    /// Whether the key is known.
    fn has(&mut self, key: &[u8; K]) -> Result<bool>;

    /// How many of the keys are known.
    fn has_many(&mut self, keys: &[[u8; K]]) -> Result<usize>;

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
    fn remove(&mut self, _key: &[u8; K]) -> Result<bool> {
        Err("this engine's adapter removes nothing".into())
    }

    /// Whether the key is known, by a call that decides under a lock unless a filter spares it.
    fn probe(&mut self, _key: &[u8; K]) -> Result<bool> {
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
}

impl Name {
    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Oncelog => "oncelog",
            Name::OncelogFilter => "oncelog-filter",
            Name::Dashmap => "dashmap",
            Name::Papaya => "papaya",
            Name::Moka => "moka",
            Name::Lmdb => "lmdb",
            Name::Fjall => "fjall",
            Name::Redb => "redb",
            Name::Sqlite => "sqlite",
            Name::Rocksdb => "rocksdb",
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
        !matches!(self, Name::Dashmap | Name::Papaya | Name::Moka)
    }

    /// What an answered call really survives under the durability asked for.
    ///
    /// `memory`: nothing. `none`: a clean end only. `process`: the process being killed.
    /// `synced`: loss of power.
    pub fn survives(self, asked: Durability) -> &'static str {
        match (self, asked) {
            (Name::Dashmap | Name::Papaya | Name::Moka, _) => "memory",
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
            Name::OncelogFilter => locked("oncelog").to_owned(),
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
