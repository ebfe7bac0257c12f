//! Zeroed lines of 64 bytes in huge pages, reserved at once and backed as they are touched.
//!
//! Lines are atomic integers, so a reference to any line may be held by any thread at any time;
//! who may change which line is the business of the structure built on top.

use crate::sys::sync::atomic::AtomicU64;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

use crate::sys::prefetch::prefetch;

/// Slots in a line.
pub(crate) const LINE_SLOTS: usize = 8;
const LINE_BYTES: usize = 64;

/// One cache line of eight integers.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [AtomicU64; LINE_SLOTS]);

const _: () = assert!(size_of::<Line>() == LINE_BYTES && align_of::<Line>() == LINE_BYTES);

/// A line and the one behind it in memory.
pub(crate) type Pair = [Line; 2];

/// The integers of both lines, in order.
#[inline(always)]
pub(crate) fn cells(pair: &Pair) -> &[AtomicU64; 2 * LINE_SLOTS] {
    // SAFETY: a line is eight integers and nothing else, so two of them are sixteen; the result
    // borrows what the argument does.
    unsafe { &*std::ptr::from_ref(pair).cast() }
}

/// A reserved range of lines.
#[derive(Debug)]
pub(crate) struct Arena {
    /// One line more, which nobody gets but as the second of a pair.
    map: MmapRaw,
    lines: usize,
    /// One less than the largest power of two that is not above `lines`.
    mask: usize,
}

impl Arena {
    /// Reserves room for `lines` lines, or for fewer where the system refuses that much address
    /// space; see [`Arena::len`].
    pub(crate) fn reserve(lines: usize, lines_min: usize) -> io::Result<Self> {
        let mut lines = lines;
        loop {
            let mut options = MmapOptions::new();
            options.len((lines + 1) * LINE_BYTES).no_reserve_swap();
            match options.map_anon() {
                Ok(map) => {
                    // Huge pages only save time; a kernel without them works as well.
                    #[cfg(target_os = "linux")]
                    let _ = map.advise(memmap2::Advice::HugePage);
                    let mask = lines.checked_ilog2().map_or(0, |log| (1 << log) - 1);
                    return Ok(Self { map: MmapRaw::from(map), lines, mask });
                }
                Err(error) if lines / 2 < lines_min => return Err(error),
                Err(_) => lines /= 2,
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lines
    }

    #[inline]
    fn all(&self) -> &[Line] {
        let first = self.map.as_ptr().cast::<Line>();
        // SAFETY: the mapping is more than `lines * 64` bytes, page aligned, readable and writable,
        // zeroed (a valid `Line`), and lives as long as `self`; atomics may be shared freely.
        unsafe { std::slice::from_raw_parts(first, self.lines) }
    }

    /// The line at `index`, counted modulo the lines there are, which must be a power of two to
    /// have each be some index's. There is no check to be made, and no answer but a line.
    #[inline(always)]
    pub(crate) fn line_at(&self, index: usize) -> &Line {
        let line = self.map.as_ptr().cast::<Line>().wrapping_add(index & self.mask);
        // SAFETY: the mask is below the number of lines (or zero, where one more is mapped), so the
        // line lies in the mapping; the rest is as in `all`.
        unsafe { &*line }
    }

    /// As [`Arena::line_at`], with the line behind it.
    #[inline(always)]
    pub(crate) fn pair_at(&self, index: usize) -> &Pair {
        let pair = self.map.as_ptr().cast::<Line>().wrapping_add(index & self.mask).cast::<Pair>();
        // SAFETY: as in `line_at`; one line more is mapped than there are.
        unsafe { &*pair }
    }

    /// The line at `index`, or `None` beyond the reservation.
    #[inline]
    pub(crate) fn line(&self, index: usize) -> Option<&Line> {
        self.all().get(index)
    }

    /// `count` lines from `first` on; none where they go beyond the reservation.
    pub(crate) fn lines(&self, first: usize, count: usize) -> &[Line] {
        self.all().get(first..).and_then(|lines| lines.get(..count)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn prefetch(&self, index: usize) {
        prefetch(self.line_at(index));
    }
}
