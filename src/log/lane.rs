//! An append cursor with its lock: the only place that writes records.
//!
//! A record is copied while its lane is held, header last, so within a block every acknowledged
//! record is preceded only by complete ones, and the end of the process leaves at most one torn
//! record, or bundle of records, a block.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::format::bundle::{BUNDLE_HEADER_BYTES, BundleHeader, MembersDigest};
use crate::format::layout::{BLOCK_BYTES, BLOCK_HEADER_BYTES, block_start};
use crate::format::location::Location;
use crate::format::record::{Common, Header};
use crate::format::segment::BlockHeader;
use crate::log::segment::{Segment, Written};
use crate::log::versions::{VersionRange, Versions};
use crate::log::{Draft, NoBlock};
use crate::sys::prefetch::prefetch;
use crate::sys::words;
use crate::time::Timestamp;
use crate::version::Version;

/// Blocks that a lane keeps in one bucket: a large record must not end a half-empty block.
const CURSORS_PER_BUCKET: usize = 2;

/// How far ahead of the record being written the block's lines are fetched: 512 bytes.
const PREFETCH_WORDS: usize = 64;

/// The blocks that some threads append to.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    cursors: Vec<Cursor>,
    versions: VersionRange,
}

/// One block that is being filled.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: Arc<Segment>,
    ends: Timestamp,
    common: Common,
    segment_at: u64,
    /// Where the first block's header lies, in the address space.
    start: u64,
    /// Where the next record begins, in the address space.
    next: u64,
    limit: u64,
}

impl Cursor {
    /// Writes the header of a block just claimed, and starts behind it.
    pub(crate) fn begin(segment: Arc<Segment>, block: u32, span: u32, space: &[AtomicU64]) -> Self {
        let start = segment.at + block_start(u64::from(block));
        let limit = segment.at + (u64::from(block) + u64::from(span)) * BLOCK_BYTES;
        let [place, check] = BlockHeader { index: block, span }.encode(&segment.common);
        let first = usize::try_from(start / 8).unwrap_or(usize::MAX);
        if let (Some(first_word), Some(second)) = (space.get(first), space.get(first + 1)) {
            words::store(first_word, place);
            words::store_release(second, check);
        }
        let (common, segment_at, ends) = (segment.common, segment.at, segment.ends);
        let next = start + BLOCK_HEADER_BYTES;
        Self { segment, ends, common, segment_at, start, next, limit }
    }

    fn written(&self) -> Written {
        Written { start: self.start, limit: self.limit, next: self.next }
    }

    fn room(&self) -> u64 {
        self.limit - self.next
    }

    /// Writes a record that there is room for.
    #[inline(always)]
    fn put(
        &mut self,
        space: &[AtomicU64],
        draft: &Draft<'_>,
        lengths: (u32, u32),
        version: Version,
        digest: u64,
    ) -> Option<Location> {
        let header = Header::new(draft.kind, lengths, version, draft.created, draft.expires)
            .marked(draft.marks)
            .fit(&self.common);
        let at = self.next;
        self.next += header.record_bytes();
        let place = (self.common, at - self.segment_at);
        write(space, at, &header, draft, digest, place)?;
        Some(Location::from_bytes(at))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.segment.left.lock().push(self.written());
        self.segment.cursors.fetch_sub(1, Ordering::Release);
    }
}

impl Lane {
    /// Writes the record to the first of the bucket's blocks with room for it.
    #[inline]
    pub(crate) fn append(
        &mut self,
        space: &[AtomicU64],
        versions: &Versions,
        ends: Timestamp,
        draft: &Draft<'_>,
        digest: u64,
    ) -> Result<(Location, Version), NoBlock> {
        let lengths = (length(draft.key), length(draft.outcome));
        let most = Header::record_bytes_max(u64::from(lengths.0), u64::from(lengths.1));
        let fits = |cursor: &&mut Cursor| cursor.ends == ends && cursor.room() >= most;
        let cursor = self.cursors.iter_mut().find(fits).ok_or(NoBlock)?;
        let version = self.versions.next(versions, draft.after, cursor.common.version);
        let location = cursor.put(space, draft, lengths, version, digest).ok_or(NoBlock)?;
        Ok((location, version))
    }

    /// Writes records that are there together or not at all, behind a header that is written last.
    ///
    /// Their digests are in the same order; `placed` gets where each lies, and its version.
    pub(crate) fn append_bundle(
        &mut self,
        space: &[AtomicU64],
        versions: &Versions,
        ends: Timestamp,
        drafts: &[(Draft<'_>, u64)],
        placed: &mut Vec<(Location, Version)>,
    ) -> Result<(), NoBlock> {
        let most = bundle_bytes_max(drafts);
        let fits = |cursor: &&mut Cursor| cursor.ends == ends && cursor.room() >= most;
        let cursor = self.cursors.iter_mut().find(fits).ok_or(NoBlock)?;
        let floor = cursor.common.version;
        let at = cursor.next;
        cursor.next += BUNDLE_HEADER_BYTES;
        let mut members = MembersDigest::default();
        for (draft, digest) in drafts {
            let lengths = (length(draft.key), length(draft.outcome));
            let version = self.versions.next(versions, draft.after, floor);
            let location = cursor.put(space, draft, lengths, version, *digest).ok_or(NoBlock)?;
            members.add(word_at(space, location.bytes()).map_or(0, words::load));
            placed.push((location, version));
        }
        let count = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
        let bytes = cursor.next - at - BUNDLE_HEADER_BYTES;
        let header = BundleHeader { members: count, bytes };
        let [first, second] = header.encode(&cursor.common, at - cursor.segment_at, members);
        let (commit, rest) = (word_at(space, at), word_at(space, at + 8));
        words::store(rest.ok_or(NoBlock)?, second);
        words::store_release(commit.ok_or(NoBlock)?, first);
        Ok(())
    }

    /// Writes a record that has its version already; `None` where no block has room for it.
    pub(crate) fn copy(
        &mut self,
        space: &[AtomicU64],
        ends: Timestamp,
        draft: &Draft<'_>,
        digest: u64,
        version: Version,
    ) -> Option<Location> {
        let lengths = (length(draft.key), length(draft.outcome));
        let most = Header::record_bytes_max(u64::from(lengths.0), u64::from(lengths.1));
        let fits = |cursor: &&mut Cursor| cursor.ends == ends && cursor.room() >= most;
        self.cursors.iter_mut().find(fits)?.put(space, draft, lengths, version, digest)
    }

    /// Takes a block over; of more than two in a bucket the fullest is given up.
    pub(crate) fn add(&mut self, cursor: Cursor) {
        let same = |other: &Cursor| other.ends == cursor.ends;
        if self.cursors.iter().filter(|other| same(other)).count() >= CURSORS_PER_BUCKET {
            let fullest = self.cursors.iter().enumerate().filter(|(_, other)| same(other));
            if let Some((index, _)) = fullest.min_by_key(|(_, other)| other.room()) {
                self.cursors.swap_remove(index);
            }
        }
        self.cursors.push(cursor);
    }

    /// Adds how far its blocks are written, with their segments.
    pub(crate) fn written(&self, parts: &mut Vec<(Arc<Segment>, Written)>) {
        parts.extend(self.cursors.iter().map(|one| (one.segment.clone(), one.written())));
    }

    /// Gives up the blocks in a segment.
    pub(crate) fn leave(&mut self, segment: &Arc<Segment>) {
        self.cursors.retain(|cursor| !Arc::ptr_eq(&cursor.segment, segment));
    }
}

/// Writes a record at byte `at` of the space, its first word last.
#[inline]
fn write(
    space: &[AtomicU64],
    at: u64,
    header: &Header,
    draft: &Draft<'_>,
    digest: u64,
    (common, offset): (Common, u64),
) -> Option<()> {
    let target = space.get(usize::try_from(at / 8).ok()?..)?;
    let (commit, rest) = target.split_first()?;
    let (head, body) = rest.split_at_checked(header.header_words() - 1)?;
    let (key, outcome) = body.split_at_checked(words::words_for(draft.key.len()))?;
    words::write_bytes(key, draft.key);
    words::write_bytes(outcome, draft.outcome);
    if header.takes_wide() {
        let [first, raw @ ..] = header.encode(&common, offset, digest);
        head.iter().zip(raw).for_each(|(word, value)| words::store(word, value));
        words::store_release(commit, first);
    } else {
        let [first, second] = header.encode_compact(&common, offset, digest);
        words::store(head.first()?, second);
        words::store_release(commit, first);
    }
    // Releasing the lock waits for these stores; lines brought near in time make that short.
    if let Some(ahead) = target.get(PREFETCH_WORDS) {
        prefetch(ahead);
    }
    Some(())
}

#[inline]
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The word at a byte of the space.
fn word_at(space: &[AtomicU64], at: u64) -> Option<&AtomicU64> {
    space.get(usize::try_from(at / 8).ok()?)
}

/// The most bytes that a bundle of these records takes, its header included.
pub(crate) fn bundle_bytes_max(drafts: &[(Draft<'_>, u64)]) -> u64 {
    let most = |(draft, _): &(Draft<'_>, u64)| {
        Header::record_bytes_max(draft.key.len() as u64, draft.outcome.len() as u64)
    };
    BUNDLE_HEADER_BYTES + drafts.iter().map(most).sum::<u64>()
}
