//! One segment through its life: prepared, open, full, sealed, dropped.

use crate::sys::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::identity::ID_BYTES;
use crate::format::layout::{BLOCK_BYTES, CHUNK_BYTES, run_file, segment_file};
use crate::format::manifest::{Listed, ListedState};
use crate::format::record::Common;
use crate::format::segment::SegmentHead;
use crate::sys::disk::{Disk, SegmentFile};
use crate::sys::space::Space;
use crate::sys::sync::Mutex;
use crate::sys::words;
use crate::time::Timestamp;

/// How long after its beginning a segment may take its first record: an hour, of the four and a
/// half that compact headers reach.
const AGE_MS_MAX: u64 = 3_600_000;

/// A file with its place in memory that no bucket uses yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) file: Box<dyn SegmentFile>,
}

impl Prepared {
    /// Makes it the segment of a bucket, by writing its head.
    ///
    /// The head is on stable storage before the first record: a power loss that takes the head
    /// would otherwise make what else survived unreadable, and look like damage.
    pub(crate) fn begin(
        self,
        store: [u8; ID_BYTES],
        ends: Timestamp,
        version: u64,
        now: Timestamp,
        lifetime: u64,
        space: &Space,
    ) -> Result<Segment> {
        let Self { number, at, bytes, file } = self;
        let (ends, created) = (ends.as_millis(), now.as_millis());
        let head = SegmentHead { store, number, bytes, ends, version, created, lifetime };
        let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
        words::write_bytes(space.words().get(first..).unwrap_or_default(), &head.encode());
        file.sync_head(space, usize::try_from(at).unwrap_or(usize::MAX))?;
        let segment = Segment::new(&head, at, file);
        segment.floor.store(version, Ordering::Release);
        Ok(segment)
    }
}

/// How far a cursor has written its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Where the header of its first block lies in the address space.
    pub(crate) start: u64,
    /// Where its last block ends.
    pub(crate) limit: u64,
    /// Where its next record would begin: everything before is complete.
    pub(crate) next: u64,
}

/// A segment and its file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Where it begins in the address space.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// When all of it has expired.
    pub(crate) ends: Timestamp,
    pub(crate) common: Common,
    file: Box<dyn SegmentFile>,
    /// Bytes that are more than a hole: reading a hole through the mapping takes room on some file
    /// systems, and without any it ends the process.
    readable: AtomicU64,
    /// Held while the file is synced; true once that has failed.
    sync_failed: Mutex<bool>,
    /// What cursors have written that were given up, as long as it may have to be synced.
    pub(crate) left: Mutex<Vec<Written>>,
    /// Its place may be another segment's by now.
    pub(crate) freed: AtomicBool,
    /// It counts among the segments dropped and not swept.
    pub(crate) dropped: AtomicBool,
    /// Blocks claimed so far; changed under the catalog's lock.
    pub(crate) claimed: AtomicU32,
    /// Lanes' blocks in it.
    pub(crate) cursors: AtomicU32,
    sealed: AtomicBool,
    pub(crate) records: AtomicU64,
    /// Bytes up to which its blocks hold records, once it is sealed.
    pub(crate) used: AtomicU64,
    /// No record in it has a version below this one; 0 where that is not known.
    pub(crate) floor: AtomicU64,
    /// How much compaction had given back when the tombstones in it were last found to be needed.
    pub(crate) looked_at: AtomicU64,
    /// Records of leases under way that were found in it at open.
    pub(crate) started: AtomicU64,
    /// Damage was found in it, so that it is left as it is.
    pub(crate) unsound: AtomicBool,
    /// No byte of its file changes any more, not even a watermark.
    pub(crate) fixed: AtomicBool,
}

/// The tombstones of a segment were not looked at yet.
pub(crate) const NEVER_LOOKED_AT: u64 = u64::MAX;

impl Segment {
    pub(crate) fn new(head: &SegmentHead, at: u64, file: Box<dyn SegmentFile>) -> Self {
        Self {
            number: head.number,
            at,
            bytes: head.bytes,
            ends: Timestamp::from_millis(head.ends),
            common: head.common(),
            readable: AtomicU64::new(head.bytes),
            file,
            sync_failed: Mutex::default(),
            left: Mutex::default(),
            freed: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            claimed: AtomicU32::new(0),
            cursors: AtomicU32::new(0),
            sealed: AtomicBool::new(false),
            records: AtomicU64::new(0),
            used: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            looked_at: AtomicU64::new(NEVER_LOOKED_AT),
            started: AtomicU64::new(0),
            unsound: AtomicBool::new(false),
            fixed: AtomicBool::new(false),
        }
    }

    /// True for a segment without records that was begun too long ago to become a bucket's: so far
    /// from its time of creation records would take wide headers.
    pub(crate) fn is_aged(&self, now: Timestamp) -> bool {
        self.age_ms(now) >= AGE_MS_MAX
    }

    /// True when a segment without records will soon be too old.
    pub(crate) fn is_aging(&self, now: Timestamp) -> bool {
        self.age_ms(now) >= AGE_MS_MAX / 2
    }

    fn age_ms(&self, now: Timestamp) -> u64 {
        now.as_millis().saturating_sub(self.common.created)
    }

    /// The file and its place, for another head; no record was written.
    pub(crate) fn unused(self) -> Prepared {
        Prepared { number: self.number, at: self.at, bytes: self.bytes, file: self.file }
    }

    pub(crate) fn blocks(&self) -> u32 {
        u32::try_from(self.bytes / BLOCK_BYTES).unwrap_or(u32::MAX)
    }

    /// The chunks of the address space that it takes.
    pub(crate) fn chunks(&self) -> Range<u64> {
        let first = self.at / CHUNK_BYTES;
        first..first + self.bytes / CHUNK_BYTES
    }

    /// Looks for the hole at the end of a file that was found.
    pub(crate) fn skip_hole(&self) {
        self.readable.store(self.file.data_end().min(self.bytes), Ordering::Release);
    }

    /// The segment's words in the whole space, without a hole at its end.
    pub(crate) fn words<'a>(&self, space: &'a [AtomicU64]) -> &'a [AtomicU64] {
        let first = usize::try_from(self.at / 8).unwrap_or(usize::MAX);
        let count = usize::try_from(self.readable.load(Ordering::Acquire) / 8).unwrap_or(0);
        space.get(first..).and_then(|words| words.get(..count)).unwrap_or_default()
    }

    /// No block is left to claim.
    pub(crate) fn is_full(&self) -> bool {
        self.claimed.load(Ordering::Acquire) >= self.blocks()
    }

    /// So much of it is used that the bucket will need another one soon.
    pub(crate) fn is_half_full(&self) -> bool {
        self.claimed.load(Ordering::Relaxed) * 2 > self.blocks()
    }

    /// Nothing is written to it any more, and it is not sealed yet.
    pub(crate) fn is_sealable(&self) -> bool {
        !self.is_sealed() && self.is_full() && self.cursors.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn mark_sealed(&self, records: u64) {
        self.records.store(records, Ordering::Release);
        self.sealed.store(true, Ordering::Release);
    }

    /// Returns once everything written before the call is on stable storage.
    ///
    /// After a failure it fails for good: the system tells of one to a single caller, and answers
    /// the next as if what is lost had been written.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut failed = self.sync_failed.lock();
        if *failed {
            let reason = "an earlier sync of the segment failed".into();
            return Err(Error::Indeterminate { reason });
        }
        let synced = self.file.sync();
        *failed = synced.is_err();
        synced
    }

    /// Gives the blocks never claimed back to the disk.
    pub(crate) fn trim(&self, used_bytes: u64) {
        self.readable.fetch_min(used_bytes, Ordering::AcqRel);
        self.file.punch(used_bytes, self.bytes);
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        let run =
            if self.is_sealed() { self.records.load(Ordering::Relaxed) * 8 + 4096 } else { 0 };
        self.file.allocated_bytes() + run
    }

    pub(crate) fn listed(&self) -> Listed {
        let sealed = self.is_sealed();
        Listed {
            number: self.number,
            bytes: self.bytes,
            state: if sealed { ListedState::Sealed } else { ListedState::Open },
            records: if sealed { self.records.load(Ordering::Acquire) } else { 0 },
        }
    }

    pub(crate) fn remove_files(&self, disk: &dyn Disk) -> Result<()> {
        disk.remove(&run_file(self.number))?;
        disk.remove(&segment_file(self.number))
    }
}
