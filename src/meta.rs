//! What is known of a key besides its outcome: its state, its times and its attempts.

use crate::time::Timestamp;
use crate::version::Version;

/// The state that a key is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Somebody holds a lease on it.
    InProgress,
    /// Its lease ran out, and the next `begin` gets it.
    Overdue,
    /// Its lease ran out, and whether its effect happened is unknown until it is resolved.
    Unknown,
    /// It was given back; the next `begin` gets it, once the time given with the release has come.
    Released,
    /// Its work is done, and its outcome is replayed.
    Completed,
    /// Its work failed for good, and that outcome is replayed.
    Failed,
}

impl Status {
    /// True when the outcome stands: [`Completed`](Status::Completed) or
    /// [`Failed`](Status::Failed).
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What is known of a key besides its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The state, at the time of the call.
    pub status: Status,
    /// The version of the key's latest record; while it is in progress, the fencing token.
    pub version: Version,
    /// How often work on it has begun; 0 for a key that was recorded without a lease.
    pub attempts: u32,
    /// When it was first begun or recorded.
    pub first_seen: Timestamp,
    /// When the latest record was written; that a duplicate has prolonged its life does not count.
    pub updated: Timestamp,
    /// When its outcome was recorded, if it was.
    pub completed_at: Option<Timestamp>,
    /// When the lease ends or has ended; for a released key, when it can be begun again.
    pub deadline: Option<Timestamp>,
    /// From when on it is forgotten; `None` if only removal ends it.
    pub expires: Option<Timestamp>,
    /// True when a fingerprint was given with its first `begin`.
    pub has_fingerprint: bool,
    /// Bytes of its outcome or, while it has none, of its latest
    /// [checkpoint](crate::Lease::checkpoint).
    pub outcome_bytes: usize,
    /// True when it is not replayed any more: see [`OutcomeGone`](crate::OutcomeGone).
    pub outcome_gone: bool,
}

impl Meta {
    /// What is known of a key in this state and no more, for a backend to fill in.
    #[must_use]
    pub fn new(status: Status, version: Version) -> Self {
        Self {
            status,
            version,
            attempts: 0,
            first_seen: Timestamp::default(),
            updated: Timestamp::default(),
            completed_at: None,
            deadline: None,
            expires: None,
            has_fingerprint: false,
            outcome_bytes: 0,
            outcome_gone: false,
        }
    }
}
