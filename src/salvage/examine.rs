//! Looks at every file of a store and decides what becomes of it; changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::identity::ID_BYTES;
use crate::format::layout::{IDENTITY_FILE, MANIFEST_FILE, run_file, segment_file};
use crate::format::manifest::{Listed, ListedState, Manifest};
use crate::format::run::Run;
use crate::format::segment::SegmentHead;
use crate::key::KeyHasher;
use crate::log::adopt::{blocks_are_unused, is_segment_length};
use crate::log::rescue::sound_records;
use crate::log::seal::run_of;
use crate::salvage::gaps::gaps;
use crate::salvage::sources::{
    Heads, Loaded, ManifestState, heads, identity, load, manifest, ordinal, read_run,
};
use crate::salvage::{Damage, Remedy, SalvageReport, listing};
use crate::sys::disk::Disk;
use crate::sys::files::Directory;
use crate::time::{Clock, EngineClock, Jumps, Timestamp};

/// What is to be done, in the order in which it is done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The identity's right bytes, if it is damaged.
    pub(super) identity: Option<Vec<u8>>,
    pub(super) id: [u8; ID_BYTES],
    pub(super) hasher: KeyHasher,
    /// The segments as they are found.
    pub(super) found: Manifest,
    /// The segments as they will be.
    pub(super) wanted: Manifest,
    pub(super) steps: Vec<Step>,
    /// Files to be kept under second names before anything is changed.
    pub(super) kept: Vec<(String, String)>,
    /// The file for the report.
    pub(super) record: String,
    pub(super) report: SalvageReport,
}

/// What becomes of one segment.
#[derive(Debug)]
pub(super) enum Step {
    /// Its sound records, read from this file, make it anew.
    Rebuild { head: SegmentHead, source: String },
    /// Its run is made anew.
    Run { head: SegmentHead },
    /// The store goes on without it.
    GiveUp { number: u64 },
}

pub(super) fn examine(directory: &Directory, clock: Option<&Arc<dyn Clock>>) -> Result<Plan> {
    let (identity, repaired) = identity(directory)?;
    let hasher = KeyHasher::new(identity.secret);
    let heads = heads(directory, identity.id)?;
    let ordinal = ordinal(directory)?;
    let (found, manifest_state) = match manifest(directory)? {
        Some(found) => found,
        None => listing::rebuild(directory, &identity, &hasher, &heads)?,
    };
    let mut floor = found.time;
    floor = floor.max(found.segments.iter().fold(floor, |floor, listed| {
        let head = heads.get(&listed.number).map(|(_, head)| head.created);
        floor.max(Timestamp::from_millis(head.unwrap_or(0)))
    }));
    let at = EngineClock::new(clock.cloned(), floor, Jumps::DEFAULT).now();
    let report = SalvageReport {
        done: false,
        at,
        segments: 0,
        records: 0,
        damages: Vec::new(),
        nameless: listing::nameless(&found),
        written_to: None,
    };
    let record = format!("salvage-{ordinal:04}.txt");
    let (id, wanted) = (identity.id, found.clone());
    let (steps, kept) = (Vec::new(), Vec::new());
    let identity = repaired.clone();
    let plan = Plan { identity, id, hasher, found, wanted, steps, kept, record, report };
    let mut examiner = Examiner { directory, heads, ordinal, plan };
    if repaired.is_some() {
        examiner.whole(IDENTITY_FILE, "one bit of it was flipped", Remedy::Repaired);
    }
    match manifest_state {
        ManifestState::Sound => {}
        ManifestState::Flipped => {
            examiner.whole(MANIFEST_FILE, "one bit of it was flipped", Remedy::Repaired);
        }
        ManifestState::Lost => {
            let what = "it is missing or damaged; the list of segments is made from their files";
            examiner.whole(MANIFEST_FILE, what, Remedy::Rebuilt);
        }
    }
    for listed in examiner.plan.found.segments.clone() {
        examiner.segment(&listed)?;
    }
    Ok(examiner.finish(manifest_state == ManifestState::Lost))
}

struct Examiner<'a> {
    directory: &'a Directory,
    heads: Heads,
    ordinal: u64,
    plan: Plan,
}

impl Examiner<'_> {
    /// The file's second name, if there is such a file.
    fn keep(&mut self, name: &str) -> Option<PathBuf> {
        let exists = self.directory.allocated_bytes(name).is_some();
        if !exists {
            return None;
        }
        let kept = format!("{name}.damaged-{:04}", self.ordinal);
        let path = self.directory.path(&kept);
        if !self.plan.kept.iter().any(|(known, _)| known == name) {
            self.plan.kept.push((name.to_owned(), kept));
        }
        Some(path)
    }

    /// Damage of a file that is no segment; no record is lost with it.
    fn whole(&mut self, name: &str, what: &str, remedy: Remedy) {
        let kept_as = self.keep(name);
        let path = self.directory.path(name);
        let damage = Damage {
            path,
            segment: None,
            what: what.to_owned(),
            remedy,
            kept_as,
            records_kept: 0,
            records_lost: Some(0),
            gaps: Vec::new(),
            created: None,
            ends: None,
        };
        self.plan.report.damages.push(damage);
    }

    fn segment(&mut self, listed: &Listed) -> Result<()> {
        let Some(loaded) = load(self.directory, &self.heads, listed, self.plan.id)? else {
            return self.without_head(listed);
        };
        let run = read_run(self.directory, listed.number, self.plan.id);
        let (head, words) = (&loaded.head, loaded.space.words());
        let common = head.common();
        let (seen, scan) = run_of(head.number, &common, words, self.plan.id, &self.plan.hasher);
        let run_fits = run.as_ref().is_some_and(|run| {
            same_ends(&run.block_ends, &seen.block_ends) && run.entries == seen.entries
        });
        let sealed = listed.state == ListedState::Sealed;
        let complete = scan.damaged.is_empty()
            && if sealed { scan.records == listed.records } else { scan.lost.is_empty() };
        let what = match loaded.what {
            Some(what) => what,
            None if complete && (run_fits || !sealed) => {
                self.plan.report.segments += 1;
                self.plan.report.records += if sealed { scan.records } else { 0 };
                return Ok(());
            }
            None if complete && run.is_none() => {
                self.run_alone(&loaded, scan.records);
                return Ok(());
            }
            None => "records in it are damaged or missing",
        };
        self.rebuild(listed, &loaded, run.as_ref(), what);
        Ok(())
    }

    /// Nothing is lost but the run, which the segment gives again.
    fn run_alone(&mut self, loaded: &Loaded, records: u64) {
        let number = loaded.head.number;
        self.whole(&run_file(number), "the run is missing or damaged", Remedy::Rebuilt);
        if let Some(damage) = self.plan.report.damages.last_mut() {
            damage.segment = Some(number);
            damage.records_kept = records;
        }
        self.plan.report.segments += 1;
        self.plan.report.records += records;
        self.plan.steps.push(Step::Run { head: loaded.head });
    }

    fn rebuild(&mut self, listed: &Listed, loaded: &Loaded, run: Option<&Run>, what: &str) {
        let (head, words) = (loaded.head, loaded.space.words());
        let sound = sound_records(words, &head.common(), &self.plan.hasher);
        let kept = sound.len() as u64;
        let (gaps, from_run) = gaps(loaded, &sound, run);
        let sealed = listed.state == ListedState::Sealed;
        let records_lost = match from_run {
            Some(lost) => Some(lost),
            None if sealed => Some(listed.records.saturating_sub(kept)),
            None => None,
        };
        let kept_as = self.keep(&loaded.source);
        self.keep(&segment_file(head.number));
        self.keep(&run_file(head.number));
        self.plan.report.damages.push(Damage {
            path: self.directory.path(&segment_file(head.number)),
            segment: Some(head.number),
            what: what.to_owned(),
            remedy: if kept > 0 { Remedy::Rebuilt } else { Remedy::GivenUp },
            kept_as,
            records_kept: kept,
            records_lost,
            gaps,
            created: Some(Timestamp::from_millis(head.created)),
            ends: Timestamp::from_millis(head.ends).finite(),
        });
        if kept == 0 {
            self.give_up(head.number);
            return;
        }
        self.plan.report.segments += 1;
        self.plan.report.records += kept;
        let listed = self.plan.wanted.segments.iter_mut().find(|l| l.number == head.number);
        if let Some(listed) = listed {
            (listed.state, listed.records) = (ListedState::Sealed, kept);
        }
        self.plan.steps.push(Step::Rebuild { head, source: loaded.source.clone() });
    }

    /// No file has a valid head of this number.
    fn without_head(&mut self, listed: &Listed) -> Result<()> {
        let name = segment_file(listed.number);
        if listed.state == ListedState::Open && is_segment_length(listed.bytes) {
            let unused = match self.directory.read_into_memory(&name, listed.bytes) {
                Ok((len, space)) => {
                    len == listed.bytes && blocks_are_unused(space.words(), listed.bytes)
                }
                Err(Error::Io { .. } | Error::Corrupt { .. }) => false,
                Err(error) => return Err(error),
            };
            if unused {
                self.plan.report.segments += 1;
                return Ok(());
            }
        }
        let run = read_run(self.directory, listed.number, self.plan.id);
        let kept_as = self.keep(&name);
        self.keep(&run_file(listed.number));
        let what = if kept_as.is_some() {
            "the segment's head is lost, so that nothing says what its records mean"
        } else {
            "the segment's file is missing"
        };
        let sealed = listed.state == ListedState::Sealed;
        let from_run = run.as_ref().map(|run| run.entries.len() as u64);
        self.plan.report.damages.push(Damage {
            path: self.directory.path(&name),
            segment: Some(listed.number),
            what: what.to_owned(),
            remedy: Remedy::GivenUp,
            kept_as,
            records_kept: 0,
            records_lost: if sealed { Some(listed.records) } else { from_run },
            gaps: Vec::new(),
            created: None,
            ends: None,
        });
        self.give_up(listed.number);
        Ok(())
    }

    fn give_up(&mut self, number: u64) {
        self.plan.wanted.segments.retain(|listed| listed.number != number);
        self.plan.steps.push(Step::GiveUp { number });
    }

    fn finish(self, manifest_lost: bool) -> Plan {
        let mut plan = self.plan;
        if plan.report.is_sound() {
            return plan;
        }
        plan.report.written_to = Some(self.directory.path(&plan.record));
        // Without the manifest nobody knows which segments there were.
        let manifest = self.directory.path(MANIFEST_FILE);
        for damage in plan.report.damages.iter_mut().filter(|damage| damage.path == manifest) {
            damage.records_lost = if manifest_lost { None } else { Some(0) };
        }
        if plan.report.forgets() {
            let at = Some(plan.report.at);
            (plan.found.salvaged, plan.wanted.salvaged) = (at, at);
        }
        plan
    }
}

/// Blocks behind the last used one may be missing from either.
fn same_ends(one: &[u32], other: &[u32]) -> bool {
    let used = |ends: &[u32]| ends.iter().rposition(|end| *end > 0).map_or(0, |last| last + 1);
    one.get(..used(one)) == other.get(..used(other))
}
