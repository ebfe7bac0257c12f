//! A directory in memory that remembers what was synced, for simulating crashes and failures.
//!
//! Each file has two images. `live` is what a reader sees: of a segment an anonymous file that is
//! mapped as a real one would be, and therefore survives the end of a store as the page cache
//! survives a process. `durable` is what the last completed sync has left. The directory has both
//! as well: creating, renaming and removing takes effect at once and is durable once the directory
//! is synced. What a power cut may leave is told by [`power_cut`](super::power_cut).
//!
//! Every call is numbered. A test may look at the disk before each of them, or make some fail.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::disk::{Disk, Entry, SegmentFile};
use crate::sys::power_cut::{DirectoryChange, Image, PAGE, Snapshot};
use crate::sys::space::Space;
use crate::sys::sync::Mutex;

/// A file, whatever its names.
#[derive(Debug)]
pub(crate) struct Inode {
    live: Live,
    pub(crate) durable: Mutex<Image>,
    /// Pages that a failed sync has lost: no later one writes them, though it says so.
    lost: Mutex<BTreeMap<u64, [u8; PAGE]>>,
    /// Where the part begins that was given back.
    punched: AtomicU64,
}

#[derive(Debug)]
enum Live {
    Plain(Mutex<Vec<u8>>),
    /// A segment: can be mapped, and has its length from the beginning.
    Shared(File, u64),
}

impl Inode {
    fn plain(contents: &[u8]) -> Arc<Self> {
        Self::new(Live::Plain(Mutex::new(contents.to_vec())), Image::default())
    }

    fn shared(bytes: u64) -> Arc<Self> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("segment", flags).unwrap());
        file.set_len(bytes).unwrap();
        Self::new(Live::Shared(file, bytes), Image::default())
    }

    fn new(live: Live, durable: Image) -> Arc<Self> {
        let (durable, lost) = (Mutex::new(durable), Mutex::default());
        Arc::new(Self { live, durable, lost, punched: AtomicU64::new(u64::MAX) })
    }

    /// A file of which everything is durable.
    pub(crate) fn of_image(image: Image, shared: bool) -> Arc<Self> {
        if !shared {
            return Self::new(Live::Plain(Mutex::new(image.bytes())), image);
        }
        let inode = Self::shared(image.len);
        if let Live::Shared(file, _) = &inode.live {
            for (number, page) in &image.pages {
                file.write_all_at(&page[..], number * PAGE as u64).unwrap();
            }
            file.set_len(image.len).unwrap();
        }
        *inode.durable.lock() = image;
        inode
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.live, Live::Shared(..))
    }

    /// What a reader sees.
    pub(crate) fn live(&self) -> Image {
        match &self.live {
            Live::Plain(bytes) => Image::of(&bytes.lock()),
            Live::Shared(file, bytes) => {
                let mut image = Image { len: *bytes, ..Image::default() };
                let mut at = 0;
                while let Ok(data) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                    let hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(data)).unwrap();
                    for number in data / PAGE as u64..hole.div_ceil(PAGE as u64) {
                        let mut page = [0; PAGE];
                        file.read_at(&mut page, number * PAGE as u64).unwrap();
                        image.put(number, page);
                    }
                    at = hole;
                }
                image
            }
        }
    }

    /// Makes pages durable, except those that an earlier failure has lost.
    fn sync(&self, only: Option<u64>) {
        let (mut image, lost) = (self.live(), self.lost.lock());
        let mut durable = self.durable.lock();
        for (number, page) in lost.iter() {
            if image.page(*number) == page {
                image.put(*number, *durable.page(*number));
            }
        }
        if let Some(number) = only {
            let page = *image.page(number);
            durable.len = image.len;
            durable.put(number, page);
        } else {
            *durable = image;
        }
    }

    /// Everything not durable is lost, though a reader sees it.
    fn lose(&self) {
        let (image, durable) = (self.live(), self.durable.lock());
        let mut lost = self.lost.lock();
        for (number, page) in &image.pages {
            if durable.page(*number) != &**page {
                lost.insert(*number, **page);
            }
        }
    }
}

/// The calls of a disk that can fail or be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Write,
    Sync,
    SyncDirectory,
    Rename,
    Remove,
    Map,
    Open,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The number of the first call that fails.
    pub(crate) at: u64,
    pub(crate) from_then_on: bool,
    pub(crate) kind: io::ErrorKind,
}

type Watch = Box<dyn FnMut(&MemoryDisk) + Send>;

/// A directory in memory; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<State>);

/// What all handles of a disk share, its open files included.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) directory: Mutex<Directories>,
    /// Segments that may still be created; `None` for any number.
    pub(crate) room: Mutex<Option<usize>>,
    /// True makes every sync fail.
    pub(crate) sync_fails: AtomicBool,
    pub(crate) fault: Mutex<Option<Fault>>,
    /// Called before each call takes effect.
    pub(crate) watch: Mutex<Option<Watch>>,
    /// Calls made so far.
    pub(crate) calls: Mutex<Vec<Call>>,
}

impl Deref for MemoryDisk {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

/// The directory as it is seen, and as a power cut leaves it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directories {
    pub(crate) live: BTreeMap<String, Arc<Inode>>,
    pub(crate) durable: BTreeMap<String, Arc<Inode>>,
    /// What is not durable yet, in order.
    pub(crate) pending: Vec<DirectoryChange>,
}

impl Directories {
    fn change(&mut self, change: DirectoryChange) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }
}

impl MemoryDisk {
    /// Files whose names end so.
    pub(crate) fn count(&self, end: &str) -> usize {
        self.directory.lock().live.keys().filter(|name| name.ends_with(end)).count()
    }

    /// What the end of the process leaves: all that was written.
    pub(crate) fn copy(&self) -> Self {
        let copy = |(name, inode): (&String, &Arc<Inode>)| {
            (name.clone(), Inode::of_image(inode.live(), inode.is_shared()))
        };
        let live: BTreeMap<_, _> = self.directory.lock().live.iter().map(copy).collect();
        let directory = Directories { durable: live.clone(), live, pending: Vec::new() };
        Self(Arc::new(State { directory: Mutex::new(directory), ..State::default() }))
    }

    /// What a power cut leaves: all that is durable, and of the rest what `keep` chooses.
    pub(crate) fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> Self {
        let snapshot = Snapshot::of(self, PAGE);
        snapshot.image(|_| keep())
    }

    /// Changes the byte string's last occurrence in files whose names end so, for good.
    pub(crate) fn damage(&self, end: &str, bytes: &[u8]) {
        for (name, inode) in &self.directory.lock().live {
            let Live::Shared(file, _) = &inode.live else { continue };
            let contents = inode.live().bytes();
            let places = contents.windows(bytes.len()).rposition(|window| window == bytes);
            if let (true, Some(at)) = (name.ends_with(end), places) {
                file.write_all_at(&[!bytes[0]], at as u64).unwrap();
                inode.sync(None);
            }
        }
    }

    /// Numbers a call, shows the disk as it is before it, and says whether it fails.
    fn call(&self, call: Call, name: &str) -> io::Result<()> {
        let watch = self.watch.lock().take();
        if let Some(mut watch) = watch {
            watch(self);
            self.watch.lock().get_or_insert(watch);
        }
        let mut calls = self.calls.lock();
        let number = calls.len() as u64;
        calls.push(call);
        drop(calls);
        if let Some(fault) = *self.fault.lock() {
            let fails = number == fault.at || (fault.from_then_on && number > fault.at);
            if fails {
                return Err(io::Error::new(fault.kind, format!("simulated at {call:?} of {name}")));
            }
        }
        let sync = matches!(call, Call::Sync | Call::SyncDirectory);
        if sync && self.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("simulated"));
        }
        Ok(())
    }

    fn sync_directory(&self) -> Result<()> {
        let synced = self.call(Call::SyncDirectory, "");
        synced.map_err(|e| Error::unsynced("sync directory", Path::new("memory"), e))?;
        let mut directory = self.directory.lock();
        directory.durable = directory.live.clone();
        directory.pending.clear();
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let directory = self.directory.lock();
        let entry = |name: &String| Entry { name: name.clone(), is_file: true };
        Ok(directory.live.keys().map(entry).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let inode = self.directory.lock().live.get(name).cloned();
        Ok(inode.map(|inode| inode.live().bytes()))
    }

    fn read_head(&self, name: &str, len: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.read(name)?.filter(|bytes| bytes.len() >= len).map(|bytes| bytes[..len].to_vec()))
    }

    fn replace(&self, name: &str, contents: &[u8]) -> Result<()> {
        let unfinished = format!("{name}.unfinished");
        let path = self.path(&unfinished);
        let fail = |op| move |e| Error::io(op, Path::new("memory"), e);
        self.call(Call::Create, &unfinished).map_err(fail("open file"))?;
        let inode = Inode::plain(&[]);
        let link = DirectoryChange::Link(unfinished.clone(), inode.clone());
        self.directory.lock().change(link);
        self.call(Call::Write, &unfinished).map_err(fail("write file"))?;
        if let Live::Plain(bytes) = &inode.live {
            *bytes.lock() = contents.to_vec();
        }
        let synced = self.call(Call::Sync, &unfinished);
        synced.map_err(|e| Error::unsynced("sync file", &path, e))?;
        inode.sync(None);
        self.call(Call::Rename, &unfinished).map_err(fail("rename file"))?;
        let rename = DirectoryChange::Rename(unfinished, name.to_owned(), inode);
        self.directory.lock().change(rename);
        self.sync_directory()
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Box<dyn SegmentFile>> {
        let fail = |e| Error::io("allocate segment", Path::new(name), e);
        if let Some(room) = self.room.lock().as_mut() {
            if *room == 0 {
                return Err(fail(io::Error::from(io::ErrorKind::StorageFull)));
            }
            *room -= 1;
        }
        self.call(Call::Create, name).map_err(fail)?;
        let inode = Inode::shared(bytes);
        let link = DirectoryChange::Link(name.to_owned(), inode.clone());
        self.directory.lock().change(link);
        let created = (|| {
            let synced = self.call(Call::Sync, name);
            synced.map_err(|e| Error::unsynced("sync segment", Path::new(name), e))?;
            inode.sync(None);
            self.sync_directory()
        })();
        if let Err(error) = created {
            self.directory.lock().change(DirectoryChange::Unlink(name.to_owned()));
            return Err(error);
        }
        Ok(Box::new(MemoryFile { inode, disk: self.clone() }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let fail = |e| Error::io("open file", Path::new(name), e);
        self.call(Call::Open, name).map_err(fail)?;
        let inode = self.directory.lock().live.get(name).cloned();
        let inode = inode.ok_or_else(|| fail(io::Error::from(io::ErrorKind::NotFound)))?;
        // Whoever opens it anew writes all of it again.
        inode.lost.lock().clear();
        Ok(Box::new(MemoryFile { inode, disk: self.clone() }))
    }

    fn release(&self) {}

    fn remove(&self, name: &str) -> Result<()> {
        self.call(Call::Remove, name).map_err(|e| Error::io("remove file", Path::new(name), e))?;
        self.directory.lock().change(DirectoryChange::Unlink(name.to_owned()));
        Ok(())
    }
}

/// A segment's file.
#[derive(Debug)]
struct MemoryFile {
    inode: Arc<Inode>,
    disk: MemoryDisk,
}

impl MemoryFile {
    fn sync_pages(&self, op: &'static str, only: Option<u64>) -> Result<()> {
        let synced = self.disk.call(Call::Sync, "segment");
        if synced.is_err() {
            self.inode.lose();
        }
        synced.map_err(|e| Error::unsynced(op, Path::new("memory"), e))?;
        self.inode.sync(only);
        Ok(())
    }
}

impl SegmentFile for MemoryFile {
    fn bytes(&self) -> u64 {
        match &self.inode.live {
            Live::Plain(bytes) => bytes.lock().len() as u64,
            Live::Shared(_, bytes) => *bytes,
        }
    }

    fn map(&self, space: &Space, at: usize) -> Result<()> {
        let fail = |e| Error::io("map segment", Path::new("memory"), e);
        self.disk.call(Call::Map, "segment").map_err(fail)?;
        match &self.inode.live {
            Live::Plain(_) => Ok(()),
            Live::Shared(file, bytes) => {
                let bytes = usize::try_from(*bytes).unwrap();
                space.map_file(at, bytes, file).map_err(fail)
            }
        }
    }

    fn sync_head(&self, _space: &Space, _at: usize) -> Result<()> {
        self.sync_pages("sync segment head", Some(0))
    }

    fn sync(&self) -> Result<()> {
        self.sync_pages("sync segment", None)
    }

    fn punch(&self, from: u64, _to: u64) {
        self.inode.punched.fetch_min(from, Ordering::SeqCst);
    }

    fn allocated_bytes(&self) -> u64 {
        self.inode.punched.load(Ordering::SeqCst).min(self.bytes())
    }
}
