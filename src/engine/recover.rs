//! From files to an index: sealed segments by their runs, the others by reading their blocks.
//!
//! Every record found is offered to the index; of several with one key the highest version stays.
//! Order therefore does not matter, and the work is spread over all cores.

use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::layout::{BLOCK_BYTES, UNIT_BYTES, block_start};
use crate::format::location::Location;
use crate::format::manifest::{ListedState, Manifest};
use crate::format::record::{Kind, Marks};
use crate::format::run::Run;
use crate::format::segment::BlockHeader;
use crate::key::KeyHash;
use crate::log::adopt::Adopted;
use crate::log::holdings::{Held, add_held};
use crate::log::scan::{ScanReport, Scanner};
use crate::log::segment::{Segment, Written};
use crate::log::view::space_at;
use crate::log::{Found, Log};
use crate::sys::sync::{Mutex, processors};
use crate::time::Timestamp;
use crate::version::Version;

/// Blocks that one task reads: 4 MiB.
const BLOCKS_PER_TASK: usize = 64;
/// Slots whose lines are fetched together.
const GROUP: usize = 32;

/// What is compared of a record that may share its key with another.
#[derive(Debug)]
struct Checked {
    key: Vec<u8>,
    version: Version,
    expires: Timestamp,
    bytes: u64,
    /// Its namespace, and what it holds there.
    space: Option<u32>,
    held: Held,
}

/// A piece of recovery that one thread does.
enum Task {
    Run(Arc<Segment>, Run),
    Blocks(Arc<Segment>, Vec<BlockHeader>),
    /// A sealed segment without a usable run, and the records it must have.
    Rebuild(Arc<Segment>, u64),
    /// A segment in which leases may be under way.
    Promises(Arc<Segment>),
}

/// How far the blocks of unsealed segments hold valid records, with their segments.
type FoundBlocks = Vec<(Arc<Segment>, Written)>;

/// Below a watermark.
const LOST: &str = "a record that was on stable storage is damaged or gone";

fn written_of(segment: &Segment, block: BlockHeader, sound_end: u64) -> Written {
    let limit = (u64::from(block.index) + u64::from(block.span)) * BLOCK_BYTES;
    Written {
        start: segment.at + block_start(u64::from(block.index)),
        limit: segment.at + limit,
        next: segment.at + sound_end,
    }
}

impl Engine {
    /// Fills index and wheel from the segments that the manifest lists.
    ///
    /// Returns the numbers of those that were never used and are not needed. Their files can be
    /// removed once another manifest is written.
    pub(crate) fn recover(&mut self, manifest: &Manifest) -> Result<Vec<u64>> {
        self.log.raise_number(manifest.next_number);
        self.log.restore_spaces(manifest.spaces.clone());
        self.log.restore_salvaged(manifest.salvaged);
        self.recovery.debris = self.log.remove_debris(&manifest.segments)?;
        let now = self.clock.now();
        let passed = now.as_millis().saturating_sub(manifest.time.as_millis());
        self.recovery.time_passed_ms = passed.saturating_add(self.clock.drift().ahead_ms);
        let mut tasks = Vec::new();
        let (mut segments, mut expired, mut unused) = (Vec::new(), Vec::new(), Vec::new());
        for listed in &manifest.segments {
            let segment = match self.log.adopt(listed)? {
                Adopted::Segment(segment) => segment,
                Adopted::Unused(prepared) => {
                    unused.push(prepared);
                    continue;
                }
            };
            self.clock.raise_floor(Timestamp::from_millis(segment.common.created));
            if segment.ends <= now {
                expired.push(segment.number);
                continue;
            }
            self.wheel.add(segment.ends, segment.number);
            self.recovery.segments += 1;
            self.add_tasks(&segment, listed.state, listed.records, &mut tasks)?;
            segments.push(segment);
        }
        self.recovery.expired = expired.len() as u64;
        if !expired.is_empty() {
            match self.log.drop_segments(&expired, now) {
                // No slot was ever set for any of them.
                Ok(dropped) => dropped.iter().try_for_each(|segment| self.log.free(segment))?,
                // Maintenance drops them once there is room for a manifest.
                Err(Error::Full { .. }) => {
                    expired.iter().for_each(|number| self.wheel.add(now, *number));
                }
                Err(error) => return Err(error),
            }
        }
        let (report, found) = self.run_tasks(tasks)?;
        self.settle_found(&found)?;
        self.recovery.records += report.records;
        self.recovery.torn_tails = report.torn_tails;
        self.recovery.torn_bytes = report.torn_bytes;
        self.recovery.damaged = report.damaged.len() as u64;
        self.clock.raise_floor(Timestamp::from_millis(report.created_max));
        // Only now is it known which records are their keys' latest.
        segments.retain(|segment| segment.started.load(Ordering::Relaxed) > 0);
        self.run_tasks(segments.into_iter().map(Task::Promises).collect())?;
        let unused = self.log.keep_of(unused);
        self.recovery.debris += unused.len() as u64;
        Ok(unused)
    }

    fn add_tasks(
        &mut self,
        segment: &Arc<Segment>,
        state: ListedState,
        records: u64,
        tasks: &mut Vec<Task>,
    ) -> Result<()> {
        if state == ListedState::Sealed {
            segment.mark_sealed(records);
            // Its contents were synced before it was called sealed.
            self.log.mark_durable(segment);
            match self.log.read_run(segment, records)? {
                Some(run) => {
                    self.recovery.sealed += 1;
                    segment.used.store(run.used_bytes(), Ordering::Release);
                    segment.started.store(run.started, Ordering::Relaxed);
                    self.log.waste.add_removals(segment.chunks().start, run.removal_bytes);
                    self.log.holdings.found(segment.chunks().start, &run.held);
                    tasks.push(Task::Run(segment.clone(), run));
                }
                None => {
                    self.recovery.runs_rebuilt += 1;
                    tasks.push(Task::Rebuild(segment.clone(), records));
                }
            }
            return Ok(());
        }
        let mut scanner = Scanner::new(self.log.words(segment), &segment.common, self.hasher());
        let blocks = scanner.blocks();
        let report = scanner.report;
        self.recovery.torn_tails += report.torn_tails;
        if let Some(offset) = report.lost.first() {
            return Err(self.log.corrupt(segment.number, *offset, LOST));
        }
        for part in blocks.chunks(BLOCKS_PER_TASK) {
            tasks.push(Task::Blocks(segment.clone(), part.to_vec()));
        }
        Ok(())
    }

    /// Brings to stable storage what was found in segments that are not sealed: what is answered
    /// from now on must not be lost by a power cut that comes after it.
    fn settle_found(&self, found: &FoundBlocks) -> Result<()> {
        let mut segments: Vec<&Arc<Segment>> = found.iter().map(|(segment, _)| segment).collect();
        segments.sort_unstable_by_key(|segment| segment.number);
        segments.dedup_by_key(|segment| segment.number);
        for segment in segments {
            let own = found.iter().filter(|(other, _)| Arc::ptr_eq(other, segment));
            let written: Vec<Written> = own.map(|(_, written)| *written).collect();
            self.log.settle(segment, &written)?;
        }
        Ok(())
    }

    fn run_tasks(&self, tasks: Vec<Task>) -> Result<(ScanReport, FoundBlocks)> {
        let threads = processors().min(tasks.len().max(1));
        let (queue, found) = (Mutex::new(tasks), Mutex::default());
        let work = || {
            let mut report = ScanReport::default();
            loop {
                let Some(task) = queue.lock().pop() else {
                    return Ok(report);
                };
                report.add(&self.run_task(task, &found)?);
            }
        };
        let reports: Vec<Result<ScanReport>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut reports = vec![work()];
            for worker in workers {
                let lost = || Err(Error::Poisoned { reason: "a recovery thread failed".into() });
                reports.push(worker.join().unwrap_or_else(|_| lost()));
            }
            reports
        });
        let mut total = ScanReport::default();
        for report in reports {
            total.add(&report?);
        }
        Ok((total, found.into_inner()))
    }

    fn run_task(&self, task: Task, found: &Mutex<FoundBlocks>) -> Result<ScanReport> {
        match task {
            Task::Promises(segment) => {
                self.log.visit(&segment, &self.hasher, |location, view| {
                    self.promise_again(location, view);
                });
                Ok(ScanReport::default())
            }
            Task::Run(segment, run) => self.restore_run(&segment, &run),
            Task::Blocks(segment, blocks) => {
                let mut scanner =
                    Scanner::new(self.log.words(&segment), &segment.common, self.hasher());
                let written = self.restore_blocks(&segment, &blocks, &mut scanner)?;
                if let Some(offset) = scanner.report.lost.first() {
                    return Err(self.log.corrupt(segment.number, *offset, LOST));
                }
                found.lock().extend(written.into_iter().map(|one| (segment.clone(), one)));
                Ok(scanner.report)
            }
            Task::Rebuild(segment, records) => {
                let mut scanner =
                    Scanner::new(self.log.words(&segment), &segment.common, self.hasher());
                let blocks = scanner.blocks();
                self.restore_blocks(&segment, &blocks, &mut scanner)?;
                self.check_rebuilt(&segment, records, &scanner.report)?;
                match self.log.remake_run(&segment, self.hasher()) {
                    // Without room for it, the next open reads the segment again.
                    Ok(()) | Err(Error::Full { .. }) => {}
                    Err(error) => return Err(error),
                }
                Ok(scanner.report)
            }
        }
    }

    /// A sealed segment has all of its records and nothing torn, with or without a run.
    fn check_rebuilt(&self, segment: &Segment, records: u64, found: &ScanReport) -> Result<()> {
        if let Some(offset) = found.damaged.first() {
            return Err(self.log.corrupt(segment.number, *offset, "a sealed record is damaged"));
        }
        if found.records != records {
            return Err(self.log.corrupt(segment.number, 0, "sealed records are missing"));
        }
        Ok(())
    }

    fn restore_run(&self, segment: &Segment, run: &Run) -> Result<ScanReport> {
        for group in run.entries.chunks(GROUP) {
            for entry in group {
                self.index.prefetch_line(KeyHash::from_u64(entry.hash_bits));
            }
            for entry in group {
                let location = Log::location(segment, u64::from(entry.units) * UNIT_BYTES);
                self.restore(KeyHash::from_u64(entry.hash_bits), location)?;
            }
        }
        Ok(ScanReport {
            records: run.entries.len() as u64,
            created_max: run.created_max,
            ..ScanReport::default()
        })
    }

    fn restore_blocks(
        &self,
        segment: &Segment,
        blocks: &[BlockHeader],
        scanner: &mut Scanner<'_>,
    ) -> Result<Vec<Written>> {
        let (mut found, words) = (Vec::new(), self.log.words(segment));
        let mut written = Vec::with_capacity(blocks.len());
        for block in blocks {
            found.clear();
            let (mut removal_bytes, mut held) = (0, Vec::new());
            scanner.records(*block, |at, header, hash| {
                match header.kind {
                    Kind::Removed => removal_bytes += header.record_bytes(),
                    Kind::Started => drop(segment.started.fetch_add(1, Ordering::Relaxed)),
                    Kind::Completed | Kind::Failed | Kind::Released => {}
                }
                if let Some(space) = space_at(words, at, header) {
                    add_held(&mut held, space, Held::by(header));
                }
                found.push((hash, at));
            });
            written.push(written_of(segment, *block, scanner.sound_end));
            self.log.waste.add_removals(segment.chunks().start, removal_bytes);
            self.log.holdings.found(segment.chunks().start, &held);
            for group in found.chunks(GROUP) {
                for (hash, _) in group {
                    self.index.prefetch_stripe(*hash);
                }
                for (hash, _) in group {
                    self.index.prefetch_line(*hash);
                }
                for (hash, at) in group {
                    self.restore(*hash, Log::location(segment, *at))?;
                }
            }
        }
        Ok(written)
    }

    /// Lets the key's slot lead to the record, unless it leads to one of a higher version.
    ///
    /// Records that may share a key are read in full and checked: a key that damage has changed
    /// would otherwise pass for another key, and an earlier record for the latest.
    fn restore(&self, hash: KeyHash, location: Location) -> Result<()> {
        let mut stripe = self.index.lock(hash);
        stripe.reserve_known()?;
        let mut own = None;
        let mut later = false;
        let mut outlives = false;
        let mut loser = (0, None, Held::NONE);
        let mut failure = None;
        let found = stripe.find(hash, |other| {
            let compared = self.checked(location, &mut own).and_then(|own| {
                let mut buffer = None;
                let other = self.checked(other, &mut buffer)?;
                // Of two copies of one record either will do.
                later = own.version > other.version;
                let (lost, kept) = if later { (other, own) } else { (own, other) };
                loser = (lost.bytes, lost.space, lost.held);
                outlives = lost.expires > kept.expires;
                Ok(own.key == other.key)
            });
            compared.unwrap_or_else(|error| {
                failure = Some(error);
                true
            })
        });
        if let (None, Some((_, other)), true) = (&failure, found, outlives) {
            self.outlived.add(hash, if later { other } else { location });
        }
        match (failure, found) {
            (Some(error), _) => return Err(error),
            (None, Some((cell, other))) if later => {
                self.note(location, hash);
                stripe.replace(cell, hash, location);
                self.count_lost(other, loser);
            }
            (None, Some(_)) => self.count_lost(location, loser),
            (None, None) => {
                self.note(location, hash);
                stripe.place(hash, location);
            }
        }
        Ok(())
    }

    /// Counts a record that is not its key's latest: it is waste, and holds nothing.
    fn count_lost(&self, at: Location, (bytes, space, held): (u64, Option<u32>, Held)) {
        self.log.waste.add_superseded(at.chunk(), bytes);
        if let Some(space) = space {
            self.log.holdings.take_away(space, at.chunk(), held);
            self.log.holdings.replace(space, held, Held::NONE);
        }
    }

    /// What is compared of a record of which every byte is right; kept in `memo`.
    fn checked<'m>(
        &self,
        location: Location,
        memo: &'m mut Option<Checked>,
    ) -> Result<&'m Checked> {
        let checked = match memo.take() {
            Some(checked) => checked,
            None => self.check_record(location)?,
        };
        Ok(memo.insert(checked))
    }

    fn check_record(&self, location: Location) -> Result<Checked> {
        let damaged = || self.log.damage_at(location, "a record is damaged");
        let Found::Record(view) = self.log.view(location) else { return Err(damaged()) };
        let mut key = Vec::new();
        if !self.log.verify(location, &view, &self.hasher, &mut key) {
            return Err(damaged());
        }
        view.copy_key(&mut key);
        // A key of a namespace is another key than the same bytes outside of any.
        key.push(u8::from(view.header.marks.has(Marks::NAMESPACED)));
        let header = &view.header;
        let (version, expires, bytes) = (header.version, header.expires, header.record_bytes());
        Ok(Checked { key, version, expires, bytes, space: view.space(), held: Held::by(header) })
    }
}
