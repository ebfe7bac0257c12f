//! Where room for records comes from: blocks of open segments, and new segments.
//!
//! A segment is listed in the manifest, and its head is on stable storage, before its first block
//! is claimed. That takes several syncs, so maintenance does it ahead for the buckets that will
//! need a segment soon ([`crate::log::spares`]). Taking such a spare takes no system call.

use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::layout::{BLOCK_BYTES, CHUNK_BYTES, HEAD_BYTES, MANIFEST_FILE, segment_file};
use crate::format::manifest::Listed;
use crate::log::Log;
use crate::log::catalog::Need;
use crate::log::lane::Cursor;
use crate::log::segment::{Prepared, Segment};
use crate::time::Timestamp;

/// The segment if it was opened for that, and the first of the blocks claimed with its segment.
type Provided = (Option<Arc<Segment>>, (Arc<Segment>, u32));

impl Log {
    /// Gives `lane` a block with room for `record_bytes` in the bucket ending at `ends`.
    ///
    /// Returns the segment if it had to be opened for that.
    pub(crate) fn provide(
        &self,
        lane: usize,
        ends: Timestamp,
        record_bytes: u64,
        now: Timestamp,
        lifetime: u64,
    ) -> Result<Option<Arc<Segment>>> {
        // The first block of a segment is short by the head page; counting it covers both.
        let span = (record_bytes + HEAD_BYTES + 64).div_ceil(BLOCK_BYTES);
        let span = u32::try_from(span).map_err(|_| Error::Full { what: "segment space" })?;
        let claimed = self.claim_or_open(ends, span, now);
        let (created, (segment, block)) = match claimed {
            Some(claimed) => claimed,
            None => self.claim_in_new(Need { ends, bytes: 0, lifetime }, span, now)?,
        };
        self.blocks_claimed.fetch_add(u64::from(span), Ordering::Relaxed);
        let cursor = Cursor::begin(segment, block, span, self.space.words());
        if let Some(lane) = self.lanes.get(lane % self.lanes.len()) {
            lane.lock().add(cursor);
        }
        Ok(created)
    }

    /// Claims blocks in the bucket's open segment, or in its spare, which is opened for that.
    ///
    /// Waits for nobody who creates a segment.
    fn claim_or_open(&self, ends: Timestamp, span: u32, now: Timestamp) -> Option<Provided> {
        let mut catalog = self.catalog.lock();
        if let Some(claimed) = catalog.claim(ends, span) {
            return Some((None, claimed));
        }
        let least = u64::from(span) * BLOCK_BYTES;
        let spare = catalog.spares.take_own(ends, least, now)?;
        // In one step, as others could claim all of it in between.
        self.table.publish(&spare, false);
        let segment = Arc::new(spare);
        catalog.activate(segment.clone());
        catalog.claim(ends, span).map(|claimed| (Some(segment), claimed))
    }

    /// Claims blocks where none were left, in a new segment if nobody else has made one meanwhile.
    #[cold]
    fn claim_in_new(&self, need: Need, span: u32, now: Timestamp) -> Result<Provided> {
        let _growing = self.growing.lock();
        if let Some(claimed) = self.claim_or_open(need.ends, span, now) {
            return Ok(claimed);
        }
        self.segments_awaited.fetch_add(1, Ordering::Relaxed);
        let segment = self.create(need, span, now)?;
        self.table.publish(&segment, false);
        let segment = Arc::new(segment);
        let mut catalog = self.catalog.lock();
        catalog.activate(segment.clone());
        let claimed =
            catalog.claim(need.ends, span).ok_or(Error::Full { what: "segment space" })?;
        Ok((Some(segment), claimed))
    }

    /// The bucket's next segment, with room for `span` blocks: an idle spare, a new one, or any
    /// spare if there is no room for a new one.
    fn create(&self, need: Need, span: u32, now: Timestamp) -> Result<Segment> {
        let least = u64::from(span) * BLOCK_BYTES;
        let (sizes, idle) = {
            let mut catalog = self.catalog.lock();
            let sizes = catalog.next_bytes(need.ends, span)?;
            let bytes = sizes.first().copied().unwrap_or(least);
            (sizes, catalog.take_spare(|spares| spares.take_idle(bytes, now)))
        };
        let prepared = match idle {
            Some(idle) => idle.unused(),
            None => match self.prepare_some(&sizes, now) {
                Err(full @ Error::Full { .. }) => {
                    let spare = self.catalog.lock().take_spare(|spares| spares.take_any(least));
                    spare.ok_or(full)?.unused()
                }
                prepared => prepared?,
            },
        };
        self.begin(prepared, need, now)
    }

    /// As [`Log::prepare`], in the first of the sizes that there is room for.
    fn prepare_some(&self, sizes: &[u64], now: Timestamp) -> Result<Prepared> {
        let mut refusal = Error::Full { what: "segment space" };
        for bytes in sizes {
            match self.prepare_within(*bytes, now) {
                Err(error @ Error::Full { .. }) => refusal = error,
                done => return done,
            }
        }
        Err(refusal)
    }

    /// As [`Log::prepare`], unless the store would take more than it may.
    pub(crate) fn prepare_within(&self, bytes: u64, now: Timestamp) -> Result<Prepared> {
        let (allowed, unused) = {
            let catalog = self.catalog.lock();
            (catalog.bytes_allowed(), catalog.unused_bytes())
        };
        if allowed != u64::MAX && self.sizes().1 + unused + bytes > allowed {
            return Err(Error::Full { what: "max_bytes" });
        }
        self.prepare(bytes, now)
    }

    /// A file with its place in memory, listed in the manifest, without contents.
    ///
    /// It stays listed as a segment under way until it is put among the others.
    pub(crate) fn prepare(&self, bytes: u64, now: Timestamp) -> Result<Prepared> {
        let chunks = bytes / CHUNK_BYTES;
        let (number, first) = {
            let mut catalog = self.catalog.lock();
            (catalog.next_number(), catalog.place(chunks))
        };
        let first = first.ok_or(Error::Full { what: "address space" })?;
        let at = first * CHUNK_BYTES;
        let name = segment_file(number);
        let prepared = self.disk.create(&name, bytes).and_then(|file| {
            file.map(&self.space, usize::try_from(at).unwrap_or(usize::MAX))?;
            Ok(Prepared { number, at, bytes, file })
        });
        let listed = prepared.and_then(|prepared| {
            self.catalog.lock().list(Listed::open(number, bytes));
            self.save_manifest(now, false).map(|()| prepared)
        });
        listed.inspect_err(|error| self.abandon(number, at, bytes, error))
    }

    /// Writes the head, for a bucket's segment to come.
    ///
    /// Where that fails the file stays as it is, listed and empty, until the next open.
    pub(crate) fn begin(&self, prepared: Prepared, need: Need, now: Timestamp) -> Result<Segment> {
        let version = self.versions.current();
        prepared.begin(self.id, need.ends, version, now, need.lifetime, &self.space)
    }

    /// Gives up a segment that could not be created or listed because of `error`.
    fn abandon(&self, number: u64, at: u64, bytes: u64, error: &Error) {
        let unmapped = match (usize::try_from(at), usize::try_from(bytes)) {
            (Ok(place), Ok(length)) => self.space.unmap(place, length).is_ok(),
            _ => false,
        };
        let mut catalog = self.catalog.lock();
        catalog.unlist(number);
        if unmapped {
            let first = at / CHUNK_BYTES;
            catalog.free(first..first + bytes / CHUNK_BYTES);
        }
        drop(catalog);
        // A full disk did not take the manifest, so the file is listed nowhere. After any other
        // failure it may be, and a listed file that is missing would be damage: it stays until the
        // next open, which removes what is not listed.
        if matches!(error, Error::Full { .. }) {
            let _ = self.disk.remove(&segment_file(number));
        }
    }

    /// Writes the list of segments; `closed` says that it is the last.
    ///
    /// # Errors
    /// `Closed` after the last one, and as the system answers.
    pub(crate) fn save_manifest(&self, now: Timestamp, closed: bool) -> Result<()> {
        let mut done = self.listing.lock();
        if *done {
            return Err(Error::Closed);
        }
        let epoch = self.versions.epoch_reserved();
        let mut manifest = self.catalog.lock().manifest(epoch, now, closed);
        for space in &mut manifest.spaces {
            let held = self.holdings.of(space.number);
            (space.keys, space.bytes) = (held.keys, held.bytes);
        }
        self.disk.replace(MANIFEST_FILE, &manifest.encode())?;
        *done = closed;
        self.unlisted.store(false, Ordering::Release);
        Ok(())
    }

    /// The first manifest of an opening: false if a full disk took none. Then nothing is written,
    /// until one is: a new segment brings one with it, and a kept one asks for it.
    pub(crate) fn list_epoch(&self, now: Timestamp) -> Result<bool> {
        self.unlisted.store(true, Ordering::Release);
        match self.save_manifest(now, false) {
            Ok(()) => Ok(true),
            Err(Error::Full { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Before a segment is used that is listed already.
    pub(crate) fn check_listed(&self, now: Timestamp) -> Result<()> {
        if self.unlisted.load(Ordering::Acquire) { self.save_manifest(now, false) } else { Ok(()) }
    }
}
