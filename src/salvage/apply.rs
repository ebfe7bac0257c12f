//! Does what a plan says, in an order in which a crash at any point loses nothing more.
//!
//! Damaged files get second names first, and the report is written. Then the manifest says that
//! the store was salvaged, with its segments as they are: until the last step the store is as
//! damaged as before or less, and an open of it answers as before or knows that it was salvaged.
//! Last comes the manifest with the segments as they are by then. A salvage that was cut short is
//! begun anew; the files of the first stay under their second names.

use crate::error::{Error, Result};
use crate::format::layout::{HEAD_BYTES, IDENTITY_FILE, MANIFEST_FILE, run_file, segment_file};
use crate::format::segment::SegmentHead;
use crate::log::rescue::{repack, sound_records};
use crate::log::seal::run_of;
use crate::salvage::examine::{Plan, Step};
use crate::sys::disk::Disk;
use crate::sys::files::Directory;
use crate::sys::space::Space;
use crate::sys::words;

/// Asks before each change of the directory; tests end the salvage there.
pub(super) type Before<'a> = &'a mut dyn FnMut() -> Result<()>;

pub(super) fn apply(directory: &Directory, plan: &mut Plan, before: Before<'_>) -> Result<()> {
    for (name, kept) in &plan.kept {
        before()?;
        directory.keep_as(name, kept)?;
    }
    before()?;
    plan.report.done = true;
    directory.replace(&plan.record, plan.report.to_string().as_bytes())?;
    if let Some(identity) = &plan.identity {
        before()?;
        directory.replace(IDENTITY_FILE, identity)?;
    }
    before()?;
    directory.replace(MANIFEST_FILE, &plan.found.encode())?;
    for step in &plan.steps {
        match step {
            Step::Rebuild { head, source } => rebuild(directory, plan, head, source, before)?,
            Step::Run { head } => {
                before()?;
                let name = segment_file(head.number);
                let (_, space) = directory.read_into_memory(&name, head.bytes)?;
                let common = head.common();
                let (run, _) = run_of(head.number, &common, space.words(), plan.id, &plan.hasher);
                directory.replace(&run_file(head.number), &run.encode())?;
            }
            // Its files go once no manifest lists them.
            Step::GiveUp { .. } => {}
        }
    }
    before()?;
    directory.replace(MANIFEST_FILE, &plan.wanted.encode())?;
    for step in &plan.steps {
        if let Step::GiveUp { number } = step {
            before()?;
            directory.remove(&run_file(*number))?;
            directory.remove(&segment_file(*number))?;
        }
    }
    Ok(())
}

/// Makes a segment of the sound records alone. One at a time is in memory.
fn rebuild(
    directory: &Directory,
    plan: &Plan,
    head: &SegmentHead,
    source: &str,
    before: Before<'_>,
) -> Result<()> {
    // Under its first name the file may be another segment by now.
    let kept = plan.kept.iter().find(|(name, _)| name == source).map(|(_, kept)| kept.as_str());
    let (_, from) = directory.read_into_memory(kept.unwrap_or(source), head.bytes)?;
    let common = head.common();
    let sound = sound_records(from.words(), &common, &plan.hasher);
    let path = directory.path(&segment_file(head.number));
    let room = usize::try_from(head.bytes).unwrap_or(usize::MAX);
    let to = Space::reserve(room, room).map_err(|e| Error::io("reserve memory", &path, e))?;
    words::write_bytes(to.words(), &head.encode());
    if !repack(&sound, from.words(), &common, to.words()) {
        return Err(Error::corrupt(&path, 0, "its sound records do not fit in it again"));
    }
    let (run, _) = run_of(head.number, &common, to.words(), plan.id, &plan.hasher);
    if run.entries.len() != sound.len() {
        return Err(Error::corrupt(&path, 0, "its sound records could not be written again"));
    }
    let end = run.entries.iter().map(|entry| u64::from(entry.units)).max().unwrap_or(0);
    let end = end * crate::format::layout::UNIT_BYTES;
    let last = sound.iter().map(|record| record.header.record_bytes()).max().unwrap_or(0);
    let used = (end + last).max(HEAD_BYTES).min(head.bytes);
    let mut contents = vec![0; usize::try_from(used).unwrap_or(0)];
    words::read_bytes(to.words(), &mut contents);
    before()?;
    directory.replace(&run_file(head.number), &run.encode())?;
    before()?;
    directory.replace_sized(&segment_file(head.number), &contents, head.bytes)
}
