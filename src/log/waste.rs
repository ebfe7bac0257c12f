//! How much of each segment counts no more, known without reading it.
//!
//! Two sums for each chunk. *Superseded* are records that some later record of their key has
//! replaced; they are added where a slot is led elsewhere, under its stripe's lock, so that a new
//! key costs nothing. *Removals* are tombstones, which are of use only while something that they
//! kill can still be found; whether they are is for compaction to find out.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::ops::Range;

use crate::log::Log;
use crate::sys::arena::{Arena, LINE_SLOTS};

/// Words that each chunk has.
const WORDS: usize = 2;

/// Of all bytes on the disk, the share that may be waste before reclaiming it presses: one part in
/// this many.
const PRESSING_SHARE: u64 = 6;

/// Bytes of a segment that may be given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wasted {
    pub(crate) superseded: u64,
    pub(crate) removals: u64,
}

/// Both sums, by chunk of the address space.
#[derive(Debug)]
pub(crate) struct Waste {
    sums: Arena,
}

impl Waste {
    pub(crate) fn new(chunks: usize) -> io::Result<Self> {
        let lines = (chunks * WORDS).div_ceil(LINE_SLOTS);
        Ok(Self { sums: Arena::reserve(lines, lines)? })
    }

    fn words(&self, chunk: u64) -> Option<[&AtomicU64; WORDS]> {
        let first = usize::try_from(chunk).ok()? * WORDS;
        let line = &self.sums.line(first / LINE_SLOTS)?.0;
        Some([line.get(first % LINE_SLOTS)?, line.get(first % LINE_SLOTS + 1)?])
    }

    /// A record of so many bytes in the chunk was replaced.
    pub(crate) fn add_superseded(&self, chunk: u64, bytes: u64) {
        if let Some([superseded, _]) = self.words(chunk) {
            superseded.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Tombstones of so many bytes lie in the chunk.
    pub(crate) fn add_removals(&self, chunk: u64, bytes: u64) {
        if let Some([_, removals]) = self.words(chunk) {
            removals.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// What is wasted in a segment of these chunks.
    pub(crate) fn of(&self, chunks: Range<u64>) -> Wasted {
        let mut wasted = Wasted::default();
        for [superseded, removals] in chunks.filter_map(|chunk| self.words(chunk)) {
            wasted.superseded += superseded.load(Ordering::Relaxed);
            wasted.removals += removals.load(Ordering::Relaxed);
        }
        wasted
    }

    /// The chunks are free for another segment.
    pub(crate) fn reset(&self, chunks: Range<u64>) {
        for words in chunks.filter_map(|chunk| self.words(chunk)) {
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
}

impl Log {
    /// True when giving back what counts no more, in segments that are complete, should not wait.
    pub(crate) fn is_mostly_waste(&self) -> bool {
        let (mut all, mut wasted) = (0, 0);
        for segment in self.segments() {
            let used = segment.used.load(Ordering::Relaxed);
            let bytes = if segment.is_sealed() { used } else { segment.bytes };
            all += bytes;
            if segment.is_full() {
                wasted += self.waste.of(segment.chunks()).superseded.min(bytes);
            }
        }
        wasted * PRESSING_SHARE > all
    }
}

const _: () = assert!(LINE_SLOTS.is_multiple_of(WORDS));

#[cfg(test)]
mod tests {
    use super::{Waste, Wasted};

    #[test]
    fn what_is_wasted_adds_up_by_segment_and_is_forgotten_with_it() {
        let waste = Waste::new(9).unwrap();
        waste.add_superseded(3, 64);
        waste.add_superseded(4, 32);
        waste.add_removals(4, 48);
        waste.add_superseded(5, 1);
        assert_eq!(waste.of(3..5), Wasted { superseded: 96, removals: 48 });
        waste.reset(3..5);
        assert_eq!(waste.of(3..5), Wasted::default());
        assert_eq!(waste.of(0..9), Wasted { superseded: 1, removals: 0 });
    }
}
