//! A read-only walk over a store's files, for verification and for the command line.
//!
//! Works on a closed store, on one that a crash has left, and beside a live one. Nothing in the
//! directory is changed. Beside a live store the segments that are being written are read as far
//! as they had come.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::engine::open::{read_identity, read_manifest};
use crate::error::{Error, Result};
use crate::filter::forecast::forecast;
use crate::format::identity::Identity;
use crate::format::layout::{BLOCK_BYTES, FORMAT_VERSION, IDENTITY_FILE, run_file, segment_file};
use crate::format::manifest::{Listed, ListedDurability, ListedState, Manifest};
use crate::format::run::Run;
use crate::format::segment::{SEGMENT_HEAD_BYTES, SegmentHead};
use crate::key::KeyHasher;
use crate::log::adopt::is_segment_length;
use crate::log::scan::Scanner;
use crate::log::seal::run_of;
use crate::stats::FilterStats;
use crate::sys::disk::Disk;
use crate::sys::files::Directory;
use crate::sys::words;
use crate::time::Timestamp;

/// One segment as its files show it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentStat {
    /// The segment's number, which is also in its file's name.
    pub number: u64,
    /// "open" or "sealed".
    pub state: &'static str,
    /// Length of its file.
    pub bytes: u64,
    /// Records in it, where a run says so.
    pub records: Option<u64>,
    /// When everything in it has expired; `None` for never, or where nothing was written yet.
    pub ends: Option<Timestamp>,
    /// When it was begun.
    pub created: Timestamp,
}

/// What one namespace holds, as the store wrote it down last: with each new segment, with each
/// drop, and at close. Beside a live store and after a crash it may lag behind by what came since.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NamespaceStat {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its keys, expired ones included until they are reclaimed.
    pub keys: u64,
    /// Bytes that the latest records of its keys take in the log.
    pub bytes: u64,
}

/// A store's identity, its namespaces and its segments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatReport {
    /// True when some handle has the store open.
    pub in_use: bool,
    /// The store's random id, in hexadecimal.
    pub store_id: String,
    /// Version of the file format.
    pub format_version: u32,
    /// The epoch that the next open starts beyond.
    pub epoch: u64,
    /// When the store was created.
    pub created: Timestamp,
    /// When a salvage last gave up records; `None` if there never was one. See
    /// [`RecoveryReport::salvaged`](crate::RecoveryReport::salvaged).
    pub salvaged: Option<Timestamp>,
    /// All namespaces, in the order in which they were made.
    pub namespaces: Vec<NamespaceStat>,
    /// All segments, in order of their numbers.
    pub segments: Vec<SegmentStat>,
    /// Bytes allocated on disk for segments.
    pub disk_bytes: u64,
    /// The level that the store was last opened at: "process", "interval" or "synced".
    pub durability: &'static str,
    /// How far the watermarks lag behind: bytes of records of which no watermark in the files says
    /// that they are on stable storage. A watermark is written after its sync, so that a store at
    /// rest shows what the last sync covered as well.
    pub unsynced_bytes: u64,
    /// What filters would take in memory for the records of sealed segments, when the store is
    /// opened with [`Builder::negative_filter`](crate::Builder::negative_filter). Who has it open
    /// says what they do take: [`Stats::filter`](crate::Stats::filter).
    pub filter: FilterStats,
}

/// One place where a store's files are not as they were written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The segment's number, where it concerns one.
    pub segment: Option<u64>,
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

/// What reading every record of a store showed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// True when some handle has the store open.
    pub in_use: bool,
    /// Segments read.
    pub segments: u64,
    /// Records whose checksums agree.
    pub records: u64,
    /// Bytes of segment files read.
    pub bytes: u64,
    /// Blocks of unsealed segments that end in an unfinished record, as a crash leaves them.
    pub torn_tails: u64,
    /// Everything that is damaged.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// True when nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Opens a store's directory for reading.
fn read_store(path: &Path) -> Result<(Directory, Identity, Manifest)> {
    let directory = Directory::open_shared(path)?;
    let identity =
        read_identity(&directory)?.ok_or_else(|| Error::NotAStore { path: path.to_path_buf() })?;
    let manifest = read_manifest(&directory)?;
    Ok((directory, identity, manifest))
}

/// Bytes of an open segment's records above its watermarks.
fn unsynced_bytes(
    directory: &Directory,
    name: &str,
    head: &SegmentHead,
    hasher: &KeyHasher,
) -> Result<u64> {
    if directory.file_bytes(name) != Some(head.bytes) || !is_segment_length(head.bytes) {
        return Ok(0);
    }
    let (_, space) = directory.read_into_memory(name, head.bytes)?;
    let common = head.common();
    let mut scanner = Scanner::new(space.words(), &common, hasher);
    for block in scanner.blocks() {
        scanner.records(block, |_, _, _| {});
    }
    Ok(scanner.report.unsynced_bytes)
}

/// Describes a store without opening it. Reads the segments that are not sealed, and a page of
/// each other one.
///
/// # Errors
/// [`NotAStore`](Error::NotAStore) and [`NotADirectory`](Error::NotADirectory) if there is none;
/// [`Corrupt`](Error::Corrupt) if identity or manifest are damaged; [`Io`](Error::Io).
pub fn stat(path: impl AsRef<Path>) -> Result<StatReport> {
    let (directory, identity, manifest) = read_store(path.as_ref())?;
    let mut report = StatReport {
        in_use: directory.is_in_use()?,
        store_id: identity.id.iter().map(|byte| format!("{byte:02x}")).collect(),
        format_version: FORMAT_VERSION,
        epoch: u64::from(manifest.epoch),
        created: identity.created,
        salvaged: manifest.salvaged,
        namespaces: namespaces(&manifest),
        segments: Vec::with_capacity(manifest.segments.len()),
        disk_bytes: 0,
        durability: match manifest.durability {
            ListedDurability::Process => "process",
            ListedDurability::Interval => "interval",
            ListedDurability::Synced => "synced",
        },
        unsynced_bytes: 0,
        filter: FilterStats::default(),
    };
    let hasher = KeyHasher::new(identity.secret);
    let mut keys = BTreeMap::<Option<Timestamp>, u64>::new();
    for listed in &manifest.segments {
        let name = segment_file(listed.number);
        let head = directory.read_head(&name, SEGMENT_HEAD_BYTES);
        // A live store may drop a segment between the two reads.
        let head = head.ok().flatten().and_then(|head| SegmentHead::decode(&head));
        let sealed = listed.state == ListedState::Sealed;
        report.disk_bytes += directory.allocated_bytes(&name).unwrap_or(0);
        report.disk_bytes += directory.allocated_bytes(&run_file(listed.number)).unwrap_or(0);
        if let (false, Some(head)) = (sealed, head) {
            report.unsynced_bytes += unsynced_bytes(&directory, &name, &head, &hasher)?;
        }
        let ends = head.and_then(|head| Timestamp::from_millis(head.ends).finite());
        if sealed {
            *keys.entry(ends).or_default() += listed.records;
        }
        report.segments.push(SegmentStat {
            number: listed.number,
            state: if sealed { "sealed" } else { "open" },
            bytes: listed.bytes,
            records: sealed.then_some(listed.records),
            ends,
            created: head.map_or(identity.created, |head| Timestamp::from_millis(head.created)),
        });
    }
    report.filter = forecast(keys.into_values());
    Ok(report)
}

fn namespaces(manifest: &Manifest) -> Vec<NamespaceStat> {
    // A number whose name could not be stored has none.
    let named = manifest.spaces.iter().filter(|space| !space.name.is_empty());
    named
        .map(|space| NamespaceStat {
            name: space.name.clone(),
            created: space.created,
            keys: space.keys,
            bytes: space.bytes,
        })
        .collect()
}

/// Reads every byte that a store relies on and checks it. Takes the time of reading the files.
///
/// # Errors
/// As [`stat`]. Damage in segments is not an error but listed in the report.
pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport> {
    let (directory, identity, manifest) = read_store(path.as_ref())?;
    let mut report = VerifyReport { in_use: directory.is_in_use()?, ..Default::default() };
    let hasher = KeyHasher::new(identity.secret);
    for listed in &manifest.segments {
        let mut verifier =
            Verifier { directory: &directory, identity: &identity, listed, report: &mut report };
        verifier.segment(&hasher)?;
    }
    let identity_path = directory.path(IDENTITY_FILE);
    if manifest.segments.iter().any(|listed| listed.number >= manifest.next_number) {
        let what = "a segment number is out of order".to_string();
        report.problems.push(Problem { path: identity_path, segment: None, offset: 0, what });
    }
    Ok(report)
}

/// Checks one segment.
struct Verifier<'a> {
    directory: &'a Directory,
    identity: &'a Identity,
    listed: &'a Listed,
    report: &'a mut VerifyReport,
}

impl Verifier<'_> {
    fn segment(&mut self, hasher: &KeyHasher) -> Result<()> {
        let name = segment_file(self.listed.number);
        let room = if is_segment_length(self.listed.bytes) { self.listed.bytes } else { 0 };
        // Read and not mapped: a file that is cut short meanwhile ends nobody, and a hole in it
        // takes no room.
        let (bytes, space) = match self.directory.read_into_memory(&name, room) {
            Ok(read) => read,
            Err(Error::Io { .. }) if self.report.in_use => return Ok(()),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.problem(0, "the segment's file is missing");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if bytes != self.listed.bytes || room == 0 {
            self.problem(bytes.min(self.listed.bytes), "the file's length has changed");
            return Ok(());
        }
        let mut head = [0; SEGMENT_HEAD_BYTES];
        words::read_bytes(space.words(), &mut head);
        if head == [0; SEGMENT_HEAD_BYTES] && self.listed.state == ListedState::Open {
            return Ok(());
        }
        self.report.segments += 1;
        self.report.bytes += self.listed.bytes;
        let Some(head) = SegmentHead::decode(&head) else {
            self.problem(0, "the segment's head is damaged");
            return Ok(());
        };
        if head.store != self.identity.id || head.number != self.listed.number {
            self.problem(0, "the segment belongs elsewhere");
            return Ok(());
        }
        let (run, found) =
            run_of(head.number, &head.common(), space.words(), self.identity.id, hasher);
        self.report.records += found.records;
        for offset in &found.damaged {
            self.problem(*offset, "a record does not match its checksum");
        }
        if self.listed.state == ListedState::Sealed {
            self.sealed(&run, found.records)?;
        } else {
            for offset in &found.lost {
                self.problem(*offset, "a record that was on stable storage is damaged or gone");
            }
            self.report.torn_tails += found.torn_tails;
        }
        Ok(())
    }

    /// A sealed segment has exactly what its run lists.
    fn sealed(&mut self, found: &Run, records: u64) -> Result<()> {
        let name = run_file(self.listed.number);
        let run = self.directory.read(&name)?.and_then(|bytes| Run::decode(&bytes));
        let ours = |run: &Run| run.store == found.store && run.number == found.number;
        let Some(run) = run.filter(ours) else {
            let (path, segment) = (self.directory.path(&name), Some(self.listed.number));
            let what = "the run is missing or damaged; opening the store makes it again".into();
            self.report.problems.push(Problem { path, segment, offset: 0, what });
            return Ok(());
        };
        let mut short = false;
        for (block, (had, has)) in run.block_ends.iter().zip(&found.block_ends).enumerate() {
            if had != has {
                short = true;
                let offset = block as u64 * BLOCK_BYTES + u64::from(*has.min(had));
                self.problem(offset, "a record does not match its checksum");
            }
        }
        if !short && (records != self.listed.records || run.entries != found.entries) {
            self.problem(0, "the segment does not hold the records that its run lists");
        }
        Ok(())
    }

    fn problem(&mut self, offset: u64, what: &str) {
        let path = self.directory.path(&segment_file(self.listed.number));
        let segment = Some(self.listed.number);
        self.report.problems.push(Problem { path, segment, offset, what: what.to_string() });
    }
}
