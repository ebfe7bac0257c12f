//! Work under a lease from begin to outcome, with everybody else waiting for it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::begin::{Begin, InProgress};
use crate::calls::Claims;
#[cfg(feature = "async")]
use crate::config::Durability;
#[cfg(feature = "async")]
use crate::engine::commit::is_answer;
use crate::error::Error;
use crate::lease::Lease;
use crate::meta::Meta;
use crate::policy::BeginOptions;
use crate::record::Record;
use crate::store::Store;
#[cfg(feature = "async")]
use crate::ticket::Ticket;

/// How long one wait lasts before the key is looked at again, whatever happens.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What came of a [`Store::run`].
#[derive(Clone, Debug)]
pub struct Run {
    record: Record,
    worked: bool,
}

impl Run {
    /// The outcome, as this or another call has recorded it.
    #[must_use]
    pub fn outcome(&self) -> &[u8] {
        self.record.outcome()
    }

    /// The record with the outcome.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// True when this call did the work; false when the outcome is another's.
    #[must_use]
    pub fn worked(&self) -> bool {
        self.worked
    }
}

/// Why a [`Store::run`] has no outcome.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work answered with an error; the key was released.
    Work(E),
    /// The store could not do what was asked. After [`Error::LeaseLost`] the work was done, but
    /// took longer than its lease, and another caller decides on the outcome.
    Store(Error),
    /// The key was begun with another fingerprint.
    Mismatch(Meta),
    /// A lease on the key ran out and its effect is unknown.
    Unknown(Meta),
    /// The key's attempts are used up.
    Exhausted(Meta),
    /// The key was released for later, and cannot be begun before its
    /// [deadline](Meta::deadline). Only runs over a [`backend`](crate::docs::backends) answer so;
    /// those of a store wait for it.
    Later(Meta),
}

impl<E> From<Error> for RunError<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => write!(f, "the work failed, and its key was released: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Mismatch(_) => {
                f.write_str("the key was used for another request; choose a new key for this one")
            }
            Self::Unknown(_) => f.write_str(
                "an earlier attempt ended without an outcome; find out what came of it and resolve \
                 the key",
            ),
            Self::Exhausted(meta) => write!(
                f,
                "all {} attempts at the key ended without an outcome; resolve or remove it",
                meta.attempts
            ),
            Self::Later(meta) => write!(
                f,
                "the key was released for later; it can be begun from {} ms after the epoch on",
                meta.deadline.unwrap_or_default().as_millis()
            ),
        }
    }
}

impl<E: StdError + 'static> StdError for RunError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Work(error) => Some(error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// What to do about an answer.
enum Turn {
    Work(Lease),
    Wait(InProgress),
    Done(Record),
}

fn turn<E>(answer: Begin) -> Result<Turn, RunError<E>> {
    match answer {
        Begin::Started(lease) => Ok(Turn::Work(lease)),
        Begin::InProgress(other) => Ok(Turn::Wait(other)),
        Begin::Completed(record) => Ok(Turn::Done(record)),
        Begin::Mismatch(meta) => Err(RunError::Mismatch(meta)),
        Begin::Unknown(meta) => Err(RunError::Unknown(meta)),
        Begin::Exhausted(meta) => Err(RunError::Exhausted(meta)),
    }
}

impl Claims<'_> {
    pub(crate) fn run<O: AsRef<[u8]>, E>(
        &self,
        key: &[u8],
        options: &BeginOptions,
        work: impl FnOnce(&mut Lease) -> Result<O, E>,
    ) -> Result<Run, RunError<E>> {
        let mut answer = self.begin(key, options)?;
        loop {
            match turn(answer)? {
                Turn::Wait(other) => answer = other.wait(LOOK_AGAIN)?,
                Turn::Done(record) => return Ok(Run { record, worked: false }),
                Turn::Work(mut lease) => {
                    let result = work(&mut lease);
                    return conclude(lease, result);
                }
            }
        }
    }

    #[cfg(feature = "async")]
    pub(crate) async fn run_async<O: AsRef<[u8]>, E>(
        &self,
        key: &[u8],
        options: &BeginOptions,
        work: impl AsyncFnOnce(&mut Lease) -> Result<O, E>,
    ) -> Result<Run, RunError<E>> {
        let mut answer = self.begin_async(key, options).await?;
        loop {
            match turn(answer)? {
                Turn::Wait(other) => answer = other.wait_async().await?,
                Turn::Done(record) => return Ok(Run { record, worked: false }),
                Turn::Work(mut lease) => {
                    let result = work(&mut lease).await;
                    return conclude_async(lease, result).await;
                }
            }
        }
    }

    /// As [`Claims::begin`], without blocking for stable storage.
    #[cfg(feature = "async")]
    async fn begin_async(&self, key: &[u8], options: &BeginOptions) -> Result<Begin, Error> {
        let unsettled = Claims { durability: Durability::Process, ..*self };
        if !self.durability.is_synced() {
            return self.begin(key, options);
        }
        let answer = unsettled.begin(key, options);
        if is_answer(&answer) {
            Ticket::new(self.engine.clone()).await?;
        }
        Ok(answer?.at(self.durability))
    }
}

/// As [`conclude`], without blocking for stable storage.
#[cfg(feature = "async")]
async fn conclude_async<O: AsRef<[u8]>, E>(
    mut lease: Lease,
    result: Result<O, E>,
) -> Result<Run, RunError<E>> {
    if !lease.durability().is_synced() {
        return conclude(lease, result);
    }
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            lease.release_unsettled();
            return Err(RunError::Work(error));
        }
    };
    let record = lease.complete_unsettled(outcome.as_ref());
    if is_answer(&record) {
        Ticket::new(lease.engine().clone()).await?;
    }
    Ok(Run { record: record?, worked: true })
}

/// Records what the work answered.
fn conclude<O: AsRef<[u8]>, E>(mut lease: Lease, result: Result<O, E>) -> Result<Run, RunError<E>> {
    match result {
        Ok(outcome) => {
            let record = lease.complete_as_record(outcome.as_ref())?;
            Ok(Run { record, worked: true })
        }
        Err(error) => {
            // Where it cannot be released, the lease ends by its deadline.
            let _ = lease.release(None);
            Err(RunError::Work(error))
        }
    }
}

impl Store {
    /// Does the work once per key: the first caller works, concurrent callers wait for it, and all
    /// get the same outcome, now and later.
    ///
    /// The lease is passed to the work for its token and for renewing. When the work answers with
    /// an error, the key is released and one of those waiting works. When it panics, the drop
    /// policy says what follows, and the panic goes on. The work should take less than its lease,
    /// or renew it: past the deadline another caller may begin, and of the two outcomes one is
    /// recorded.
    ///
    /// ```
    /// use oncelog::{BeginOptions, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// for worked in [true, false] {
    ///     let run = store.run("invoice-7", BeginOptions::new(), |lease| {
    ///         Ok::<_, std::io::Error>(format!("sent in attempt {}", lease.attempt()))
    ///     })?;
    ///     assert_eq!((run.outcome(), run.worked()), (&b"sent in attempt 1"[..], worked));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError`]: the work's own error, an error of the store, or an answer of `begin` that
    /// leaves nothing to do.
    pub fn run<O: AsRef<[u8]>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl FnOnce(&mut Lease) -> Result<O, E>,
    ) -> Result<Run, RunError<E>> {
        self.claims().run(key.as_ref(), &options, work)
    }

    /// As [`Store::run`] for asynchronous work, in any runtime.
    ///
    /// When the future is dropped while the work is under way, the drop policy says what follows.
    ///
    /// # Errors
    /// As [`Store::run`].
    #[cfg(feature = "async")]
    pub async fn run_async<O: AsRef<[u8]>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl AsyncFnOnce(&mut Lease) -> Result<O, E>,
    ) -> Result<Run, RunError<E>> {
        self.claims().run_async(key.as_ref(), &options, work).await
    }
}
