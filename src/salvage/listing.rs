//! The list of segments, made anew from the segments' files where the manifest is lost.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::format::identity::Identity;
use crate::format::layout::{file_number, run_file};
use crate::format::manifest::{Listed, ListedDurability, ListedState, Manifest, Space};
use crate::format::run::Run;
use crate::key::KeyHasher;
use crate::log::adopt::is_segment_length;
use crate::log::rescue::sound_records;
use crate::log::view::space_at;
use crate::salvage::sources::{Heads, ManifestState, load};
use crate::sys::disk::Disk;
use crate::sys::files::Directory;
use crate::time::Timestamp;

/// By how much the epoch is raised above all that is found: more than any store is opened without
/// leaving a record, so that no version is given out twice.
const EPOCHS_AHEAD: u32 = 1 << 16;

/// Numbers of namespaces with keys whose names are not known.
pub(super) fn nameless(manifest: &Manifest) -> Vec<u32> {
    let lost = manifest.spaces.iter().filter(|space| space.name.is_empty() && space.keys > 0);
    lost.map(|space| space.number).collect()
}

/// Lists every segment that a file is there for. Reads all records.
pub(super) fn rebuild(
    directory: &Directory,
    identity: &Identity,
    hasher: &KeyHasher,
    heads: &Heads,
) -> Result<(Manifest, ManifestState)> {
    let mut numbers: BTreeSet<u64> = heads.keys().copied().collect();
    for entry in directory.entries()? {
        numbers.extend(file_number(&entry.name, ".seg"));
    }
    let mut manifest = Manifest {
        epoch: 0,
        closed: false,
        durability: ListedDurability::default(),
        time: identity.created,
        next_number: numbers.last().map_or(1, |last| last.saturating_add(1)),
        salvaged: None,
        spaces: Vec::new(),
        segments: Vec::new(),
    };
    let mut spaces: Vec<(u32, u64)> = Vec::new();
    let mut version = 0;
    for number in numbers {
        let head = heads.get(&number).map(|(_, head)| head.bytes);
        let len = || directory.file_bytes(&crate::format::layout::segment_file(number));
        let Some(bytes) = head.or_else(len).filter(|bytes| is_segment_length(*bytes)) else {
            continue;
        };
        let mut listed = Listed::open(number, bytes);
        let run = directory.read(&run_file(number)).ok().flatten();
        let run = run.and_then(|run| Run::decode(&run));
        if let Some(run) = run.filter(|run| run.store == identity.id && run.number == number) {
            (listed.state, listed.records) = (ListedState::Sealed, run.entries.len() as u64);
        }
        if let Some(loaded) = load(directory, heads, &listed, identity.id)? {
            version = version.max(loaded.head.version);
            manifest.time = manifest.time.max(Timestamp::from_millis(loaded.head.created));
            let words = loaded.space.words();
            for record in sound_records(words, &loaded.head.common(), hasher) {
                version = version.max(record.header.version.as_u64());
                manifest.time = manifest.time.max(record.header.created);
                if let Some(space) = space_at(words, record.at, &record.header) {
                    match spaces.iter_mut().find(|(known, _)| *known == space) {
                        Some((_, keys)) => *keys += 1,
                        None => spaces.push((space, 1)),
                    }
                }
            }
        }
        manifest.segments.push(listed);
    }
    let epoch = u32::try_from(version >> crate::version::COUNTER_BITS).unwrap_or(u32::MAX);
    manifest.epoch = epoch.saturating_add(EPOCHS_AHEAD);
    spaces.sort_unstable();
    let created = manifest.time;
    let space = |(number, keys)| Space { number, created, keys, bytes: 0, name: String::new() };
    manifest.spaces = spaces.into_iter().map(space).collect();
    Ok((manifest, ManifestState::Lost))
}
