//! Schedules: once for each job and fire time, by whoever comes first, taken over after a crash.
//!
//! The pattern is the timed task that several processes or threads are set to run: at each fire
//! time one of them shall. The failures that it must not have: a double fire, when two come at once
//! or one comes late; and a missed fire, when the one that had it dies. Here the key is the job
//! with its fire time, the run is held under a lease, and a run whose lease is over is begun again.
//! A fire time so old that its end may be forgotten is refused, and never taken for a new one.
//!
//! Nothing here waits for a fire time: a timer, a cron daemon or a loop asks. `due` says what is
//! open, for those that were missed while nothing ran. Processes that share one schedule do so
//! through `oncelog exec --job`, as one process at a time has a store.
//!
//! Costs: two records for a run; a lookup for a later answer, and for each fire time that `due`
//! looks at. Limits: whoever asks must name the same time to the millisecond, so compute it from
//! the schedule and not from the clock: see [`Schedule::latest`]. A run that outlasts its lease
//! without renewing it may be begun beside.

use std::time::Duration;

use crate::begin::{Begin, InProgress};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::meta::Meta;
use crate::namespace::Namespace;
use crate::policy::{BeginOptions, Policy};
use crate::recipes::keys::Keys;
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};

/// The most fire times that one [`Schedule::due`] looks at.
pub const DUE_MAX: usize = 10_000;

/// Runs of jobs, one for each fire time.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::schedule::{Fire, Schedule};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let (lease, week) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600));
/// let schedule = Schedule::open(&store, "nightly", lease, week)?;
/// let at = schedule.latest(Duration::from_secs(24 * 3600));
/// let Fire::Started(mut run) = schedule.fire("report", at)? else { panic!("nobody has it") };
/// assert!(matches!(schedule.fire("report", at)?, Fire::InProgress(_)));
/// run.complete("12 pages")?;
/// assert!(matches!(schedule.fire("report", at)?, Fire::Done(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    keys: Keys,
    retention: Duration,
}

/// What came of asking for a run.
#[derive(Debug)]
#[must_use = "the answer says whether to run"]
pub enum Fire {
    /// Run now, under this lease; complete it at the end, or fail it if it is not to be repeated.
    Started(Lease),
    /// Somebody else runs.
    InProgress(InProgress),
    /// It was run, with this outcome.
    Done(Record),
    /// Its time comes after so long.
    NotYet(Duration),
    /// Its time is so long ago that its run may be forgotten.
    TooOld,
    /// An earlier run ended without telling what came of it and is not to be repeated, or the
    /// attempts are used up: with [`Schedule::fire_with`] and options that say so.
    Stopped(Meta),
}

impl Schedule {
    /// The runs of this name in the store. A run that was cut off is begun again after `lease`;
    /// each is remembered for `retention` from its end on, and a fire time older than that is
    /// refused.
    ///
    /// # Errors
    /// As [`Store::namespace`], for times that cannot be used.
    pub fn open(store: &Store, name: &str, lease: Duration, retention: Duration) -> Result<Self> {
        let policy = Policy { lease, retention: Some(Ttl::After(retention)), ..Policy::default() };
        Ok(Self { keys: Keys::open(store, name, "schedule", policy)?, retention })
    }

    /// Asks for the run of the job at this fire time: of any number of callers one is answered
    /// [`Fire::Started`].
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn fire(&self, job: impl AsRef<[u8]>, at: Timestamp) -> Result<Fire> {
        self.fire_with(job, at, BeginOptions::new())
    }

    /// The same with options for the lease. A retention and a time of sending are not among them:
    /// those of the schedule hold.
    ///
    /// # Errors
    /// As [`Store::begin_with`].
    pub fn fire_with(
        &self,
        job: impl AsRef<[u8]>,
        at: Timestamp,
        options: BeginOptions,
    ) -> Result<Fire> {
        let now = self.keys.now();
        if now < at {
            return Ok(Fire::NotYet(Duration::from_millis(at.as_millis() - now.as_millis())));
        }
        let name = Self::name(job.as_ref(), at);
        if self.is_too_old(at, now) && self.keys.peek(&name)?.is_none() {
            return Ok(Fire::TooOld);
        }
        Ok(match self.keys.begin(name, options.retention(self.retention))? {
            Begin::Started(lease) => {
                // Where the first run that is known began too late, an earlier one may have been
                // forgotten, also since the first look.
                if self.is_too_old(at, lease.first_seen()) {
                    self.namespace().remove_if(self.key(job, at), lease.version())?;
                    return Ok(Fire::TooOld);
                }
                Fire::Started(lease)
            }
            Begin::InProgress(other) => Fire::InProgress(other),
            Begin::Completed(record) => Fire::Done(record),
            Begin::Mismatch(meta) | Begin::Unknown(meta) | Begin::Exhausted(meta) => {
                Fire::Stopped(meta)
            }
        })
    }

    /// The latest fire time of a schedule that fires every so often, counted from the Unix epoch,
    /// at or before now. The same for whoever asks until the next one.
    #[must_use]
    pub fn latest(&self, every: Duration) -> Timestamp {
        let every = every_millis(every);
        Timestamp::from_millis(self.keys.now().as_millis() / every * every)
    }

    /// The fire times, from `since` to now, whose runs are neither done nor under way, the oldest
    /// first: those missed, and those cut off. Times too old to be run are left out.
    ///
    /// # Errors
    /// As [`Store::peek`]; [`InvalidConfig`](Error::InvalidConfig) for more than [`DUE_MAX`] fire
    /// times.
    pub fn due(
        &self,
        job: impl AsRef<[u8]>,
        since: Timestamp,
        every: Duration,
    ) -> Result<Vec<Timestamp>> {
        let (now, every) = (self.keys.now(), every_millis(every));
        let oldest = now.as_millis().saturating_sub(self.retention_ms()).saturating_add(1);
        let first = since.as_millis().max(oldest).div_ceil(every);
        let last = now.as_millis() / every;
        if last.saturating_sub(first) >= DUE_MAX as u64 {
            let reason = format!("{} fire times; at most {DUE_MAX}", last - first + 1);
            return Err(Error::InvalidConfig { reason });
        }
        let mut due = Vec::new();
        for at in (first..=last).map(|count| Timestamp::from_millis(count * every)) {
            let known = self.keys.peek(Self::name(job.as_ref(), at))?;
            let waits = known.and_then(|meta| meta.deadline).is_some_and(|end| now < end);
            if !waits && !known.is_some_and(|meta| meta.status.is_final()) {
                due.push(at);
            }
        }
        Ok(due)
    }

    /// The key of a run in [`Schedule::namespace`], to end its lease from elsewhere, with
    /// [`Namespace::complete_by`] and the like.
    #[must_use]
    pub fn key(&self, job: impl AsRef<[u8]>, at: Timestamp) -> Vec<u8> {
        self.keys.key(Self::name(job.as_ref(), at))
    }

    /// The namespace that the runs are in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.keys.namespace()
    }

    fn name(job: &[u8], at: Timestamp) -> Vec<u8> {
        Scope::new().principal(job).key(at.as_millis().to_le_bytes())
    }

    fn retention_ms(&self) -> u64 {
        u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX)
    }

    /// A run is remembered for the retention from its begin on at least, which is not before its
    /// fire time. Until that time is so long ago, it is known.
    fn is_too_old(&self, at: Timestamp, now: Timestamp) -> bool {
        now.as_millis().saturating_sub(at.as_millis()) >= self.retention_ms()
    }
}

/// A period in whole milliseconds, at least one.
fn every_millis(every: Duration) -> u64 {
    u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1)
}
