//! The fence of a try-confirm-cancel transaction: a branch is confirmed or cancelled, never both.
//!
//! The pattern is TCC: *try* reserves, *confirm* uses the reservation, *cancel* gives it back, and
//! the coordinator repeats confirm and cancel until they are answered. Messages come twice, late
//! and out of order. The failures that it must not have: a confirm or cancel that acts twice; a try
//! that comes after its cancel and reserves what nobody will give back (hanging); and marks of such
//! cancels that are never cleaned up. Here a cancel that finds nothing leaves a mark that refuses
//! the late try, and every mark ends by itself.
//!
//! Confirm and cancel are decided first and acted on afterwards: once one was answered *proceed*,
//! the other is refused for good, and *proceed* is answered again until the work is reported as
//! done. So a crash between the decision and the work loses nothing; the work itself must bear
//! being repeated. A try is answered *proceed* once; where its work failed or is in doubt, let the
//! coordinator cancel, and let the cancel's work bear that there is nothing to give back.
//!
//! Costs: a lookup and a record for a step, a lookup for a repeated answer. Limits: the retention
//! must be longer than the longest transaction and the latest message; it is counted from a
//! branch's latest step.

use std::time::Duration;

use crate::error::Result;
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step};
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::Ttl;

/// The branches of transactions that take part here.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::fence::{Cancel, Confirm, Fence, Try};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let fence = Fence::open(&store, "stock", Duration::from_secs(7 * 24 * 3600))?;
/// assert_eq!(fence.on_try("tx 1", "item 7")?, Try::Proceed); // reserve it
/// assert_eq!(fence.on_confirm("tx 1", "item 7")?, Confirm::Proceed); // take it
/// assert!(fence.confirmed("tx 1", "item 7")?);
/// assert_eq!(fence.on_confirm("tx 1", "item 7")?, Confirm::Done);
/// assert_eq!(fence.on_cancel("tx 1", "item 7")?, Cancel::Refused);
///
/// assert_eq!(fence.on_cancel("tx 2", "item 7")?, Cancel::Empty); // before its try
/// assert_eq!(fence.on_try("tx 2", "item 7")?, Try::Late);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fence {
    keys: Keys,
    retention: Ttl,
}

/// What a try is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the answer says whether to reserve"]
pub enum Try {
    /// Reserve.
    Proceed,
    /// It was tried before: fail this one.
    Duplicate,
    /// It was cancelled before it was tried, or since: fail this one.
    Late,
}

/// What a confirm is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the answer says whether to act"]
pub enum Confirm {
    /// Use the reservation, then report it with [`Fence::confirmed`].
    Proceed,
    /// That is done: answer success.
    Done,
    /// The branch was cancelled: answer failure.
    Refused,
    /// Nothing is known of the branch: an error of the coordinator, or its retention is over.
    Unknown,
}

/// What a cancel is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the answer says whether to act"]
pub enum Cancel {
    /// Give the reservation back, then report it with [`Fence::cancelled`].
    Proceed,
    /// That is done: answer success.
    Done,
    /// There was no try, and there will be none: answer success.
    Empty,
    /// The branch was confirmed: answer failure.
    Refused,
}

/// How far a branch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Branch {
    Tried = 1,
    Confirming = 2,
    Confirmed = 3,
    Cancelling = 4,
    Cancelled = 5,
    Suspended = 6,
}

impl Branch {
    fn decode(outcome: &[u8]) -> Option<Self> {
        Some(match outcome {
            [1] => Self::Tried,
            [2] => Self::Confirming,
            [3] => Self::Confirmed,
            [4] => Self::Cancelling,
            [5] => Self::Cancelled,
            [6] => Self::Suspended,
            _ => return None,
        })
    }
}

impl Fence {
    /// The branches of this name in the store, each remembered for `retention` from its latest
    /// step on.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidTtl`](crate::Error::InvalidTtl) for a retention of zero or
    /// of more than 1000 years.
    pub fn open(store: &Store, name: &str, retention: Duration) -> Result<Self> {
        let retention = Ttl::After(retention);
        retention.millis()?;
        Ok(Self { keys: Keys::open(store, name, "fence", Policy::default())?, retention })
    }

    /// Asks what to do about a try of the transaction's branch.
    ///
    /// # Errors
    /// As [`Store::set_if`]. After an error nothing was decided.
    pub fn on_try(&self, tx: impl AsRef<[u8]>, branch: impl AsRef<[u8]>) -> Result<Try> {
        self.step(tx.as_ref(), branch.as_ref(), |known| match known {
            None => (Some(Branch::Tried), Try::Proceed),
            Some(Branch::Tried | Branch::Confirming | Branch::Confirmed) => (None, Try::Duplicate),
            Some(Branch::Cancelling | Branch::Cancelled | Branch::Suspended) => (None, Try::Late),
        })
    }

    /// Asks what to do about a confirm.
    ///
    /// # Errors
    /// As [`Fence::on_try`].
    pub fn on_confirm(&self, tx: impl AsRef<[u8]>, branch: impl AsRef<[u8]>) -> Result<Confirm> {
        self.step(tx.as_ref(), branch.as_ref(), |known| match known {
            None => (None, Confirm::Unknown),
            Some(Branch::Tried) => (Some(Branch::Confirming), Confirm::Proceed),
            Some(Branch::Confirming) => (None, Confirm::Proceed),
            Some(Branch::Confirmed) => (None, Confirm::Done),
            Some(Branch::Cancelling | Branch::Cancelled | Branch::Suspended) => {
                (None, Confirm::Refused)
            }
        })
    }

    /// Asks what to do about a cancel.
    ///
    /// # Errors
    /// As [`Fence::on_try`].
    pub fn on_cancel(&self, tx: impl AsRef<[u8]>, branch: impl AsRef<[u8]>) -> Result<Cancel> {
        self.step(tx.as_ref(), branch.as_ref(), |known| match known {
            None => (Some(Branch::Suspended), Cancel::Empty),
            Some(Branch::Suspended) => (None, Cancel::Empty),
            Some(Branch::Tried) => (Some(Branch::Cancelling), Cancel::Proceed),
            Some(Branch::Cancelling) => (None, Cancel::Proceed),
            Some(Branch::Cancelled) => (None, Cancel::Done),
            Some(Branch::Confirming | Branch::Confirmed) => (None, Cancel::Refused),
        })
    }

    /// Reports that a confirm's work is done; false if no confirm was to proceed.
    ///
    /// # Errors
    /// As [`Fence::on_try`].
    pub fn confirmed(&self, tx: impl AsRef<[u8]>, branch: impl AsRef<[u8]>) -> Result<bool> {
        self.step(tx.as_ref(), branch.as_ref(), |known| match known {
            Some(Branch::Confirming) => (Some(Branch::Confirmed), true),
            known => (None, known == Some(Branch::Confirmed)),
        })
    }

    /// Reports that a cancel's work is done; false if no cancel was to proceed.
    ///
    /// # Errors
    /// As [`Fence::on_try`].
    pub fn cancelled(&self, tx: impl AsRef<[u8]>, branch: impl AsRef<[u8]>) -> Result<bool> {
        self.step(tx.as_ref(), branch.as_ref(), |known| match known {
            Some(Branch::Cancelling) => (Some(Branch::Cancelled), true),
            known => (None, known == Some(Branch::Cancelled)),
        })
    }

    fn step<T>(
        &self,
        tx: &[u8],
        branch: &[u8],
        decide: impl Fn(Option<Branch>) -> (Option<Branch>, T),
    ) -> Result<T> {
        let decode = |record: &Record| {
            let foreign = || self.keys.foreign("the record of a branch is not a fence's");
            Branch::decode(record.outcome()).ok_or_else(foreign)
        };
        let (answer, _) = self.keys.change(Scope::new().principal(tx).key(branch), |seen| {
            let (next, answer) = decide(seen.map(decode).transpose()?);
            Ok(match next {
                Some(next) => Step::Set(vec![next as u8], Some(self.retention), answer),
                None => Step::Keep(answer),
            })
        })?;
        Ok(answer)
    }
}
