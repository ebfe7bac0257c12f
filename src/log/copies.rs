//! Where compaction puts the records that it keeps: one cursor, in segments of its own.
//!
//! A copy has the version of its original. Segments of copies therefore hold versions below those
//! that were handed out when they were begun, and are kept apart from the segments that callers
//! append to, of which that can be told. Their bases are those of the segment copied from, so that
//! compact headers stay compact.

use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::layout::{BLOCK_BYTES, HEAD_BYTES};
use crate::format::location::Location;
use crate::format::record::{Header, Marks};
use crate::key::KeyHash;
use crate::log::lane::{Cursor, Lane};
use crate::log::segment::{Segment, Written};
use crate::log::view::RecordView;
use crate::log::{Draft, Log};
use crate::time::Timestamp;
use crate::version::Version;

/// How far a segment's bases may be ahead of those that its copies count from: half of what
/// compact headers reach.
const BASE_DISTANCE_MAX: u64 = 1 << 23;

/// The segment that is being filled, and the cursor in it.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    lane: Lane,
    segment: Option<Arc<Segment>>,
}

/// A copy that was written.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) location: Location,
    pub(crate) segment: Arc<Segment>,
}

/// The segment that copies are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) segment: &'a Segment,
    /// Bytes of it that will be copied, most likely.
    pub(crate) bytes_left: u64,
    /// Its few records are joined with those of other segments, whatever their bases.
    pub(crate) is_remain: bool,
}

impl Log {
    /// Writes a copy of a record, with its own version; `None` where [`Log::begin_copies`] has to
    /// make room first.
    pub(crate) fn append_copy(
        &self,
        source: &Source<'_>,
        view: &RecordView<'_>,
        hash: KeyHash,
    ) -> Option<Copied> {
        let (mut key, mut outcome) = (Vec::new(), Vec::new());
        let header = &view.header;
        let draft = Draft {
            kind: header.kind,
            // A copy stands alone: what it was written with is on stable storage by now.
            marks: header.marks.without(Marks::MEMBER),
            key: view.copy_key(&mut key),
            outcome: view.copy_payload(&mut outcome),
            hash,
            created: header.created,
            expires: header.expires,
            after: None,
        };
        self.append_as(source, &draft, header.version)
    }

    /// Writes a record that has its version already to where copies go; else as
    /// [`Log::append_copy`].
    pub(crate) fn append_as(
        &self,
        source: &Source<'_>,
        draft: &Draft<'_>,
        version: Version,
    ) -> Option<Copied> {
        let digest = draft.hash.digest(draft.outcome);
        let span = span_of(draft.key.len() as u64, draft.outcome.len() as u64).ok()?;
        let mut copies = self.copies.lock();
        let segment = copies.segment.clone().filter(|segment| serves(segment, source))?;
        loop {
            let (words, ends) = (self.space.words(), segment.ends);
            if let Some(location) = copies.lane.copy(words, ends, draft, digest, version) {
                return Some(Copied { location, segment });
            }
            let block = self.catalog.lock().claim_in(&segment, span)?;
            copies.lane.add(Cursor::begin(segment.clone(), block, span, words));
        }
    }

    /// Begins a segment for copies, with room for what is left to copy and for a record whose key
    /// and payload are so long.
    ///
    /// It takes several syncs, so no lock is held that callers wait for, unless they need a new
    /// segment themselves.
    ///
    /// # Errors
    /// `Full` if there is no room for another segment.
    pub(crate) fn begin_copies(
        &self,
        source: &Source<'_>,
        (key_len, payload_len): (u64, u64),
        now: Timestamp,
    ) -> Result<Arc<Segment>> {
        let segment = self.create_for_copies(source, span_of(key_len, payload_len)?, now)?;
        let mut copies = self.copies.lock();
        if let Some(before) = copies.segment.replace(segment.clone()) {
            copies.lane.leave(&before);
            self.catalog.lock().deactivate(&before);
        }
        Ok(segment)
    }

    fn create_for_copies(
        &self,
        source: &Source<'_>,
        span: u32,
        now: Timestamp,
    ) -> Result<Arc<Segment>> {
        let _growing = self.growing.lock();
        let needed = (u64::from(span) * BLOCK_BYTES).max(source.bytes_left + BLOCK_BYTES);
        let needed = needed + HEAD_BYTES;
        let bytes = self.catalog.lock().copies_bytes(needed, u64::from(span) * BLOCK_BYTES)?;
        let prepared = self.before_spares(now, || self.prepare(bytes, now))?;
        let from = source.segment;
        let (version, created) = (from.common.version, Timestamp::from_millis(from.common.created));
        let (ends, lifetime) = (from.ends, from.common.lifetime);
        let segment = prepared.begin(self.id, ends, version, created, lifetime, &self.space)?;
        segment.floor.store(0, Ordering::Release);
        self.table.publish(&segment, false);
        let segment = Arc::new(segment);
        self.catalog.lock().add_used(segment.clone());
        Ok(segment)
    }

    /// Ends the segment of copies, so that it can be sealed and gives unused room back.
    pub(crate) fn end_copies(&self) {
        let segment = self.copies.lock().segment.clone();
        if let Some(segment) = segment {
            self.withdraw(&segment);
        }
    }

    /// Adds how far copies are written.
    pub(crate) fn copies_written(&self, parts: &mut Vec<(Arc<Segment>, Written)>) {
        self.copies.lock().lane.written(parts);
    }

    /// Nothing more is copied to the segment.
    pub(crate) fn leave_copies(&self, segment: &Arc<Segment>) {
        let mut copies = self.copies.lock();
        copies.lane.leave(segment);
        copies.segment.take_if(|own| Arc::ptr_eq(own, segment));
    }
}

/// Blocks that a record of this size may take.
fn span_of(key_len: u64, payload_len: u64) -> Result<u32> {
    let bytes = Header::record_bytes_max(key_len, payload_len);
    let span = (bytes + HEAD_BYTES + 64).div_ceil(BLOCK_BYTES);
    u32::try_from(span).map_err(|_| Error::Full { what: "segment space" })
}

/// Whether records of the source may be copied to `segment`.
fn serves(segment: &Segment, source: &Source<'_>) -> bool {
    let from = source.segment;
    let ahead =
        |base: u64, own: u64| base.checked_sub(own).is_some_and(|by| by < BASE_DISTANCE_MAX);
    let (own, other) = (&segment.common, &from.common);
    let near = own.lifetime == other.lifetime
        && ahead(other.version, own.version)
        && ahead(other.created, own.created);
    segment.ends == from.ends && (near || source.is_remain)
}
