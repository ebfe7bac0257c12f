//! The exclusive, time-limited right to produce a key's outcome.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::begin::Grant;
use crate::engine::bundle::{Act, Part};
use crate::engine::claim::OwnedKey;
use crate::engine::finish::{Ending, Written};
use crate::error::Result;
use crate::policy::{DropPolicy, lease_millis};
use crate::record::{OutcomeGone, Record};
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// The exclusive, time-limited right to produce a key's outcome.
///
/// Given out by a `begin` that was answered [`Begin::Started`](crate::Begin::Started). It holds no
/// lock; it can be sent to another thread and kept across await points. It ends with
/// [`complete`](Lease::complete), [`fail`](Lease::fail) or [`release`](Lease::release). When it is
/// dropped before, its [`DropPolicy`] says what follows: by default the key stays in progress
/// until the deadline, since the effect may have happened.
///
/// The deadline does not stop the holder: past it, somebody else *may* get the key. As long as
/// nobody did, the lease can still be completed or renewed. Once somebody did, every call answers
/// [`LeaseLost`](crate::Error::LeaseLost) and changes nothing. So two executions can run at a time,
/// but one outcome is recorded. Hand [`version`](Lease::version) to the systems that the work
/// changes, and let them refuse a version below the highest they have seen.
///
/// ```
/// use oncelog::{Begin, Store};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// match store.begin("order-42")? {
///     Begin::Started(mut lease) => {
///         let receipt = format!("receipt for token {}", lease.version().as_u64());
///         lease.complete(receipt)?;
///     }
///     Begin::Completed(record) => println!("done before: {:?}", record.outcome()),
///     other => println!("not now: {other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a lease leaves the key in progress until the deadline"]
pub struct Lease {
    engine: Arc<Engine>,
    key: OwnedKey,
    grant: Grant,
    /// What dropping does; `None` once the lease was ended, or its effect certainly happened.
    on_drop: Option<DropPolicy>,
    over: bool,
    /// When its calls return.
    durability: Durability,
}

impl Lease {
    pub(crate) fn new(
        engine: Arc<Engine>,
        key: OwnedKey,
        grant: Grant,
        on_drop: DropPolicy,
        durability: Durability,
    ) -> Self {
        Self { engine, key, grant, on_drop: Some(on_drop), over: false, durability }
    }

    /// The level of the handle that it was begun through.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// The fencing token: greater than that of every earlier lease on the key, also across
    /// removal, expiry, crashes and reopening. Renewing does not change it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.grant.version
    }

    /// Which attempt at the key this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.grant.attempt
    }

    /// When the key was first begun, in any attempt that is still remembered.
    #[must_use]
    pub fn first_seen(&self) -> Timestamp {
        self.grant.first_seen
    }

    /// From when on somebody else may get the key.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.grant.deadline
    }

    /// How long the lease still lasts, by the store's time; zero when it is overdue.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let now = self.engine.clock.now().as_millis();
        Duration::from_millis(self.grant.deadline.as_millis().saturating_sub(now))
    }

    /// The key, as it was given to `begin`.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.key()
    }

    /// What the latest [`checkpoint`](Lease::checkpoint) recorded, in this attempt or, until this
    /// one makes its own, in an earlier one; `None` if there was none.
    #[must_use]
    pub fn point(&self) -> Option<&[u8]> {
        (!self.grant.point.is_empty()).then_some(&self.grant.point)
    }

    /// True once it was completed, failed or released here.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Starts loading what ending it will touch.
    pub(crate) fn fetch(&self) {
        self.engine.fetch(self.key.full());
    }

    /// Moves the deadline to `length` from now.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::Error::LeaseLost) if the lease is not current any more;
    /// [`InvalidLease`](crate::Error::InvalidLease) for zero or more than 366 days;
    /// [`Full`](crate::Error::Full) if there is no room for the record of it: the old deadline
    /// stands then.
    pub fn renew(&mut self, length: Duration) -> Result<()> {
        let written = self.end(Ending::Renew(lease_millis(length)?))?;
        self.grant.deadline = written.deadline;
        Ok(())
    }

    /// Records how far the work has come, and moves the deadline to `length` from now.
    ///
    /// The bytes are on the lease, in one record with it: whoever is given the key next, after a
    /// crash or a release, finds them at [`point`](Lease::point), and a holder that was replaced
    /// cannot change them. Each checkpoint replaces the one before, and the outcome replaces the
    /// last. Empty bytes are no point. A lease that carries more than
    /// [`OUTCOME_BYTES_RESERVED`](crate::OUTCOME_BYTES_RESERVED) bytes has no room reserved for its
    /// release; it ends by its deadline then.
    ///
    /// ```
    /// use oncelog::{Begin, Store};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let Begin::Started(mut lease) = store.begin("import")? else { panic!("new key") };
    /// lease.checkpoint("line 1000", Duration::from_secs(30))?;
    /// lease.release(None)?;
    /// let Begin::Started(lease) = store.begin("import")? else { panic!("released") };
    /// assert_eq!(lease.point(), Some(&b"line 1000"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Lease::renew`], and [`OutcomeTooLong`](crate::Error::OutcomeTooLong): a point is as
    /// long as an outcome at most. After an error the earlier point stands.
    pub fn checkpoint(&mut self, point: impl AsRef<[u8]>, length: Duration) -> Result<()> {
        let point = point.as_ref();
        let written = self.end(Ending::Checkpoint(lease_millis(length)?, point))?;
        self.grant.deadline = written.deadline;
        self.grant.point.clear();
        self.grant.point.extend_from_slice(point);
        Ok(())
    }

    /// Records the outcome; every later `begin` of the key is answered with it. Ends the lease.
    ///
    /// After an error the lease is as it was and the call can be repeated, here or by
    /// [`Store::complete_by`](crate::Store::complete_by). Dropping it then leaves the key in
    /// progress whatever the drop policy says, since the effect has happened. After
    /// [`Indeterminate`](crate::Error::Indeterminate) the outcome may be found after reopening.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::Error::LeaseLost) if the lease is not current any more: nothing was
    /// recorded; [`OutcomeTooLong`](crate::Error::OutcomeTooLong);
    /// [`Full`](crate::Error::Full) only for an outcome above
    /// [`OUTCOME_BYTES_RESERVED`](crate::OUTCOME_BYTES_RESERVED), for which `begin` has reserved
    /// room; [`Poisoned`](crate::Error::Poisoned) or [`Closed`](crate::Error::Closed).
    pub fn complete(&mut self, outcome: impl AsRef<[u8]>) -> Result<Version> {
        Ok(self.conclude(Ending::Complete(outcome.as_ref()))?.meta.version)
    }

    /// Records that the work failed for good, with an outcome that is replayed like any other and
    /// says so. Ends the lease.
    ///
    /// # Errors
    /// As [`Lease::complete`].
    pub fn fail(&mut self, outcome: impl AsRef<[u8]>) -> Result<Version> {
        Ok(self.conclude(Ending::Fail(outcome.as_ref()))?.meta.version)
    }

    /// Gives the key back without an outcome; its attempts stay counted. Ends the lease.
    ///
    /// With `retry_after` the key can be begun again after that time only; before, `begin` answers
    /// [`InProgress`](crate::Begin::InProgress) with that moment as its deadline.
    ///
    /// # Errors
    /// As [`Lease::complete`]; [`InvalidTtl`](crate::Error::InvalidTtl) for a time of over 1000
    /// years.
    pub fn release(&mut self, retry_after: Option<Duration>) -> Result<()> {
        self.end(Ending::Release(release_millis(retry_after)?))?;
        self.on_drop = None;
        self.over = true;
        Ok(())
    }

    /// Records an outcome, and returns it as a record.
    pub(crate) fn complete_as_record(&mut self, outcome: &[u8]) -> Result<Record> {
        let written = self.conclude(Ending::Complete(outcome))?;
        Ok(written.record(outcome))
    }

    /// Its completion, for a bundle.
    pub(crate) fn part<'a>(&self, outcome: &'a [u8]) -> Part<'a> {
        let act = Act::Complete { token: self.grant.version, outcome };
        Part { key: self.key.clone(), act }
    }

    /// True if it is of this store.
    pub(crate) fn is_of(&self, engine: &Arc<Engine>) -> bool {
        Arc::ptr_eq(&self.engine, engine)
    }

    /// It was completed together with other keys.
    pub(crate) fn set_over(&mut self) {
        self.on_drop = None;
        self.over = true;
    }

    /// The effect of its work has happened: dropping it leaves the key in progress.
    pub(crate) fn hold(&mut self) {
        self.on_drop = None;
    }

    /// Waits for what was written, if the lease is another store's.
    pub(crate) fn settle_elsewhere(&self, engine: &Arc<Engine>) -> Result<()> {
        if Arc::ptr_eq(&self.engine, engine) { Ok(()) } else { self.engine.settle_all() }
    }

    /// As [`Lease::complete_as_record`]; whoever calls it sees to durability.
    pub(crate) fn complete_unsettled(&mut self, outcome: &[u8]) -> Result<Record> {
        self.on_drop = None;
        let written = self.end_unsettled(Ending::Complete(outcome))?;
        self.over = true;
        Ok(written.record(outcome))
    }

    /// Gives the key back. A release that a power cut takes is no harm: the lease ends by its
    /// deadline, as after anything else that stands against it.
    #[cfg(feature = "async")]
    pub(crate) fn release_unsettled(mut self) {
        self.on_drop = Some(DropPolicy::Release);
    }

    #[cfg(feature = "async")]
    pub(crate) fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// What its store is.
    #[cfg(feature = "async")]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn conclude(&mut self, ending: Ending<'_>) -> Result<Written> {
        // Whoever comes with an outcome has had the effect: the key is not to be given back.
        self.on_drop = None;
        let written = self.end(ending)?;
        self.over = true;
        Ok(written)
    }

    fn end(&self, ending: Ending<'_>) -> Result<Written> {
        let written = self.end_unsettled(ending);
        self.engine.settled(self.durability, self.key.full().hash, written)
    }

    fn end_unsettled(&self, ending: Ending<'_>) -> Result<Written> {
        self.engine.finish(self.key.full(), self.grant.version, ending, self.engine.clock.now())
    }
}

impl Written {
    /// The record of a completion with this outcome, of which a mark may be all that is kept.
    fn record(&self, outcome: &[u8]) -> Record {
        if !self.meta.gone {
            return Record::new(self.meta, outcome);
        }
        Record::new(self.meta, &OutcomeGone::of(outcome).encode())
    }
}

/// A time to wait before the next attempt, in milliseconds.
pub(crate) fn release_millis(retry_after: Option<Duration>) -> Result<u64> {
    match retry_after {
        None | Some(Duration::ZERO) => Ok(0),
        Some(time) => Ttl::After(time).millis(),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.on_drop == Some(DropPolicy::Release) {
            // Whatever stands against it, the lease ends by its deadline.
            let _ = self.end_unsettled(Ending::Release(0));
        }
    }
}

/// Keys may be confidential, so only their length is shown.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("version", &self.grant.version.as_u64())
            .field("attempt", &self.grant.attempt)
            .field("deadline", &self.grant.deadline)
            .field("key_bytes", &self.key().len())
            .finish_non_exhaustive()
    }
}
