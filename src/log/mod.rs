//! An ordered set of segments: a few that grow, many that only wait for their end.
//!
//! Records are appended through lanes ([`lane`]), into blocks claimed from the open segment of
//! their bucket ([`catalog`]). Which bucket a record belongs to is decided above; here a bucket is
//! only the time at which its segments end. A location is resolved through the segment table
//! ([`table`]), which also says whether the segment still lives.
//!
//! Lock order: the sealing lock or a stripe of the index, then the growing lock, the listing lock,
//! a lane, the catalog, what a segment's given-up blocks hold. `append` takes the lane only. The
//! catalog is held for no system call, so that nobody who claims a block waits for a disk unless
//! there is no block to claim.

pub(crate) mod adopt;
pub(crate) mod catalog;
pub(crate) mod copies;
pub(crate) mod create;
pub(crate) mod holdings;
pub(crate) mod lane;
pub(crate) mod places;
pub(crate) mod rescue;
pub(crate) mod reserve;
pub(crate) mod scan;
pub(crate) mod seal;
pub(crate) mod segment;
pub(crate) mod spaces;
pub(crate) mod spares;
pub(crate) mod sync;
pub(crate) mod table;
pub(crate) mod versions;
pub(crate) mod view;
pub(crate) mod waste;

#[cfg(test)]
mod create_tests;

use crate::sys::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::error::{Error, Result};
use crate::format::identity::ID_BYTES;
use crate::format::layout::{CHUNK_BYTES, run_file, segment_file};
use crate::format::location::{Location, SPACE_BYTES};
use crate::format::record::{Kind, Marks};
use crate::key::{KeyHash, KeyHasher};
use crate::log::catalog::{Catalog, Sizes};
use crate::log::copies::Copies;
use crate::log::holdings::Holdings;
use crate::log::lane::Lane;
use crate::log::reserve::Reserve;
use crate::log::segment::Segment;
use crate::log::spaces::SPACES_MAX;
use crate::log::sync::Durable;
use crate::log::table::Table;
use crate::log::versions::Versions;
use crate::log::view::{Glimpse, RecordView, Replay};
use crate::log::waste::Waste;
use crate::sys::disk::Disk;
use crate::sys::space::Space;
use crate::sys::sync::Mutex;
use crate::time::Timestamp;
use crate::version::Version;

/// The least address space that a store works with.
const SPACE_BYTES_MIN: u64 = 4 << 30;

/// A record to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) kind: Kind,
    pub(crate) marks: Marks,
    pub(crate) key: &'a [u8],
    pub(crate) outcome: &'a [u8],
    pub(crate) hash: KeyHash,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    /// The version of the key's latest record, if it has one.
    pub(crate) after: Option<Version>,
}

/// The lane has no room for the record in a block of that bucket.
#[derive(Debug)]
pub(crate) struct NoBlock;

/// What is at a location.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A record.
    Record(RecordView<'a>),
    /// Nothing any more: the segment was dropped.
    Dead,
    /// Something that is no record, though the segment lives.
    Damaged,
}

/// The log of one store.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    id: [u8; ID_BYTES],
    space: Space,
    table: Table,
    versions: Versions,
    lanes: Box<[CachePadded<Mutex<Lane>>]>,
    catalog: Mutex<Catalog>,
    pub(crate) reserve: Reserve,
    blocks_claimed: AtomicU64,
    segments_awaited: AtomicU64,
    pub(crate) waste: Waste,
    pub(crate) holdings: Holdings,
    copies: Mutex<Copies>,
    durable: Durable,
    /// Segments dropped whose places are not free yet.
    unswept: AtomicU64,
    /// Held while segments are sealed, so that no two threads seal the same one.
    sealing: Mutex<()>,
    /// Held while a segment is created, so that no two threads create one for the same need.
    growing: Mutex<()>,
    /// Held while the manifest is written, so that of two the later one stays. True once the store
    /// is closed: then no other may follow, as the directory may be somebody else's by then.
    listing: Mutex<bool>,
    /// No manifest names the epoch in use yet, as a full disk took none when the store was opened:
    /// before the first record one must, or the next open gives the same versions out again.
    unlisted: AtomicBool,
}

impl Log {
    /// A log without segments, which continues after `epoch`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        id: [u8; ID_BYTES],
        lanes: usize,
        sizes: Sizes,
        epoch: u32,
    ) -> Result<Self> {
        let fail = |e| Error::io("reserve address space", &disk.path(""), e);
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        let space = Space::reserve(bytes(SPACE_BYTES), bytes(SPACE_BYTES_MIN)).map_err(fail)?;
        let chunks = space.len() as u64 / CHUNK_BYTES;
        let table = Table::new(bytes(chunks)).map_err(fail)?;
        let reserve = Reserve::new(bytes(chunks), lanes).map_err(fail)?;
        let waste = Waste::new(bytes(chunks)).map_err(fail)?;
        let durable = Durable::new(bytes(chunks)).map_err(fail)?;
        let lanes = (0..lanes).map(|_| CachePadded::new(Mutex::new(Lane::default()))).collect();
        let versions = Versions::new(epoch);
        let catalog = Mutex::new(Catalog::new(sizes, chunks));
        Ok(Self {
            disk,
            id,
            space,
            table,
            versions,
            lanes,
            catalog,
            reserve,
            blocks_claimed: AtomicU64::new(0),
            segments_awaited: AtomicU64::new(0),
            waste,
            holdings: Holdings::new(SPACES_MAX),
            copies: Mutex::default(),
            durable,
            sealing: Mutex::default(),
            growing: Mutex::default(),
            listing: Mutex::default(),
            unswept: AtomicU64::new(0),
            unlisted: AtomicBool::new(false),
        })
    }

    /// Writes the record to a block that `lane` owns in the bucket ending at `ends`.
    ///
    /// When it returns, the record is complete in the shared mapping.
    #[inline]
    pub(crate) fn append(
        &self,
        lane: usize,
        ends: Timestamp,
        draft: &Draft<'_>,
        digest: u64,
    ) -> std::result::Result<(Location, Version), NoBlock> {
        let lane = lane % self.lanes.len();
        let Some(lane) = self.lanes.get(lane) else {
            return Err(NoBlock);
        };
        lane.lock().append(self.space.words(), &self.versions, ends, draft, digest)
    }

    /// Writes records that are there together or not at all to a block that `lane` owns in the
    /// bucket ending at `ends`. Each comes with its digest; the result is in their order.
    pub(crate) fn append_bundle(
        &self,
        lane: usize,
        ends: Timestamp,
        drafts: &[(Draft<'_>, u64)],
    ) -> std::result::Result<Vec<(Location, Version)>, NoBlock> {
        let mut placed = Vec::with_capacity(drafts.len());
        let lane = self.lanes.get(lane % self.lanes.len()).ok_or(NoBlock)?;
        let (words, versions) = (self.space.words(), &self.versions);
        lane.lock().append_bundle(words, versions, ends, drafts, &mut placed)?;
        Ok(placed)
    }

    /// The record at `location`.
    #[inline]
    pub(crate) fn view(&self, location: Location) -> Found<'_> {
        let Some(entry) = self.table.get(location.chunk()) else {
            return Found::Dead;
        };
        RecordView::at(self.space.words(), &entry, location).map_or(Found::Damaged, Found::Record)
    }

    /// The completed record at `location`, if it is `key`'s, has a compact header and can be read
    /// without a lock.
    #[inline(always)]
    pub(crate) fn glance(&self, location: Location, key: &[u8]) -> Option<Glimpse<'_>> {
        let bases = self.table.verified(location.chunk())?;
        Glimpse::at(&self.space, bases, location, key)
    }

    /// As [`Log::glance`], whatever the header.
    pub(crate) fn glance_wide(
        &self,
        location: Location,
        key: &[u8],
        marks: Marks,
    ) -> Option<Replay<'_>> {
        if marks == Marks::NONE
            && let Some(glimpse) = self.glance(location, key)
        {
            return Some(glimpse.replay());
        }
        let entry = self.table.get(location.chunk()).filter(|entry| !entry.unverified)?;
        let view = RecordView::at(self.space.words(), &entry, location)?;
        // Whether an outcome is still replayed is for the locked search to say.
        let ends = || view.state().is_some_and(|state| state.outcome_ends());
        view.replay().filter(|_| view.key_equals(key, marks) && !ends())
    }

    /// True when every byte of a record is what was written at its place.
    pub(crate) fn verify(
        &self,
        location: Location,
        view: &RecordView<'_>,
        hasher: &KeyHasher,
        buffer: &mut Vec<u8>,
    ) -> bool {
        self.table.get(location.chunk()).is_some_and(|entry| {
            let offset = location.bytes() - entry.at;
            view.verify(&entry.common, offset, hasher, buffer).is_some()
        })
    }

    /// The error for damage found at `location`.
    pub(crate) fn damage_at(&self, location: Location, what: &'static str) -> Error {
        let segment = self.segment_at(location);
        let number = segment.as_ref().map(|segment| segment.number);
        let path = self.disk.path(&number.map(segment_file).unwrap_or_default());
        let offset = location.bytes() - segment.map_or(0, |segment| segment.at);
        Error::Corrupt { path, segment: number, offset, what }
    }

    /// The end of the bucket that a chunk's segment belongs to, and the segment's chunks.
    pub(crate) fn bucket_at(&self, chunk: u64) -> Option<(Timestamp, std::ops::Range<u64>)> {
        let segment = self.catalog.lock().at(chunk)?;
        Some((segment.ends, segment.chunks()))
    }

    /// The segment that a record lies in.
    pub(crate) fn segment_at(&self, location: Location) -> Option<Arc<Segment>> {
        self.catalog.lock().at(location.chunk())
    }

    /// Chunks of the address space.
    pub(crate) fn chunk_count(&self) -> usize {
        usize::try_from(self.space.len() as u64 / CHUNK_BYTES).unwrap_or(usize::MAX)
    }

    /// True when some drop waits for its sweep; else every slot's segment lives.
    #[inline]
    pub(crate) fn has_dead(&self) -> bool {
        self.unswept.load(Ordering::Acquire) > 0
    }

    /// True when the record's segment is gone, so that its slot means nothing.
    #[inline]
    pub(crate) fn is_dead(&self, location: Location) -> bool {
        !self.table.lives(location.chunk())
    }

    #[inline]
    pub(crate) fn prefetch(&self, location: Location) {
        // A location below 2^40 fits in any address that the space was reserved in.
        if let Ok(at) = usize::try_from(location.bytes()) {
            self.space.prefetch(at);
        }
    }

    /// Ends appending to the segment: afterwards no lane has a block in it.
    pub(crate) fn withdraw(&self, segment: &Arc<Segment>) {
        self.catalog.lock().deactivate(segment);
        for lane in &self.lanes {
            lane.lock().leave(segment);
        }
        self.reserve.leave(segment);
        self.leave_copies(segment);
    }

    /// Ends appending to every segment, of the bucket ending at `ends` or of all.
    pub(crate) fn withdraw_bucket(&self, ends: Option<Timestamp>) {
        let segments = self.catalog.lock().active(ends);
        for segment in segments {
            self.withdraw(&segment);
        }
    }

    /// Forgets the segments for good: their locations are dead when it returns, their files gone.
    ///
    /// Their places stay taken until [`Log::free`].
    pub(crate) fn drop_segments(
        &self,
        numbers: &[u64],
        now: Timestamp,
    ) -> Result<Vec<Arc<Segment>>> {
        let segments: Vec<_> = {
            let catalog = self.catalog.lock();
            numbers.iter().filter_map(|number| catalog.get(*number)).collect()
        };
        for segment in &segments {
            self.withdraw(segment);
        }
        // Records that become invisible must not be followed by lower versions of their keys.
        self.versions.retire_ranges();
        // Those of an attempt that failed count already.
        let fresh = segments.iter().filter(|one| !one.dropped.swap(true, Ordering::AcqRel)).count();
        self.unswept.fetch_add(fresh as u64, Ordering::SeqCst);
        for segment in &segments {
            self.table.clear(segment.chunks());
        }
        self.forget_promises(&segments);
        {
            let mut catalog = self.catalog.lock();
            segments.iter().for_each(|segment| catalog.remove(segment.number));
        }
        let saved = match self.save_manifest(now, false) {
            Err(Error::Full { .. }) if self.make_room(&segments, now) => {
                self.save_manifest(now, false)
            }
            saved => saved,
        };
        if let Err(error) = saved {
            // They stay dead, and are dropped again.
            let mut catalog = self.catalog.lock();
            segments.iter().for_each(|segment| catalog.restore(segment.clone()));
            return Err(error);
        }
        for segment in &segments {
            // A file that cannot be removed now is unlisted debris, which the next open removes.
            let _ = segment.remove_files(&*self.disk);
        }
        Ok(segments)
    }

    /// Removes the runs of segments that have ended, which nobody reads any more: on a full disk
    /// they are the room for the manifest, after which their segments can go. While these are
    /// listed, a run that is missing is no damage.
    fn make_room(&self, segments: &[Arc<Segment>], now: Timestamp) -> bool {
        let mut removed = false;
        for segment in segments.iter().filter(|segment| segment.ends <= now) {
            removed |= self.disk.remove(&run_file(segment.number)).is_ok();
        }
        removed
    }

    /// Gives a dropped segment's place back; no slot may lead there any more.
    pub(crate) fn free(&self, segment: &Segment) -> Result<()> {
        let bytes = usize::try_from(segment.bytes).unwrap_or(0);
        let at = usize::try_from(segment.at).unwrap_or(usize::MAX);
        self.space
            .unmap(at, bytes)
            .map_err(|e| Error::io("unmap segment", &self.disk.path(""), e))?;
        self.waste.reset(segment.chunks());
        self.holdings.forget(&segment.chunks());
        self.durable.forget(segment);
        self.catalog.lock().free(segment.chunks());
        self.unswept.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Counts of segments and bytes: (segments, bytes allocated on disk).
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let segments = self.catalog.lock().all();
        let bytes = segments.iter().map(|segment| segment.allocated_bytes()).sum();
        (segments.len() as u64, bytes)
    }

    /// All sealed segments, in order of their numbers.
    pub(crate) fn sealed(&self) -> Vec<Arc<Segment>> {
        self.catalog.lock().all().into_iter().filter(|segment| segment.is_sealed()).collect()
    }

    /// All segments, in order of their numbers.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.catalog.lock().all()
    }

    /// All segments but this one.
    pub(crate) fn others(&self, one: &Arc<Segment>) -> Vec<Arc<Segment>> {
        self.catalog.lock().all().into_iter().filter(|other| !Arc::ptr_eq(other, one)).collect()
    }

    /// True until the segment is dropped.
    pub(crate) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.catalog.lock().get(segment.number).is_some_and(|held| Arc::ptr_eq(&held, segment))
    }

    /// The oldest segment that is complete and not yet sealed.
    pub(crate) fn sealable(&self) -> Option<Arc<Segment>> {
        self.catalog.lock().all().into_iter().find(|segment| segment.is_sealable())
    }

    /// Blocks claimed since opening: how much is being written.
    pub(crate) fn blocks_claimed(&self) -> u64 {
        self.blocks_claimed.load(Ordering::Relaxed)
    }

    /// Segments since opening that a caller had to wait for.
    pub(crate) fn segments_awaited(&self) -> u64 {
        self.segments_awaited.load(Ordering::Relaxed)
    }

    /// How many segments are complete and not yet sealed.
    pub(crate) fn sealable_count(&self) -> usize {
        self.catalog.lock().all().iter().filter(|segment| segment.is_sealable()).count()
    }
}
