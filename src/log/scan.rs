//! Reads a segment block by block and says how each block ended: clean, torn or damaged.
//!
//! Within a block records follow each other without gaps, so the first place without a valid
//! record is the block's end: zeros if the lane stopped there, something else if it was torn off
//! while writing. Should valid records follow nevertheless, they are found by trying every unit,
//! and kept: what lies between is counted as damage.
//!
//! A bundle is one item: either all of its members are valid, or none of them is a record.
//!
//! A block that ends below its watermark has lost what was on stable storage once: that is no torn
//! tail, whatever it looks like.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::bundle::{BUNDLE_HEADER_BYTES, BundleHeader, MembersDigest};
use crate::format::layout::{BLOCK_BYTES, BLOCK_HEADER_BYTES, UNIT_BYTES, block_start};
use crate::format::location::Location;
use crate::format::record::{Common, Header, Marks};
use crate::format::segment::{BlockHeader, WATERMARK_WORD, Watermark};
use crate::key::{KeyHash, KeyHasher};
use crate::log::segment::Segment;
use crate::log::view::RecordView;
use crate::log::{Found, Log};
use crate::sys::words;

/// What was found in a segment or in a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanReport {
    pub(crate) records: u64,
    pub(crate) torn_tails: u64,
    pub(crate) torn_bytes: u64,
    /// Offset in the segment of each place where damage precedes a valid record.
    pub(crate) damaged: Vec<u64>,
    /// Offset in the segment of each place below a watermark without the valid record that was
    /// there when it was synced.
    pub(crate) lost: Vec<u64>,
    pub(crate) created_max: u64,
    /// Bytes of valid records above the watermarks.
    pub(crate) unsynced_bytes: u64,
}

impl ScanReport {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.torn_tails += other.torn_tails;
        self.torn_bytes += other.torn_bytes;
        self.damaged.extend_from_slice(&other.damaged);
        self.lost.extend_from_slice(&other.lost);
        self.created_max = self.created_max.max(other.created_max);
        self.unsynced_bytes += other.unsynced_bytes;
    }
}

/// Reads one segment.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    /// The whole segment.
    words: &'a [AtomicU64],
    common: &'a Common,
    hasher: &'a KeyHasher,
    buffer: Vec<u8>,
    /// The record read last, or all members of the bundle.
    found: Vec<(u64, Header, KeyHash)>,
    pub(crate) report: ScanReport,
    /// Where the block read last stops being valid records without a gap, in the segment.
    pub(crate) sound_end: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(words: &'a [AtomicU64], common: &'a Common, hasher: &'a KeyHasher) -> Self {
        let (buffer, found) = (Vec::new(), Vec::new());
        let report = ScanReport::default();
        Self { words, common, hasher, buffer, found, report, sound_end: 0 }
    }

    /// The blocks that were claimed, in order.
    pub(crate) fn blocks(&mut self) -> Vec<BlockHeader> {
        // The last one may end early, in a hole.
        let count = (self.words.len() as u64 * 8).div_ceil(BLOCK_BYTES);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut blocks = Vec::new();
        let mut index = 0;
        // Blocks are claimed in order, so one without a readable header may have begun a span: what
        // follows it may be the middle of a record.
        let mut follows = true;
        while index < count {
            let found = self.block(index, &mut follows);
            index = index.saturating_add(found.map_or(1, |block| block.span));
            blocks.extend(found);
        }
        blocks
    }

    /// The block's header: `None` if it was never claimed or cannot be read. `follows` says whether
    /// everything before it could be, and says the same of this one then.
    fn block(&mut self, index: u32, follows: &mut bool) -> Option<BlockHeader> {
        let start = block_start(u64::from(index));
        let first = usize::try_from(start / 8).ok()?;
        let word = |at: usize| self.words.get(at).map(words::load);
        let header = BlockHeader::decode([word(first)?, word(first + 1)?], index, self.common);
        let mark = Watermark::decode(word(first + WATERMARK_WORD)?, index, self.common);
        let begins = *follows || matches!(header, Ok(Some(_)));
        let was_synced = match mark {
            Ok(mark) => mark.is_some() && header == Ok(None),
            Err(()) => begins,
        };
        if was_synced {
            self.report.lost.push(start);
        }
        *follows = matches!(header, Ok(Some(_)));
        header.unwrap_or_else(|()| {
            // A lane writes the header before the first record. Torn here, the block is empty;
            // damaged, its records are still worth looking for.
            self.report.torn_tails += 1;
            Some(BlockHeader { index, span: 1 })
        })
    }

    /// Visits the block's records; returns where they end, as an offset in the segment.
    pub(crate) fn records(
        &mut self,
        block: BlockHeader,
        mut visit: impl FnMut(u64, &Header, KeyHash),
    ) -> u64 {
        let mut at = block_start(u64::from(block.index)) + BLOCK_HEADER_BYTES;
        let limit = (u64::from(block.index) + u64::from(block.span)) * BLOCK_BYTES;
        let limit = limit.min(self.words.len() as u64 * 8);
        let mut end = at;
        let mut suspect = None;
        let mut first_gap = None;
        while at < limit {
            // Behind the first record of a span none is long. Asking at each unit of damaged bytes
            // for one as long as a segment could take days on bytes made for it.
            let reach = if suspect.is_some() { limit.min(at + 2 * BLOCK_BYTES) } else { limit };
            if let Some(next) = self.item(at, reach) {
                if let Some(gap) = suspect.take() {
                    self.report.damaged.push(gap);
                }
                for (at, header, hash) in self.found.drain(..) {
                    visit(at, &header, hash);
                    self.report.records += 1;
                    let created = header.created.as_millis();
                    self.report.created_max = self.report.created_max.max(created);
                }
                at = next;
                end = at;
                continue;
            }
            if suspect.is_none() {
                if self.is_zero(at) {
                    break;
                }
                suspect = Some(at);
                first_gap.get_or_insert(at);
            }
            at += UNIT_BYTES;
        }
        self.sound_end = first_gap.unwrap_or(end);
        self.check_watermark(block.index);
        if suspect.is_some() {
            self.report.torn_tails += 1;
            self.report.torn_bytes += self.last_used(end, limit) - end;
        }
        end
    }

    /// Compares what was found in the block read last with what was synced once.
    fn check_watermark(&mut self, index: u32) {
        let start = block_start(u64::from(index));
        let word =
            usize::try_from(start / 8).ok().and_then(|at| self.words.get(at + WATERMARK_WORD));
        // One that is not valid was told by whoever has listed the blocks.
        if let Ok(watermark) = Watermark::decode(word.map_or(0, words::load), index, self.common) {
            let synced = start + watermark.map_or(BLOCK_HEADER_BYTES, |mark| mark.bytes);
            if watermark.is_some() && self.sound_end < synced {
                self.report.lost.push(self.sound_end);
            }
            self.report.unsynced_bytes += self.sound_end.saturating_sub(synced);
        }
    }

    /// Reads the record or the bundle at an offset of the segment; where it ends, if it is valid.
    fn item(&mut self, at: u64, limit: u64) -> Option<u64> {
        self.found.clear();
        if BundleHeader::begins(self.word(at)?) {
            return self.bundle(at, limit);
        }
        let (header, hash) = self.record(at, limit)?;
        // Of a bundle whose header is not there, or is not right.
        if header.marks.has(Marks::MEMBER) {
            return None;
        }
        self.found.push((at, header, hash));
        Some(at + header.record_bytes())
    }

    /// Reads all members of the bundle at an offset of the segment.
    fn bundle(&mut self, at: u64, limit: u64) -> Option<u64> {
        let words = [self.word(at)?, self.word(at + 8)?];
        let bundle = BundleHeader::decode(words, self.common, at)?;
        let mut next = at + BUNDLE_HEADER_BYTES;
        let end = next + bundle.bytes;
        if end > limit {
            return None;
        }
        let mut digest = MembersDigest::default();
        while next < end {
            let (header, hash) = self.record(next, end)?;
            if !header.marks.has(Marks::MEMBER) {
                return None;
            }
            digest.add(self.word(next)?);
            self.found.push((next, header, hash));
            next += header.record_bytes();
        }
        let complete = self.found.len() == bundle.members as usize
            && BundleHeader::members_agree(words, self.common, at, digest);
        complete.then_some(end)
    }

    /// The word at an offset of the segment.
    fn word(&self, at: u64) -> Option<u64> {
        self.words.get(usize::try_from(at / 8).ok()?).map(words::load)
    }

    /// The valid record at an offset of the segment, alone or in a bundle.
    fn record(&mut self, at: u64, limit: u64) -> Option<(Header, KeyHash)> {
        let words = self.words.get(usize::try_from(at / 8).ok()?..)?;
        let view = RecordView::read(words, self.common, at, true)?;
        if at + view.header.record_bytes() > limit || view.header.key_len == 0 {
            return None;
        }
        let hash = view.verify(self.common, at, self.hasher, &mut self.buffer)?;
        Some((view.header, hash))
    }

    /// True when nothing was written at this place.
    fn is_zero(&self, at: u64) -> bool {
        let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
        let unit = self.words.get(first..first.saturating_add(2)).unwrap_or_default();
        unit.iter().all(|word| words::load(word) == 0)
    }

    /// End of the last unit in `from..limit` that is not zero.
    fn last_used(&self, from: u64, limit: u64) -> u64 {
        let mut at = limit;
        while at > from && self.is_zero(at - UNIT_BYTES) {
            at -= UNIT_BYTES;
        }
        at
    }
}

impl Log {
    /// Visits the records of a segment by their headers alone, up to the first gap of each block.
    pub(crate) fn visit(
        &self,
        segment: &Segment,
        hasher: &KeyHasher,
        mut visit: impl FnMut(Location, &RecordView<'_>),
    ) {
        for block in Scanner::new(self.words(segment), &segment.common, hasher).blocks() {
            let mut at = block_start(u64::from(block.index)) + BLOCK_HEADER_BYTES;
            let limit = (u64::from(block.index) + u64::from(block.span)) * BLOCK_BYTES;
            while at < limit {
                let location = Self::location(segment, at);
                match self.view(location) {
                    Found::Record(view) => {
                        visit(location, &view);
                        at += view.header.record_bytes();
                    }
                    // Its members follow it like other records.
                    _ if self.begins_bundle(segment, at) => at += BUNDLE_HEADER_BYTES,
                    Found::Dead | Found::Damaged => break,
                }
            }
        }
    }

    fn begins_bundle(&self, segment: &Segment, at: u64) -> bool {
        let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
        let header = self.words(segment).get(first..).and_then(<[_]>::first_chunk::<2>);
        header.is_some_and(|words| {
            BundleHeader::decode([&words[0], &words[1]].map(words::load), &segment.common, at)
                .is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Scanner;
    use crate::format::layout::{BLOCK_BYTES, HEAD_BYTES};
    use crate::format::record::{Common, Header, Kind};
    use crate::format::segment::BlockHeader;
    use crate::key::{KeyHasher, SECRET_BYTES};
    use crate::sys::sync::atomic::AtomicU64;
    use crate::sys::words;
    use crate::time::Timestamp;
    use crate::version::Version;

    /// A segment can be made to say at each of its units that the rest of it is one record.
    #[test]
    fn behind_damage_no_record_as_long_as_a_segment_is_looked_for() {
        let common = Common { seed: 1, version: 0, created: 0, lifetime: 0 };
        let hasher = KeyHasher::new([7; SECRET_BYTES]);
        let found = |gap: u64, outcome: u32| {
            let segment: Vec<AtomicU64> = (0..(1 << 20) / 8).map(|_| AtomicU64::new(0)).collect();
            let put = |at: u64, values: &[u64]| {
                let first = usize::try_from(at / 8).unwrap();
                segment[first..].iter().zip(values).for_each(|(to, from)| words::store(to, *from));
            };
            put(HEAD_BYTES, &BlockHeader { index: 0, span: 16 }.encode(&common));
            let start = HEAD_BYTES + 64;
            if gap > 0 {
                put(start, &[u64::MAX; 2]);
            }
            let (never, now) = (Timestamp::NEVER, Timestamp::from_millis(1));
            let header =
                Header::new(Kind::Completed, (8, outcome), Version::from_u64(1), now, never);
            let payload = vec![0; outcome as usize];
            let digest = hasher.hash(&7_u64.to_le_bytes()).digest(&payload);
            put(start + gap, &header.encode(&common, start + gap, digest));
            put(start + gap + 48, &[7]);
            let mut scanner = Scanner::new(&segment, &common, &hasher);
            let blocks = scanner.blocks();
            assert_eq!(blocks.len(), 1);
            scanner.records(blocks[0], |_, _, _| {});
            scanner.report.records
        };
        let long = 3 * u32::try_from(BLOCK_BYTES).unwrap();
        assert_eq!((found(0, long), found(16, 1000), found(16, long)), (1, 1, 0));
    }
}
