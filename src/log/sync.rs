//! What of the log is on stable storage: found out by syncs, kept block by block, and written down.
//!
//! A round takes note how far every block is written, syncs the segments of which something is
//! new, and only then raises the blocks' watermarks to what it took note of. A record is durable
//! when it begins below the watermark of its block. Nothing of this is done where records are
//! appended: a cursor says how far it is when it is asked, or when it is given up.
//!
//! Each watermark is also written into its block's header, for the recovery that may come. That
//! word reaches the disk with the next round, or when the system writes the page by itself, so the
//! watermark that recovery finds may lag behind by a round, and is never ahead.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::sync::Arc;

use crate::error::Result;
use crate::format::layout::{BLOCK_BYTES, CHUNK_BYTES};
use crate::format::location::Location;
use crate::format::manifest::ListedDurability;
use crate::format::segment::{WATERMARK_WORD, Watermark};
use crate::log::Log;
use crate::log::segment::{Segment, Written};
use crate::sys::arena::{Arena, LINE_SLOTS};
use crate::sys::sync::Mutex;
use crate::sys::words;

/// Blocks with their segments.
type Parts = Vec<(Arc<Segment>, Written)>;

/// How far each block is on stable storage.
#[derive(Debug)]
pub(crate) struct Durable {
    /// By block of the address space: the address below which records are durable.
    marks: Arena,
    /// Held while watermarks are raised, so that none is raised in a place given to another
    /// segment meanwhile.
    raising: Mutex<()>,
}

impl Durable {
    pub(crate) fn new(chunks: usize) -> io::Result<Self> {
        let blocks = chunks * (CHUNK_BYTES / BLOCK_BYTES) as usize;
        let lines = blocks.div_ceil(LINE_SLOTS);
        Ok(Self { marks: Arena::reserve(lines, lines)?, raising: Mutex::default() })
    }

    /// The watermark of the block that an address lies in.
    fn mark(&self, at: u64) -> Option<&AtomicU64> {
        let block = usize::try_from(at / BLOCK_BYTES).ok()?;
        self.marks.line(block / LINE_SLOTS)?.0.get(block % LINE_SLOTS)
    }

    fn has(&self, at: u64) -> bool {
        self.mark(at).is_some_and(|mark| at < mark.load(Ordering::Acquire))
    }

    /// True when something of the blocks was written since they were last synced.
    fn lacks(&self, written: &Written) -> bool {
        let mark = self.mark(written.start).map_or(0, |mark| mark.load(Ordering::Acquire));
        mark < written.next
    }

    fn raise(&self, written: &Written) {
        let mut at = written.start;
        // Records may begin in any block of a span.
        while at < written.limit {
            if let Some(mark) = self.mark(at) {
                mark.fetch_max(written.next, Ordering::Release);
            }
            at = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        }
    }

    /// The segment's file stays as it is: watermarks are not written to it any more, as what it
    /// holds is about to be durable as a whole.
    pub(crate) fn fix(&self, segment: &Segment) {
        let _raising = self.raising.lock();
        segment.fixed.store(true, Ordering::Release);
    }

    /// The segment's place is given up.
    pub(crate) fn forget(&self, segment: &Segment) {
        let _raising = self.raising.lock();
        segment.freed.store(true, Ordering::Release);
        for block in 0..u64::from(segment.blocks()) {
            if let Some(mark) = self.mark(segment.at + block * BLOCK_BYTES)
                && mark.load(Ordering::Relaxed) != 0
            {
                mark.store(0, Ordering::Release);
            }
        }
    }
}

impl Log {
    /// True when the record at `location` is on stable storage, or counts no more.
    pub(crate) fn is_durable(&self, location: Location) -> bool {
        self.durable.has(location.bytes()) || self.table.is_durable(location.chunk())
    }

    /// Everything appended before the call is on stable storage when it returns.
    ///
    /// One caller at a time. Costs a sync for each segment in which something is new.
    ///
    /// # Errors
    /// As the system answers: then nothing counts as synced that did not before.
    pub(crate) fn sync(&self) -> Result<()> {
        let parts = self.unsynced();
        let mut synced: Vec<u64> = Vec::new();
        for (segment, _) in &parts {
            if !synced.contains(&segment.number) {
                segment.sync()?;
                synced.push(segment.number);
            }
        }
        self.raise(&parts);
        Ok(())
    }

    /// Bytes appended that no sync has covered yet.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        let missing = |(_, written): &(_, Written)| {
            let mark = self.durable.mark(written.start);
            let mark = mark.map_or(0, |mark| mark.load(Ordering::Acquire));
            written.next - mark.clamp(written.start, written.next)
        };
        self.unsynced().iter().map(missing).sum()
    }

    /// The blocks of which something was appended since they were last synced.
    fn unsynced(&self) -> Parts {
        let mut parts = Parts::new();
        // Cursors before given-up blocks, as a cursor may be given up in between.
        for lane in &self.lanes {
            lane.lock().written(&mut parts);
        }
        self.reserve.written(&mut parts);
        self.copies_written(&mut parts);
        let unsealed = self.catalog.lock().unsealed();
        for segment in unsealed {
            let left = segment.left.lock();
            parts.extend(left.iter().map(|written| (segment.clone(), *written)));
        }
        parts.retain(|(_, written)| self.durable.lacks(written));
        parts
    }

    /// Raises the watermarks, in memory and in the blocks, to what a sync has covered.
    fn raise(&self, parts: &Parts) {
        let _raising = self.durable.raising.lock();
        for (segment, written) in parts {
            if segment.freed.load(Ordering::Acquire) {
                continue;
            }
            self.durable.raise(written);
            // A round that began before the segment was sealed may end after it.
            if !segment.fixed.load(Ordering::Acquire) {
                self.write_watermark(segment, written);
            }
        }
        for (segment, _) in parts {
            segment.left.lock().retain(|written| self.durable.lacks(written));
        }
    }

    fn write_watermark(&self, segment: &Segment, written: &Written) {
        let index = u32::try_from((written.start - segment.at) / BLOCK_BYTES).unwrap_or(u32::MAX);
        let watermark = Watermark { bytes: written.next - written.start };
        let at = usize::try_from(written.start / 8).unwrap_or(usize::MAX);
        if let Some(word) = self.space.words().get(at.saturating_add(WATERMARK_WORD)) {
            words::store_release(word, watermark.encode(index, &segment.common));
        }
    }

    /// The level that the store is opened at, for its manifest.
    pub(crate) fn note_durability(&self, durability: ListedDurability) {
        self.catalog.lock().durability = durability;
    }

    /// All of a segment was synced that nothing is appended to any more.
    pub(crate) fn mark_durable(&self, segment: &Segment) {
        self.table.mark_durable(segment.chunks());
        segment.left.lock().clear();
    }

    /// Brings what recovery found in a segment to stable storage before anybody is told of it.
    ///
    /// What an earlier process could not sync is in memory only, and may pass there for written.
    /// So everything above the watermarks is written once more, word by word the same.
    pub(crate) fn settle(&self, segment: &Arc<Segment>, found: &[Written]) -> Result<()> {
        for written in found {
            let mut at = written.start;
            while at < written.next {
                if let Some(word) = self.space.words().get(usize::try_from(at / 8).unwrap_or(0)) {
                    words::store(word, words::load(word));
                }
                at += PAGE_BYTES;
            }
        }
        segment.sync()?;
        self.mark_durable(segment);
        for written in found {
            self.write_watermark(segment, written);
        }
        Ok(())
    }
}

/// Bytes that one write makes the system write.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Log;
    use crate::format::record::{Kind, Marks};
    use crate::key::KeyHasher;
    use crate::log::Draft;
    use crate::log::catalog::Sizes;
    use crate::sys::memory_disk::MemoryDisk;
    use crate::sys::words;
    use crate::time::Timestamp;

    #[test]
    fn a_round_that_ends_after_a_segment_was_sealed_leaves_its_file_as_it_is() {
        let sizes = Sizes { min: 1 << 20, max: 1 << 20, limit: 1 << 28, total: u64::MAX };
        let log = Log::new(Arc::new(MemoryDisk::default()), [7; 16], 1, sizes, 1).unwrap();
        let hasher = KeyHasher::new([3; 192]);
        let now = Timestamp::from_millis(5);
        let segment = log.provide(0, Timestamp::NEVER, 100, now, u64::MAX).unwrap().unwrap();
        let hash = hasher.hash(b"key");
        let draft = Draft {
            kind: Kind::Completed,
            marks: Marks::NONE,
            key: b"key",
            outcome: b"outcome",
            hash,
            created: now,
            expires: Timestamp::NEVER,
            after: None,
        };
        let appended = log.append(0, Timestamp::NEVER, &draft, hash.digest(draft.outcome));
        let (location, _) = appended.ok().unwrap();
        let contents = || -> Vec<u64> { log.words(&segment).iter().map(words::load).collect() };
        let parts = log.unsynced();
        assert_eq!(parts.len(), 1);
        log.withdraw(&segment);
        log.seal(&segment, &hasher, now).unwrap();
        let sealed = contents();
        log.raise(&parts);
        assert!(contents() == sealed, "a watermark was written");
        assert!(log.is_durable(location));
    }
}
