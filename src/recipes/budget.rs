//! Budgets: so many attempts at a piece of work, with growing pauses, and then a terminal answer.
//!
//! The pattern is the poison message and the call that fails whoever makes it: repeated without an
//! end it blocks a queue, or costs a month's money in a day. The failure that it must not have is
//! that endless retry, also where an attempt ends in no orderly way: a message that kills its
//! consumer must use up its budget like one that is refused. Here an attempt is counted, durably,
//! before the work begins, and what is counted is remembered past the crash.
//!
//! Costs: two records for an attempt, a lookup for an answer without one. Limits: attempts are
//! remembered for the retention, counted from the latest one: a key that is tried again later than
//! that has a new budget. An attempt that takes longer than its lease is taken for dead, and the
//! next one may begin beside it.

use std::fmt;
use std::time::Duration;

use crate::begin::Begin;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::lease::Lease;
use crate::policy::{BeginOptions, LEASE_DEFAULT, Policy};
use crate::recipes::keys::Keys;
use crate::store::Store;
use crate::time::Ttl;
use crate::version::Version;

/// How often and how soon something is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts at a key. At least 1. Default: 5.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles with each further one. Default: 1 s.
    pub pause_first: Duration,
    /// The longest pause. Default: 5 min.
    pub pause_max: Duration,
    /// How long an attempt takes at most; after a crash the next one begins after this time.
    /// Default: 30 s.
    pub lease: Duration,
    /// How long attempts and the end are remembered, from the latest attempt on. Default: 7 days.
    pub retention: Ttl,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_secs(300),
            lease: LEASE_DEFAULT,
            retention: Ttl::After(Duration::from_secs(7 * 24 * 3600)),
        }
    }
}

/// Budgets of attempts, one for each key.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::budget::{Attempt, Budgets, Limits, Retry};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let limits = Limits { attempts: 1, ..Limits::default() };
/// let budgets = Budgets::open(&store, "mails", limits)?;
/// match budgets.attempt("mail 7")? {
///     Attempt::Go(attempt) => match attempt.fail("no such mailbox")? {
///         Retry::After(pause) => println!("again in {pause:?}"),
///         Retry::Never => println!("put it aside"),
///     },
///     Attempt::Wait(pause) => println!("not before {pause:?}"),
///     Attempt::Done(_) | Attempt::Spent { .. } => println!("nothing to do"),
/// }
/// let Attempt::Spent { attempts: 1, reason: Some(reason) } = budgets.attempt("mail 7")? else {
///     panic!("one attempt was all")
/// };
/// assert_eq!(reason, b"no such mailbox");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Budgets {
    keys: Keys,
    limits: Limits,
}

/// Whether a key can be attempted.
#[derive(Debug)]
#[must_use = "the answer says whether to work"]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual answer, and is moved once"
)]
pub enum Attempt {
    /// Yes, by this caller, now.
    Go(Trial),
    /// Not before this time: the pause is not over, or somebody is at it.
    Wait(Duration),
    /// It has succeeded, with this outcome.
    Done(Vec<u8>),
    /// Its attempts are used up: nobody is to try it again.
    Spent {
        /// How many there were.
        attempts: u32,
        /// What the last one failed with; `None` if it ended without saying.
        reason: Option<Vec<u8>>,
    },
}

/// What follows an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the answer says when to try again"]
pub enum Retry {
    /// The next attempt, after this pause.
    After(Duration),
    /// No other attempt: put the work aside.
    Never,
}

/// One attempt. Dropped without an end it counts as failed, and the next one begins when its lease
/// is over.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts as failed"]
pub struct Trial {
    lease: Lease,
    limits: Limits,
}

impl Budgets {
    /// The budgets of this name in the store. The limits are not stored: they hold for what is
    /// done through this handle.
    ///
    /// # Errors
    /// As [`Store::namespace`], for limits that cannot work.
    pub fn open(store: &Store, name: &str, limits: Limits) -> Result<Self> {
        let policy = Policy {
            retention: Some(limits.retention),
            lease: limits.lease,
            attempts_max: Some(limits.attempts),
            ..Policy::default()
        };
        Ok(Self { keys: Keys::open(store, name, "budget", policy)?, limits })
    }

    /// Asks for an attempt at the key; it is counted before this returns.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn attempt(&self, key: impl AsRef<[u8]>) -> Result<Attempt> {
        Ok(match self.keys.begin(key, BeginOptions::new())? {
            Begin::Started(lease) => Attempt::Go(Trial { lease, limits: self.limits }),
            Begin::InProgress(other) => Attempt::Wait(other.retry_after()),
            Begin::Completed(record) if record.is_failure() => {
                let reason = Some(record.outcome().to_vec());
                Attempt::Spent { attempts: record.meta().attempts, reason }
            }
            Begin::Completed(record) => Attempt::Done(record.outcome().to_vec()),
            Begin::Exhausted(meta) | Begin::Mismatch(meta) | Begin::Unknown(meta) => {
                Attempt::Spent { attempts: meta.attempts, reason: None }
            }
        })
    }

    /// Gives the key a new budget, for example when the cause was repaired; true if it had one. An
    /// attempt that is under way loses its lease.
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn reset(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.keys.namespace().remove(self.keys.key(key))
    }
}

impl Trial {
    /// Which attempt this is, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.lease.attempt()
    }

    /// The fencing token: see [`Lease::version`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.lease.version()
    }

    /// Records that it succeeded. Nobody attempts the key again.
    ///
    /// # Errors
    /// As [`Lease::complete`].
    pub fn succeed(mut self, outcome: impl AsRef<[u8]>) -> Result<()> {
        self.lease.complete(outcome).map(drop)
    }

    /// Records that it failed: with another attempt left, after a pause; else for good.
    ///
    /// # Errors
    /// As [`Lease::release`] and [`Lease::fail`]. The attempt is counted all the same.
    pub fn fail(mut self, reason: impl AsRef<[u8]>) -> Result<Retry> {
        if self.number() >= self.limits.attempts {
            return self.lease.fail(reason).map(|_| Retry::Never);
        }
        let pause = self.pause();
        self.lease.release(Some(pause))?;
        Ok(Retry::After(pause))
    }

    /// Records that no attempt will ever succeed, for an error that repeating does not cure.
    ///
    /// # Errors
    /// As [`Lease::fail`].
    pub fn give_up(mut self, reason: impl AsRef<[u8]>) -> Result<()> {
        self.lease.fail(reason).map(drop)
    }

    /// The pause after this attempt: doubled with each, up to the longest, and shortened by up to a
    /// quarter, by key and attempt, so that what failed together is not repeated together.
    fn pause(&self) -> Duration {
        let doublings = self.number().saturating_sub(1).min(31);
        let pause = self.limits.pause_first.saturating_mul(1 << doublings);
        let pause = pause.min(self.limits.pause_max);
        let number = self.number().to_le_bytes();
        let digest = Fingerprint::builder().field(self.lease.key()).update(&number).finish();
        pause - pause / 1024 * u32::from(digest.as_bytes()[0])
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(pause) => write!(f, "again in {pause:?}"),
            Self::Never => f.write_str("never again"),
        }
    }
}
