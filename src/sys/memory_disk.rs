//! A directory in memory that remembers what was synced, for simulating crashes.
//!
//! Each segment has two images: `live`, an anonymous file that is mapped as a real one would be
//! and therefore survives the end of a store as the page cache survives a process; and `durable`,
//! a copy of its bytes at the last completed sync. A power cut keeps, of what differs between the
//! two, any subset of 4096-byte units.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::disk::{Disk, Entry, SegmentFile};
use crate::sys::space::Space;
use crate::sys::sync::Mutex;

/// What reaches the device as a whole or not at all.
const UNIT: usize = 4096;

#[derive(Debug, Clone)]
enum Contents {
    Plain(Vec<u8>),
    Segment(Arc<Images>),
}

#[derive(Debug)]
struct Images {
    live: File,
    durable: Mutex<Vec<u8>>,
    /// Where the part begins that was given back.
    punched: AtomicU64,
}

/// A directory in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<String, Contents>>,
    /// Segments that may still be created; `None` for any number.
    pub(crate) room: Mutex<Option<usize>>,
    /// True makes every sync fail.
    pub(crate) sync_fails: Arc<std::sync::atomic::AtomicBool>,
}

impl MemoryDisk {
    /// Files whose names end so.
    pub(crate) fn count(&self, end: &str) -> usize {
        self.files.lock().keys().filter(|name| name.ends_with(end)).count()
    }

    /// What the end of the process leaves: all that was written.
    #[cfg(oncelog_shuttle)]
    pub(crate) fn copy(&self) -> Self {
        let mut files = self.files.lock().clone();
        for contents in files.values_mut() {
            if let Contents::Segment(images) = contents {
                let mut live = vec![0; images.durable.lock().len()];
                images.live.read_exact_at(&mut live, 0).unwrap();
                *images = Images::with(live);
            }
        }
        Self { files: Mutex::new(files), ..Self::default() }
    }

    /// What a power cut leaves: every synced byte, and of the others the units `keep` chooses.
    pub(crate) fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut files = BTreeMap::new();
        for (name, contents) in self.files.lock().iter() {
            let contents = match contents {
                Contents::Plain(bytes) => Contents::Plain(bytes.clone()),
                Contents::Segment(images) => {
                    let mut image = images.durable.lock().clone();
                    let mut live = vec![0; image.len()];
                    images.live.read_exact_at(&mut live, 0).unwrap();
                    for (old, new) in image.chunks_mut(UNIT).zip(live.chunks(UNIT)) {
                        if old != new && keep() {
                            old.copy_from_slice(new);
                        }
                    }
                    Contents::Segment(Images::with(image))
                }
            };
            files.insert(name.clone(), contents);
        }
        Self { files: Mutex::new(files), ..Self::default() }
    }
}

impl Images {
    fn with(bytes: Vec<u8>) -> Arc<Self> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let live = File::from(rustix::fs::memfd_create("segment", flags).unwrap());
        live.write_all_at(&bytes, 0).unwrap();
        let punched = AtomicU64::new(bytes.len() as u64);
        Arc::new(Self { live, durable: Mutex::new(bytes), punched })
    }
}

impl Disk for MemoryDisk {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let files = self.files.lock();
        let entries = files.keys().map(|name| Entry { name: name.clone(), is_file: true });
        Ok(entries.collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(match self.files.lock().get(name) {
            Some(Contents::Plain(bytes)) => Some(bytes.clone()),
            _ => None,
        })
    }

    fn read_head(&self, name: &str, len: usize) -> Result<Option<Vec<u8>>> {
        let files = self.files.lock();
        let Some(Contents::Segment(images)) = files.get(name) else {
            return Ok(None);
        };
        let mut head = vec![0; len];
        images.live.read_exact_at(&mut head, 0).unwrap();
        Ok(Some(head))
    }

    fn replace(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.files.lock().insert(name.into(), Contents::Plain(contents.to_vec()));
        Ok(())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Box<dyn SegmentFile>> {
        if let Some(room) = self.room.lock().as_mut() {
            if *room == 0 {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(Error::io("allocate segment", &self.path(name), full));
            }
            *room -= 1;
        }
        let images = Images::with(vec![0; usize::try_from(bytes).unwrap()]);
        self.files.lock().insert(name.into(), Contents::Segment(images));
        self.open(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        match self.files.lock().get(name) {
            Some(Contents::Segment(images)) => Ok(Box::new(MemoryFile {
                images: images.clone(),
                sync_fails: self.sync_fails.clone(),
            })),
            _ => {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                Err(Error::io("open file", &self.path(name), missing))
            }
        }
    }

    fn release(&self) {}

    fn remove(&self, name: &str) -> Result<()> {
        self.files.lock().remove(name);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    images: Arc<Images>,
    sync_fails: Arc<std::sync::atomic::AtomicBool>,
}

impl SegmentFile for MemoryFile {
    fn bytes(&self) -> u64 {
        self.images.durable.lock().len() as u64
    }

    fn map(&self, space: &Space, at: usize) -> Result<()> {
        let bytes = self.images.durable.lock().len();
        let fail = |e| Error::io("map segment", &PathBuf::from("memory"), e);
        space.map_file(at, bytes, &self.images.live, true).map_err(fail)
    }

    fn sync_head(&self, _space: &Space, _at: usize) -> Result<()> {
        let mut durable = self.images.durable.lock();
        self.images.live.read_exact_at(&mut durable[..UNIT], 0).unwrap();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if self.sync_fails.load(std::sync::atomic::Ordering::SeqCst) {
            let source = io::Error::other("simulated");
            return Err(Error::io("sync segment", &PathBuf::from("memory"), source));
        }
        let mut durable = self.images.durable.lock();
        self.images.live.read_exact_at(&mut durable, 0).unwrap();
        Ok(())
    }

    fn punch(&self, from: u64, _to: u64) {
        self.images.punched.fetch_min(from, Ordering::SeqCst);
    }

    fn allocated_bytes(&self) -> u64 {
        self.images.punched.load(Ordering::SeqCst)
    }
}
