//! The answers that differ from those of a store: leases without a handle.

use crate::meta::Meta;
use crate::record::Record;
use crate::time::Timestamp;
use crate::version::Version;

/// What `begin` found: as [`crate::Begin`], with a [`Grant`] in place of the handle.
///
/// Exhaustive on purpose: a caller decides about each of these.
#[derive(Clone, Debug)]
#[must_use = "the answer says whether to work, to wait, or to replay an outcome"]
pub enum Begin {
    /// The key is the caller's to work on.
    Started(Grant),
    /// Somebody else is working on it, or it was released for later: see its
    /// [`deadline`](Meta::deadline).
    InProgress(Meta),
    /// The work is done; a stored failure is a completed record that says so, and so is one whose
    /// outcome is [gone](Record::outcome_gone).
    Completed(Record),
    /// The key was begun with another fingerprint: this is not the same request.
    Mismatch(Meta),
    /// A lease on the key ran out, its effect is unknown, and the policy says to hold it until
    /// [`resolve`](super::Backend::resolve).
    Unknown(Meta),
    /// The key could be begun, but its attempts are used up.
    Exhausted(Meta),
}

/// What the holder of a lease knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token, greater than that of every earlier lease on the key; it ends the lease.
    pub version: Version,
    /// Which attempt at the key this is, from 1.
    pub attempt: u32,
    /// When the key was first begun, in any attempt that is still remembered.
    pub first_seen: Timestamp,
    /// From when on somebody else may get the key, by the [clock](super::Clocked) of the backend.
    pub deadline: Timestamp,
}
