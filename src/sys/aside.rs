//! Replacing files of a store, and keeping the ones replaced under other names.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, OFlags, SeekFrom};

use crate::error::{Error, Result};
use crate::sys::disk::Disk;
use crate::sys::files::{Directory, UNFINISHED};
use crate::sys::space::Space;
use crate::sys::words;

/// What is read at once, and again in pages where that fails.
const PIECE_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

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
    /// shrinks meanwhile ends nobody.
    pub(crate) fn read_into_memory(&self, name: &str, bytes: u64) -> Result<(u64, Space)> {
        let path = self.path(name);
        let file = self.open_file(name, OFlags::RDONLY)?;
        let len = file.metadata().map_err(|e| Error::io("inspect segment", &path, e))?.len();
        let room = usize::try_from(bytes).unwrap_or(usize::MAX).max(PAGE_BYTES);
        let space =
            Space::reserve(room, room).map_err(|e| Error::io("reserve memory", &path, e))?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < bytes.min(len) {
            piece.fill(0);
            if !read_fully(&file, &mut piece, at) {
                piece.fill(0);
                for (page, bytes) in piece.chunks_mut(PAGE_BYTES).enumerate() {
                    if !read_fully(&file, bytes, at + (page * PAGE_BYTES) as u64) {
                        bytes.fill(0);
                    }
                }
            }
            let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
            let rest = space.words().get(first..).unwrap_or_default();
            let fitting = rest.len().saturating_mul(8).min(piece.len());
            words::write_bytes(rest, piece.get(..fitting).unwrap_or_default());
            at += PIECE_BYTES as u64;
        }
        Ok((len, space))
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

/// Fills the buffer as far as the file goes; false if the device refuses.
fn read_fully(file: &std::fs::File, buffer: &mut [u8], at: u64) -> bool {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => return true,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}
