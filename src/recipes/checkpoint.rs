//! Recovery points of a longer job: after a crash the next holder goes on after the last step done.
//!
//! The pattern is the job of several steps, each with effects that must not all be repeated:
//! charge, book, mail. The failures that it must not have: starting over after a crash, and
//! skipping a step that was not done. Here the point is recorded on the job's lease after each
//! step, with the state that the next one needs; whoever gets the job next is handed it, and a
//! holder that was replaced can neither move it nor take another step. The names of the steps done
//! are part of the point, so that a program whose steps have changed is told so, and skips nothing.
//!
//! Costs: a record for a step, with its state. Limits: a crash between a step's effect and its
//! point repeats that one step, so pass [`Step::version`] and the step's number on, or let the
//! effect bear being repeated. A step takes less than the lease, or renews it ([`Step::renew`]);
//! its point renews it too.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::begin::{Begin, InProgress};
use crate::error::{Error, Result};
use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint};
use crate::lease::Lease;
use crate::namespace::Namespace;
use crate::policy::{BeginOptions, Policy};
use crate::recipes::keys::{Keys, split_u64};
use crate::store::Store;
use crate::time::Ttl;
use crate::version::Version;

/// Jobs of several steps.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::checkpoint::{Jobs, Resume};
/// use std::{convert::Infallible, time::Duration};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let jobs = Jobs::open(&store, "orders", Duration::from_secs(30), Duration::from_secs(86_400))?;
/// let Resume::Started(mut job) = jobs.resume("order 42")? else { panic!("nobody has it") };
/// job.step("charge", |_| Ok::<_, Infallible>("receipt 7"))?;
/// job.step("mail", |step| {
///     assert_eq!(step.state(), b"receipt 7");
///     Ok::<_, Infallible>("mailed receipt 7")
/// })?;
/// let outcome = job.state().to_vec();
/// job.complete(outcome)?;
/// assert!(matches!(jobs.resume("order 42")?, Resume::Done(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Jobs {
    keys: Keys,
    lease: Duration,
}

/// Who works on a job.
#[derive(Debug)]
#[must_use = "the answer says whether to work"]
pub enum Resume {
    /// This caller, from the first step that is not done.
    Started(Job),
    /// Somebody else.
    InProgress(InProgress),
    /// Nobody: it is done, with this outcome.
    Done(Vec<u8>),
}

/// A job under its lease. Dropped, it is held until the lease is over, and then taken up by the
/// next who asks.
#[derive(Debug)]
#[must_use = "dropping a job keeps others waiting until its lease is over"]
pub struct Job {
    lease: Lease,
    namespace: Namespace,
    length: Duration,
    reached: Point,
    /// Steps of this run that the program has come by, and the digest of their names.
    passed: (u64, Fingerprint),
}

/// What a step is given.
#[derive(Debug)]
pub struct Step<'a> {
    job: &'a Job,
}

impl Step<'_> {
    /// What the step before left; empty for the first one.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        self.job.state()
    }

    /// The number of the step, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.job.reached.steps + 1
    }

    /// The fencing token of the job's lease: see [`Lease::version`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.job.lease.version()
    }

    /// Holds the job for the length of its lease from now on: for a step that takes longer.
    ///
    /// # Errors
    /// As [`Lease::renew`]. After [`Error::LeaseLost`] another holder has the job: stop.
    pub fn renew(&self) -> Result<()> {
        let job = self.job;
        job.namespace.renew_by(job.lease.key(), job.lease.version(), job.length)
    }
}

/// Why a step was not done.
#[derive(Debug)]
#[non_exhaustive]
pub enum StepError<E> {
    /// The work answered with an error; the point is where it was.
    Work(E),
    /// The store could not do what was asked. After [`Error::LeaseLost`] another holder has the
    /// job.
    Store(Error),
    /// The job had come to a point by other steps than those that the program took now.
    Changed {
        /// How many steps were done.
        steps: u64,
    },
}

impl<E> From<Error> for StepError<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<E: fmt::Display> fmt::Display for StepError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => write!(f, "the step failed and can be repeated: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Changed { steps } => write!(
                f,
                "the {steps} steps that were done have other names than those taken now; finish \
                 the job with the program that began it, or settle it by hand"
            ),
        }
    }
}

impl<E: StdError + 'static> StdError for StepError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Work(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Changed { .. } => None,
        }
    }
}

/// How far a job is: steps done, the digest of their names, and what the last one left.
#[derive(Debug)]
struct Point {
    steps: u64,
    names: Fingerprint,
    state: Vec<u8>,
}

impl Point {
    fn start() -> Self {
        Self { steps: 0, names: Fingerprint::of(b""), state: Vec::new() }
    }

    fn encode(&self) -> Vec<u8> {
        [&self.steps.to_le_bytes()[..], self.names.as_bytes(), &self.state].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (steps, rest) = split_u64(bytes)?;
        let (names, state) = rest.split_first_chunk::<FINGERPRINT_BYTES>()?;
        Some(Self { steps, names: Fingerprint::from_bytes(*names), state: state.to_vec() })
    }
}

impl Jobs {
    /// The jobs of this name in the store. A holder that is gone keeps others waiting for `lease`;
    /// a job is remembered for `retention` from its latest step or its end on, which is how long it
    /// can be taken up again.
    ///
    /// # Errors
    /// As [`Store::namespace`], for times that cannot be used.
    pub fn open(
        store: &Store,
        name: &str,
        lease: Duration,
        retention: impl Into<Ttl>,
    ) -> Result<Self> {
        let retention = Some(retention.into());
        let policy = Policy { lease, retention, ..Policy::default() };
        Ok(Self { keys: Keys::open(store, name, "checkpoint", policy)?, lease })
    }

    /// Takes the job up where it was left, or begins it.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn resume(&self, job: impl AsRef<[u8]>) -> Result<Resume> {
        Ok(match self.keys.begin(job, BeginOptions::new())? {
            Begin::Started(lease) => {
                let foreign = || self.keys.foreign("the checkpoint of a job is not a job's");
                let reached = match lease.point() {
                    Some(point) => Point::decode(point).ok_or_else(foreign)?,
                    None => Point::start(),
                };
                let passed = (0, Fingerprint::of(b""));
                let namespace = self.keys.namespace().clone();
                Resume::Started(Job { lease, namespace, length: self.lease, reached, passed })
            }
            Begin::InProgress(other) => Resume::InProgress(other),
            Begin::Completed(record) => Resume::Done(record.outcome().to_vec()),
            Begin::Mismatch(_) | Begin::Unknown(_) | Begin::Exhausted(_) => {
                return Err(self.keys.foreign("the lease of a job was begun by something else"));
            }
        })
    }
}

impl Job {
    /// Takes the next step, unless it was done before the job was taken up; true if it was taken
    /// now. What it leaves is recorded with the point, and is the state of the step after it.
    ///
    /// A program takes all of the job's steps in their order each time; those that are done are
    /// passed over.
    ///
    /// # Errors
    /// [`StepError`]: the work's own error, after which the step can be taken again; or an error of
    /// the store, after which it is not known to others that the step was done.
    pub fn step<S: AsRef<[u8]>, E>(
        &mut self,
        name: &str,
        work: impl FnOnce(&Step<'_>) -> std::result::Result<S, E>,
    ) -> std::result::Result<bool, StepError<E>> {
        let number = self.passed.0 + 1;
        let names =
            Fingerprint::builder().update(self.passed.1.as_bytes()).field(name.as_bytes()).finish();
        if number == self.reached.steps && names != self.reached.names {
            return Err(StepError::Changed { steps: self.reached.steps });
        }
        let is_next = number > self.reached.steps;
        if is_next {
            let state = work(&Step { job: self }).map_err(StepError::Work)?;
            let point = Point { steps: number, names, state: state.as_ref().to_vec() };
            self.lease.checkpoint(point.encode(), self.length)?;
            self.reached = point;
        }
        self.passed = (number, names);
        Ok(is_next)
    }

    /// What the last step done has left; empty if none was done.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.reached.state
    }

    /// How many steps are done.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.reached.steps
    }

    /// The lease that the job is held by, for its token, its attempt and its deadline.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Records the job's outcome. Its points are forgotten.
    ///
    /// # Errors
    /// As [`Lease::complete`]; [`Error::InvalidConfig`] if fewer steps were taken than were done
    /// before, by a program that knows more of them: the job is as it was.
    pub fn complete(mut self, outcome: impl AsRef<[u8]>) -> Result<()> {
        if self.passed.0 < self.reached.steps {
            let (taken, done) = (self.passed.0, self.reached.steps);
            let reason = format!("the job is at step {done}, and only {taken} were taken now");
            return Err(Error::InvalidConfig { reason });
        }
        self.lease.complete(outcome).map(drop)
    }

    /// Gives the job back, to be taken up at its point, after `retry_after` if that is given.
    ///
    /// # Errors
    /// As [`Lease::release`].
    pub fn release(mut self, retry_after: Option<Duration>) -> Result<()> {
        self.lease.release(retry_after)
    }
}
