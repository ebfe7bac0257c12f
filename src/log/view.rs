//! A record in its place: decoded, compared and copied out without a copy in between.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::location::Location;
use crate::format::record::{
    COMPACT_KEY_BYTES_MAX, COMPACT_WORDS, Common, Header, HeaderWords, Kind, Marks, WIDE_WORDS,
};
use crate::format::state::{STATE_BYTES, State};
use crate::key::{KeyHash, KeyHasher};
use crate::log::table::{Bases, TableEntry};
use crate::outcome::{INLINE_BYTES, INLINE_WORDS};
use crate::record::{Brief, Life, RecordMeta};
use crate::sys::copy;
use crate::sys::space::{Space, WINDOW_WORDS};
use crate::sys::words::{self, WORD, words_for};

/// A key's record whose outcome stands: what a duplicate may be answered from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) meta: RecordMeta,
    pub(crate) outcome_len: usize,
    /// The words that the outcome is in and, perhaps, more.
    pub(crate) outcome: &'a [AtomicU64],
}

/// A completed record with a compact header and the key asked for: what almost every duplicate is
/// answered from. It is taken apart as it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse<'a> {
    bases: Bases<'a>,
    /// The header's second word.
    word: u64,
    space: &'a Space,
    /// The word that the outcome begins with, counted in the space.
    outcome_at: usize,
    /// What follows the key.
    rest: &'a [AtomicU64],
}

impl<'a> Glimpse<'a> {
    /// The record at `location` if it has a compact header, is completed and has this key.
    ///
    /// `None` says nothing: the record may be of another kind. This is the short way for the
    /// commonest record, on which every duplicate's speed depends; [`RecordView`] is the long one.
    #[inline(always)]
    pub(crate) fn at(
        space: &'a Space,
        bases: Bases<'a>,
        location: Location,
        key: &[u8],
    ) -> Option<Self> {
        let mark = Header::compact_mark(key.len())?;
        let at = usize::try_from(location.bytes()).ok()?;
        let (head, rest) = space.window(at).split_first_chunk::<COMPACT_WORDS>()?;
        if !Header::has_mark(words::load_acquire(&head[0]), mark) || !words::equal_bytes(rest, key)
        {
            return None;
        }
        let key_words = words_for(key.len());
        let outcome_at = at / WORD + COMPACT_WORDS + key_words;
        let rest = rest.get(key_words..)?;
        Some(Self { bases, word: words::load(&head[1]), space, outcome_at, rest })
    }

    #[inline(always)]
    pub(crate) fn life(&self) -> Life {
        self.bases.life(self.word)
    }

    /// A copy, if the outcome is short.
    #[inline(always)]
    pub(crate) fn brief(&self, life: Life) -> Option<Brief> {
        let outcome_len = Header::compact_outcome_len(self.word);
        if outcome_len > INLINE_BYTES {
            return None;
        }
        let outcome = copy::load(self.rest.first_chunk()?);
        Some(Brief { life, outcome_len, outcome })
    }

    /// The record, with an outcome of any length.
    pub(crate) fn replay(&self) -> Replay<'a> {
        let outcome = self.space.words().get(self.outcome_at..).unwrap_or_default();
        let outcome_len = Header::compact_outcome_len(self.word);
        Replay { meta: RecordMeta::unleased(self.life()), outcome_len, outcome }
    }
}

// A window shows all of a compact header, of the longest key behind it, and of an outcome that a
// record holds in itself.
const _: () =
    assert!(COMPACT_WORDS + COMPACT_KEY_BYTES_MAX.div_ceil(WORD) + INLINE_WORDS <= WINDOW_WORDS);

/// A record found at a location.
#[derive(Debug)]
pub(crate) struct RecordView<'a> {
    pub(crate) header: Header,
    /// The whole record.
    words: &'a [AtomicU64],
    pub(crate) unverified: bool,
}

impl<'a> RecordView<'a> {
    /// The record at `location` of a segment that lives; `None` where none begins.
    #[inline]
    pub(crate) fn at(
        space: &'a [AtomicU64],
        entry: &TableEntry,
        location: Location,
    ) -> Option<Self> {
        let first = usize::try_from(location.bytes() / 8).ok()?;
        let offset = location.bytes() - entry.at;
        Self::read(space.get(first..)?, &entry.common, offset, entry.unverified)
    }

    /// The record at the front of `words`, which lies at `offset` of its segment.
    #[inline]
    pub(crate) fn read(
        from: &'a [AtomicU64],
        common: &Common,
        offset: u64,
        unverified: bool,
    ) -> Option<Self> {
        let raw = header_words(from)?;
        let header = if unverified {
            Header::decode(&raw, common, offset)?
        } else {
            Header::decode_unchecked(&raw, common)?
        };
        if header.marks.has(Marks::STATE) && (header.outcome_len as usize) < STATE_BYTES {
            return None;
        }
        let words = from.get(..usize::try_from(header.record_bytes() / 8).ok()?)?;
        Some(Self { header, words, unverified })
    }

    #[inline]
    pub(crate) fn meta(&self) -> RecordMeta {
        let Header { version, created: written, expires, .. } = self.header;
        let state = self.state();
        // Of other records the field says something else.
        let recorded = state.filter(|_| self.is_final()).map(|state| state.recorded(written));
        let created = recorded.unwrap_or(written);
        RecordMeta {
            version,
            created,
            expires,
            first_seen: state.map_or(written, |state| state.first_seen),
            attempts: state.map_or(0, |state| state.attempts),
            failed: self.header.kind == Kind::Failed,
            has_fingerprint: state.is_some_and(|state| state.fingerprint.is_some()),
            gone: false,
        }
    }

    /// True when the key's outcome stands, good or bad.
    #[inline]
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.header.kind, Kind::Completed | Kind::Failed)
    }

    /// What a record of a lease says besides key and outcome.
    #[inline]
    pub(crate) fn state(&self) -> Option<State> {
        if !self.header.marks.has(Marks::STATE) {
            return None;
        }
        let mut bytes = [0; STATE_BYTES];
        words::read_bytes(self.payload_words(), &mut bytes);
        State::decode(&bytes)
    }

    /// True for a key of the same bytes, in a namespace as `marks` says.
    #[inline]
    pub(crate) fn key_equals(&self, key: &[u8], marks: Marks) -> bool {
        self.header.key_len as usize == key.len()
            && self.header.marks.has(Marks::NAMESPACED) == marks.has(Marks::NAMESPACED)
            && words::equal_bytes(self.key_words(), key)
    }

    /// The number of the key's namespace, if it is in one.
    pub(crate) fn space(&self) -> Option<u32> {
        space_at(self.words, 0, &self.header)
    }

    /// Bytes of what stands for the outcome, without the state before it.
    #[inline]
    pub(crate) fn outcome_len(&self) -> usize {
        self.header.outcome_len as usize - self.state_words() * 8
    }

    /// The same without the header, if the key's outcome stands.
    #[inline]
    pub(crate) fn replay(&self) -> Option<Replay<'a>> {
        let outcome = self.words.get(self.header.outcome_word() + self.state_words()..)?;
        let replay = Replay { meta: self.meta(), outcome_len: self.outcome_len(), outcome };
        self.is_final().then_some(replay)
    }

    /// The key's bytes, in `buffer`.
    pub(crate) fn copy_key<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.resize(self.header.key_len as usize, 0);
        words::read_bytes(self.key_words(), buffer);
        buffer
    }

    /// The bytes behind the key, state and outcome, in `buffer`.
    pub(crate) fn copy_payload<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.resize(self.header.outcome_len as usize, 0);
        words::read_bytes(self.payload_words(), buffer);
        buffer
    }

    /// Hash of the key, if header, key and outcome agree with the record's check.
    pub(crate) fn verify(
        &self,
        common: &Common,
        offset: u64,
        hasher: &KeyHasher,
        buffer: &mut Vec<u8>,
    ) -> Option<KeyHash> {
        let hash = hasher.hash(self.copy_key(buffer));
        let digest = hash.digest(self.copy_payload(buffer));
        let raw = header_words(self.words)?;
        Header::payload_agrees(&raw, common, offset, digest).then_some(hash)
    }

    /// The outcome's words, and those of the state before it.
    #[inline]
    fn payload_words(&self) -> &[AtomicU64] {
        self.words.get(self.header.outcome_word()..).unwrap_or_default()
    }

    #[inline]
    fn state_words(&self) -> usize {
        if self.header.marks.has(Marks::STATE) { STATE_BYTES / 8 } else { 0 }
    }

    fn key_words(&self) -> &[AtomicU64] {
        let (from, to) = (self.header.header_words(), self.header.outcome_word());
        self.words.get(from..to).unwrap_or_default()
    }
}

/// The number of the namespace that the key of a record at `at` is in, if it is in one.
pub(crate) fn space_at(segment: &[AtomicU64], at: u64, header: &Header) -> Option<u32> {
    if !header.marks.has(Marks::NAMESPACED) {
        return None;
    }
    let first = usize::try_from(at / 8).ok()?.checked_add(header.header_words())?;
    u32::try_from(words::load(segment.get(first)?)).ok()
}

/// The words of the header that a record begins with; a compact one has two.
#[inline]
fn header_words(from: &[AtomicU64]) -> Option<HeaderWords> {
    let mut raw: HeaderWords = [0; WIDE_WORDS];
    raw[0] = words::load_acquire(from.first()?);
    raw[1] = words::load(from.get(1)?);
    if Header::is_wide(raw[0]) {
        for (to, word) in raw.iter_mut().zip(from.get(..WIDE_WORDS)?).skip(2) {
            *to = words::load(word);
        }
    }
    Some(raw)
}
