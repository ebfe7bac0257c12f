//! A record as callers see it: the outcome, and when and as what it was recorded.

use std::fmt;

use crate::meta::{Meta, Status};
use crate::outcome::Outcome;
use crate::time::Timestamp;
use crate::version::Version;

/// What is known of a record besides its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordMeta {
    pub(crate) version: Version,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) first_seen: Timestamp,
    /// 0 for a key recorded without a lease.
    pub(crate) attempts: u32,
    pub(crate) failed: bool,
    pub(crate) has_fingerprint: bool,
}

impl RecordMeta {
    fn meta(&self, outcome_bytes: usize) -> Meta {
        Meta {
            status: if self.failed { Status::Failed } else { Status::Completed },
            version: self.version,
            attempts: self.attempts,
            first_seen: self.first_seen,
            updated: self.created,
            completed_at: Some(self.created),
            deadline: None,
            expires: self.expires.finite(),
            has_fingerprint: self.has_fingerprint,
            outcome_bytes,
        }
    }
}

/// Takes the record that a lookup found, while the engine still holds it in place.
pub(crate) trait Receive {
    /// Takes a record whose outcome is the first `len` bytes of `words`, little-endian.
    fn receive(&mut self, meta: RecordMeta, len: usize, words: impl Iterator<Item = u64>);

    /// Forgets the record received last: it was not what it seemed.
    fn retract(&mut self);
}

/// A live record, copied out of the store.
///
/// Holds no lock and pins nothing; outcomes up to 48 bytes need no allocation.
#[derive(Clone)]
pub struct Record {
    meta: RecordMeta,
    outcome: Outcome,
}

impl Record {
    #[inline(always)]
    pub(crate) fn from_words(
        meta: RecordMeta,
        len: usize,
        words: impl Iterator<Item = u64>,
    ) -> Self {
        Self { meta, outcome: Outcome::from_words(len, words) }
    }

    pub(crate) fn new(meta: RecordMeta, outcome: &[u8]) -> Self {
        Self { meta, outcome: Outcome::from_bytes(outcome) }
    }

    /// What the work that was recorded left behind.
    #[must_use]
    pub fn outcome(&self) -> &[u8] {
        self.outcome.as_bytes()
    }

    /// The record's place in the order of its key's records.
    #[must_use]
    pub fn version(&self) -> Version {
        self.meta.version
    }

    /// When it was recorded, by the store's time.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.meta.created
    }

    /// True when the work failed for good: the outcome says how, and is replayed like any other.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.meta.failed
    }

    /// Everything known besides the outcome.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta.meta(self.outcome().len())
    }

    /// From when on it is forgotten; `None` if only removal ends it.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.meta.expires.finite()
    }
}

/// Outcome bytes may be confidential, so only their number is shown.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_record(f, "Record", self.meta, self.outcome().len())
    }
}

impl Receive for Option<Record> {
    #[inline(always)]
    fn receive(&mut self, meta: RecordMeta, len: usize, words: impl Iterator<Item = u64>) {
        *self = Some(Record::from_words(meta, len, words));
    }

    fn retract(&mut self) {
        *self = None;
    }
}

/// Takes the fact alone and none of the bytes.
pub(crate) struct Ignore;

impl Receive for Ignore {
    #[inline(always)]
    fn receive(&mut self, _meta: RecordMeta, _len: usize, _words: impl Iterator<Item = u64>) {}

    fn retract(&mut self) {}
}

/// A live record inside a batch's answers.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    meta: RecordMeta,
    outcome: &'a [u8],
}

impl<'a> RecordRef<'a> {
    pub(crate) fn new(meta: RecordMeta, outcome: &'a [u8]) -> Self {
        Self { meta, outcome }
    }

    /// What the work that was recorded left behind.
    #[must_use]
    pub fn outcome(&self) -> &'a [u8] {
        self.outcome
    }

    /// The record's place in the order of its key's records.
    #[must_use]
    pub fn version(&self) -> Version {
        self.meta.version
    }

    /// When it was recorded, by the store's time.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.meta.created
    }

    /// True when the work failed for good: the outcome says how, and is replayed like any other.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.meta.failed
    }

    /// Everything known besides the outcome.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta.meta(self.outcome.len())
    }

    /// From when on it is forgotten; `None` if only removal ends it.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.meta.expires.finite()
    }

    /// A copy that outlives the batch.
    #[must_use]
    pub fn to_owned(&self) -> Record {
        Record::new(self.meta, self.outcome)
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_record(f, "RecordRef", self.meta, self.outcome.len())
    }
}

fn debug_record(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    meta: RecordMeta,
    outcome_bytes: usize,
) -> fmt::Result {
    f.debug_struct(name)
        .field("version", &meta.version.as_u64())
        .field("created", &meta.created)
        .field("expires", &meta.expires.finite())
        .field("outcome_bytes", &outcome_bytes)
        .finish()
}
