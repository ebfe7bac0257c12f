//! The answers of a batch: one entry an item, all outcomes in one buffer that is used again.

use std::fmt;

use crate::sys::sync::atomic::{AtomicU64, Ordering};

use crate::record::{Brief, Receive, Record, RecordMeta, RecordRef};
use crate::sys::words::{bytes_of, words_for};
use crate::time::Timestamp;
use crate::version::Version;

/// What `check_and_set` found.
///
/// Exhaustive on purpose: there is no third answer.
#[derive(Clone, Debug)]
#[must_use = "a duplicate means that the work must not be done again"]
pub enum Check {
    /// The key was not known, and is recorded now.
    New,
    /// The key was recorded before; nothing was changed. Its outcome may be
    /// [gone](Record::outcome_gone).
    Duplicate(Record),
}

impl Check {
    /// True when the key was not known before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }

    /// True when the key was recorded before.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        !self.is_new()
    }
}

/// What `check_and_set_all` found.
#[derive(Clone, Debug)]
#[must_use = "keys that are known mean that nothing was recorded"]
pub enum CheckAll {
    /// None of the keys was known, and all are recorded now.
    New,
    /// Nothing was changed, as these keys were recorded before: each with the index of its item,
    /// in the order of the items, and never none.
    Known(Vec<(usize, Record)>),
}

impl CheckAll {
    /// True when none of the keys was known before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

/// Answers a check.
pub(crate) struct Checked;

impl Receive for Checked {
    type Answer = Check;

    fn record(&mut self, meta: RecordMeta, len: usize, words: &[AtomicU64]) -> Check {
        Check::Duplicate(Record::from_words(meta, len, words))
    }

    #[inline(always)]
    fn brief(&mut self, brief: Brief) -> Check {
        Check::Duplicate(Record::from_brief(brief))
    }

    fn nothing(&mut self) -> Check {
        Check::New
    }

    fn retract(&mut self) {}
}

/// One answer of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The key was not known, and is recorded now.
    New,
    /// The key was recorded before, possibly by an earlier item of the same batch.
    Duplicate(RecordRef<'a>),
}

impl Answer<'_> {
    /// True when the key was not known before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

/// An item without a record has this length, which no outcome has.
const NONE: usize = usize::MAX;

#[derive(Clone, Copy, Debug)]
struct Item {
    meta: RecordMeta,
    /// Where its outcome begins among the words.
    start: usize,
    /// Bytes of the outcome, or [`NONE`].
    len: usize,
}

/// Records in item order, or their absence.
#[derive(Default)]
struct Found {
    items: Vec<Item>,
    /// Outcomes, each padded to whole words; there may be more words between them.
    words: Vec<u64>,
}

impl Found {
    fn clear(&mut self) {
        self.items.clear();
        self.words.clear();
    }

    fn get(&self, index: usize) -> Option<Option<RecordRef<'_>>> {
        let item = self.items.get(index)?;
        if item.len == NONE {
            return Some(None);
        }
        let words = self.words.get(item.start..).unwrap_or_default();
        let outcome = bytes_of(words).get(..item.len).unwrap_or_default();
        Some(Some(RecordRef::new(item.meta, outcome)))
    }
}

impl Receive for Found {
    type Answer = ();

    fn record(&mut self, meta: RecordMeta, len: usize, words: &[AtomicU64]) {
        let start = self.words.len();
        let words = words.get(..words_for(len)).unwrap_or_default();
        self.words.extend(words.iter().map(|word| word.load(Ordering::Relaxed)));
        self.items.push(Item { meta, start, len });
    }

    #[inline(always)]
    fn brief(&mut self, brief: Brief) {
        let Brief { life, outcome_len: len, outcome } = brief;
        let start = self.words.len();
        // All of them, needed or not, is faster than asking how many.
        self.words.extend_from_slice(&outcome);
        self.items.push(Item { meta: RecordMeta::unleased(life), start, len });
    }

    #[inline]
    fn nothing(&mut self) {
        let meta = RecordMeta {
            version: Version::from_u64(0),
            created: Timestamp::from_millis(0),
            expires: Timestamp::from_millis(0),
            first_seen: Timestamp::from_millis(0),
            attempts: 0,
            failed: false,
            has_fingerprint: false,
            gone: false,
        };
        self.items.push(Item { meta, start: 0, len: NONE });
    }

    fn retract(&mut self) {
        // The words stay behind unused until the next batch.
        self.items.pop();
    }
}

/// The answers of one `check_and_set_many`, in the order of its items.
///
/// Keep one and pass it again: its buffers are reused, so a batch allocates nothing per item.
#[derive(Debug, Default)]
pub struct Answers {
    found: Found,
}

/// Outcomes may be confidential, so only the number of answers is shown.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("len", &self.items.len()).finish_non_exhaustive()
    }
}

impl Answers {
    /// Empty answers; nothing is allocated until the first batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of items answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.items.len()
    }

    /// True when no item was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.items.is_empty()
    }

    /// The answer to item `index`, if it was answered.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Answer<'_>> {
        Some(match self.found.get(index)? {
            None => Answer::New,
            Some(record) => Answer::Duplicate(record),
        })
    }

    /// All answers in item order.
    pub fn iter(&self) -> impl Iterator<Item = Answer<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// How many answers are *new*.
    pub(crate) fn new_count(&self) -> u64 {
        self.found.items.iter().filter(|item| item.len == NONE).count() as u64
    }

    pub(crate) fn clear(&mut self) {
        self.found.clear();
    }

    pub(crate) fn receiver(&mut self) -> &mut impl Receive<Answer = ()> {
        &mut self.found
    }
}

/// The results of one `get_many`, in the order of its keys.
///
/// Keep one and pass it again: its buffers are reused.
#[derive(Debug, Default)]
pub struct Lookups {
    found: Found,
}

impl Lookups {
    /// Empty results; nothing is allocated until the first batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of keys looked up.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.items.len()
    }

    /// True when no key was looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.items.is_empty()
    }

    /// The result for key `index`, if it was looked up: its live record or `None`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Option<RecordRef<'_>>> {
        self.found.get(index)
    }

    /// All results in key order.
    pub fn iter(&self) -> impl Iterator<Item = Option<RecordRef<'_>>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn clear(&mut self) {
        self.found.clear();
    }

    pub(crate) fn receiver(&mut self) -> &mut impl Receive<Answer = ()> {
        &mut self.found
    }
}
