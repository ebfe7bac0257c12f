//! The real directory: plain files, private to their owner, held by a lock.
//!
//! Everything is opened relative to the directory's own descriptor, without following links and
//! without waiting on a pipe, so that foreign files in the directory can neither redirect nor
//! block the store.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};

use crate::error::{Error, Result};
use crate::sys::disk::{Disk, Entry, SegmentFile};
use crate::sys::space::Space;
use crate::sys::sync::Mutex;

/// The file whose lock says that the directory is in use. It is never removed.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// Ends the name of a file that is being written and may be left behind by a crash.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// The file that makes a directory a store.
const IDENTITY: &str = "STORE";
/// The file that a creation cut short may leave without an identity.
const BEFORE_IDENTITY: &str = "MANIFEST";

/// What [`Directory::read_each`] reads at once.
#[cfg(feature = "ballot")]
const PIECE_BYTES: usize = 1 << 20;

/// A directory on a file system.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    /// Held for exclusion; released by an explicit unlock, which also works after a fork.
    lock: Option<File>,
    /// A sync of the directory has failed.
    sync_failed: Mutex<bool>,
}

impl Directory {
    /// Opens the directory, creating it if it does not exist, and takes its lock.
    pub(crate) fn open_exclusive(path: &Path) -> Result<Self> {
        let missing = path.ancestors().take_while(|path| !path.exists()).count();
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::NotADirectory { path: path.to_path_buf() });
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::NotADirectory { path: path.to_path_buf() });
            }
            Err(e) => return Err(Error::io("create directory", path, e)),
        }
        let mut directory = Self::open_shared(path)?;
        directory.check_empty_or_store()?;
        if directory.read(IDENTITY)?.is_none() {
            sync_above(path, missing.max(1))?;
        }
        let lock = directory.open_file(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::AlreadyOpen { path: path.to_path_buf() });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock directory", path, e)),
        }
        directory.lock = Some(lock);
        Ok(directory)
    }

    /// Opens the directory for reading, whether or not it is in use.
    pub(crate) fn open_shared(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
            rustix::io::Errno::NOTDIR => Error::NotADirectory { path: path.to_path_buf() },
            e => Error::io("open directory", path, e.into()),
        })?;
        Ok(Self { path: path.to_path_buf(), fd, lock: None, sync_failed: Mutex::default() })
    }

    /// True when some handle holds the directory's lock.
    pub(crate) fn is_in_use(&self) -> Result<bool> {
        let Ok(lock) = self.open_file(LOCK_FILE, OFlags::RDONLY) else {
            return Ok(false);
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(Error::io("lock directory", &self.path, e)),
        }
    }

    /// Refuses a directory that has files but no sign of a store, before anything is created in it.
    fn check_empty_or_store(&self) -> Result<()> {
        let entries = self.entries()?;
        let known =
            |name: &str| name == LOCK_FILE || name == BEFORE_IDENTITY || name.ends_with(UNFINISHED);
        let ours = entries.iter().any(|e| e.is_file && e.name == IDENTITY);
        let foreign = entries
            .iter()
            .any(|e| !e.name.starts_with('.') && e.name != "lost+found" && !known(&e.name));
        if foreign && !ours {
            return Err(Error::NotAStore { path: self.path.clone() });
        }
        Ok(())
    }

    /// A file for reading through its mapping; changing the mapping changes nothing on disk.
    pub(crate) fn open_readable(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        let path = self.path(name);
        let bytes = file.metadata().map_err(|e| Error::io("inspect segment", &path, e))?.len();
        Ok(Box::new(PlainFile { file, path, bytes, shared: false }))
    }

    /// Hands a file on piece by piece; its length, or `None` where it does not exist.
    #[cfg(feature = "ballot")]
    pub(crate) fn read_each(&self, name: &str, mut take: impl FnMut(&[u8])) -> Result<Option<u64>> {
        let mut file = match self.open_file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut piece = vec![0; PIECE_BYTES];
        let mut length = 0;
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(Some(length)),
                Ok(count) => {
                    take(piece.get(..count).unwrap_or_default());
                    length += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read file", &self.path(name), e)),
            }
        }
    }

    /// Bytes that a file occupies on the device; `None` if it is not there.
    pub(crate) fn allocated_bytes(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, name, flags, mode)
            .map_err(|e| Error::io("open file", &self.path(name), e.into()))?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|e| Error::io("inspect file", &self.path(name), e))?;
        if !meta.is_file() {
            return Err(Error::corrupt(&self.path(name), 0, "not a plain file"));
        }
        Ok(file)
    }

    /// Makes the directory's entries durable. Having failed once it fails for good: the system
    /// tells of a failure once, and later only pretends that all is well.
    fn sync_directory(&self) -> Result<()> {
        let mut failed = self.sync_failed.lock();
        let synced = if *failed { Err(rustix::io::Errno::IO) } else { rustix::fs::fsync(&self.fd) };
        *failed = synced.is_err();
        synced.map_err(|e| Error::unsynced("sync directory", &self.path, e.into()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.release();
    }
}

impl Disk for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let fail = |e| Error::io("list directory", &self.path, e);
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let stat = rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(stat) = stat else { continue };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            entries.push(Entry { name, is_file: kind.is_file() });
        }
        Ok(entries)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut file = match self.open_file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut contents = Vec::new();
        let fail = |e| Error::io("read file", &self.path(name), e);
        file.read_to_end(&mut contents).map_err(fail)?;
        Ok(Some(contents))
    }

    fn read_head(&self, name: &str, len: usize) -> Result<Option<Vec<u8>>> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        let mut head = vec![0; len];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(Some(head)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Error::io("read file", &self.path(name), e)),
        }
    }

    fn replace(&self, name: &str, contents: &[u8]) -> Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        let path = self.path(&unfinished);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open_file(&unfinished, flags)?;
        file.write_all(contents).map_err(|e| Error::io("write file", &path, e))?;
        file.sync_data().map_err(|e| Error::unsynced("sync file", &path, e))?;
        rustix::fs::renameat(&self.fd, &unfinished, &self.fd, name)
            .map_err(|e| Error::io("rename file", &path, e.into()))?;
        self.sync_directory()
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Box<dyn SegmentFile>> {
        let path = self.path(name);
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let allocated = allocate(&file, bytes)
            .and_then(|ahead| if ahead { Ok(()) } else { fill(&file, bytes) })
            .map_err(|e| Error::io("allocate segment", &path, e));
        // Before zeros are written, so that the sync writes none: room that was allocated ahead
        // reads as zeros after a power loss whether or not anything was written to it.
        let created = allocated
            .and_then(|()| file.sync_all().map_err(|e| Error::unsynced("sync segment", &path, e)))
            .and_then(|()| self.sync_directory())
            .and_then(|()| fill(&file, bytes).map_err(|e| Error::io("fill segment", &path, e)));
        if let Err(error) = created {
            // Nothing refers to the file yet; what is left of it is room taken for nothing.
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
            return Err(error);
        }
        Ok(Box::new(PlainFile { file, path, bytes, shared: true }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let path = self.path(name);
        let file = self.open_file(name, OFlags::RDWR)?;
        let bytes = file.metadata().map_err(|e| Error::io("inspect segment", &path, e))?.len();
        Ok(Box::new(PlainFile { file, path, bytes, shared: true }))
    }

    fn release(&self) {
        if let Some(lock) = &self.lock {
            // Closing the descriptor unlocks as well, unless a forked child inherited it.
            let _ = lock.unlock();
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::io("remove file", &self.path(name), e.into())),
        }
    }
}

/// Makes the entry of a new store's directory durable, and those of the directories above that may
/// be new as well, `count` in all: a power loss would take the whole store otherwise.
fn sync_above(path: &Path, count: usize) -> Result<()> {
    let full = fs::canonicalize(path).map_err(|e| Error::io("find directory", path, e))?;
    for above in full.ancestors().skip(1).take(count) {
        // What may not be read was not made by this process.
        let Ok(directory) = File::open(above) else { continue };
        match directory.sync_all() {
            // File systems without syncs of directories, and those that nothing was made in.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | READ_ONLY) => {}
            synced => synced.map_err(|e| Error::unsynced("sync directory", above, e))?,
        }
    }
    Ok(())
}

const READ_ONLY: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

/// Takes all of the file's room now, so that a full disk is an answer and not a signal later.
///
/// False where the file system cannot do so without writing.
fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    loop {
        match rustix::fs::fallocate(file.as_fd(), FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Zeros are written in pieces of this size, which the page cache keeps in huge pages.
const ZEROS_BYTES: usize = 4 << 20;

/// Writes zeros to the whole file.
///
/// This costs less than the page faults that it saves, since it fills the page cache with huge
/// pages, which are mapped as such: no fault for each 4096 bytes, and few misses in the address
/// caches.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let piece = usize::try_from(bytes).map_or(ZEROS_BYTES, |bytes| bytes.min(ZEROS_BYTES));
    let zeros = vec![0; piece];
    let mut at = 0;
    while at < bytes {
        let left = usize::try_from(bytes - at).map_or(piece, |left| left.min(piece));
        file.write_all_at(zeros.get(..left).unwrap_or(&zeros), at)?;
        at += left as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct PlainFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Whether what is written to the mapping is written to the file.
    shared: bool,
}

impl SegmentFile for PlainFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn map(&self, space: &Space, at: usize) -> Result<()> {
        let fail = |e| Error::io("map segment", &self.path, e);
        let bytes = usize::try_from(self.bytes)
            .map_err(|_| fail(io::Error::from(io::ErrorKind::OutOfMemory)))?;
        space.map_file(at, bytes, &self.file, self.shared).map_err(fail)
    }

    fn sync_head(&self, space: &Space, at: usize) -> Result<()> {
        space.sync_page(at).map_err(|e| Error::unsynced("sync segment head", &self.path, e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::unsynced("sync segment", &self.path, e))
    }

    fn punch(&self, from: u64, to: u64) {
        #[cfg(target_os = "linux")]
        if from < to {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(self.file.as_fd(), flags, from, to - from);
        }
    }

    fn allocated_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}
