//! Records that are there together or not at all: a header of 16 bytes, and they behind it.
//!
//! ```text
//! word 0 (commit word)   | check 32 | header check 16 | flags 8 | 0 8 |
//! word 1                 | bytes of the members, in units 32 | number of members 32 |
//! then                   the members, each a record marked as one
//! ```
//!
//! A member is a record like any other, at a place of its own that a slot leads to, so that looking
//! it up takes no more steps. What its mark says is that it counts only behind the header of its
//! bundle: a scan that comes upon one alone takes it for no record.
//!
//! The header's check covers the first words of all members in their order, and these hold the
//! checks of everything else in them. So one check, written last, stands for the whole.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::layout::UNIT_BYTES;
use crate::format::record::{
    Common, FLAGS_SHIFT, HEADER_CHECK_MASK, PAYLOAD_CHECK_MASK, PRESENT, compact_hash,
    header_check, payload_check,
};

/// Bytes of a bundle's header.
pub(crate) const BUNDLE_HEADER_BYTES: u64 = 16;
/// Words of a bundle's header.
pub(crate) const BUNDLE_HEADER_WORDS: usize = 2;

/// What the flags have in the place of a record's kind.
const BUNDLE: u64 = 6;
/// A single record needs no bundle.
const MEMBERS_MIN: u32 = 2;

/// How many records belong together, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BundleHeader {
    pub(crate) members: u32,
    /// Of all members, a multiple of the unit.
    pub(crate) bytes: u64,
}

impl BundleHeader {
    /// The header's words, for a bundle at `offset` whose members have this digest.
    pub(crate) fn encode(
        self,
        common: &Common,
        offset: u64,
        digest: MembersDigest,
    ) -> [u64; BUNDLE_HEADER_WORDS] {
        let commit = (PRESENT | BUNDLE) << FLAGS_SHIFT;
        let units = self.bytes / UNIT_BYTES;
        let word = units | u64::from(self.members) << 32;
        let hash = compact_hash(commit, word, common.seed_at(offset));
        [commit | header_check(hash) | payload_check(hash, digest.0), word]
    }

    /// True if a first word begins a bundle and no record.
    #[inline]
    pub(crate) const fn begins(commit: u64) -> bool {
        commit >> FLAGS_SHIFT == PRESENT | BUNDLE
    }

    /// The header in `words`; `None` where none begins, or where the header check disagrees.
    pub(crate) fn decode(
        words: [u64; BUNDLE_HEADER_WORDS],
        common: &Common,
        offset: u64,
    ) -> Option<Self> {
        let [commit, word] = words;
        if !Self::begins(commit) {
            return None;
        }
        let hash = compact_hash(commit, word, common.seed_at(offset));
        let members = u32::try_from(word >> 32).ok()?;
        let bytes = (word & 0xffff_ffff) * UNIT_BYTES;
        let sound = commit & HEADER_CHECK_MASK == header_check(hash) && members >= MEMBERS_MIN;
        sound.then_some(Self { members, bytes })
    }

    /// True when the members behind the header are those that it was written for.
    pub(crate) fn members_agree(
        words: [u64; BUNDLE_HEADER_WORDS],
        common: &Common,
        offset: u64,
        digest: MembersDigest,
    ) -> bool {
        let [commit, word] = words;
        let hash = compact_hash(commit, word, common.seed_at(offset));
        commit & PAYLOAD_CHECK_MASK == payload_check(hash, digest.0)
    }
}

/// Digest of the members' first words, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MembersDigest(u64);

impl MembersDigest {
    /// Adds the next member.
    pub(crate) fn add(&mut self, commit: u64) {
        self.0 = xxh3_64_with_seed(&commit.to_le_bytes(), self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{BundleHeader, MembersDigest};
    use crate::format::record::{Common, Header, Kind, Marks};
    use crate::format::segment::SegmentHead;
    use crate::key::KeyHasher;
    use crate::time::Timestamp;
    use crate::version::Version;

    const COMMON: Common = Common { seed: 77, version: 1000, created: 5_000, lifetime: 60_000 };

    fn digest(words: &[u64]) -> MembersDigest {
        let mut digest = MembersDigest::default();
        words.iter().for_each(|word| digest.add(*word));
        digest
    }

    #[test]
    fn a_header_comes_back_and_is_bound_to_its_place_and_segment() {
        for (members, bytes) in [(2, 64), (4096, 32 << 20), (u32::MAX, 16 * 0xffff_ffff)] {
            let header = BundleHeader { members, bytes };
            let words = header.encode(&COMMON, 4160, digest(&[1, 2]));
            assert_eq!(BundleHeader::decode(words, &COMMON, 4160), Some(header));
            assert_eq!(BundleHeader::decode(words, &COMMON, 4176), None);
            let elsewhere = Common { seed: 78, ..COMMON };
            assert_eq!(BundleHeader::decode(words, &elsewhere, 4160), None);
        }
    }

    #[test]
    fn a_bundle_of_one_is_none_and_neither_are_zeros() {
        let alone = BundleHeader { members: 1, bytes: 64 };
        let words = alone.encode(&COMMON, 4160, digest(&[1]));
        assert_eq!(BundleHeader::decode(words, &COMMON, 4160), None);
        assert_eq!(BundleHeader::decode([0; 2], &COMMON, 4160), None);
    }

    #[test]
    fn another_member_another_order_or_one_more_is_noticed_wherever_it_is() {
        let words = [3, 5, 7, 11];
        let header = BundleHeader { members: 4, bytes: 256 };
        let written = header.encode(&COMMON, 4160, digest(&words));
        let agrees =
            |words: &[u64]| BundleHeader::members_agree(written, &COMMON, 4160, digest(words));
        assert!(agrees(&words));
        for place in 0..words.len() {
            for bit in 0..64 {
                let mut other = words;
                other[place] ^= 1 << bit;
                assert!(!agrees(&other), "bit {bit} of member {place}");
            }
        }
        assert!(!agrees(&[5, 3, 7, 11]) && !agrees(&[3, 5, 7]) && !agrees(&[3, 5, 7, 11, 0]));
    }

    /// The bytes of the example in docs/format.md, from 0x1070 on.
    const EXAMPLE: [&str; 5] = [
        "01 1e f1 28 f9 67 86 00 04 00 00 00 02 00 00 00",
        "49 6a d0 16 a5 42 89 08 00 00 01 00 00 dc 05 00",
        "73 65 61 74 2d 31 32 41 00 00 00 00 00 00 00 00",
        "c3 f7 20 54 99 54 89 08 00 00 02 00 00 dc 05 00",
        "73 65 61 74 2d 31 32 42 00 00 00 00 00 00 00 00",
    ];

    #[test]
    fn the_example_in_the_specification_is_what_is_written() {
        let hasher = KeyHasher::new(std::array::from_fn(|i| i as u8));
        let head = SegmentHead {
            store: std::array::from_fn(|i| i as u8),
            number: 1,
            bytes: 1 << 20,
            ends: 0,
            version: 1 << 32,
            created: 1_700_000_000_000,
            lifetime: 86_400_000,
        };
        let common = head.common();
        let (mut bytes, mut digest, mut at) = (Vec::new(), MembersDigest::default(), 0x1080);
        for (number, key) in (1..).zip([b"seat-12A", b"seat-12B"]) {
            let created = Timestamp::from_millis(head.created + 1500);
            let expires = Timestamp::from_millis(head.created + 1500 + head.lifetime);
            let version = Version::from_u64(head.version + number);
            let header = Header::new(Kind::Completed, (8, 0), version, created, expires)
                .marked(Marks::MEMBER)
                .fit(&common);
            let [first, second] = header.encode_compact(&common, at, hasher.hash(key).digest(b""));
            digest.add(first);
            for word in [first, second, u64::from_le_bytes(*key), 0] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            at += header.record_bytes();
        }
        let header = BundleHeader { members: 2, bytes: bytes.len() as u64 };
        let words = header.encode(&common, 0x1070, digest).map(u64::to_le_bytes);
        let all = [&words.concat()[..], &bytes].concat();
        let line = |line: &[u8]| {
            line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
        };
        let lines: Vec<String> = all.chunks(16).map(line).collect();
        assert_eq!((&lines[..], digest.0), (&EXAMPLE.map(String::from)[..], 0x8586_3942_5c03_8404));
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        let header = BundleHeader { members: 4, bytes: 256 };
        let words = header.encode(&COMMON, 4160, digest(&[9]));
        for bit in 0..128 {
            let mut flipped = words;
            flipped[bit / 64] ^= 1 << (bit % 64);
            let accepted = BundleHeader::decode(flipped, &COMMON, 4160).is_some()
                && BundleHeader::members_agree(flipped, &COMMON, 4160, digest(&[9]));
            assert!(!accepted, "bit {bit}");
        }
    }
}
