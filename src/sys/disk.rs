//! What the engine asks of a directory of files, as a trait that tests can replace.
//!
//! Contract of every implementation: [`Disk::replace`] and [`Disk::create`] return once the file
//! and its directory entry are on stable storage; [`Disk::remove`] may be undone by a power loss.
//! Names are plain file names, chosen by the engine.

use std::fmt;
use std::path::PathBuf;

use crate::error::Result;
use crate::sys::space::Space;

/// One directory entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// False for directories, links, pipes and anything else that is not a plain file.
    pub(crate) is_file: bool,
}

/// A store's directory.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// The full path of a name, for error texts.
    fn path(&self, name: &str) -> PathBuf;

    /// Everything in the directory, in no order.
    fn entries(&self) -> Result<Vec<Entry>>;

    /// A whole small file, or `None` where it does not exist.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The first bytes of a file, `len` of them; `None` where it is missing or shorter.
    fn read_head(&self, name: &str, len: usize) -> Result<Option<Vec<u8>>>;

    /// Puts a file in place of whatever has its name, entirely or not at all.
    fn replace(&self, name: &str, contents: &[u8]) -> Result<()>;

    /// A new zeroed file with all of its room allocated.
    fn create(&self, name: &str, bytes: u64) -> Result<Box<dyn SegmentFile>>;

    /// An existing file, for reading and writing through its mapping.
    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>>;

    /// Lets others have the directory; nothing of it may be used afterwards.
    fn release(&self);

    /// Removes a file; one that does not exist is fine.
    fn remove(&self, name: &str) -> Result<()>;
}

/// A file that a segment lives in.
pub(crate) trait SegmentFile: Send + Sync + fmt::Debug {
    /// The file's length.
    fn bytes(&self) -> u64;

    /// Shows the whole file in `space` from offset `at`.
    fn map(&self, space: &Space, at: usize) -> Result<()>;

    /// Returns once the first page, mapped at `at`, is on stable storage.
    fn sync_head(&self, space: &Space, at: usize) -> Result<()>;

    /// Returns once everything written through the mapping is on stable storage.
    fn sync(&self) -> Result<()>;

    /// Gives the room of a range back; it reads as zeros afterwards. A hint.
    fn punch(&self, from: u64, to: u64);

    /// Where a hole begins that goes on to the file's end, or that end: what lies behind reads as
    /// zeros, and reading it through a mapping may take room.
    fn data_end(&self) -> u64 {
        self.bytes()
    }

    /// Bytes that the file occupies on the device.
    fn allocated_bytes(&self) -> u64;
}
