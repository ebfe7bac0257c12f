//! The store: open, check and set, look up, remove, sync, maintain, close.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::answers::{Answers, Check, Checked, Lookups};
use crate::config::Durability;
use crate::engine::Engine;
use crate::error::Result;
use crate::maintainer::Maintainer;
use crate::options::CheckOptions;
use crate::record::{Ignore, Own, Receive, Record};
use crate::stats::{Maintained, RecoveryReport, Stats};
use crate::ticket::Ticket;
use crate::time::Ttl;

/// A directory of records, open, with its index in memory.
///
/// A handle is cheap to clone and all clones are the same store; it is used from any number of
/// threads at once. Dropping the last handle leaves the directory as the end of the process would:
/// everything acknowledged is there at the next open. [`Store::close`] additionally seals and
/// syncs, which makes that open faster.
///
/// ```
/// use oncelog::{Check, Store};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("webhooks");
/// let store = Store::open(path)?;
/// assert!(store.check_and_set("evt_1", "200 OK")?.is_new());
/// match store.check_and_set("evt_1", "ignored")? {
///     Check::New => unreachable!("it was recorded above"),
///     Check::Duplicate(record) => assert_eq!(record.outcome(), b"200 OK"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    durability: Durability,
}

struct Shared {
    path: PathBuf,
    engine: Arc<Engine>,
    /// The maintenance thread, which ends with this.
    maintainer: Option<Maintainer>,
}

impl Store {
    /// The first handle of a store that was just opened.
    pub(crate) fn opened(path: &Path, engine: Arc<Engine>, maintainer: Option<Maintainer>) -> Self {
        let durability = engine.config.durability;
        let shared = Shared { path: path.to_path_buf(), engine, maintainer };
        Self { shared: Arc::new(shared), durability }
    }

    /// Records `key` with `outcome` unless the key is known, for the store's lifetime.
    ///
    /// Atomic: of any number of callers with one new key, exactly one is answered
    /// [`Check::New`]. When it returns, the record survives `kill -9`.
    ///
    /// # Errors
    /// [`EmptyKey`](crate::Error::EmptyKey), [`KeyTooLong`](crate::Error::KeyTooLong) or
    /// [`OutcomeTooLong`](crate::Error::OutcomeTooLong) for input beyond the limits;
    /// [`InProgress`](crate::Error::InProgress) while somebody holds a lease on the key, and
    /// [`Unresolved`](crate::Error::Unresolved) while its effect is unknown;
    /// [`Full`](crate::Error::Full) when a new key finds no room;
    /// [`Corrupt`](crate::Error::Corrupt) if the key's record is damaged;
    /// [`Poisoned`](crate::Error::Poisoned) or [`Closed`](crate::Error::Closed). After any error
    /// the key is as it was.
    #[inline]
    pub fn check_and_set(&self, key: impl AsRef<[u8]>, outcome: impl AsRef<[u8]>) -> Result<Check> {
        let engine = self.engine();
        if engine.is_plain() {
            return self.check_plain(key.as_ref(), outcome.as_ref(), engine.lifetime());
        }
        let options = CheckOptions::new();
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    #[inline]
    fn check_plain(&self, key: &[u8], outcome: &[u8], lifetime: u64) -> Result<Check> {
        if self.durability.is_synced() {
            return self.check_settled(key, outcome, lifetime);
        }
        self.engine().check_and_set(key, outcome, lifetime, &mut Checked)
    }

    /// Apart, so that no answer is moved once more where nothing has to be waited for.
    #[inline(never)]
    fn check_settled(&self, key: &[u8], outcome: &[u8], lifetime: u64) -> Result<Check> {
        self.settled(key, self.engine().check_and_set(key, outcome, lifetime, &mut Checked))
    }

    /// As [`Store::check_and_set`], with a lifetime of its own for this record.
    ///
    /// # Errors
    /// As there, and [`InvalidTtl`](crate::Error::InvalidTtl) for a lifetime of zero or of more
    /// than 1000 years.
    pub fn check_and_set_for(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> Result<Check> {
        let ttl = ttl.into();
        if self.engine().is_plain() {
            return self.check_plain(key.as_ref(), outcome.as_ref(), ttl.millis()?);
        }
        let options = CheckOptions::new().retention(ttl);
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// Hands an answer about the key on, once what it rests on is as durable as asked for.
    #[inline]
    fn settled<T>(&self, key: &[u8], answer: Result<T>) -> Result<T> {
        if self.durability.is_synced() {
            return self.claims().settled(key, answer);
        }
        answer
    }

    /// A handle of the same store whose calls return at another level; the level of the store's
    /// own handles stays. Leases and namespaces got from it keep to its level.
    ///
    /// ```
    /// use oncelog::{Durability, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let synced = store.with_durability(Durability::Synced)?;
    /// store.check_and_set("visit-1", "")?;
    /// synced.check_and_set("payment-1", "charged")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An interval holds for the whole store, from now on until it is closed, if it is the
    /// shortest one asked for.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig) for an interval that cannot be kept.
    pub fn with_durability(&self, durability: Durability) -> Result<Self> {
        durability.validate()?;
        if let Durability::Interval(interval) = durability {
            self.engine().commit.demand(interval);
            self.engine().wake.ring();
        }
        Ok(Self { shared: self.shared.clone(), durability })
    }

    /// When the calls of this handle return.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Checks and sets many keys in their order, each as a single call would, several times
    /// faster: memory is fetched for many keys at once.
    ///
    /// `answers` is cleared and then holds one answer an item. Items of one batch that share a key
    /// are resolved in order: the first is new, the others are its duplicates. The batch as a
    /// whole is not atomic.
    ///
    /// ```
    /// use oncelog::{Answers, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let mut answers = Answers::new();
    /// store.check_and_set_many(&[("a", "1"), ("b", "2"), ("a", "3")], &mut answers)?;
    /// let new: Vec<bool> = answers.iter().map(|answer| answer.is_new()).collect();
    /// assert_eq!(new, [true, true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::check_and_set`], for the first item that fails. `answers` then holds the
    /// answers of the items before it, which took effect; its length is the failing item's index.
    pub fn check_and_set_many<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        answers: &mut Answers,
    ) -> Result<()> {
        let engine = self.engine();
        if !engine.is_plain() {
            return self.claims().check_many(items, answers);
        }
        let checked = engine.check_and_set_many(items, engine.lifetime(), answers);
        if self.durability.is_synced() {
            let answered = items.iter().take(answers.len()).map(|(key, _)| key.as_ref());
            let settled = engine.settle_many(answers.new_count() > 0, answered);
            settled.inspect_err(|_| answers.clear())?;
        }
        checked
    }

    /// Remembers a key without an outcome; true if it was not known.
    ///
    /// # Errors
    /// As [`Store::check_and_set`].
    #[inline]
    pub fn insert(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let (engine, key) = (self.engine(), key.as_ref());
        let known = if engine.is_plain() {
            self.settled(key, engine.check_and_set(key, &[], engine.lifetime(), &mut Ignore))
        } else {
            self.claims().check(key, &[], &CheckOptions::new(), &mut Ignore)
        };
        Ok(!known?)
    }

    /// True if the key is known; one that is in progress is not yet. Records nothing.
    ///
    /// # Errors
    /// As [`Store::get`].
    #[inline]
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.look_up(key.as_ref(), Ignore)
    }

    /// The key's record, if it is known; one that is in progress has none yet, see
    /// [`Store::peek`].
    ///
    /// # Errors
    /// [`EmptyKey`](crate::Error::EmptyKey) or [`KeyTooLong`](crate::Error::KeyTooLong) for a key
    /// that cannot be known; [`Corrupt`](crate::Error::Corrupt) if its record is damaged;
    /// [`Closed`](crate::Error::Closed).
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>> {
        self.look_up(key.as_ref(), Own)
    }

    #[inline]
    fn look_up<R: Receive>(&self, key: &[u8], mut receive: R) -> Result<R::Answer> {
        if self.durability.is_synced() {
            return self.look_up_settled(key, receive);
        }
        self.engine().get(key, &mut receive)
    }

    /// Apart, as [`check_settled`](Store::check_settled).
    #[inline(never)]
    fn look_up_settled<R: Receive>(&self, key: &[u8], mut receive: R) -> Result<R::Answer> {
        self.settled(key, self.engine().get(key, &mut receive))
    }

    /// Looks up many keys, fetching memory for many at once. `lookups` is cleared first.
    ///
    /// # Errors
    /// As [`Store::get`], for the first key that fails; `lookups` holds the results before it.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K], lookups: &mut Lookups) -> Result<()> {
        let engine = self.engine();
        let looked_up = engine.get_many(keys, lookups);
        if self.durability.is_synced() {
            let answered = keys.iter().take(lookups.len()).map(AsRef::as_ref);
            engine.settle_many(false, answered).inspect_err(|_| lookups.clear())?;
        }
        looked_up
    }

    /// Forgets a key; true if anything was known of it. The next check of it is answered *new*,
    /// the next begin is its first. A lease on it is lost.
    ///
    /// # Errors
    /// As [`Store::check_and_set`]: a removal is a record too. Room is kept for it, so that
    /// [`Full`](crate::Error::Full) is answered only after some thousand removals on a full disk.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.claims().remove(key.as_ref(), None)
    }

    /// Returns once everything acknowledged before the call is on stable storage.
    ///
    /// A barrier: what was recorded at any level survives a power loss afterwards. One sync serves
    /// all who wait; see also [`Store::ticket`].
    ///
    /// # Errors
    /// [`Indeterminate`](crate::Error::Indeterminate) if the sync fails, for everybody who waits
    /// for it: what was recorded since the last one may be found after reopening, or not. That
    /// poisons the store: no later write is accepted. See [`Poisoned`](crate::Error::Poisoned).
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// A ticket for everything acknowledged before the call, to be waited for later or elsewhere.
    ///
    /// # Errors
    /// [`Poisoned`](crate::Error::Poisoned) or [`Closed`](crate::Error::Closed).
    pub fn ticket(&self) -> Result<Ticket> {
        self.engine().health_check()?;
        Ok(Ticket::new(self.engine().clone()))
    }

    /// Does a slice of background work: drops expired segments, sweeps the index, seals full
    /// segments, prepares the next one. The maintenance thread does the same; with
    /// [`Maintenance::Manual`](crate::Maintenance::Manual) it is for the caller to do about once a
    /// second.
    ///
    /// # Errors
    /// As the system answers; a failed sync poisons the store.
    pub fn maintain(&self, budget: Duration) -> Result<Maintained> {
        self.engine().maintain(budget)
    }

    /// Says that the clock is right, however far it is ahead of the store's time
    /// ([`Stats::clock_ahead_ms`]): it is followed from now on, and what has expired by it is
    /// forgotten. Does nothing where it is not ahead. See [`JumpPolicy`](crate::JumpPolicy).
    ///
    /// ```
    /// use oncelog::{JumpPolicy, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::builder().clock_jumps(JumpPolicy::Hold).open(directory.path())?;
    /// if store.stats().clock_ahead_ms > 0 {
    ///     // Only after somebody has looked at the clock.
    ///     store.follow_clock();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn follow_clock(&self) {
        self.engine().clock.follow_all();
    }

    /// Seals and syncs everything and gives the directory up; other handles get
    /// [`Closed`](crate::Error::Closed) from then on.
    ///
    /// # Errors
    /// As [`Store::sync`]; what was acknowledged is then still there as after a crash.
    pub fn close(self) -> Result<()> {
        self.engine().close().map(|_first| ())
    }

    /// Counters and sizes. Takes each stripe's lock once: some 100 us.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.engine().recovery
    }

    /// The directory as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// A store over an engine that was opened by itself, on a simulated disk.
    #[cfg(test)]
    pub(crate) fn over(engine: Engine) -> Self {
        Self::opened(Path::new(""), Arc::new(engine), None)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threaded = self.shared.maintainer.is_some();
        f.debug_struct("Store")
            .field("path", &self.shared.path)
            .field("maintenance_thread", &threaded)
            .finish_non_exhaustive()
    }
}
