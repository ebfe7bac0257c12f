//! Copying the few live records out of segments that are mostly dead and far from their end.
//!
//! One segment at a time, in steps of a block. Every record that its key's slot leads to is copied,
//! and the slot led to the copy under the stripe's lock; then everything is synced, and the segment
//! dropped as one whose time has come. A crash at any point leaves records twice or once, of one
//! version and the same bytes, of which recovery takes either.
//!
//! Tombstones are the hard part. One may go only when nothing that it kills can be found by a
//! restart: neither in another segment, nor because the record that follows it ends sooner than
//! what it kills. Which segments may hold something older is told by their lists of hashes; doubt
//! keeps the tombstone.

use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::choose::{Chosen, is_small};
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::{Header, Kind};
use crate::format::segment::BlockHeader;
use crate::index::stripe::{Cell, StripeGuard};
use crate::key::KeyHash;
use crate::log::copies::{Copied, Source};
use crate::log::scan::Scanner;
use crate::log::segment::Segment;
use crate::log::{Found, Log};
use crate::time::Timestamp;

/// What compaction is at.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    /// Segments to be compacted, the next one last.
    pub(crate) chosen: Chosen,
    job: Option<Job>,
    /// Superseded bytes given back so far, here and with ended buckets.
    pub(crate) reclaimed: u64,
}

/// One segment on its way out.
#[derive(Debug)]
struct Job {
    segment: Arc<Segment>,
    /// Blocks still to be read, the next one last.
    blocks: Vec<BlockHeader>,
    /// Records read so far, and bytes of records not read yet.
    read: u64,
    bytes_left: u64,
    /// Bytes superseded before the job began.
    superseded: u64,
    removals: Vec<Removal>,
    /// Segments that may hold what the tombstones kill; `None` before all blocks are read.
    others: Option<Vec<Arc<Segment>>>,
}

/// A tombstone in the segment.
#[derive(Clone, Copy, Debug)]
struct Removal {
    at: u64,
    hash: KeyHash,
    version: u64,
    needed: bool,
}

/// What a tombstone's key has come to.
#[derive(Clone, Copy, Debug)]
struct Latest {
    /// The key's cell, if it still leads to the tombstone.
    own: Option<Cell>,
    /// A later record does the tombstone's work.
    outlives: bool,
}

#[cfg(test)]
impl Compactor {
    /// Tombstones whose victims are to be looked for.
    pub(crate) fn removals(&self) -> Option<usize> {
        self.job.as_ref().map(|job| job.removals.len())
    }

    /// No segment is being compacted.
    pub(crate) fn is_idle(&self) -> bool {
        self.job.is_none()
    }
}

/// A record where it lies in the segment.
type Placed = (u64, Header, KeyHash);

impl Engine {
    /// Does a step of compaction; false when there is nothing to do.
    ///
    /// # Errors
    /// A failed sync poisons the store.
    pub(crate) fn compact_step(&self) -> Result<bool> {
        let mut compactor = self.compactor.lock();
        // Under its lock, as close() waits for it and then for nobody.
        self.health.check_writable()?;
        let now = self.clock.now();
        if compactor.job.is_none() && !self.next_job(&mut compactor, now) {
            self.log.end_copies();
            return Ok(false);
        }
        match self.work(&mut compactor, now) {
            Ok(()) => Ok(true),
            // What was copied stays copied; the rest is tried again when there is room.
            Err(Error::Full { .. }) => {
                compactor.job = None;
                compactor.chosen.clear();
                Ok(false)
            }
            // A record that is needed is damaged. Lookups and verification are loud about that;
            // here the segment is left as it is.
            Err(Error::Corrupt { .. }) => {
                if let Some(job) = compactor.job.take() {
                    job.segment.unsound.store(true, Ordering::Release);
                }
                Ok(true)
            }
            // The block at hand was not read to its end, and a job that went on without it would
            // drop records that were not copied.
            Err(error) => {
                compactor.job = None;
                compactor.chosen.clear();
                Err(self.health.judge(error))
            }
        }
    }

    /// Takes up the next segment that compaction pays for.
    fn next_job(&self, compactor: &mut Compactor, now: Timestamp) -> bool {
        if compactor.chosen.is_empty() {
            compactor.chosen = self.choose(compactor.reclaimed, now);
        }
        let Some(segment) = compactor.chosen.pop() else { return false };
        let mut scanner = Scanner::new(self.log.words(&segment), &segment.common, self.hasher());
        let mut blocks = scanner.blocks();
        blocks.reverse();
        let wasted = self.log.waste.of(segment.chunks());
        let used = segment.used.load(Ordering::Acquire);
        compactor.job = Some(Job {
            segment,
            blocks,
            read: 0,
            bytes_left: used.saturating_sub(wasted.superseded),
            superseded: wasted.superseded,
            removals: Vec::new(),
            others: None,
        });
        true
    }

    /// A step of the job: a block read, another segment searched, or the end.
    fn work(&self, compactor: &mut Compactor, now: Timestamp) -> Result<()> {
        let Some(job) = compactor.job.as_mut() else { return Ok(()) };
        if !self.log.holds(&job.segment) {
            // Its bucket has ended meanwhile.
            compactor.job = None;
            return Ok(());
        }
        if let Some(block) = job.blocks.pop() {
            let sound = self.copy_block(job, block, now)?;
            let complete = job.read == job.segment.records.load(Ordering::Acquire);
            if !sound || (job.blocks.is_empty() && !complete) {
                return Err(self.log.corrupt(job.segment.number, 0, "a sealed record is damaged"));
            }
            return Ok(());
        }
        let others = job.others.get_or_insert_with(|| {
            if job.removals.is_empty() { Vec::new() } else { self.log.others(&job.segment) }
        });
        match others.pop() {
            Some(other) => self.search(&other, &mut job.removals),
            None => self.finish_job(compactor, now),
        }
    }

    /// Copies what a block's slots lead to; false if the block is damaged.
    fn copy_block(&self, job: &mut Job, block: BlockHeader, now: Timestamp) -> Result<bool> {
        let segment = job.segment.clone();
        let mut scanner = Scanner::new(self.log.words(&segment), &segment.common, self.hasher());
        let mut records: Vec<Placed> = Vec::new();
        scanner.records(block, |at, header, hash| records.push((at, *header, hash)));
        job.read += records.len() as u64;
        if !scanner.report.damaged.is_empty() {
            return Ok(false);
        }
        for (at, header, hash) in records.into_iter().filter(|(_, h, _)| h.expires > now) {
            let location = Log::location(&segment, at);
            let source = self.source(&segment, job.bytes_left);
            if header.kind == Kind::Removed {
                // Whoever wrote it has counted what it superseded by the time the stripe is ours.
                let stripe = self.index.lock(hash);
                // Most keys that are removed are recorded again: one look at the slot spares those
                // the search in every list.
                if !self.latest_over(&stripe, location, hash)?.outlives {
                    let version = header.version.as_u64();
                    job.removals.push(Removal { at, hash, version, needed: false });
                }
            } else if self.copy_latest(&source, &header, location, hash, now)? {
                self.log.waste.add_superseded(location.chunk(), header.record_bytes());
                job.bytes_left = job.bytes_left.saturating_sub(header.record_bytes());
            }
        }
        Ok(true)
    }

    /// Copies a record, if its key's slot leads to it, and lets the slot lead to the copy.
    fn copy_latest(
        &self,
        source: &Source<'_>,
        header: &Header,
        location: Location,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<bool> {
        loop {
            let mut stripe = self.index.lock(hash);
            self.health.check_writable()?;
            let Some((cell, _)) = stripe.find(hash, |other| other == location) else {
                return Ok(false);
            };
            if let Some(copied) = self.copy_record(source, location, hash)? {
                stripe.replace(cell, hash, copied.location);
                return Ok(true);
            }
            drop(stripe);
            self.begin_copies(source, header, now)?;
        }
    }

    fn source<'a>(&self, segment: &'a Segment, bytes_left: u64) -> Source<'a> {
        Source { segment, bytes_left, is_remain: is_small(segment, &self.config) }
    }

    /// Begins a segment for copies, with no stripe locked: callers would wait for its syncs.
    fn begin_copies(&self, source: &Source<'_>, header: &Header, now: Timestamp) -> Result<()> {
        let lengths = (u64::from(header.key_len), u64::from(header.outcome_len));
        let segment = self.log.begin_copies(source, lengths, now)?;
        self.wheel.add(segment.ends, segment.number);
        Ok(())
    }

    /// Finds out which tombstones kill something in another segment.
    fn search(&self, other: &Arc<Segment>, removals: &mut [Removal]) -> Result<()> {
        // All that a tombstone kills has been counted: see where it was found.
        if self.log.waste.of(other.chunks()).superseded == 0 {
            return Ok(());
        }
        let records = other.records.load(Ordering::Acquire);
        let run = if other.is_sealed() { self.log.read_run(other, records)? } else { None };
        let floor = other.floor.load(Ordering::Acquire);
        for removal in removals.iter_mut().filter(|removal| !removal.needed) {
            removal.needed = floor <= removal.version
                && run.as_ref().is_none_or(|run| run.may_hold(removal.hash.run_bits()));
        }
        Ok(())
    }

    /// Copies the tombstones that are needed, and drops the segment.
    fn finish_job(&self, compactor: &mut Compactor, now: Timestamp) -> Result<()> {
        let Some(job) = compactor.job.as_ref() else { return Ok(()) };
        let segment = job.segment.clone();
        for removal in job.removals.iter().filter(|removal| removal.needed) {
            self.keep_removal(&segment, removal, compactor.reclaimed, now)?;
        }
        // What has superseded the records dropped here may lie in any segment, and must not be
        // lost by a power loss that these records would have survived.
        self.settle_all()?;
        let superseded = job.superseded;
        self.wheel.remove(segment.ends, segment.number);
        compactor.job = None;
        self.drop_and_sweep(&[segment.number], now)?;
        compactor.reclaimed += superseded;
        self.counters().segments_compacted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Copies a tombstone, unless the record that follows it does its work.
    fn keep_removal(
        &self,
        segment: &Segment,
        removal: &Removal,
        reclaimed: u64,
        now: Timestamp,
    ) -> Result<()> {
        let Found::Record(view) = self.log.view(Log::location(segment, removal.at)) else {
            return Err(self.damaged(Log::location(segment, removal.at)));
        };
        let header = view.header;
        let source = self.source(segment, header.record_bytes());
        while !self.copy_removal(&source, removal, reclaimed)? {
            self.begin_copies(&source, &header, now)?;
        }
        Ok(())
    }

    /// As [`Engine::keep_removal`]; false where a segment for copies has to be begun first.
    fn copy_removal(&self, source: &Source<'_>, removal: &Removal, reclaimed: u64) -> Result<bool> {
        let (location, hash) = (Log::location(source.segment, removal.at), removal.hash);
        let mut stripe = self.index.lock(hash);
        self.health.check_writable()?;
        let latest = self.latest_over(&stripe, location, hash)?;
        if latest.outlives {
            return Ok(true);
        }
        let Some(copied) = self.copy_record(source, location, hash)? else { return Ok(false) };
        if let Some(cell) = latest.own {
            stripe.replace(cell, hash, copied.location);
        }
        let chunk = copied.location.chunk();
        self.log.waste.add_removals(chunk, source.bytes_left);
        copied.segment.looked_at.store(reclaimed, Ordering::Release);
        Ok(true)
    }

    /// What the slot of a tombstone's key leads to.
    fn latest_over(
        &self,
        stripe: &StripeGuard<'_>,
        location: Location,
        hash: KeyHash,
    ) -> Result<Latest> {
        let Found::Record(view) = self.log.view(location) else {
            return Err(self.damaged(location));
        };
        let mut buffer = Vec::new();
        let key = view.copy_key(&mut buffer);
        let latest = self.find_marked(stripe, hash, key, view.header.marks)?;
        let own = latest.cell.filter(|_| latest.location == Some(location));
        // A record that ends sooner would leave what the tombstone kills to a later restart.
        let ends_later =
            latest.record.is_some_and(|other| other.header.expires >= view.header.expires);
        Ok(Latest { own, outlives: own.is_none() && ends_later })
    }

    /// Writes the record again, with every field as it is, and takes its promise along; `None`
    /// where a segment for copies has to be begun first.
    ///
    /// The key's stripe is locked.
    fn copy_record(
        &self,
        source: &Source<'_>,
        location: Location,
        hash: KeyHash,
    ) -> Result<Option<Copied>> {
        let Found::Record(view) = self.log.view(location) else {
            return Err(self.damaged(location));
        };
        let promised = self.promise_of_copy(&view, location);
        let copied = self.log.append_copy(source, &view, hash);
        if let Some(bytes) = promised {
            // Where there is no copy yet, the record keeps its promise.
            let keeper = copied.as_ref().map_or(location, |copied| copied.location);
            self.log.reserve.attach(keeper, bytes);
        }
        let Some(copied) = copied else { return Ok(None) };
        self.move_held(&view, location, copied.location);
        self.note(copied.location, hash);
        Ok(Some(copied))
    }
}
