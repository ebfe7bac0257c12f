//! Replacing files of a store, and keeping the ones replaced under other names.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, OFlags, SeekFrom};

use crate::error::{Error, Result};
use crate::sys::disk::Disk;
use crate::sys::files::{Directory, UNFINISHED};
use crate::sys::space::Space;
use crate::sys::words;

/// What is read at once, and again in pages where that fails: it stays in the processor's cache.
const PIECE_BYTES: usize = 64 << 10;
const PAGE_BYTES: usize = 4096;
static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

impl Directory {
    /// As [`Disk::replace`], for a file of `bytes` in all, which reads as zeros behind the
    /// contents.
    pub(crate) fn replace_sized(&self, name: &str, contents: &[u8], bytes: u64) -> Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        let path = self.path(&unfinished);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open_file(&unfinished, flags)?;
        let fail = |e| Error::io("write file", &path, e);
        let written = file.write_all(contents).and_then(|()| file.set_len(bytes)).map_err(fail);
        if let Err(error) = written {
            // What is left of it would take the room that was missing.
            let _ = rustix::fs::unlinkat(&self.fd, &unfinished, AtFlags::empty());
            return Err(error);
        }
        file.sync_data().map_err(|e| Error::unsynced("sync file", &path, e))?;
        rustix::fs::renameat(&self.fd, &unfinished, &self.fd, name)
            .map_err(|e| Error::io("rename file", &path, e.into()))?;
        self.sync_directory()
    }

    /// Gives the file a second name, under which it stays whatever becomes of the first.
    pub(crate) fn keep_as(&self, name: &str, kept: &str) -> Result<()> {
        match rustix::fs::linkat(&self.fd, name, &self.fd, kept, AtFlags::empty()) {
            Ok(()) => self.sync_directory(),
            Err(e) => Err(Error::io("keep damaged file", &self.path(name), e.into())),
        }
    }

    /// The file's length; `None` if it is not there or no plain file.
    pub(crate) fn file_bytes(&self, name: &str) -> Option<u64> {
        Some(self.open_file(name, OFlags::RDONLY).ok()?.metadata().ok()?.len())
    }

    /// The file's length, and as much of it as fits in fresh memory of `bytes`.
    ///
    /// Pages that the device does not give are left zero. Nothing is mapped, so that a file that
    /// shrinks meanwhile ends nobody. Holes are not read, and no memory is touched for what is
    /// zero: that is most of a segment that is being filled.
    pub(crate) fn read_into_memory(&self, name: &str, bytes: u64) -> Result<(u64, Space)> {
        let path = self.path(name);
        let file = self.open_file(name, OFlags::RDONLY)?;
        let len = file.metadata().map_err(|e| Error::io("inspect segment", &path, e))?.len();
        let room = usize::try_from(bytes).unwrap_or(usize::MAX).max(PAGE_BYTES);
        let space =
            Space::reserve(room, room).map_err(|e| Error::io("reserve memory", &path, e))?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while let Some(data) = next_data(&file, at).filter(|data| *data < bytes.min(len)) {
            at = data;
            if !read_fully(&file, &mut piece, at) {
                for (page, bytes) in piece.chunks_mut(PAGE_BYTES).enumerate() {
                    if !read_fully(&file, bytes, at + (page * PAGE_BYTES) as u64) {
                        bytes.fill(0);
                    }
                }
            }
            let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
            let rest = space.words().get(first..).unwrap_or_default();
            for (words, page) in rest.chunks(PAGE_BYTES / 8).zip(piece.chunks(PAGE_BYTES)) {
                if page != ZEROS {
                    words::write_bytes(words, page.get(..words.len() * 8).unwrap_or(page));
                }
            }
            at += PIECE_BYTES as u64;
        }
        Ok((len, space))
    }
}

/// The page of the first byte from `at` on that is in no hole; `at` is one's beginning.
fn next_data(file: &std::fs::File, at: u64) -> Option<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Some(data - data % PAGE_BYTES as u64),
        Err(rustix::io::Errno::NXIO) => None,
        // Without an answer all counts as data.
        Err(_) => Some(at),
    }
}

/// How many ranges of data are looked at in a file; those of the engine have a few.
const RANGES_MAX: usize = 4096;

/// The end of the last range of data in a file of `bytes`; `bytes` where the system does not tell.
pub(super) fn data_end(file: &std::fs::File, bytes: u64) -> u64 {
    let mut end = 0;
    for _ in 0..RANGES_MAX {
        let data = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return end.min(bytes),
            Err(_) => return bytes,
        };
        match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole > end => end = hole,
            _ => return bytes,
        }
    }
    bytes
}

/// Fills the buffer as far as the file goes, and with zeros behind; false if the device refuses.
fn read_fully(file: &std::fs::File, buffer: &mut [u8], at: u64) -> bool {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => {
                rest.fill(0);
                return true;
            }
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::PIECE_BYTES;
    use crate::sys::files::Directory;
    use crate::sys::words;

    #[test]
    fn a_file_is_read_as_it_is_with_holes_and_zeros_and_however_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open_exclusive(folder.path()).unwrap();
        let piece = PIECE_BYTES as u64;
        // Around pages and pieces, behind long holes, and at the end of the file.
        let places = [0, 4_090, 5 * piece - 3, 9 * piece + 4_096, 40 * piece + 777, 64 * piece - 1];
        for (count, len) in [(0, 0), (1, 100), (3, 9 * piece), (6, 64 * piece), (6, 70 * piece + 5)]
        {
            let file = std::fs::File::create(folder.path().join("file")).unwrap();
            let mut expected = vec![0; usize::try_from(80 * piece).unwrap()];
            file.set_len(len).unwrap();
            // Written, and zero all the same.
            file.write_all_at(&[0; 5_000], len / 2).unwrap();
            for place in places.into_iter().take(count) {
                file.write_all_at(b"bytes", place).unwrap();
                let at = usize::try_from(place).unwrap();
                expected[at..at + 5].copy_from_slice(b"bytes");
            }
            let len = file.metadata().unwrap().len();
            for room in [4_096, 9 * piece, 64 * piece, 80 * piece] {
                let (found, space) = directory.read_into_memory("file", room).unwrap();
                let mut bytes = vec![1; usize::try_from(room).unwrap()];
                words::read_bytes(space.words(), &mut bytes);
                assert_eq!(found, len);
                assert!(bytes == expected[..bytes.len()], "{count} of {len} in {room}");
            }
        }
    }
}
