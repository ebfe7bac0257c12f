//! What the files of a damaged store say, as far as they can be believed.

use std::collections::BTreeMap;

use crate::engine::open::{read_identity, read_manifest};
use crate::error::{Error, Result};
use crate::format::identity::{ID_BYTES, Identity};
use crate::format::layout::{IDENTITY_FILE, MANIFEST_FILE, file_number, run_file, segment_file};
use crate::format::manifest::{Listed, Manifest};
use crate::format::repair::single_flip;
use crate::format::run::Run;
use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead};
use crate::log::adopt::is_segment_length;
use crate::sys::disk::Disk;
use crate::sys::files::Directory;
use crate::sys::space::Space;
use crate::sys::words;

/// How a manifest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManifestState {
    Sound,
    /// One bit of it was flipped, and is put right.
    Flipped,
    Lost,
}

/// A segment in memory.
pub(super) struct Loaded {
    pub(super) head: SegmentHead,
    pub(super) source: String,
    pub(super) space: Space,
    /// What is wrong with the file before its records are looked at.
    pub(super) what: Option<&'static str>,
}

/// The files' names by the numbers in their heads, where these are valid.
pub(super) type Heads = BTreeMap<u64, (String, SegmentHead)>;

/// The identity, and its right bytes if it is damaged and can be put right.
pub(super) fn identity(directory: &Directory) -> Result<(Identity, Option<Vec<u8>>)> {
    let error = match read_identity(directory) {
        Ok(Some(identity)) => return Ok((identity, None)),
        Ok(None) => return Err(Error::NotAStore { path: directory.path("") }),
        Err(error) => error,
    };
    let bytes = directory.read(IDENTITY_FILE)?.unwrap_or_default();
    match single_flip(&bytes, |bytes| Identity::decode(bytes).ok()) {
        Some((identity, bytes)) => Ok((identity, Some(bytes))),
        None if matches!(error, Error::UnsupportedFormat { .. }) => Err(error),
        None => {
            let what = "it is lost, and with it the secret that all checks of records rest on; \
                        the file never changes, so put back the one of any copy, however old";
            Err(Error::corrupt(&directory.path(IDENTITY_FILE), 0, what))
        }
    }
}

/// The manifest as it is or with one bit put right; `None` if it is lost.
pub(super) fn manifest(directory: &Directory) -> Result<Option<(Manifest, ManifestState)>> {
    match read_manifest(directory) {
        Ok(manifest) => return Ok(Some((manifest, ManifestState::Sound))),
        Err(Error::Corrupt { .. }) => {}
        Err(error) => return Err(error),
    }
    let bytes = match directory.read(MANIFEST_FILE) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(Error::Corrupt { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let right = single_flip(&bytes, Manifest::decode);
    Ok(right.map(|(manifest, _)| (manifest, ManifestState::Flipped)))
}

/// All segment files of the store whose heads are valid, whatever they are called.
pub(super) fn heads(directory: &Directory, id: [u8; ID_BYTES]) -> Result<Heads> {
    let mut heads = Heads::new();
    let mut names: Vec<String> = directory.entries()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| file_number(name, ".seg").is_some()) {
        let head = directory.read_head(&name, SEGMENT_HEAD_BYTES).ok().flatten();
        let Some(head) = head.and_then(|head| SegmentHead::decode(&head)) else { continue };
        if head.store == id && is_segment_length(head.bytes) {
            // The file of its own name goes before any other.
            if segment_file(head.number) == name || !heads.contains_key(&head.number) {
                heads.insert(head.number, (name, head));
            }
        }
    }
    Ok(heads)
}

/// Above those of all earlier salvages.
pub(super) fn ordinal(directory: &Directory) -> Result<u64> {
    let entries = directory.entries()?;
    let number = |name: &str| {
        let record = name.strip_prefix("salvage-").and_then(|rest| rest.strip_suffix(".txt"));
        let damaged = || name.rsplit_once(".damaged-").map(|(_, number)| number);
        record.or_else(damaged)?.parse::<u64>().ok()
    };
    Ok(entries.iter().filter_map(|entry| number(&entry.name)).max().unwrap_or(0) + 1)
}

/// The segment's run, if it is sound and of this segment.
pub(super) fn read_run(directory: &Directory, number: u64, id: [u8; ID_BYTES]) -> Option<Run> {
    let bytes = directory.read(&run_file(number)).ok().flatten()?;
    Run::decode(&bytes).filter(|run| run.store == id && run.number == number)
}

/// The segment from the file that holds it; `None` if no file has a head of it.
pub(super) fn load(
    directory: &Directory,
    heads: &Heads,
    listed: &Listed,
    id: [u8; ID_BYTES],
) -> Result<Option<Loaded>> {
    let name = segment_file(listed.number);
    let (source, head, mut what) = match heads.get(&listed.number) {
        Some((source, head)) if *source == name => (name, *head, None),
        Some((source, head)) => (source.clone(), *head, Some("it is under another name")),
        None => {
            let head = directory.read_head(&name, SEGMENT_HEAD_BYTES).ok().flatten();
            let right = head.and_then(|head| single_flip(&head, SegmentHead::decode));
            let ours = |head: &SegmentHead| head.store == id && head.number == listed.number;
            let Some((head, _)) = right.filter(|(head, _)| ours(head)) else { return Ok(None) };
            (name, head, Some("one bit of its head was flipped"))
        }
    };
    if head.bytes != listed.bytes || !is_segment_length(head.bytes) {
        return Ok(None);
    }
    let (len, space) = directory.read_into_memory(&source, head.bytes)?;
    if len != head.bytes && what.is_none() {
        what = Some("the file's length has changed");
    }
    words::write_bytes(space.words(), &head.encode());
    Ok(Some(Loaded { head, source, space, what }))
}
