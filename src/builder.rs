//! Settings for a store, and opening one with them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Durability, Maintenance};
use crate::engine::Engine;
use crate::error::Result;
use crate::maintainer::Maintainer;
use crate::policy::Policy;
use crate::salvage::{self, SalvageReport};
use crate::store::Store;
use crate::sys::files::Directory;
use crate::time::{Clock, JumpPolicy, Ttl};

impl Store {
    /// Opens the store in the directory with the default settings, creating it where the
    /// directory is missing or empty.
    ///
    /// Costs a few milliseconds, plus about a tenth of a microsecond per key that it holds.
    ///
    /// # Errors
    /// [`AlreadyOpen`](crate::Error::AlreadyOpen) if any handle has it open;
    /// [`NotADirectory`](crate::Error::NotADirectory), [`NotAStore`](crate::Error::NotAStore),
    /// [`UnsupportedFormat`](crate::Error::UnsupportedFormat) if it is something else;
    /// [`Corrupt`](crate::Error::Corrupt) if complete data is damaged;
    /// [`Io`](crate::Error::Io) and [`Full`](crate::Error::Full) as the system answers.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Gives up what is damaged in the store's files, so that what is sound can be opened, and
    /// lists what is lost. What was lost counts as *new* from then on, so look at
    /// [`Builder::salvage_plan`] first; see [`salvage`]. A sound store is left as it is.
    ///
    /// # Errors
    /// [`AlreadyOpen`](crate::Error::AlreadyOpen), [`NotAStore`](crate::Error::NotAStore), and
    /// [`Corrupt`](crate::Error::Corrupt) if nothing can be done without the store's identity;
    /// [`Io`](crate::Error::Io) and [`Full`](crate::Error::Full) as the system answers: then it
    /// can be begun anew.
    pub fn salvage(path: impl AsRef<Path>) -> Result<SalvageReport> {
        Self::builder().salvage(path)
    }

    /// Settings for a store; every default is written at its setter.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Settings for a store.
///
/// Nothing set here is stored: the same directory may be opened with other settings next time.
/// Records keep the lifetime they were given.
///
/// ```
/// use oncelog::Store;
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::builder()
///     .ttl(Duration::from_secs(7 * 24 * 3600))
///     .key_bytes_max(256)
///     .open(directory.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct Builder {
    config: Config,
}

impl Builder {
    // Parameters that affect behaviour.

    /// How long a key is remembered. Default: 24 hours.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.config.ttl = ttl.into();
        self
    }

    /// The longest key accepted, in bytes. Default: 1024; at most 65,535.
    pub fn key_bytes_max(mut self, bytes: usize) -> Self {
        self.config.limits.key_bytes_max = bytes;
        self
    }

    /// The longest outcome accepted, in bytes. Default: 1 MiB; at most 16 MiB.
    pub fn outcome_bytes_max(mut self, bytes: usize) -> Self {
        self.config.limits.outcome_bytes_max = bytes;
        self
    }

    /// How keys outside of any namespace behave. Default: [`Policy::default`].
    ///
    /// Its `retention`, `max_keys` and `max_bytes` must be `None`: for all keys of the store, the
    /// builder has settings of its own. With an `outcome_ttl`, [`Anchor::LastSeen`] or
    /// [`LongOutcomePolicy::KeepMark`], checks take the stripe's lock also for duplicates, and
    /// batches are as fast as single calls.
    ///
    /// ```
    /// use oncelog::{Policy, Store};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let hour = Duration::from_secs(3600);
    /// let policy = Policy { outcome_ttl: Some(hour), ..Policy::default() };
    /// let store = Store::builder().ttl(24 * hour).policy(policy).open(directory.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Anchor::LastSeen`]: crate::Anchor::LastSeen
    /// [`LongOutcomePolicy::KeepMark`]: crate::LongOutcomePolicy::KeepMark
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// How many keys the store holds at most. Default: as many as memory allows.
    ///
    /// At the limit a new key is refused with [`Full`](crate::Error::Full); lookups, duplicates,
    /// completion of leases and removal go on, and no key is dropped. Counted are index slots:
    /// live keys, and expired or removed ones that maintenance has not reclaimed yet (see
    /// [`Stats::keys`](crate::Stats::keys)). Never exceeded by new keys; they may be refused when
    /// up to a sixteenth fewer are held, or one a stripe. A store that holds more when it is
    /// opened keeps them. Costs one comparison for a new key.
    ///
    /// ```
    /// use oncelog::{Error, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::builder().stripes(1).max_keys(2).open(directory.path())?;
    /// assert!(store.insert("a")? && store.insert("b")?);
    /// assert!(matches!(store.insert("c"), Err(Error::Full { what: "max_keys" })));
    /// assert!(store.contains("a")? && !store.insert("b")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.config.max_keys = Some(keys);
        self
    }

    /// How many bytes the store's files take at most, at least 4 of the smallest segments.
    /// Default: no limit but the disk's.
    ///
    /// At the limit no new segment is begun, so that a new key is refused with
    /// [`Full`](crate::Error::Full) once its bucket's segment is full; what goes on is what goes
    /// on when the disk is full. Compaction alone may exceed it, by the segment that it copies
    /// to. A store that is larger when it is opened is left as it is.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.config.max_bytes = Some(bytes);
        self
    }

    /// When a call may return. Default: [`Durability::Process`]. See also
    /// [`Store::with_durability`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Who does the background work. Default: [`Maintenance::Thread`].
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.config.maintenance = maintenance;
        self
    }

    /// Where the time comes from. Default: the system's clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.config.clock = Some(clock);
        self
    }

    /// What is done about a clock that has jumped far ahead. Default: it is not followed until the
    /// next open. A clock of your own is followed while the store is open, whatever this says.
    pub fn clock_jumps(mut self, policy: JumpPolicy) -> Self {
        self.config.jumps.policy = policy;
        self
    }

    /// How far ahead of the store's time the clock is followed without more ado. Default: 24 hours.
    pub fn clock_jump_max(mut self, by: Duration) -> Self {
        self.config.jumps.max_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self
    }

    // Parameters that affect performance.

    /// Locks in the index, a power of two. Default: 4096; at most 65,536. Each takes 64 bytes;
    /// more of them make each growth step shorter in stores of more than a billion keys.
    pub fn stripes(mut self, count: usize) -> Self {
        self.config.stripes = count;
        self
    }

    /// Append cursors. Default: the number of cores, at least 2; at most 64. Threads that share a
    /// lane append one after another.
    pub fn lanes(mut self, count: usize) -> Self {
        self.config.lanes = count;
        self
    }

    /// Size of a bucket's first segment, a power of two. Default and least: 1 MiB.
    pub fn segment_bytes_min(mut self, bytes: u64) -> Self {
        self.config.segment_bytes_min = bytes;
        self
    }

    /// Size up to which a bucket's segments double, a power of two. Default: 64 MiB; at most
    /// 256 MiB.
    pub fn segment_bytes_max(mut self, bytes: u64) -> Self {
        self.config.segment_bytes_max = bytes;
        self
    }

    /// As [`Store::salvage`], by the builder's clock; no other setting counts.
    ///
    /// # Errors
    /// As there.
    pub fn salvage(&self, path: impl AsRef<Path>) -> Result<SalvageReport> {
        salvage::salvage(path.as_ref(), self.config.clock.as_ref())
    }

    /// What [`Builder::salvage`] would do. Reads every record, and changes nothing.
    ///
    /// # Errors
    /// As [`Store::salvage`].
    pub fn salvage_plan(&self, path: impl AsRef<Path>) -> Result<SalvageReport> {
        salvage::plan(path.as_ref(), self.config.clock.as_ref())
    }

    /// Keeps Bloom filters of all keys in memory, one for each expiry bucket, which tell
    /// [`peek`](Store::peek), [`remove`](Store::remove) and lookups in namespaces that a key is
    /// certainly unknown. Default: false.
    ///
    /// Never changes an answer. Costs 13 to 40 bits of memory a key, for a while three times as
    /// many, some 0.3 us for each key recorded, and a cache line of each bucket for each question.
    /// Unknown keys are mostly found out without a lock anyhow: `docs/benchmarks.md` says where it
    /// pays, which is seldom, and [`Stats::filter`](crate::Stats::filter) how often it was asked.
    ///
    /// ```
    /// use oncelog::Store;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::builder().negative_filter(true).open(directory.path())?;
    /// assert!(store.insert("a")? && !store.remove("b")?);
    /// let filter = store.stats().filter.expect("it is on");
    /// assert_eq!((filter.keys, filter.excluded), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn negative_filter(mut self, on: bool) -> Self {
        self.config.negative_filter = on;
        self
    }

    /// For a store whose owner never removes or replaces a record, and records for ever.
    #[cfg(feature = "ballot")]
    pub(crate) fn write_once(mut self) -> Self {
        self.config.ttl = Ttl::Never;
        self.config.policy = Policy::DEFAULT;
        self.config.write_once = true;
        self
    }

    /// Opens the store in the directory, creating it where the directory is missing or empty.
    ///
    /// # Errors
    /// As [`Store::open`], and [`InvalidConfig`](crate::Error::InvalidConfig) or
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for settings that cannot work.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.config.validate()?;
        let path = path.as_ref();
        let threaded = self.config.maintenance == Maintenance::Thread;
        let directory = Directory::open_exclusive(path)?;
        let engine = Arc::new(Engine::open(Arc::new(directory), self.config)?);
        let maintainer = if threaded { Some(Maintainer::start(&engine, path)?) } else { None };
        Ok(Store::opened(path, engine, maintainer))
    }
}
