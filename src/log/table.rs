//! Which segment a chunk of the address space belongs to, and whether it lives.
//!
//! One cache line a chunk holds all that decoding a record needs, so that a lookup finds liveness,
//! checks' seed and the bases of version and time in one place. A line is written before the first
//! slot leads to its chunk, and cleared before the chunk is given back; in between it is constant.

use crate::sys::sync::atomic::Ordering;
use std::io;
use std::ops::Range;

use crate::format::record::{Common, Header};
use crate::log::segment::Segment;
use crate::record::Life;
use crate::sys::arena::{Arena, Line};

const DEAD: u64 = 0;
const LIVE: u64 = 1;
/// Lives, and its records are checked at every read, since this process has not written them.
const LIVE_UNVERIFIED: u64 = 2;

/// The word of a line that says whether all of the chunk is on stable storage.
const DURABLE: usize = 6;

/// What is known of the segment that a chunk belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableEntry {
    pub(crate) common: Common,
    /// Where the segment begins in the address space.
    pub(crate) at: u64,
    pub(crate) unverified: bool,
}

/// What decoding a compact header takes, read word by word as it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bases<'a>(&'a Line);

impl Bases<'_> {
    #[inline]
    fn word(self, index: usize) -> u64 {
        self.0.0[index & 7].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn life(self, word: u64) -> Life {
        Header::compact_life(word, self.word(2), self.word(3), self.word(4))
    }
}

/// One line a chunk.
#[derive(Debug)]
pub(crate) struct Table {
    lines: Arena,
}

impl Table {
    pub(crate) fn new(chunks: usize) -> io::Result<Self> {
        Ok(Self { lines: Arena::reserve(chunks, chunks)? })
    }

    /// Makes the segment's chunks known.
    pub(crate) fn publish(&self, segment: &Segment, unverified: bool) {
        let state = if unverified { LIVE_UNVERIFIED } else { LIVE };
        let Common { seed, version, created, lifetime } = segment.common;
        for chunk in segment.chunks() {
            let Some(line) = self.line(chunk) else {
                continue;
            };
            let [state_word, rest @ ..] = &line.0;
            for (word, value) in rest.iter().zip([seed, version, created, lifetime, segment.at]) {
                word.store(value, Ordering::Relaxed);
            }
            line.0[DURABLE].store(0, Ordering::Relaxed);
            state_word.store(state, Ordering::Release);
        }
    }

    /// Everything in the chunks is on stable storage.
    pub(crate) fn mark_durable(&self, chunks: Range<u64>) {
        for chunk in chunks {
            if let Some(line) = self.line(chunk) {
                line.0[DURABLE].store(1, Ordering::Release);
            }
        }
    }

    /// True when everything in the chunk is on stable storage, or nothing of it counts any more.
    pub(crate) fn is_durable(&self, chunk: u64) -> bool {
        self.line(chunk).is_none_or(|line| {
            line.0[DURABLE].load(Ordering::Acquire) != 0
                || line.0[0].load(Ordering::Acquire) == DEAD
        })
    }

    /// Makes every location in the chunks dead.
    pub(crate) fn clear(&self, chunks: Range<u64>) {
        for chunk in chunks {
            if let Some(line) = self.line(chunk) {
                line.0[0].store(DEAD, Ordering::SeqCst);
            }
        }
    }

    #[inline]
    pub(crate) fn lives(&self, chunk: u64) -> bool {
        self.line(chunk).is_some_and(|line| line.0[0].load(Ordering::Acquire) != DEAD)
    }

    /// The bases of a segment that lives and that this process has written.
    #[inline(always)]
    pub(crate) fn verified(&self, chunk: u64) -> Option<Bases<'_>> {
        // Of the chunks there are as many as a power of two, and no location leads beyond them.
        let line = self.lines.line_at(usize::try_from(chunk).ok()?);
        (line.0[0].load(Ordering::Acquire) == LIVE).then_some(Bases(line))
    }

    #[inline]
    pub(crate) fn get(&self, chunk: u64) -> Option<TableEntry> {
        let line = self.line(chunk)?;
        let state = line.0[0].load(Ordering::Acquire);
        if state == DEAD {
            return None;
        }
        let word = |index: usize| line.0[index].load(Ordering::Relaxed);
        let common =
            Common { seed: word(1), version: word(2), created: word(3), lifetime: word(4) };
        Some(TableEntry { common, at: word(5), unverified: state == LIVE_UNVERIFIED })
    }

    #[inline]
    fn line(&self, chunk: u64) -> Option<&Line> {
        self.lines.line(usize::try_from(chunk).ok()?)
    }
}
