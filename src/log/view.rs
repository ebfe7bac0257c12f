//! A record in its place: decoded, compared and copied out without a copy in between.

use std::sync::atomic::AtomicU64;

use crate::format::location::Location;
use crate::format::record::{Common, Header, HeaderWords, Kind, WIDE_WORDS};
use crate::key::{KeyHash, KeyHasher};
use crate::log::table::TableEntry;
use crate::record::RecordMeta;
use crate::sys::words;

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
        let words = from.get(..usize::try_from(header.record_bytes() / 8).ok()?)?;
        Some(Self { header, words, unverified })
    }

    pub(crate) fn meta(&self) -> RecordMeta {
        let Header { version, created, expires, .. } = self.header;
        RecordMeta { version, created, expires }
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.header.kind == Kind::Completed
    }

    #[inline]
    pub(crate) fn key_equals(&self, key: &[u8]) -> bool {
        self.header.key_len as usize == key.len() && words::equal_bytes(self.key_words(), key)
    }

    #[inline]
    pub(crate) fn outcome_len(&self) -> usize {
        self.header.outcome_len as usize
    }

    /// Fills `buffer`, which has the outcome's length or less.
    #[inline]
    pub(crate) fn copy_outcome(&self, buffer: &mut [u8]) {
        let words = self.words.get(self.header.outcome_word()..).unwrap_or_default();
        words::read_bytes(words, buffer);
    }

    /// The key's bytes, in `buffer`.
    pub(crate) fn copy_key<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.resize(self.header.key_len as usize, 0);
        words::read_bytes(self.key_words(), buffer);
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
        buffer.resize(self.outcome_len(), 0);
        self.copy_outcome(buffer);
        let digest = hash.digest(buffer);
        let raw = header_words(self.words)?;
        Header::payload_agrees(&raw, common, offset, digest).then_some(hash)
    }

    fn key_words(&self) -> &[AtomicU64] {
        let (from, to) = (self.header.header_words(), self.header.outcome_word());
        self.words.get(from..to).unwrap_or_default()
    }
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
