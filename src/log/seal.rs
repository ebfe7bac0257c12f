//! Ends a full segment's growth: its records are listed in a run, and it is synced.
//!
//! The order is what recovery relies on: contents to stable storage, then the run, then the
//! manifest that calls the segment sealed. Whatever is called sealed is complete from then on, so
//! that damage in it can never pass for a torn tail.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::error::Result;
use crate::format::identity::ID_BYTES;
use crate::format::layout::{BLOCK_BYTES, HEAD_BYTES, UNIT_BYTES, run_file, segment_file};
use crate::format::record::{Common, Kind};
use crate::format::run::{Run, RunEntry};
use crate::key::KeyHasher;
use crate::log::Log;
use crate::log::holdings::{Held, add_held};
use crate::log::scan::{ScanReport, Scanner};
use crate::log::segment::Segment;
use crate::log::view::space_at;
use crate::outcome::INLINE_BYTES;
use crate::time::Timestamp;

/// Lists a segment's records, and says how its blocks ended.
pub(crate) fn run_of(
    number: u64,
    common: &Common,
    words: &[AtomicU64],
    store: [u8; ID_BYTES],
    hasher: &KeyHasher,
) -> (Run, ScanReport) {
    let mut scanner = Scanner::new(words, common, hasher);
    let mut entries = Vec::new();
    let blocks = (words.len() as u64 * 8).div_ceil(BLOCK_BYTES);
    let mut block_ends = vec![0; usize::try_from(blocks).unwrap_or(0)];
    let (mut removal_bytes, mut started, mut held) = (0, 0, Vec::new());
    for block in scanner.blocks() {
        let end = scanner.records(block, |at, header, hash| {
            match header.kind {
                Kind::Removed => removal_bytes += header.record_bytes(),
                Kind::Started => started += 1,
                Kind::Completed | Kind::Failed | Kind::Released => {}
            }
            if let Some(space) = space_at(words, at, header) {
                add_held(&mut held, space, Held::by(header));
            }
            let units = u32::try_from(at / UNIT_BYTES).unwrap_or(u32::MAX);
            entries.push(RunEntry { hash_bits: hash.run_bits(), units });
        });
        if let Some(slot) = block_ends.get_mut(block.index as usize) {
            let start = u64::from(block.index) * BLOCK_BYTES;
            *slot = u32::try_from(end - start).unwrap_or(u32::MAX);
        }
    }
    entries.sort_unstable();
    let created_max = scanner.report.created_max;
    let run = Run { store, number, created_max, removal_bytes, started, held, block_ends, entries };
    (run, scanner.report)
}

impl Log {
    /// Seals a segment that no lane writes to any more.
    pub(crate) fn seal(
        &self,
        segment: &Arc<Segment>,
        hasher: &KeyHasher,
        now: Timestamp,
    ) -> Result<()> {
        let _sealing = self.sealing.lock();
        if segment.is_sealed() {
            return Ok(());
        }
        self.write_run(segment, hasher)?;
        self.save_manifest(now, false)
    }

    /// Ends appending to every segment that was appended to, and seals it.
    ///
    /// Nobody may append meanwhile.
    #[cfg(feature = "ballot")]
    pub(crate) fn seal_written(&self, hasher: &KeyHasher, now: Timestamp) -> Result<()> {
        let unsealed = self.catalog.lock().unsealed();
        for segment in unsealed.iter().filter(|one| one.claimed.load(Ordering::Acquire) > 0) {
            self.withdraw(segment);
            self.seal(segment, hasher, now)?;
        }
        Ok(())
    }

    /// Opens the segment prepared ahead for its bucket; its bucket and its number.
    ///
    /// Nobody may append meanwhile.
    #[cfg(feature = "ballot")]
    pub(crate) fn activate_spare(&self) -> Option<(Timestamp, u64)> {
        let _growing = self.growing.lock();
        let mut catalog = self.catalog.lock();
        // It was made for the bucket that is appended to, and stays in its place among the numbers.
        let spare = catalog.take_spare(|spares| spares.take_any(0))?;
        self.table.publish(&spare, false);
        let opened = (spare.ends, spare.number);
        catalog.activate(Arc::new(spare));
        Some(opened)
    }

    /// Writes a lost run of a sealed segment again.
    pub(crate) fn remake_run(&self, segment: &Arc<Segment>, hasher: &KeyHasher) -> Result<()> {
        let _sealing = self.sealing.lock();
        self.write_run(segment, hasher)
    }

    /// Everything that sealing takes but the manifest.
    fn write_run(&self, segment: &Arc<Segment>, hasher: &KeyHasher) -> Result<()> {
        let words = segment.words(self.space.words());
        let (mut run, _report) = run_of(segment.number, &segment.common, words, self.id, hasher);
        run.block_ends.resize(usize::try_from(segment.blocks()).unwrap_or(0), 0);
        self.durable.fix(segment);
        segment.sync()?;
        self.mark_durable(segment);
        self.disk.replace(&run_file(segment.number), &run.encode())?;
        let last = run.block_ends.iter().rposition(|end| *end > 0);
        let used = last.map_or(HEAD_BYTES, |block| {
            let end = run.block_ends.get(block).map_or(0, |end| u64::from(*end));
            // Outcomes are read a few words beyond their end. On a full file system in memory,
            // reading a hole ends the process.
            (block as u64 * BLOCK_BYTES + end + INLINE_BYTES as u64).next_multiple_of(BLOCK_BYTES)
        });
        segment.trim(used);
        segment.used.store(run.used_bytes(), Ordering::Release);
        segment.mark_sealed(run.entries.len() as u64);
        Ok(())
    }

    /// Seals everything and says in the manifest that the store was closed.
    pub(crate) fn close(&self, hasher: &KeyHasher, now: Timestamp) -> Result<()> {
        let _sealing = self.sealing.lock();
        self.withdraw_bucket(None);
        let unsealed = self.catalog.lock().unsealed();
        for segment in unsealed {
            self.write_run(&segment, hasher)?;
        }
        let promised = self.reserve.has_promises();
        let unused = self.catalog.lock().discard_unused(promised);
        self.save_manifest(now, true)?;
        for prepared in unused {
            self.disk.remove(&segment_file(prepared.number))?;
        }
        self.disk.release();
        Ok(())
    }
}
