//! The log's address space: one reserved range in which each segment is mapped at its place.
//!
//! A location in the log is thereby an offset in the range, for as long as the store is open.
//! Where no segment is mapped, the range reads as zeros, which are never a record: a location that
//! outlived its segment is harmless to read. Mapping a file over a part of the range replaces what
//! was there in one step of the kernel, so other threads see the old bytes or the new ones.

use crate::sys::sync::atomic::AtomicU64;
use std::ffi::c_void;
use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags};

use crate::sys::prefetch::prefetch;
use crate::sys::words::WORD;

const PAGE_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// Words that one look at a place shows.
pub(crate) const WINDOW_WORDS: usize = 40;

const _: () = assert!(WINDOW_WORDS * WORD <= PAGE_BYTES);

/// A reserved range of memory.
#[derive(Debug)]
pub(crate) struct Space {
    /// One page more, which is never anything but zeros.
    map: MmapRaw,
    bytes: usize,
    /// Makes any number a word's place in bytes, below the largest power of two that there are.
    mask: usize,
}

impl Space {
    /// Reserves `bytes`, or less where the system refuses that much; see [`Space::len`].
    pub(crate) fn reserve(bytes: usize, bytes_min: usize) -> io::Result<Self> {
        let mut bytes = bytes;
        loop {
            let mut options = MmapOptions::new();
            options.len(bytes + PAGE_BYTES).no_reserve_swap();
            match options.map_anon() {
                Ok(map) => {
                    // Records may be confidential: they stay out of core dumps.
                    #[cfg(target_os = "linux")]
                    let _ = map.advise(memmap2::Advice::DontDump);
                    let mask = bytes.checked_ilog2().map_or(0, |log| (1 << log) - 1) & !(WORD - 1);
                    return Ok(Self { map: MmapRaw::from(map), bytes, mask });
                }
                Err(error) if bytes / 2 < bytes_min => return Err(error),
                Err(_) => bytes /= 2,
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The whole range as words.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let first = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: every page of the range is mapped, readable and writable, from `reserve` until
        // drop (mapping a segment replaces pages, it never leaves a gap); it is page aligned; and
        // atomics may be shared whoever else writes to the same bytes.
        unsafe { std::slice::from_raw_parts(first, self.bytes / WORD) }
    }

    /// The words from byte `at` on, which is counted modulo the bytes that there are: a power of
    /// two, to have each be some place's. There is no check to be made, and no answer but words.
    #[inline(always)]
    pub(crate) fn window(&self, at: usize) -> &[AtomicU64; WINDOW_WORDS] {
        let first = self.map.as_ptr().wrapping_add(at & self.mask);
        // SAFETY: the mask has no bits of a part of a word and is below the number of bytes, and a
        // page more is mapped, which has room for a window; the rest is as in `words`.
        unsafe { &*first.cast() }
    }

    #[inline]
    pub(crate) fn prefetch(&self, at: usize) {
        prefetch(self.map.as_ptr().wrapping_add(at));
        // A short outcome is copied with all that it might have: the end may be one line further.
        prefetch(self.map.as_ptr().wrapping_add(at + LINE_BYTES));
    }

    /// Shows the first `bytes` of `file` at offset `at`, written through to the file.
    pub(crate) fn map_file(&self, at: usize, bytes: usize, file: &File) -> io::Result<()> {
        let address = self.part(at, bytes)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: `part` checked that the pages replaced lie inside this reservation, and what is
        // put there is readable and writable memory like what was there.
        unsafe { rustix::mm::mmap(address, bytes, access, flags, file, 0) }?;
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the pages were mapped just above, and their contents do not change. Huge
            // pages only save time, so a kernel without them is as good.
            let _ =
                unsafe { rustix::mm::madvise(address, bytes, rustix::mm::Advice::LinuxHugepage) };
        }
        Self::keep_out_of_dumps(address, bytes);
        Ok(())
    }

    /// Records may be confidential. Every new mapping of a part has to be marked anew.
    fn keep_out_of_dumps(address: *mut c_void, bytes: usize) {
        #[cfg(target_os = "linux")]
        {
            let advice = rustix::mm::Advice::LinuxDontDump;
            // SAFETY: callers have just mapped these pages inside this reservation, and whether
            // they are dumped changes nothing in them.
            let _ = unsafe { rustix::mm::madvise(address, bytes, advice) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (address, bytes);
    }

    /// Makes a part read as zeros again and gives its memory back.
    pub(crate) fn unmap(&self, at: usize, bytes: usize) -> io::Result<()> {
        let address = self.part(at, bytes)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `map_file`; the new pages are anonymous, readable, writable and zero.
        unsafe { rustix::mm::mmap_anonymous(address, bytes, access, flags) }?;
        // Else the kernel could not join it with its neighbours again.
        Self::keep_out_of_dumps(address, bytes);
        Ok(())
    }

    /// Touches the pages of a part for writing ahead of use; a hint.
    pub(crate) fn populate(&self, at: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        if let Ok(address) = self.part(at, bytes) {
            let advice = rustix::mm::Advice::LinuxPopulateWrite;
            // SAFETY: the pages lie inside this reservation (checked by `part`) and their contents
            // do not change.
            let _ = unsafe { rustix::mm::madvise(address, bytes, advice) };
        }
    }

    /// Returns once one page of a mapped file is on stable storage.
    pub(crate) fn sync_page(&self, at: usize) -> io::Result<()> {
        let address = self.part(at, PAGE_BYTES)?;
        let flags = rustix::mm::MsyncFlags::SYNC;
        // SAFETY: the page lies inside this reservation (checked by `part`), and writing it to its
        // file changes nothing in memory.
        unsafe { rustix::mm::msync(address, PAGE_BYTES, flags) }?;
        Ok(())
    }

    fn part(&self, at: usize, bytes: usize) -> io::Result<*mut c_void> {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        if !inside {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        Ok(self.map.as_mut_ptr().wrapping_add(at).cast())
    }
}

#[cfg(test)]
mod tests {
    use super::Space;
    use crate::sys::words::{load, store};

    #[test]
    fn a_file_shows_at_its_place_and_the_place_reads_zero_after_unmapping() {
        let space = Space::reserve(1 << 20, 1 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        space.map_file(65_536, 8192, &file).unwrap();
        store(&space.words()[65_536 / 8], 77);
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 77);
        space.unmap(65_536, 8192).unwrap();
        assert_eq!(load(&space.words()[65_536 / 8]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_file_shows_stays_out_of_core_dumps() {
        let space = Space::reserve(1 << 20, 1 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        space.map_file(65_536, 8192, &file).unwrap();
        let at = space.words()[65_536 / 8..].as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begins = |line: &str| line.starts_with(&format!("{at:x}-"));
        let own = maps.lines().skip_while(|line| !begins(line));
        let flags = own.filter_map(|line| line.strip_prefix("VmFlags:")).next().unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn a_part_outside_the_reservation_is_refused() {
        let space = Space::reserve(1 << 20, 1 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(space.map_file(1 << 20, 4096, &file).is_err());
        assert!(space.unmap(usize::MAX, 4096).is_err());
    }
}
