//! One record: a checked header of 16 or 48 bytes, then key and outcome.
//!
//! ```text
//! word 0 (commit word)   | check 32 | header check 16 | flags 8 | key length 8 |
//! word 1, compact        | outcome length 16 | version delta 24 | created delta 24 |
//! words 1-5, wide        | key length 32 | outcome length 32 | version | created | expires | 0 |
//! then                   key, padded to 8 bytes; outcome, the whole padded to 16
//! ```
//!
//! The compact header serves when the values fit: version and time of creation relative to the
//! segment's, and the segment's lifetime as the record's. Word 0 is written last and is never
//! zero, so a record is there entirely or not at all for whoever finds the mapping after a crash.
//!
//! Both checks are seeded with the record's place: store, segment and offset. The header check
//! guards the lengths, which say where the next record begins; the other covers header and payload
//! through [`digest`](crate::key::KeyHash::digest). The payload's digest does not depend on the
//! place, so it is computed before any lock is taken.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::layout::round_to_unit;
use crate::record::Life;
use crate::time::Timestamp;
use crate::version::Version;

pub(super) const PRESENT: u64 = 0x80;
const WIDE: u64 = 0x40;
const MARKS_MASK: u64 = 0x38;
const KIND_MASK: u64 = 0x07;

pub(super) const FLAGS_SHIFT: u32 = 48;
const KEY_LEN_SHIFT: u32 = 56;
const DELTA_MAX: u64 = (1 << 24) - 1;

/// Words of a compact header.
pub(crate) const COMPACT_WORDS: usize = 2;
/// The longest key that a compact header has room for, in bytes.
pub(crate) const COMPACT_KEY_BYTES_MAX: usize = 0xff;
/// Words of a wide header.
pub(crate) const WIDE_WORDS: usize = 6;

/// Multiplies an offset into a seed; any odd number with well-spread bits serves.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a record says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key was handled, with this outcome.
    Completed,
    /// The key was removed: earlier records of it count no more.
    Removed,
    /// A lease on the key was given out, or renewed.
    Started,
    /// The key's work failed for good, with this outcome.
    Failed,
    /// The key's lease was given back; what is remembered are its attempts.
    Released,
}

impl Kind {
    const fn code(self) -> u64 {
        match self {
            Self::Completed => 1,
            Self::Removed => 2,
            Self::Started => 3,
            Self::Failed => 4,
            Self::Released => 5,
        }
    }

    const fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Completed),
            2 => Some(Self::Removed),
            3 => Some(Self::Started),
            4 => Some(Self::Failed),
            5 => Some(Self::Released),
            _ => None,
        }
    }
}

/// What else a header says of key and outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(u64);

impl Marks {
    /// A key of the default namespace, and an outcome alone.
    pub(crate) const NONE: Self = Self(0);
    /// The key begins with the 8 bytes of its namespace's number.
    pub(crate) const NAMESPACED: Self = Self(0x10);
    /// The outcome is preceded by a [`State`](crate::format::state::State).
    pub(crate) const STATE: Self = Self(0x20);
    /// The record counts only together with the others of its
    /// [bundle](crate::format::bundle::BundleHeader).
    pub(crate) const MEMBER: Self = Self(0x08);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[inline]
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What all records of a segment have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// Binds checks to the store and the segment.
    pub(crate) seed: u64,
    pub(crate) version: u64,
    pub(crate) created: u64,
    /// Lifetime of records with a compact header, in milliseconds; `u64::MAX` for ever.
    pub(crate) lifetime: u64,
}

impl Common {
    /// The seed of a record at `offset` of the segment.
    #[inline]
    pub(super) fn seed_at(&self, offset: u64) -> u64 {
        self.seed.wrapping_add(offset.wrapping_mul(SPREAD))
    }
}

/// A record's fields besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) marks: Marks,
    pub(crate) key_len: u32,
    pub(crate) outcome_len: u32,
    pub(crate) version: Version,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    wide: bool,
}

/// A header's words; a compact one uses the first two.
pub(crate) type HeaderWords = [u64; WIDE_WORDS];

impl Header {
    #[inline]
    pub(crate) fn new(
        kind: Kind,
        lengths: (u32, u32),
        version: Version,
        created: Timestamp,
        expires: Timestamp,
    ) -> Self {
        let (key_len, outcome_len) = lengths;
        let marks = Marks::NONE;
        Self { kind, marks, key_len, outcome_len, version, created, expires, wide: true }
    }

    #[inline]
    pub(crate) fn marked(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    /// Chooses the compact form where the values fit.
    #[inline]
    pub(crate) fn fit(mut self, common: &Common) -> Self {
        let deltas_fit = self.version.as_u64().wrapping_sub(common.version) <= DELTA_MAX
            && self.created.as_millis().wrapping_sub(common.created) <= DELTA_MAX;
        let lengths_fit =
            self.key_len as usize <= COMPACT_KEY_BYTES_MAX && self.outcome_len <= 0xffff;
        let lifetime_fits = compact_expiry(self.created, common.lifetime) == self.expires;
        self.wide = !(deltas_fit && lengths_fit && lifetime_fits);
        self
    }

    /// The uppermost 16 bits of a commit word that begins a compact header of a completed record,
    /// recorded without a lease, with a key of this length outside of any namespace; `None` where
    /// such a key takes a wide header.
    #[inline]
    pub(crate) const fn compact_mark(key_len: usize) -> Option<u64> {
        if key_len > COMPACT_KEY_BYTES_MAX {
            return None;
        }
        Some((key_len as u64) << 8 | PRESENT | Kind::Completed.code())
    }

    /// Whether a commit word has these uppermost bits.
    #[inline]
    pub(crate) const fn has_mark(commit: u64, mark: u64) -> bool {
        commit >> FLAGS_SHIFT == mark
    }

    /// Length of the outcome in the second word of a compact header.
    #[inline]
    pub(crate) const fn compact_outcome_len(word: u64) -> usize {
        (word & 0xffff) as usize
    }

    /// Version, times of creation and of expiry in the second word of a compact header.
    #[inline(always)]
    pub(crate) fn compact_life(word: u64, version: u64, created: u64, lifetime: u64) -> Life {
        let version = Version::from_u64(version.wrapping_add(word >> 16 & DELTA_MAX));
        let created = Timestamp::from_millis(created.wrapping_add(word >> 40));
        Life { version, created, expires: compact_expiry(created, lifetime) }
    }

    /// Whether a commit word begins a wide header.
    #[inline]
    pub(crate) const fn is_wide(commit: u64) -> bool {
        (commit >> FLAGS_SHIFT) & WIDE != 0
    }

    /// Words before the key.
    #[inline]
    pub(crate) const fn header_words(&self) -> usize {
        if self.wide { WIDE_WORDS } else { COMPACT_WORDS }
    }

    /// Words before the outcome.
    #[inline]
    pub(crate) const fn outcome_word(&self) -> usize {
        self.header_words() + (self.key_len as usize).div_ceil(8)
    }

    /// Bytes of the whole record, a multiple of the unit.
    #[inline]
    pub(crate) const fn record_bytes(&self) -> u64 {
        round_to_unit(self.outcome_word() as u64 * 8 + self.outcome_len as u64)
    }

    /// The most bytes that a record of these lengths takes.
    pub(crate) const fn record_bytes_max(key_len: u64, outcome_len: u64) -> u64 {
        round_to_unit(WIDE_WORDS as u64 * 8 + key_len.next_multiple_of(8) + outcome_len)
    }

    /// The header's words, for a record at `offset` whose payload has this `digest`.
    #[inline]
    pub(crate) fn encode(&self, common: &Common, offset: u64, digest: u64) -> HeaderWords {
        let mut words = [0; WIDE_WORDS];
        if self.wide {
            words[1] = u64::from(self.key_len) | u64::from(self.outcome_len) << 32;
            words[2] = self.version.as_u64();
            words[3] = self.created.as_millis();
            words[4] = self.expires.as_millis();
            let commit = (PRESENT | WIDE | self.kind.code() | self.marks.0) << FLAGS_SHIFT;
            words[0] = commit | checks(commit, &words, common.seed_at(offset), digest);
        } else {
            [words[0], words[1]] = self.encode_compact(common, offset, digest);
        }
        words
    }

    /// The two words of a compact header, as by [`Header::encode`].
    #[inline]
    pub(crate) fn encode_compact(
        &self,
        common: &Common,
        offset: u64,
        digest: u64,
    ) -> [u64; COMPACT_WORDS] {
        let flags = PRESENT | self.kind.code() | self.marks.0;
        let commit = (u64::from(self.key_len) << 8 | flags) << FLAGS_SHIFT;
        let version = self.version.as_u64().wrapping_sub(common.version);
        let created = self.created.as_millis().wrapping_sub(common.created);
        let word = u64::from(self.outcome_len) | version << 16 | created << 40;
        let hash = compact_hash(commit, word, common.seed_at(offset));
        [commit | header_check(hash) | payload_check(hash, digest), word]
    }

    /// Whether the header takes the wide form.
    #[inline]
    pub(crate) const fn takes_wide(&self) -> bool {
        self.wide
    }

    /// The header in `words`, without looking at the checks; `None` where there is no record.
    #[inline]
    pub(crate) fn decode_unchecked(words: &HeaderWords, common: &Common) -> Option<Self> {
        let flags = words[0] >> FLAGS_SHIFT & 0xff;
        if flags & PRESENT == 0 {
            return None;
        }
        let kind = Kind::from_code(flags & KIND_MASK)?;
        let marks = Marks(flags & MARKS_MASK);
        if flags & WIDE != 0 {
            return Some(Self {
                kind,
                marks,
                key_len: low_32(words[1]),
                outcome_len: low_32(words[1] >> 32),
                version: Version::from_u64(words[2]),
                created: Timestamp::from_millis(words[3]),
                expires: Timestamp::from_millis(words[4]),
                wide: true,
            });
        }
        let Common { version, created, lifetime, .. } = *common;
        let life = Self::compact_life(words[1], version, created, lifetime);
        let Life { version, created, expires } = life;
        let outcome_len = low_32(Self::compact_outcome_len(words[1]) as u64);
        let key_len = low_32(words[0] >> KEY_LEN_SHIFT);
        Some(Self { kind, marks, key_len, outcome_len, version, created, expires, wide: false })
    }

    /// As [`Header::decode_unchecked`], and `None` as well where the header check disagrees.
    pub(crate) fn decode(words: &HeaderWords, common: &Common, offset: u64) -> Option<Self> {
        let header = Self::decode_unchecked(words, common)?;
        let hash = header_hash(words[0], words, common.seed_at(offset));
        (words[0] & HEADER_CHECK_MASK == header_check(hash)).then_some(header)
    }

    /// True when header and payload are what was written at this place.
    pub(crate) fn payload_agrees(
        words: &HeaderWords,
        common: &Common,
        offset: u64,
        digest: u64,
    ) -> bool {
        let hash = header_hash(words[0], words, common.seed_at(offset));
        words[0] & PAYLOAD_CHECK_MASK == payload_check(hash, digest)
    }
}

/// When a record with a compact header expires: for ever that is never. A sum that would be more
/// than fits would be the same, which is why such a record takes a wide header.
#[inline(always)]
fn compact_expiry(created: Timestamp, lifetime: u64) -> Timestamp {
    Timestamp::from_millis(created.as_millis().saturating_add(lifetime))
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low_32(word: u64) -> u32 {
    word as u32
}

pub(super) const PAYLOAD_CHECK_MASK: u64 = 0xffff_ffff;
pub(super) const HEADER_CHECK_MASK: u64 = 0xffff << 32;

/// Both checks of a header.
fn checks(commit: u64, words: &HeaderWords, seed: u64, digest: u64) -> u64 {
    let hash = header_hash(commit, words, seed);
    header_check(hash) | payload_check(hash, digest)
}

/// Hash of a compact header without its checks.
#[inline]
pub(super) fn compact_hash(commit: u64, word: u64, seed: u64) -> u64 {
    let bytes = u128::from(commit >> FLAGS_SHIFT) | u128::from(word) << 64;
    xxh3_64_with_seed(&bytes.to_le_bytes(), seed)
}

/// Hash of the header without its checks.
#[inline]
fn header_hash(commit: u64, words: &HeaderWords, seed: u64) -> u64 {
    let fixed = commit >> FLAGS_SHIFT;
    if fixed & WIDE == 0 {
        return compact_hash(commit, words[1], seed);
    }
    let mut bytes = [0; WIDE_WORDS * 8];
    bytes[..8].copy_from_slice(&fixed.to_le_bytes());
    for (to, word) in bytes[8..].as_chunks_mut::<8>().0.iter_mut().zip(&words[1..]) {
        *to = word.to_le_bytes();
    }
    xxh3_64_with_seed(&bytes, seed)
}

#[inline]
pub(super) const fn header_check(hash: u64) -> u64 {
    hash >> 48 << 32
}

/// Mixes two well-spread hashes, so that a change of either changes the result.
#[inline]
pub(super) const fn payload_check(hash: u64, digest: u64) -> u64 {
    (hash ^ digest.rotate_left(29)).wrapping_mul(SPREAD) >> 32
}

#[cfg(test)]
mod tests {
    use super::{Common, Header, Kind, Marks};
    use crate::time::Timestamp;
    use crate::version::Version;

    const COMMON: Common = Common { seed: 77, version: 1000, created: 5_000, lifetime: 60_000 };

    fn header(key_len: u32, outcome_len: u32, version: u64, created: u64, expires: u64) -> Header {
        Header::new(
            Kind::Completed,
            (key_len, outcome_len),
            Version::from_u64(version),
            Timestamp::from_millis(created),
            Timestamp::from_millis(expires),
        )
        .fit(&COMMON)
    }

    #[test]
    fn both_forms_come_back_at_the_edges_of_the_compact_one() {
        let edge = 1 << 24;
        let cases = [
            (header(255, 65_535, 1000 + edge - 1, 5_000 + edge - 1, 65_000 + edge - 1), false),
            (header(256, 0, 1000, 5_000, 65_000), true),
            (header(1, 65_536, 1000, 5_000, 65_000), true),
            (header(1, 0, 1000 + edge, 5_000, 65_000), true),
            (header(1, 0, 999, 5_000, 65_000), true),
            (header(1, 0, 1000, 5_000 + edge, 65_000 + edge), true),
            (header(1, 0, 1000, 4_999, 64_999), true),
            (header(1, 0, 1000, 5_000, 65_001), true),
            (header(65_535, 16 << 20, u64::MAX, 0, u64::MAX), true),
        ];
        for (header, wide) in cases {
            assert_eq!(header.wide, wide, "{header:?}");
            let words = header.encode(&COMMON, 4160, 123);
            assert_eq!(Header::decode(&words, &COMMON, 4160), Some(header));
            assert!(Header::payload_agrees(&words, &COMMON, 4160, 123));
            assert!(!Header::payload_agrees(&words, &COMMON, 4160, 124));
        }
    }

    #[test]
    fn every_kind_and_every_mark_comes_back() {
        let kinds = [Kind::Completed, Kind::Removed, Kind::Started, Kind::Failed, Kind::Released];
        let both = Marks::NAMESPACED.and(Marks::STATE);
        let all = both.and(Marks::MEMBER);
        for kind in kinds {
            for marks in [Marks::NONE, Marks::NAMESPACED, Marks::STATE, Marks::MEMBER, both, all] {
                let header = Header { kind, ..header(16, 64, 1001, 5_001, 65_001) }.marked(marks);
                let words = header.encode(&COMMON, 4160, 1);
                assert_eq!(Header::decode(&words, &COMMON, 4160), Some(header));
            }
        }
    }

    #[test]
    fn a_record_is_not_accepted_at_another_place_or_in_another_segment() {
        let words = header(16, 32, 1001, 5_001, 65_001).encode(&COMMON, 4160, 1);
        let elsewhere = Common { seed: 78, ..COMMON };
        assert_eq!(Header::decode(&words, &COMMON, 4176), None);
        assert_eq!(Header::decode(&words, &elsewhere, 4160), None);
    }

    #[test]
    fn zeros_are_never_a_record() {
        assert_eq!(Header::decode_unchecked(&[0; 6], &COMMON), None);
    }

    #[test]
    fn every_flipped_header_bit_is_noticed_by_one_of_the_checks() {
        for header in [header(16, 32, 1001, 5_001, 65_001), header(16, 32, 1001, 5_001, 9)] {
            let words = header.encode(&COMMON, 4160, 55);
            for bit in 0..header.header_words() * 64 {
                let mut flipped = words;
                flipped[bit / 64] ^= 1 << (bit % 64);
                let accepted = Header::decode(&flipped, &COMMON, 4160).is_some()
                    && Header::payload_agrees(&flipped, &COMMON, 4160, 55);
                assert!(!accepted, "bit {bit} of {header:?}");
            }
        }
    }

    #[test]
    fn a_key_of_16_and_an_outcome_of_32_bytes_make_one_cache_line() {
        assert_eq!(header(16, 32, 1001, 5_001, 65_001).record_bytes(), 64);
        assert_eq!(header(16, 0, 1001, 5_001, 65_001).record_bytes(), 32);
    }
}
