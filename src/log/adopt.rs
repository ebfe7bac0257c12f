//! Takes over segments that an earlier process has left.

use crate::sys::sync::atomic::AtomicU64;
use std::sync::Arc;

use crate::config::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::error::{Error, Result};
use crate::format::layout::{
    BLOCK_BYTES, CHUNK_BYTES, UNIT_BYTES, block_start, file_number, run_file, segment_file,
};
use crate::format::location::Location;
use crate::format::manifest::{Listed, ListedState};
use crate::format::run::Run;
use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead};
use crate::log::Log;
use crate::log::segment::{Prepared, Segment};
use crate::sys::disk::SegmentFile;
use crate::sys::files::UNFINISHED;
use crate::sys::words;

/// What a listed file is to the process that finds it.
pub(crate) enum Adopted {
    Segment(Arc<Segment>),
    /// It was prepared and never used.
    Unused(Prepared),
}

impl Log {
    /// Segment numbers below `next` have been used.
    pub(crate) fn raise_number(&self, next: u64) {
        self.catalog.lock().raise_number(next);
    }

    /// Maps a listed segment.
    pub(crate) fn adopt(&self, listed: &Listed) -> Result<Adopted> {
        let name = segment_file(listed.number);
        let file = self.disk.open(&name).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                self.corrupt(listed.number, 0, "the segment's file is missing")
            }
            other => other,
        })?;
        let well_sized = is_segment_length(listed.bytes);
        if file.bytes() != listed.bytes || !well_sized {
            let offset = file.bytes().min(listed.bytes);
            return Err(self.corrupt(listed.number, offset, "the file's length has changed"));
        }
        let chunks = listed.bytes / CHUNK_BYTES;
        let first = self.catalog.lock().place(chunks);
        let first = first.ok_or(Error::Full { what: "address space" })?;
        let adopted = self.map_adopted(listed, first * CHUNK_BYTES, file);
        adopted.inspect_err(|_| self.unmap(first * CHUNK_BYTES, listed.bytes))
    }

    /// Gives a file's place back. Where that fails the place is lost, and nothing else.
    fn unmap(&self, at: u64, bytes: u64) {
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        let length = usize::try_from(bytes).unwrap_or(0);
        if self.space.unmap(place, length).is_ok() {
            let first = at / CHUNK_BYTES;
            self.catalog.lock().free(first..first + bytes / CHUNK_BYTES);
        }
    }

    /// Keeps of the files found unused what promises need; returns the numbers of the others,
    /// whose files can be removed once another manifest is written.
    pub(crate) fn keep_of(&self, unused: Vec<Prepared>) -> Vec<u64> {
        let mut others = Vec::new();
        for prepared in unused {
            // A copy of the store may have left holes where its room was allocated.
            let allocated = prepared.file.allocated_bytes() >= prepared.bytes;
            if allocated && self.reserve.has_promises() && self.wants_kept() {
                self.keep(prepared);
            } else {
                // A mapping would keep the file's room after the file is gone.
                self.unmap(prepared.at, prepared.bytes);
                others.push(prepared.number);
            }
        }
        others
    }

    fn map_adopted(&self, listed: &Listed, at: u64, file: Box<dyn SegmentFile>) -> Result<Adopted> {
        file.map(&self.space, usize::try_from(at).unwrap_or(usize::MAX))?;
        let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
        let words = self.space.words().get(first..).unwrap_or_default();
        let mut head = [0; SEGMENT_HEAD_BYTES];
        words::read_bytes(words, &mut head);
        let unused = |file| {
            let (number, bytes) = (listed.number, listed.bytes);
            Ok(Adopted::Unused(Prepared { number, at, bytes, file }))
        };
        let readable = file.data_end().min(listed.bytes);
        let blocks_are_unused = || blocks_are_unused(words, readable);
        if head == [0; SEGMENT_HEAD_BYTES] && listed.state == ListedState::Open {
            if !blocks_are_unused() {
                return Err(self.corrupt(listed.number, 0, "the segment's head is gone"));
            }
            return unused(file);
        }
        let decoded = SegmentHead::decode(&head);
        let torn = decoded.is_none() && listed.state == ListedState::Open;
        if torn && blocks_are_unused() {
            // A power loss while it was begun: the head is durable before a block is claimed.
            return unused(file);
        }
        let head = decoded
            .ok_or_else(|| self.corrupt(listed.number, 0, "the segment's head is damaged"))?;
        if head.store != self.id || head.number != listed.number || head.bytes != listed.bytes {
            return Err(self.corrupt(listed.number, 0, "the segment belongs elsewhere"));
        }
        let segment = Arc::new(Segment::new(&head, at, file));
        segment.skip_hole();
        self.table.publish(&segment, true);
        self.catalog.lock().add_full(segment.clone());
        Ok(Adopted::Segment(segment))
    }

    /// A sealed segment's run; `None` if it is missing, damaged, or not this segment's.
    pub(crate) fn read_run(&self, segment: &Segment, records: u64) -> Result<Option<Run>> {
        let Some(bytes) = self.disk.read(&run_file(segment.number))? else {
            return Ok(None);
        };
        Ok(Run::decode(&bytes).filter(|run| {
            let ours = run.store == self.id && run.number == segment.number;
            let inside = |entry: &crate::format::run::RunEntry| {
                u64::from(entry.units) * UNIT_BYTES < segment.bytes && entry.units > 0
            };
            ours && run.entries.len() as u64 == records && run.entries.iter().all(inside)
        }))
    }

    /// The location of a record at `offset` of the segment.
    pub(crate) fn location(segment: &Segment, offset: u64) -> Location {
        Location::from_bytes(segment.at + offset)
    }

    /// The segment's words.
    pub(crate) fn words<'a>(&'a self, segment: &Segment) -> &'a [AtomicU64] {
        segment.words(self.space.words())
    }

    /// Damage in a segment's file.
    pub(crate) fn corrupt(&self, number: u64, offset: u64, what: &'static str) -> Error {
        let path = self.disk.path(&segment_file(number));
        Error::Corrupt { path, segment: Some(number), offset, what }
    }

    /// Removes segments that were prepared and never used, once no manifest lists them.
    pub(crate) fn remove_unused(&self, numbers: &[u64]) -> Result<()> {
        numbers.iter().try_for_each(|number| self.disk.remove(&segment_file(*number)))
    }

    /// Removes files that a crash left behind: unfinished, or of segments not listed.
    pub(crate) fn remove_debris(&self, listed: &[Listed]) -> Result<u64> {
        let mut removed = 0;
        for entry in self.disk.entries()? {
            let number = file_number(&entry.name, ".seg").or(file_number(&entry.name, ".run"));
            let unlisted = number.is_some_and(|n| !listed.iter().any(|l| l.number == n));
            let unfinished = entry.name.strip_suffix(UNFINISHED).is_some_and(is_ours);
            if entry.is_file && (unfinished || (unlisted && self.is_debris(&entry.name))) {
                self.disk.remove(&entry.name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// True for an unlisted file that this store has made, or that was never begun.
    fn is_debris(&self, name: &str) -> bool {
        if name.ends_with(".run") {
            return true;
        }
        let Ok(Some(head)) = self.disk.read_head(name, SEGMENT_HEAD_BYTES) else {
            // Made, and not allocated before the process ended: its number is given out again.
            return matches!(self.disk.read_head(name, 1), Ok(None));
        };
        match SegmentHead::decode(&head) {
            Some(head) => head.store == self.id,
            None => head.iter().all(|byte| *byte == 0),
        }
    }
}

/// True for a length that segments have.
pub(crate) fn is_segment_length(bytes: u64) -> bool {
    bytes.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
}

fn is_ours(name: &str) -> bool {
    use crate::format::layout::{IDENTITY_FILE, MANIFEST_FILE};
    let numbered = file_number(name, ".run").or(file_number(name, ".seg")).is_some();
    name == IDENTITY_FILE || name == MANIFEST_FILE || numbered
}

/// True when no lane has claimed a block.
pub(crate) fn blocks_are_unused(words: &[AtomicU64], bytes: u64) -> bool {
    (0..bytes.div_ceil(BLOCK_BYTES)).all(|block| {
        let first = usize::try_from(block_start(block) / 8).unwrap_or(usize::MAX);
        words.get(first).is_none_or(|word| words::load(word) == 0)
    })
}
