//! Room kept back for completions, so that a full disk cannot keep finished work from being told.
//!
//! Every lease that is given out promises room for its completion. Promises are counted in total
//! and for each block that the lease's record lies in: when the record is superseded, or expires
//! with its segment, its promise ends. For twice the promised bytes segments are prepared ahead
//! and kept, allocated and listed but unused. Twice, as a record does not begin in a block that
//! has no room for it.
//!
//! A block has one lane, and lanes take from the total in larger amounts, so that threads that
//! begin and end leases do not meet at one counter.
//!
//! Only when a completion finds no room elsewhere is a kept segment opened. All of them then go to
//! one cursor in it, whatever their buckets, so that no room is lost between buckets: its end is
//! beyond the expiry of every completion promised so far.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::ops::Range;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::error::{Error, Result};
use crate::format::layout::{BLOCK_BYTES, CHUNK_BYTES, HEAD_BYTES};
use crate::format::location::Location;
use crate::format::record::{Header, Kind};
use crate::log::lane::{Cursor, Lane};
use crate::log::segment::{Prepared, Segment, Written};
use crate::log::{Draft, Log};
use crate::sys::arena::{Arena, LINE_SLOTS};
use crate::sys::sync::Mutex;
use crate::time::Timestamp;
use crate::version::Version;

/// What a lane takes from the total, and gives back, at a time.
const CREDIT_BYTES: u64 = 16 << 10;
/// Kept beyond what is promised: the blocks that a segment ends with may be of no use.
const SLACK_BYTES: u64 = 4 * BLOCK_BYTES;
/// Kept for removals, which may use half of it.
const REMOVAL_BYTES: u64 = 8 * BLOCK_BYTES;

/// What is promised and what is kept.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// Promised to leases, and taken by lanes for the next ones.
    promised: AtomicU64,
    kept: AtomicU64,
    /// What each lane has taken and not promised yet.
    credits: Box<[CachePadded<AtomicU64>]>,
    /// Promised bytes by the block that the lease's record lies in.
    by_block: Arena,
    /// The latest expiry that a promised completion may have.
    latest_ms: AtomicU64,
    /// What removals may still use of the room kept.
    removals: AtomicU64,
    open: Mutex<Open>,
}

/// The kept segment that is being used up, if one is.
#[derive(Debug, Default)]
struct Open {
    lane: Lane,
    segment: Option<Arc<Segment>>,
}

/// A record that was put into a kept segment.
#[derive(Debug)]
pub(crate) struct Urgent {
    pub(crate) location: Location,
    pub(crate) version: Version,
    /// The segment, if it was opened for this record, and the end of its bucket.
    pub(crate) opened: Option<(Timestamp, u64)>,
}

impl Reserve {
    pub(crate) fn new(chunks: usize, lanes: usize) -> std::io::Result<Self> {
        let lines = (chunks * BLOCKS_PER_CHUNK).div_ceil(LINE_SLOTS);
        Ok(Self {
            promised: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            credits: (0..lanes).map(|_| CachePadded::default()).collect(),
            by_block: Arena::reserve(lines, lines)?,
            latest_ms: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            open: Mutex::default(),
        })
    }

    fn block(&self, block: u64) -> Option<&AtomicU64> {
        let block = usize::try_from(block).ok()?;
        self.by_block.line(block / LINE_SLOTS)?.0.get(block % LINE_SLOTS)
    }

    /// Takes bytes out of what the lane has taken from the total; false if it has too few.
    fn spend(&self, lane: usize, bytes: u64) -> bool {
        let credit = self.credits.get(lane % self.credits.len());
        let less = |credit: u64| credit.checked_sub(bytes);
        credit.is_some_and(|credit| {
            credit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        })
    }

    /// Lets the lane promise the bytes anew; what is more than it needs goes back to the total.
    pub(crate) fn take_back(&self, lane: usize, bytes: u64) {
        let Some(credit) = self.credits.get(lane % self.credits.len()) else { return };
        if credit.fetch_add(bytes, Ordering::SeqCst) + bytes > 2 * CREDIT_BYTES {
            let excess = bytes.max(CREDIT_BYTES);
            if self.spend(lane, excess) {
                self.promised.fetch_sub(excess, Ordering::SeqCst);
            }
        }
    }

    /// The promise is kept by the lease's record at `location`.
    pub(crate) fn attach(&self, location: Location, bytes: u64) {
        if let Some(block) = self.block(location.bytes() / BLOCK_BYTES) {
            block.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    /// The promise kept by the record at `location` has ended.
    pub(crate) fn detach(&self, lane: usize, location: Location, bytes: u64) {
        let Some(block) = self.block(location.bytes() / BLOCK_BYTES) else { return };
        // Less than that is left where the segment was dropped meanwhile: then it is settled.
        let left = |all: u64| Some(all.saturating_sub(bytes));
        if let Ok(before) = block.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            self.take_back(lane, before.min(bytes));
        }
    }

    /// Takes a promise of the record at `location` out, to be attached elsewhere; its bytes.
    pub(crate) fn take_out(&self, location: Location, bytes: u64) -> u64 {
        let Some(block) = self.block(location.bytes() / BLOCK_BYTES) else { return 0 };
        let left = |all: u64| Some(all.saturating_sub(bytes));
        let before = block.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        before.map_or(0, |before| before.min(bytes))
    }

    /// The records in these chunks are forgotten, and with them what they kept.
    pub(crate) fn forget(&self, chunks: Range<u64>) {
        let blocks = chunks.start * BLOCKS_PER_CHUNK as u64..chunks.end * BLOCKS_PER_CHUNK as u64;
        for block in blocks.filter_map(|block| self.block(block)) {
            let bytes = block.swap(0, Ordering::SeqCst);
            self.promised.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    /// Nothing more is written to the segment.
    pub(crate) fn leave(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock();
        open.lane.leave(segment);
        open.segment.take_if(|own| Arc::ptr_eq(own, segment));
    }

    /// Adds how far the kept segment in use is written.
    pub(crate) fn written(&self, parts: &mut Vec<(Arc<Segment>, Written)>) {
        self.open.lock().lane.written(parts);
    }

    /// Room was promised to a lease that may still be under way.
    pub(crate) fn has_promises(&self) -> bool {
        self.promised() > 0
    }

    /// Bytes promised to leases under way; for what it is worth while others promise more.
    pub(crate) fn promised(&self) -> u64 {
        let credits = self.credits.iter().map(|credit| credit.load(Ordering::SeqCst));
        let credits = credits.sum::<u64>();
        self.promised.load(Ordering::SeqCst).saturating_sub(credits)
    }

    fn missing(&self) -> u64 {
        let needed = self.promised.load(Ordering::SeqCst).saturating_mul(2);
        let needed = needed + SLACK_BYTES + REMOVAL_BYTES;
        needed.saturating_sub(self.kept.load(Ordering::SeqCst))
    }
}

impl Log {
    /// Promises room for a completion of up to `bytes` that expires at `latest` at the latest.
    ///
    /// # Errors
    /// `Full` if it cannot be kept; nothing is promised then.
    #[inline]
    pub(crate) fn promise(
        &self,
        lane: usize,
        bytes: u64,
        latest: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let reserve = &self.reserve;
        if reserve.latest_ms.load(Ordering::Relaxed) < latest.as_millis() {
            reserve.latest_ms.fetch_max(latest.as_millis(), Ordering::SeqCst);
        }
        if reserve.spend(lane, bytes) { Ok(()) } else { self.promise_more(lane, bytes, now) }
    }

    /// Promises the bytes, with some ahead for the lane.
    #[cold]
    fn promise_more(&self, lane: usize, bytes: u64, now: Timestamp) -> Result<()> {
        let reserve = &self.reserve;
        reserve.promised.fetch_add(bytes + CREDIT_BYTES, Ordering::SeqCst);
        let kept = if reserve.missing() == 0 { Ok(()) } else { self.keep_more(now) };
        if kept.is_err() {
            reserve.promised.fetch_sub(CREDIT_BYTES, Ordering::SeqCst);
            // It may do without anything ahead.
            if reserve.missing() > 0 {
                reserve.promised.fetch_sub(bytes, Ordering::SeqCst);
                return kept;
            }
            return Ok(());
        }
        reserve.take_back(lane, CREDIT_BYTES);
        Ok(())
    }

    /// Stands by a promise that an earlier process has made to the lease at `location`, whether or
    /// not there is room yet: until there is, no other lease is begun.
    pub(crate) fn promise_again(&self, location: Location, bytes: u64, latest: Timestamp) {
        self.reserve.latest_ms.fetch_max(latest.as_millis(), Ordering::SeqCst);
        self.reserve.promised.fetch_add(bytes, Ordering::SeqCst);
        self.reserve.attach(location, bytes);
    }

    /// True while less is kept than promises need.
    pub(crate) fn wants_kept(&self) -> bool {
        self.reserve.missing() > 0
    }

    /// Keeps a file that was prepared.
    pub(crate) fn keep(&self, prepared: Prepared) {
        self.reserve.kept.fetch_add(prepared.bytes, Ordering::SeqCst);
        self.catalog.lock().put_reserve(prepared);
    }

    /// Keeps room for the promises of an earlier process, as far as there is any.
    pub(crate) fn keep_for_earlier(&self, now: Timestamp) -> Result<()> {
        if !self.reserve.has_promises() || !self.wants_kept() {
            return Ok(());
        }
        match self.keep_more(now) {
            // Maintenance tries again.
            Err(Error::Full { .. }) => Ok(()),
            done => done,
        }
    }

    /// Prepares segments until enough is kept.
    #[cold]
    fn keep_more(&self, now: Timestamp) -> Result<()> {
        let _growing = self.growing.lock();
        loop {
            let missing = self.reserve.missing();
            if missing == 0 {
                return Ok(());
            }
            let bytes = self.catalog.lock().reserve_bytes(missing);
            // What is promised goes before what only saves time.
            self.keep(self.before_spares(now, || self.prepare_within(bytes, now))?);
        }
    }

    /// Keeps room for removals, once there is something to remove.
    pub(crate) fn keep_for_removals(&self, now: Timestamp) -> Result<()> {
        if self.reserve.missing() > 0 {
            if self.catalog.lock().all().is_empty() {
                return Ok(());
            }
            self.keep_more(now)?;
        }
        self.reserve.removals.store(REMOVAL_BYTES / 2, Ordering::SeqCst);
        Ok(())
    }

    /// Writes a removal to a kept segment, as long as that takes nothing from what is promised.
    pub(crate) fn append_removal(&self, draft: &Draft<'_>, digest: u64) -> Result<Urgent> {
        let bytes = Header::record_bytes_max(draft.key.len() as u64, 0);
        let less = |left: u64| left.checked_sub(bytes);
        let spent = self.reserve.removals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        spent.map_err(|_| Error::Full { what: "disk space" })?;
        self.append_urgently(draft, digest)
    }

    /// Writes a promised record, or a removal, to a kept segment.
    pub(crate) fn append_urgently(&self, draft: &Draft<'_>, digest: u64) -> Result<Urgent> {
        let bytes = Header::record_bytes_max(draft.key.len() as u64, draft.outcome.len() as u64);
        let span = u32::try_from((bytes + HEAD_BYTES + 64).div_ceil(BLOCK_BYTES))
            .map_err(|_| Error::Full { what: "segment space" })?;
        let mut open = self.reserve.open.lock();
        let mut opened = None;
        loop {
            let fits = |segment: &&Arc<Segment>| draft.expires <= segment.ends;
            if let Some(segment) = open.segment.clone().as_ref().filter(fits) {
                let words = self.space.words();
                let appended = open.lane.append(words, &self.versions, segment.ends, draft, digest);
                if let Ok((location, version)) = appended {
                    return Ok(Urgent { location, version, opened });
                }
                if let Some(block) = self.catalog.lock().claim_in(segment, span) {
                    let cursor = Cursor::begin(segment.clone(), block, span, words);
                    open.lane.add(cursor);
                    continue;
                }
            }
            // A removal does not end the use of a segment that has room for completions.
            let in_use = open.segment.as_ref().is_some_and(|segment| !segment.is_full());
            if in_use && draft.kind == Kind::Removed {
                return Err(Error::Full { what: "disk space" });
            }
            let segment = self.open_kept(span, draft)?;
            opened = Some((segment.ends, segment.number));
            if let Some(before) = open.segment.replace(segment) {
                open.lane.leave(&before);
                self.catalog.lock().deactivate(&before);
            }
        }
    }

    /// Begins a kept segment with room for `span` blocks.
    fn open_kept(&self, span: u32, draft: &Draft<'_>) -> Result<Arc<Segment>> {
        self.check_listed(draft.created)?;
        let bytes = u64::from(span) * BLOCK_BYTES;
        let kept = self.catalog.lock().take_reserve(bytes);
        let kept = kept.ok_or(Error::Full { what: "disk space" })?;
        self.reserve.kept.fetch_sub(kept.bytes, Ordering::SeqCst);
        let (now, latest) = (draft.created, self.reserve.latest_ms.load(Ordering::SeqCst));
        let latest = draft.expires.max(Timestamp::from_millis(latest));
        // Beyond the latest by an eighth, as leases go on being renewed meanwhile.
        let ahead = latest.as_millis().saturating_sub(now.as_millis()) / 8;
        let ends = Timestamp::from_millis(latest.as_millis().saturating_add(ahead));
        let (version, lifetime) = (self.versions.current(), u64::MAX);
        let segment = kept.begin(self.id, ends, version, now, lifetime, &self.space)?;
        self.table.publish(&segment, false);
        let segment = Arc::new(segment);
        self.catalog.lock().add_used(segment.clone());
        Ok(segment)
    }

    /// Ends the promises that the records of these segments keep.
    pub(crate) fn forget_promises(&self, segments: &[Arc<Segment>]) {
        for segment in segments {
            self.reserve.forget(segment.chunks());
        }
    }
}

/// A chunk has 16 blocks.
const BLOCKS_PER_CHUNK: usize = (CHUNK_BYTES / BLOCK_BYTES) as usize;

const _: () = assert!(SLACK_BYTES + REMOVAL_BYTES < CHUNK_BYTES);
