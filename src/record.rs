//! A record as callers see it: the outcome, and when and as what it was recorded.

use crate::sys::sync::atomic::AtomicU64;
use std::fmt;

use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint};
use crate::meta::{Meta, Status};
use crate::outcome::{INLINE_WORDS, Outcome};
use crate::sys::words;
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
    /// What follows is not the outcome but what is known of it: see [`OutcomeGone`].
    pub(crate) gone: bool,
}

/// When a record was written, by the order of versions and by the clock, and until when it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) version: Version,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
}

impl RecordMeta {
    /// Of a key recorded without a lease.
    #[inline(always)]
    pub(crate) fn unleased(life: Life) -> Self {
        let Life { version, created, expires } = life;
        Self {
            version,
            created,
            expires,
            first_seen: created,
            attempts: 0,
            failed: false,
            has_fingerprint: false,
            gone: false,
        }
    }

    #[cfg(feature = "backend")]
    fn of(meta: &Meta) -> Self {
        Self {
            version: meta.version,
            created: meta.completed_at.unwrap_or(meta.updated),
            expires: meta.expires.unwrap_or(Timestamp::NEVER),
            first_seen: meta.first_seen,
            attempts: meta.attempts,
            failed: meta.status == Status::Failed,
            has_fingerprint: meta.has_fingerprint,
            gone: false,
        }
    }

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
            outcome_gone: self.gone,
        }
    }
}

/// What is known of an outcome that is not replayed any more.
///
/// ```
/// use oncelog::{Check, Fingerprint, ManualClock, Policy, Store, Timestamp};
/// use std::{sync::Arc, time::Duration};
///
/// # let directory = tempfile::tempdir()?;
/// let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
/// let store = Store::builder().clock(clock.clone()).open(directory.path())?;
/// let policy = Policy { outcome_ttl: Some(Duration::from_secs(60)), ..Policy::default() };
/// let orders = store.namespace("orders", policy)?;
/// assert!(orders.check_and_set("42", "accepted")?.is_new());
/// clock.advance(Duration::from_secs(60));
/// let Check::Duplicate(record) = orders.check_and_set("42", "")? else { panic!("known") };
/// let gone = record.outcome_gone().ok_or("replayed")?;
/// assert_eq!((gone.bytes, gone.digest), (8, Fingerprint::of(b"accepted")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutcomeGone {
    /// Bytes that it had.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Fingerprint,
}

/// The bytes that stand for an outcome that is gone.
pub(crate) type Mark = [u8; GONE_WORDS * 8];

/// Words that stand for an outcome that is gone.
pub(crate) const GONE_WORDS: usize = 1 + FINGERPRINT_BYTES / 8;

impl OutcomeGone {
    /// Of an outcome with so many bytes and this digest of them ([`Fingerprint::of`]).
    #[must_use]
    pub fn new(bytes: u64, digest: Fingerprint) -> Self {
        Self { bytes, digest }
    }

    pub(crate) fn of(outcome: &[u8]) -> Self {
        Self { bytes: outcome.len() as u64, digest: Fingerprint::of(outcome) }
    }

    pub(crate) fn words(&self) -> [AtomicU64; GONE_WORDS] {
        let digest = u128::from_le_bytes(*self.digest.as_bytes());
        let low = u64::try_from(digest & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(digest >> 64).unwrap_or(0);
        [self.bytes, low, high].map(|word| AtomicU64::new(word.to_le()))
    }

    /// The bytes that stand for the outcome.
    pub(crate) fn encode(&self) -> Mark {
        let mut bytes = Mark::default();
        words::read_bytes(&self.words(), &mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, digest) = bytes.split_first_chunk::<8>()?;
        let digest = Fingerprint::from_bytes(*digest.first_chunk()?);
        Some(Self { bytes: u64::from_le_bytes(*length), digest })
    }
}

/// A copy of the record of a key without a lease, with an outcome of as many words as a record
/// holds in itself: plain numbers, kept in registers until it is clear whether they count.
#[derive(Clone, Copy)]
pub(crate) struct Brief {
    pub(crate) life: Life,
    pub(crate) outcome_len: usize,
    pub(crate) outcome: [u64; INLINE_WORDS],
}

/// Makes an answer of what a lookup found, while the engine still holds the record in place.
pub(crate) trait Receive {
    type Answer;

    /// For a record whose outcome is the first `len` bytes of `words`; more words may follow.
    fn record(&mut self, meta: RecordMeta, len: usize, words: &[AtomicU64]) -> Self::Answer;

    /// For a record that was copied out already.
    fn brief(&mut self, brief: Brief) -> Self::Answer;

    /// For a key without one.
    fn nothing(&mut self) -> Self::Answer;

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
    pub(crate) fn from_words(meta: RecordMeta, len: usize, words: &[AtomicU64]) -> Self {
        Self::of(meta, Outcome::from_words(len, words))
    }

    #[inline(always)]
    pub(crate) fn from_brief(brief: Brief) -> Self {
        let Brief { life, outcome_len, outcome } = brief;
        Self {
            meta: RecordMeta::unleased(life),
            outcome: Outcome::from_short(outcome_len, outcome),
        }
    }

    pub(crate) fn new(meta: RecordMeta, outcome: &[u8]) -> Self {
        Self::of(meta, Outcome::from_bytes(outcome))
    }

    /// Of an outcome, or of what stands for one that is gone and is not shown as such.
    fn of(meta: RecordMeta, outcome: Outcome) -> Self {
        Self { meta, outcome: if meta.gone { outcome.hidden() } else { outcome } }
    }

    /// A record that another engine keeps, for its [`Backend`](crate::backend::Backend): what is
    /// known of the key, and its outcome or what is known of that.
    ///
    /// Of the `meta`, taken are version, attempts, times, failure, and whether it has a
    /// fingerprint.
    #[cfg(feature = "backend")]
    #[must_use]
    pub fn from_parts(meta: &Meta, outcome: std::result::Result<&[u8], OutcomeGone>) -> Self {
        let mut parts = RecordMeta::of(meta);
        match outcome {
            Ok(outcome) => Self::new(parts, outcome),
            Err(gone) => {
                parts.gone = true;
                Self::new(parts, &gone.encode())
            }
        }
    }

    /// What the work that was recorded left behind; empty if it is
    /// [gone](Record::outcome_gone).
    #[must_use]
    pub fn outcome(&self) -> &[u8] {
        self.outcome.as_bytes()
    }

    /// What is known of the outcome if it is not replayed: its
    /// [`outcome_ttl`](crate::Policy::outcome_ttl) is over, or it was
    /// [longer](crate::LongOutcomePolicy) than the store takes; `None` while it is there.
    #[must_use]
    pub fn outcome_gone(&self) -> Option<OutcomeGone> {
        if self.meta.gone { OutcomeGone::decode(self.outcome.behind()) } else { None }
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
        let gone = self.outcome_gone().map(|gone| usize::try_from(gone.bytes).unwrap_or(0));
        self.meta.meta(gone.unwrap_or(self.outcome().len()))
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

/// Makes a copy of its own.
pub(crate) struct Own;

impl Receive for Own {
    type Answer = Option<Record>;

    fn record(&mut self, meta: RecordMeta, len: usize, words: &[AtomicU64]) -> Option<Record> {
        Some(Record::from_words(meta, len, words))
    }

    #[inline(always)]
    fn brief(&mut self, brief: Brief) -> Option<Record> {
        Some(Record::from_brief(brief))
    }

    fn nothing(&mut self) -> Option<Record> {
        None
    }

    fn retract(&mut self) {}
}

/// Takes the fact alone: true for a record.
pub(crate) struct Ignore;

impl Receive for Ignore {
    type Answer = bool;

    fn record(&mut self, _meta: RecordMeta, _len: usize, _words: &[AtomicU64]) -> bool {
        true
    }

    #[inline(always)]
    fn brief(&mut self, _brief: Brief) -> bool {
        true
    }

    fn nothing(&mut self) -> bool {
        false
    }

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

    /// What the work that was recorded left behind; empty if it is
    /// [gone](RecordRef::outcome_gone).
    #[must_use]
    pub fn outcome(&self) -> &'a [u8] {
        if self.meta.gone { &[] } else { self.outcome }
    }

    /// As [`Record::outcome_gone`].
    #[must_use]
    pub fn outcome_gone(&self) -> Option<OutcomeGone> {
        if self.meta.gone { OutcomeGone::decode(self.outcome) } else { None }
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
        let gone = self.outcome_gone().map(|gone| usize::try_from(gone.bytes).unwrap_or(0));
        self.meta.meta(gone.unwrap_or(self.outcome.len()))
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
        debug_record(f, "RecordRef", self.meta, self.outcome().len())
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
