//! The head every segment begins with, and the header of each of its blocks.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::identity::ID_BYTES;
use crate::format::layout::{FORMAT_VERSION, UNIT_BYTES};
use crate::format::reader::{Reader, checked, seal};
use crate::format::record::Common;

const MAGIC: [u8; 8] = *b"onceseg\0";

/// Bytes of a segment's head, its CRC-32 included; the rest of the head page is zero.
pub(crate) const SEGMENT_HEAD_BYTES: usize = 88;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) store: [u8; ID_BYTES],
    pub(crate) number: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// When everything in the segment has expired: the end of its bucket; `u64::MAX` for never.
    pub(crate) ends: u64,
    pub(crate) version: u64,
    pub(crate) created: u64,
    pub(crate) lifetime: u64,
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        for field in [self.number, self.bytes, self.ends, self.version, self.created, self.lifetime]
        {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        seal(&mut bytes);
        bytes
    }

    /// `None` for anything that [`SegmentHead::encode`] did not make.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(checked(bytes.get(..SEGMENT_HEAD_BYTES)?)?);
        if reader.array()? != MAGIC || reader.u32()? != FORMAT_VERSION {
            return None;
        }
        let head = Self {
            store: reader.array()?,
            number: reader.u64()?,
            bytes: reader.u64()?,
            ends: reader.u64()?,
            version: reader.u64()?,
            created: reader.u64()?,
            lifetime: reader.u64()?,
        };
        (reader.u64()? == 0 && reader.0.is_empty()).then_some(head)
    }

    /// What the segment's records have in common.
    pub(crate) fn common(&self) -> Common {
        let mut place = [0; ID_BYTES + 8];
        place[..ID_BYTES].copy_from_slice(&self.store);
        place[ID_BYTES..].copy_from_slice(&self.number.to_le_bytes());
        Common {
            seed: xxh3_64_with_seed(&place, 0),
            version: self.version,
            created: self.created,
            lifetime: self.lifetime,
        }
    }
}

const BLOCK_MAGIC: u64 = 0x6b6c_626e;
const WATERMARK_MAGIC: u64 = 0x6b72_6d77;

/// Word of a block header that the watermark is in.
pub(crate) const WATERMARK_WORD: usize = 2;

/// Up to where a block, or a span of them, was on stable storage; one word of its header.
///
/// Written after the sync that it tells of, so it is never ahead of what a power loss leaves. One
/// word, as a power loss may keep one word of a line and lose the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Bytes from the block's beginning, its header included; a multiple of the unit, not zero.
    pub(crate) bytes: u64,
}

impl Watermark {
    pub(crate) fn encode(self, index: u32, common: &Common) -> u64 {
        let units = (self.bytes / UNIT_BYTES) & 0xffff_ffff;
        Self::check(units, index, common) | units
    }

    /// `Ok(None)` where none was written, `Err` for a damaged one.
    pub(crate) fn decode(word: u64, index: u32, common: &Common) -> Result<Option<Self>, ()> {
        if word == 0 {
            return Ok(None);
        }
        let units = word & 0xffff_ffff;
        if Self::check(units, index, common) | units != word {
            return Err(());
        }
        Ok(Some(Self { bytes: units * UNIT_BYTES }))
    }

    /// In the upper half of the word.
    fn check(units: u64, index: u32, common: &Common) -> u64 {
        let placed = u64::from(index) << 32 | units;
        xxh3_64_with_seed(&placed.to_le_bytes(), common.seed ^ WATERMARK_MAGIC) >> 32 << 32
    }
}

/// Words of a block header that say what block it is.
pub(crate) const BLOCK_HEADER_WORDS: usize = 2;

/// A block's header: which block it is, and how many blocks its one record takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) index: u32,
    /// 1, or more where a single record takes this many consecutive blocks.
    pub(crate) span: u32,
}

impl BlockHeader {
    pub(crate) fn encode(self, common: &Common) -> [u64; BLOCK_HEADER_WORDS] {
        let place = u64::from(self.index) << 32 | u64::from(self.span);
        [place, Self::check(place, common)]
    }

    /// `Ok(None)` for a block never claimed, `Err` for one with a damaged header.
    pub(crate) fn decode(
        words: [u64; BLOCK_HEADER_WORDS],
        index: u32,
        common: &Common,
    ) -> Result<Option<Self>, ()> {
        if words == [0; BLOCK_HEADER_WORDS] {
            return Ok(None);
        }
        let [place, check] = words;
        let (Ok(found), Ok(span)) =
            (u32::try_from(place >> 32), u32::try_from(place & 0xffff_ffff))
        else {
            return Err(());
        };
        if check != Self::check(place, common) || found != index || span == 0 {
            return Err(());
        }
        Ok(Some(Self { index, span }))
    }

    fn check(place: u64, common: &Common) -> u64 {
        xxh3_64_with_seed(&place.to_le_bytes(), common.seed ^ BLOCK_MAGIC)
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockHeader, SEGMENT_HEAD_BYTES, SegmentHead, Watermark};

    fn head() -> SegmentHead {
        SegmentHead {
            store: [5; 16],
            number: 6,
            bytes: 1 << 20,
            ends: 9,
            version: 10,
            created: 11,
            lifetime: 12,
        }
    }

    #[test]
    fn a_head_comes_back_and_no_single_bit_flip_goes_unnoticed() {
        let bytes = head().encode();
        assert_eq!(bytes.len(), SEGMENT_HEAD_BYTES);
        assert_eq!(SegmentHead::decode(&bytes), Some(head()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_watermark_is_bound_to_its_place_and_no_single_bit_flip_goes_unnoticed() {
        let common = head().common();
        let watermark = Watermark { bytes: 4128 };
        let word = watermark.encode(3, &common);
        assert_eq!(Watermark::decode(word, 3, &common), Ok(Some(watermark)));
        assert_eq!(Watermark::decode(word, 4, &common), Err(()));
        assert_eq!(Watermark::decode(0, 3, &common), Ok(None));
        for bit in 0..64 {
            assert_eq!(Watermark::decode(word ^ 1 << bit, 3, &common), Err(()), "bit {bit}");
        }
    }

    #[test]
    fn a_block_header_is_bound_to_its_place() {
        let common = head().common();
        let header = BlockHeader { index: 4, span: 2 };
        let words = header.encode(&common);
        assert_eq!(BlockHeader::decode(words, 4, &common), Ok(Some(header)));
        assert_eq!(BlockHeader::decode(words, 5, &common), Err(()));
        let other = SegmentHead { number: 7, ..head() }.common();
        assert_eq!(BlockHeader::decode(words, 4, &other), Err(()));
        assert_eq!(BlockHeader::decode([0, 0], 4, &common), Ok(None));
    }
}
