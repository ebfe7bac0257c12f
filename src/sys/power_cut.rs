//! What a power cut may leave of a [`MemoryDisk`]: every choice among what was not durable yet.
//!
//! Choices are, one by one: each unit of 4096, 512 or 8 bytes in which a file differs from its
//! durable image, each file's length, and each change of the directory. Nothing orders them, so an
//! image keeps any subset. Where there are few choices all subsets are tried; of many, those that
//! keep or lose nothing, one, a beginning or an end, and random ones.

#![cfg(test)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sys::memory_disk::{Inode, MemoryDisk};

/// Bytes that files are kept in.
pub(crate) const PAGE: usize = 4096;

/// Choices up to which subsets are drawn from all there are, however few are tried.
const ALL_SUBSETS: usize = 6;
/// Choices up to which all subsets are tried where that many images are asked for.
const ALL_SUBSETS_MAX: usize = 10;
/// Random subsets among those to draw from.
const RANDOM_SUBSETS: usize = 64;

/// The bytes of a file; pages of zeros are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) len: u64,
    pub(crate) pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Image {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut image = Self { len: bytes.len() as u64, ..Self::default() };
        for (number, chunk) in (0..).zip(bytes.chunks(PAGE)) {
            let mut page = [0; PAGE];
            page[..chunk.len()].copy_from_slice(chunk);
            image.put(number, page);
        }
        image
    }

    pub(crate) fn page(&self, number: u64) -> &[u8; PAGE] {
        self.pages.get(&number).map_or(&[0; PAGE], |page| page)
    }

    pub(crate) fn put(&mut self, number: u64, page: [u8; PAGE]) {
        if page == [0; PAGE] {
            self.pages.remove(&number);
        } else {
            self.pages.insert(number, Arc::new(page));
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap().next_multiple_of(PAGE)];
        for (number, page) in &self.pages {
            let at = usize::try_from(*number).unwrap() * PAGE;
            if let Some(part) = bytes.get_mut(at..at + PAGE) {
                part.copy_from_slice(&page[..]);
            }
        }
        bytes.truncate(usize::try_from(self.len).unwrap());
        bytes
    }
}

/// A change of the directory.
#[derive(Clone, Debug)]
pub(crate) enum DirectoryChange {
    Link(String, Arc<Inode>),
    Unlink(String),
    /// From, to, and which file.
    Rename(String, String, Arc<Inode>),
}

impl DirectoryChange {
    pub(crate) fn apply(&self, directory: &mut BTreeMap<String, Arc<Inode>>) {
        match self {
            Self::Link(name, inode) => _ = directory.insert(name.clone(), inode.clone()),
            Self::Unlink(name) => _ = directory.remove(name),
            Self::Rename(from, to, inode) => {
                directory.remove(from);
                directory.insert(to.clone(), inode.clone());
            }
        }
    }
}

/// A file at the moment of the cut.
#[derive(Clone, Debug)]
struct Pair {
    durable: Image,
    live: Image,
    shared: bool,
}

/// One thing that a power cut keeps or loses.
#[derive(Clone, Debug)]
enum Choice {
    Change(usize),
    Length(usize),
    /// File, page, and where the unit begins in it.
    Unit(usize, u64, usize),
}

/// A disk at the moment of a power cut.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    unit: usize,
    directory: BTreeMap<String, Arc<Inode>>,
    changes: Vec<DirectoryChange>,
    files: Vec<Pair>,
    /// Where a file is in `files`, by the address of its inode.
    places: HashMap<usize, usize>,
    choices: Vec<Choice>,
}

fn address(inode: &Arc<Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

impl Snapshot {
    /// The disk as it is now, of which units of so many bytes are kept or lost.
    pub(crate) fn of(disk: &MemoryDisk, unit: usize) -> Self {
        let directories = disk.directory.lock();
        let mut snapshot = Self {
            unit,
            directory: directories.durable.clone(),
            changes: directories.pending.clone(),
            files: Vec::new(),
            places: HashMap::new(),
            choices: Vec::new(),
        };
        for change in 0..directories.pending.len() {
            snapshot.choices.push(Choice::Change(change));
        }
        let pending = directories.pending.iter().filter_map(|change| match change {
            DirectoryChange::Link(_, inode) | DirectoryChange::Rename(_, _, inode) => Some(inode),
            DirectoryChange::Unlink(_) => None,
        });
        for inode in directories.durable.values().chain(pending) {
            snapshot.add(inode);
        }
        snapshot
    }

    fn add(&mut self, inode: &Arc<Inode>) {
        let file = self.files.len();
        if *self.places.entry(address(inode)).or_insert(file) != file {
            return;
        }
        let (durable, live) = (inode.durable.lock().clone(), inode.live());
        if durable.len != live.len {
            self.choices.push(Choice::Length(file));
        }
        let pages: std::collections::BTreeSet<u64> =
            durable.pages.keys().chain(live.pages.keys()).copied().collect();
        for number in pages {
            let (old, new) = (durable.page(number), live.page(number));
            for at in (0..PAGE).step_by(self.unit) {
                if old[at..at + self.unit] != new[at..at + self.unit] {
                    self.choices.push(Choice::Unit(file, number, at));
                }
            }
        }
        self.files.push(Pair { durable, live, shared: inode.is_shared() });
    }

    /// What a cut leaves that keeps these of the choices.
    fn cut(&self, mut keeps: impl FnMut(usize) -> bool) -> Left {
        let mut directory = self.directory.clone();
        let mut images: Vec<Image> = self.files.iter().map(|pair| pair.durable.clone()).collect();
        for (number, choice) in self.choices.iter().enumerate() {
            if !keeps(number) {
                continue;
            }
            match *choice {
                Choice::Change(change) => self.changes[change].apply(&mut directory),
                Choice::Length(file) => images[file].len = self.files[file].live.len,
                Choice::Unit(file, page, at) => {
                    let mut mixed = *images[file].page(page);
                    let new = self.files[file].live.page(page);
                    mixed[at..at + self.unit].copy_from_slice(&new[at..at + self.unit]);
                    images[file].put(page, mixed);
                }
            }
        }
        let file = |inode: &Arc<Inode>| {
            let place = self.places[&address(inode)];
            let mut image = images[place].clone();
            image.pages.retain(|number, _| number * (PAGE as u64) < image.len);
            (image, self.files[place].shared)
        };
        Left(directory.iter().map(|(name, inode)| (name.clone(), file(inode))).collect())
    }

    /// The disk after a cut that keeps what `keeps` says of the choices, by their numbers.
    pub(crate) fn image(&self, keeps: impl FnMut(usize) -> bool) -> MemoryDisk {
        self.cut(keeps).disk()
    }

    /// True when so many images are all that a cut may leave.
    pub(crate) fn is_exhausted_by(&self, most: usize) -> bool {
        self.choices.len() <= ALL_SUBSETS_MAX && 1 << self.choices.len() <= most
    }

    /// At most so many of what a cut may leave: nothing and everything kept, and others drawn from
    /// all subsets where there are few, from structured and random ones where there are many.
    pub(crate) fn cuts(&self, most: usize, mut draw: impl FnMut() -> u64) -> Vec<Left> {
        let count = self.choices.len();
        let few = count <= ALL_SUBSETS || self.is_exhausted_by(most);
        let plans = if few { 1 << count } else { 2 + 4 * count + most.min(RANDOM_SUBSETS) };
        let drawn = |draw: &mut dyn FnMut() -> u64| usize::try_from(draw() >> 33).unwrap() % plans;
        let chosen: Vec<usize> = if plans <= most {
            (0..plans).collect()
        } else {
            (0..most).map(|i| if i < 2 { i } else { drawn(&mut draw) }).collect()
        };
        let cut = |plan: usize| match plan {
            0 => self.cut(|_| false),
            1 => self.cut(|_| true),
            subset if few => self.cut(|choice| (subset - 1) >> choice & 1 == 1),
            plan if plan < 2 + 4 * count => {
                let (shape, one) = ((plan - 2) / count, (plan - 2) % count);
                self.cut(|choice| match shape {
                    0 => choice != one,
                    1 => choice == one,
                    2 => choice < one,
                    _ => choice > one,
                })
            }
            _ => self.cut(|_| draw() >> 63 == 1),
        };
        chosen.into_iter().map(cut).collect()
    }
}

/// What a power cut has left: by name, bytes and whether they are a segment's.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Left(BTreeMap<String, (Image, bool)>);

impl Left {
    pub(crate) fn disk(self) -> MemoryDisk {
        let disk = MemoryDisk::default();
        let mut directory = disk.directory.lock();
        for (name, (image, shared)) in self.0 {
            let inode = Inode::of_image(image, shared);
            directory.live.insert(name, inode);
        }
        directory.durable = directory.live.clone();
        drop(directory);
        disk
    }
}
