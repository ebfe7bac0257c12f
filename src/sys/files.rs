//! The real directory: plain files, private to their owner, held by a lock.
//!
//! Everything is opened relative to the directory's own descriptor, without following links and
//! without waiting on a pipe, so that foreign files in the directory can neither redirect nor
//! block the store.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::error::{Error, Result};
use crate::sys::aside::data_end;
use crate::sys::disk::{Disk, Entry, SegmentFile};
use crate::sys::space::Space;
use crate::sys::sync::Mutex;

/// The file whose lock says that the directory is in use. It is never removed.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// Ends the name of a file that is being written and may be left behind by a crash.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// The longest file that is read as a whole: more than the run of the largest segment, and than a
/// manifest of as many segments as there is address space for.
const WHOLE_BYTES_MAX: u64 = 160 << 20;

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
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// Held for exclusion; released by an explicit unlock, which also works after a fork.
    lock: Option<File>,
    /// The process that took the lock. A forked copy of it shares the lock, and leaves it alone.
    process: u32,
    /// A sync of the directory has failed.
    sync_failed: Mutex<bool>,
}

impl Directory {
    /// Opens the directory, creating it if it does not exist, and takes its lock.
    pub(crate) fn open_exclusive(path: &Path) -> Result<Self> {
        // Above a name alone is nothing, which stands for the current directory.
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing = path.ancestors().take_while(is_missing).count();
        match create_directories(path, missing) {
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
        match try_lock(&lock) {
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
        let opened = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
        let fd = opened.map_err(|e| match e {
            rustix::io::Errno::NOTDIR => Error::NotADirectory { path: path.to_path_buf() },
            e => Error::io("open directory", path, e.into()),
        })?;
        let (path, process) = (path.to_path_buf(), std::process::id());
        Ok(Self { path, fd, lock: None, process, sync_failed: Mutex::default() })
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

    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, mode))
            .map_err(|e| Error::io("open file", &self.path(name), e.into()))?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|e| Error::io("inspect file", &self.path(name), e))?;
        if !meta.is_file() {
            return Err(Error::corrupt(&self.path(name), 0, "not a plain file"));
        }
        if flags.contains(OFlags::CREATE) && meta.mode() & 0o7777 != PRIVATE {
            // The umask took rights from the owner, or somebody else has made it. A file that is
            // not this user's stays as it is.
            let _ = rustix::fs::fchmod(&file, mode);
        }
        Ok(file)
    }

    /// Makes the directory's entries durable. Having failed once it fails for good: the system
    /// tells of a failure once, and later only pretends that all is well.
    pub(super) fn sync_directory(&self) -> Result<()> {
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
        let listed = loop {
            match fs::read_dir(&self.path) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                listed => break listed.map_err(fail)?,
            }
        };
        for entry in listed {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let stat =
                retry_on_intr(|| rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW));
            let stat = match stat {
                Ok(stat) => stat,
                // Removed since.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => {
                    return Err(Error::io("inspect file", &self.path(&name), e.into()));
                }
            };
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
        (&mut file).take(WHOLE_BYTES_MAX + 1).read_to_end(&mut contents).map_err(fail)?;
        if contents.len() as u64 > WHOLE_BYTES_MAX {
            let what = "it is longer than any file of its kind";
            return Err(Error::corrupt(&self.path(name), WHOLE_BYTES_MAX, what));
        }
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
        self.replace_sized(name, contents, contents.len() as u64)
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
        Ok(Box::new(PlainFile { file, path, bytes }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let path = self.path(name);
        let file = self.open_file(name, OFlags::RDWR)?;
        let bytes = file.metadata().map_err(|e| Error::io("inspect segment", &path, e))?.len();
        Ok(Box::new(PlainFile { file, path, bytes }))
    }

    fn release(&self) {
        if let Some(lock) = &self.lock
            && self.process == std::process::id()
        {
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

/// Takes the lock, if nobody has it, however often a signal comes in between.
fn try_lock(file: &File) -> std::result::Result<(), TryLockError> {
    loop {
        match file.try_lock() {
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
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

/// Creates the directory and the `missing` ones down to it, for their owner alone, whatever the
/// umask.
fn create_directories(path: &Path, missing: usize) -> io::Result<()> {
    let mut above: Vec<&Path> = path.ancestors().take(missing.max(1)).collect();
    above.reverse();
    for path in above {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Rights of the owner alone.
const PRIVATE: u32 = 0o600;

const READ_ONLY: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

/// Takes all of the file's room now, so that a full disk is an answer and not a signal later.
///
/// False where the file system cannot do so without writing.
fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    let all = FallocateFlags::empty();
    match retry_on_intr(|| rustix::fs::fallocate(file.as_fd(), all, 0, bytes)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
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
}

impl SegmentFile for PlainFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn map(&self, space: &Space, at: usize) -> Result<()> {
        let fail = |e| Error::io("map segment", &self.path, e);
        let bytes = usize::try_from(self.bytes)
            .map_err(|_| fail(io::Error::from(io::ErrorKind::OutOfMemory)))?;
        space.map_file(at, bytes, &self.file).map_err(fail)
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

    fn data_end(&self) -> u64 {
        data_end(&self.file, self.bytes)
    }

    fn allocated_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, Error};
    use crate::sys::disk::Disk;

    /// A worker process that was forked from the store's, and ends, must not open the door.
    #[test]
    fn a_forked_copy_of_the_process_leaves_the_lock_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open_exclusive(folder.path()).unwrap();
        // SAFETY: the copy makes a system call or two, takes no lock, and ends.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            directory.release();
            // SAFETY: ends the copy at once.
            unsafe { libc::_exit(0) }
        }
        let mut status = -1;
        // SAFETY: waits for the child made above; its status goes to a local variable.
        let waited = unsafe { libc::waitpid(copy, &raw mut status, 0) };
        assert!(copy > 0 && waited == copy && status == 0);
        let second = Directory::open_exclusive(folder.path());
        assert!(matches!(second, Err(Error::AlreadyOpen { .. })), "{second:?}");
        directory.release();
        Directory::open_exclusive(folder.path()).unwrap();
    }

    /// The system tells of a failure once, and the next sync of what is lost succeeds.
    #[test]
    fn a_directory_whose_sync_has_failed_is_never_synced_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::open_exclusive(folder.path()).unwrap();
        directory.replace("file", b"before").unwrap();
        // Through this one nothing can be synced.
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let none = rustix::fs::open(folder.path(), flags, rustix::fs::Mode::empty()).unwrap();
        let good = std::mem::replace(&mut directory.fd, none);
        assert!(directory.sync_directory().is_err());
        directory.fd = good;
        for _ in 0..2 {
            let refused = directory.replace("file", b"after");
            assert!(refused.is_err(), "what was lost passes for synced");
        }
    }
}
