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

/// A reserved range of lines.
#[derive(Debug)]
pub(crate) struct Arena {
    map: MmapRaw,
    lines: usize,
}

impl Arena {
    /// Reserves room for `lines` lines, or for fewer where the system refuses that much address
    /// space; see [`Arena::len`].
    pub(crate) fn reserve(lines: usize, lines_min: usize) -> io::Result<Self> {
        let mut lines = lines;
        loop {
            let mut options = MmapOptions::new();
            options.len(lines * LINE_BYTES).no_reserve_swap();
            match options.map_anon() {
                Ok(map) => {
                    // Huge pages only save time; a kernel without them works as well.
                    #[cfg(target_os = "linux")]
                    let _ = map.advise(memmap2::Advice::HugePage);
                    return Ok(Self { map: MmapRaw::from(map), lines });
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
        // SAFETY: the mapping is `lines * 64` bytes, page aligned, readable and writable, zeroed
        // (a valid `Line`), and lives as long as `self`; atomics may be shared freely.
        unsafe { std::slice::from_raw_parts(first, self.lines) }
    }

    /// The line at `index`, or `None` beyond the reservation.
    #[inline]
    pub(crate) fn line(&self, index: usize) -> Option<&Line> {
        self.all().get(index)
    }

    /// The line at `index` and the one behind it, or `None` if either is beyond the reservation.
    #[inline]
    pub(crate) fn line_and_next(&self, index: usize) -> Option<[&Line; 2]> {
        self.all().get(index..)?.first_chunk().map(<[Line; 2]>::each_ref)
    }

    /// `count` lines from `first` on; none where they go beyond the reservation.
    pub(crate) fn lines(&self, first: usize, count: usize) -> &[Line] {
        self.all().get(first..).and_then(|lines| lines.get(..count)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn prefetch(&self, index: usize) {
        prefetch(self.map.as_ptr().cast::<Line>().wrapping_add(index));
    }
}
