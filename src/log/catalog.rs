//! All segments by number, which of them are open, and where the next one goes.

use crate::sys::sync::atomic::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::layout::{BLOCK_BYTES, CHUNK_BYTES, HEAD_BYTES};
use crate::format::manifest::{Listed, ListedDurability, Manifest, Space};
use crate::log::places::Places;
use crate::log::segment::{Prepared, Segment};
use crate::log::spares::{Spares, Upcoming};
use crate::time::Timestamp;

/// How large segments are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A bucket's first segment.
    pub(crate) min: u64,
    /// What they double up to.
    pub(crate) max: u64,
    /// What a segment is made for at most, for the sake of one record.
    pub(crate) limit: u64,
    /// What all files may take together.
    pub(crate) total: u64,
}

/// What a bucket's next segment is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) ends: Timestamp,
    pub(crate) bytes: u64,
    /// The lifetime that most of its records have.
    pub(crate) lifetime: u64,
}

/// The segments of a store.
#[derive(Debug)]
pub(crate) struct Catalog {
    sizes: Sizes,
    segments: BTreeMap<u64, Arc<Segment>>,
    /// The segments that blocks are claimed from, by bucket.
    open: BTreeMap<Timestamp, Arc<Segment>>,
    /// Size of the next segment, by bucket.
    next_bytes: BTreeMap<Timestamp, u64>,
    /// The next segments of some buckets, with their heads.
    pub(crate) spares: Spares,
    /// Segments kept for completions on a full disk.
    reserve: Vec<Prepared>,
    /// Segments under way, for the manifest alone.
    under_way: BTreeMap<u64, Listed>,
    places: Places,
    next_number: u64,
    /// The store's level, for the manifest alone.
    pub(crate) durability: ListedDurability,
    /// All namespaces, in order of their numbers.
    pub(crate) spaces: Vec<Space>,
    /// When records were last given up by a salvage, for the manifest alone.
    pub(crate) salvaged: Option<Timestamp>,
}

impl Catalog {
    pub(crate) fn new(sizes: Sizes, chunks: u64) -> Self {
        Self {
            sizes,
            segments: BTreeMap::new(),
            open: BTreeMap::new(),
            next_bytes: BTreeMap::new(),
            spares: Spares::default(),
            reserve: Vec::new(),
            under_way: BTreeMap::new(),
            places: Places::new(chunks),
            next_number: 1,
            durability: ListedDurability::default(),
            spaces: Vec::new(),
            salvaged: None,
        }
    }

    /// Claims consecutive blocks in the bucket's open segment, for one cursor.
    pub(crate) fn claim(&mut self, ends: Timestamp, span: u32) -> Option<(Arc<Segment>, u32)> {
        let segment = self.open.get(&ends)?.clone();
        let Some(block) = self.claim_in(&segment, span) else {
            if span == 1 {
                self.open.remove(&ends);
            }
            return None;
        };
        Some((segment, block))
    }

    /// Claims consecutive blocks in a segment, for one cursor.
    pub(crate) fn claim_in(&self, segment: &Segment, span: u32) -> Option<u32> {
        let block = segment.claimed.load(Ordering::Acquire);
        if segment.blocks() - block < span {
            return None;
        }
        segment.cursors.fetch_add(1, Ordering::AcqRel);
        segment.claimed.store(block + span, Ordering::Release);
        Some(block)
    }

    /// Sizes for the bucket's next segment, with room for `span` blocks: the usual one, and
    /// smaller ones in case the disk has no room for that.
    pub(crate) fn next_bytes(&self, ends: Timestamp, span: u32) -> Result<Vec<u64>> {
        let usual = *self.next_bytes.get(&ends).unwrap_or(&self.sizes.min);
        let needed = (u64::from(span) * BLOCK_BYTES).next_power_of_two().max(self.sizes.min);
        if needed > self.sizes.limit {
            return Err(Error::Full { what: "segment space" });
        }
        let largest = usual.max(needed);
        let sizes = std::iter::successors(Some(largest), |bytes| Some(bytes / 2));
        Ok(sizes.take_while(|bytes| *bytes >= needed).collect())
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Numbers below `next` are not given out again.
    pub(crate) fn raise_number(&mut self, next: u64) {
        self.next_number = self.next_number.max(next);
    }

    pub(crate) fn place(&mut self, chunks: u64) -> Option<u64> {
        self.places.take(chunks)
    }

    pub(crate) fn free(&mut self, chunks: Range<u64>) {
        self.places.give(chunks);
    }

    /// Opens the segment for its bucket. One it replaces counts as full from now on.
    pub(crate) fn activate(&mut self, segment: Arc<Segment>) {
        self.under_way.remove(&segment.number);
        self.segments.insert(segment.number, segment.clone());
        // Neither a small disk nor one large record says how large the usual segment is.
        let usual = *self.next_bytes.get(&segment.ends).unwrap_or(&self.sizes.min);
        let next = if segment.bytes < usual {
            segment.bytes * 2
        } else {
            let made = self.segments.values().filter(|other| other.ends == segment.ends);
            let made: u64 = made.map(|other| other.bytes).sum();
            (1 << made.max(1).ilog2()).clamp(usual, usual * 2)
        };
        let next = next.min(self.sizes.max);
        self.next_bytes.insert(segment.ends, next);
        if let Some(before) = self.open.insert(segment.ends, segment) {
            before.claimed.store(before.blocks(), Ordering::Release);
        }
    }

    /// Adds a segment that is not appended to.
    pub(crate) fn add_full(&mut self, segment: Arc<Segment>) {
        segment.claimed.store(segment.blocks(), Ordering::Release);
        self.segments.insert(segment.number, segment);
    }

    /// No more blocks are claimed in the segment.
    pub(crate) fn deactivate(&mut self, segment: &Arc<Segment>) {
        if self.open.get(&segment.ends).is_some_and(|open| Arc::ptr_eq(open, segment)) {
            self.open.remove(&segment.ends);
            self.next_bytes.remove(&segment.ends);
        }
        segment.claimed.store(segment.blocks(), Ordering::Release);
    }

    pub(crate) fn active(&self, ends: Option<Timestamp>) -> Vec<Arc<Segment>> {
        let wanted = self.open.iter().filter(|(key, _)| ends.is_none_or(|ends| ends == **key));
        wanted.map(|(_, segment)| segment.clone()).collect()
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Segment>> {
        self.segments.get(&number).cloned()
    }

    /// The segment with this chunk.
    pub(crate) fn at(&self, chunk: u64) -> Option<Arc<Segment>> {
        self.segments.values().find(|segment| segment.chunks().contains(&chunk)).cloned()
    }

    /// Takes a removal back.
    pub(crate) fn restore(&mut self, segment: Arc<Segment>) {
        self.segments.insert(segment.number, segment);
    }

    pub(crate) fn remove(&mut self, number: u64) {
        if let Some(segment) = self.segments.remove(&number)
            && !self.segments.values().any(|other| other.ends == segment.ends)
        {
            self.next_bytes.remove(&segment.ends);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.values().cloned().collect()
    }

    pub(crate) fn unsealed(&self) -> Vec<Arc<Segment>> {
        self.segments.values().filter(|segment| !segment.is_sealed()).cloned().collect()
    }

    /// True when an open segment will soon be full and the bucket's next one is not there yet.
    pub(crate) fn wants_spare(&self) -> bool {
        self.open.values().any(|open| open.is_half_full() && !self.spares.has(open.ends))
    }

    /// The segments worth preparing: the next one of every bucket that will need it soon, and the
    /// first one of the buckets that, as `upcoming` says, follow the open ones.
    pub(crate) fn wanted(&self, upcoming: &Upcoming<'_>, now: Timestamp) -> Vec<Need> {
        let mut needs = Vec::new();
        for open in self.open.values() {
            let (ends, lifetime) = (open.ends, open.common.lifetime);
            if open.is_half_full() && !self.spares.serve(ends, now) {
                let bytes = *self.next_bytes.get(&ends).unwrap_or(&self.sizes.min);
                needs.push(Need { ends, bytes, lifetime });
            }
            let Some(next) = upcoming(ends, lifetime) else { continue };
            if !self.open.contains_key(&next.ends) && !self.spares.serve(next.ends, now) {
                let bytes = self.first_bytes(next.expect(self.used_bytes(ends)));
                needs.push(Need { ends: next.ends, bytes, lifetime });
            }
        }
        needs
    }

    /// Bytes of all blocks claimed in a bucket.
    fn used_bytes(&self, ends: Timestamp) -> u64 {
        let own = self.segments.values().filter(|segment| segment.ends == ends);
        own.map(|segment| u64::from(segment.claimed.load(Ordering::Relaxed)) * BLOCK_BYTES).sum()
    }

    /// Size of the first segment of a bucket that will hold so many bytes: at least half of them.
    fn first_bytes(&self, expected: u64) -> u64 {
        let bytes = (expected / 2).min(self.sizes.max).next_power_of_two();
        bytes.clamp(self.sizes.min, self.sizes.max)
    }

    /// The spare that `choose` takes; it stays listed.
    pub(crate) fn take_spare(
        &mut self,
        choose: impl FnOnce(&mut Spares) -> Option<Segment>,
    ) -> Option<Segment> {
        let spare = choose(&mut self.spares)?;
        self.list(spare.listed());
        Some(spare)
    }

    /// Adds a spare; returns an earlier one of its bucket, which is none any more.
    pub(crate) fn put_spare(&mut self, spare: Segment) -> Option<Segment> {
        self.under_way.remove(&spare.number);
        self.next_bytes.entry(spare.ends).or_insert(spare.bytes);
        self.spares.put(spare)
    }

    /// Lists a segment under way, until it is put among the others.
    pub(crate) fn list(&mut self, listed: Listed) {
        self.under_way.insert(listed.number, listed);
    }

    /// The segment under way will not be one.
    pub(crate) fn unlist(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// Size of the next segment to keep, of which `missing` bytes are needed.
    pub(crate) fn reserve_bytes(&self, missing: u64) -> u64 {
        missing.min(self.sizes.max).next_power_of_two().clamp(self.sizes.min, self.sizes.max)
    }

    /// Size of a segment for copies of so many bytes, of which `least` are for one record.
    pub(crate) fn copies_bytes(&self, wanted: u64, least: u64) -> Result<u64> {
        let least = (least + HEAD_BYTES).next_power_of_two();
        if least > self.sizes.limit {
            return Err(Error::Full { what: "segment space" });
        }
        let usual = wanted.min(self.sizes.max).next_power_of_two();
        Ok(usual.clamp(self.sizes.min, self.sizes.max).max(least))
    }

    pub(crate) fn put_reserve(&mut self, kept: Prepared) {
        self.under_way.remove(&kept.number);
        self.reserve.push(kept);
    }

    /// The smallest kept segment of at least so many bytes; it stays listed.
    pub(crate) fn take_reserve(&mut self, bytes: u64) -> Option<Prepared> {
        let fits = self.reserve.iter().enumerate().filter(|(_, kept)| kept.bytes >= bytes);
        let (index, _) = fits.min_by_key(|(_, kept)| kept.bytes)?;
        let kept = self.reserve.swap_remove(index);
        self.list(Listed::open(kept.number, kept.bytes));
        Some(kept)
    }

    /// Adds a segment that is appended to, but not by everybody.
    pub(crate) fn add_used(&mut self, segment: Arc<Segment>) {
        self.under_way.remove(&segment.number);
        self.segments.insert(segment.number, segment);
    }

    /// Bytes that files without records take.
    pub(crate) fn unused_bytes(&self) -> u64 {
        let spare = self.spares.all().map(|spare| spare.bytes);
        let kept = self.reserve.iter().map(|kept| kept.bytes);
        let under_way = self.under_way.values().map(|listed| listed.bytes);
        spare.chain(kept).chain(under_way).sum()
    }

    /// What all files may take together.
    pub(crate) fn bytes_allowed(&self) -> u64 {
        self.sizes.total
    }

    /// The prepared segments are not needed any more; those kept for completions are, by the next
    /// process, if some are promised.
    pub(crate) fn discard_unused(&mut self, promised: bool) -> Vec<Prepared> {
        let spare = self.spares.take_all().into_iter().map(Segment::unused);
        let kept = if promised { 0 } else { self.reserve.len() };
        let unused: Vec<_> = self.reserve.drain(..kept).chain(spare).collect();
        for prepared in &unused {
            let first = prepared.at / CHUNK_BYTES;
            self.places.give(first..first + prepared.bytes / CHUNK_BYTES);
        }
        unused
    }

    pub(crate) fn manifest(&self, epoch: u32, time: Timestamp, closed: bool) -> Manifest {
        let reserve = self.reserve.iter().map(|kept| Listed::open(kept.number, kept.bytes));
        let unused = self.spares.all().map(Segment::listed).chain(reserve);
        let unused = unused.chain(self.under_way.values().copied());
        let segments = self.segments.values().map(|segment| segment.listed());
        let segments = segments.chain(unused).collect();
        let (next_number, spaces) = (self.next_number, self.spaces.clone());
        let (durability, salvaged) = (self.durability, self.salvaged);
        Manifest { epoch, closed, durability, time, next_number, salvaged, spaces, segments }
    }
}
