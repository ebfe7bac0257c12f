//! Comparing a store's files with an export: which segment is not as it was.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::layout::{IDENTITY_FILE, segment_file};
use crate::inspect;
use crate::recipes::ballot::chain::{Digest, Export, Link, digest_of, listed};
use crate::sys::disk::Disk;
use crate::sys::files::Directory;

/// What became of a file that an export covers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The store's identity is another one.
    Identity,
    /// The segment's file is not there.
    Missing,
    /// The segment's file cannot be read, or is no plain file any more.
    Unreadable {
        /// What stands against it.
        what: String,
    },
    /// The segment is not in the store's list any more, or not as a sealed one.
    Unlisted,
    /// The segment's file has another length.
    Length {
        /// Bytes that it has.
        found: u64,
    },
    /// The segment's file has other contents.
    Contents,
    /// The segment's file has the contents of another segment.
    ContentsOf {
        /// That segment's number.
        segment: u64,
    },
    /// The segment was not there, and others that were have higher numbers.
    Inserted,
    /// What does not follow from the chain: a list of records that is not its segment's, or damage
    /// after what was exported.
    Damaged {
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("it is not the store that was exported"),
            Self::Missing => f.write_str("the file is missing"),
            Self::Unlisted => f.write_str("the store does not list it as sealed any more"),
            Self::Length { found } => write!(f, "the file's length has changed to {found}"),
            Self::Contents => f.write_str("the contents have changed"),
            Self::ContentsOf { segment } => {
                write!(f, "it holds what was exported as segment {segment}")
            }
            Self::Inserted => f.write_str("it was put in front of segments that were exported"),
            Self::Unreadable { what } | Self::Damaged { what } => f.write_str(what),
        }
    }
}

/// One file that is not as it was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The segment's number, where it concerns one.
    pub segment: Option<u64>,
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub change: Change,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.change)
    }
}

/// What [`verify_root`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Segments of the export that are as they were.
    pub unchanged: usize,
    /// Segments recorded since, which the export says nothing of.
    pub later: usize,
    /// Everything that is not as it was, in order of the segments' numbers.
    pub differences: Vec<Difference>,
}

impl Verified {
    /// True if every file that the export covers is as it was, and nothing else is damaged.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Reads the files of a store and compares them with what was exported of it: which segments were
/// changed, removed, inserted, or put in the place of another one.
///
/// That the export is the one that was published is for the caller to see: compare its
/// [`root`](Export::root). Changes nothing; the store may be open. Costs a pass over all files, and
/// another one that reads every record.
///
/// ```
/// use oncelog::recipes::ballot::{Ballots, Export, verify_root};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("ballots");
/// let ballots = Ballots::open(&path)?;
/// assert!(ballots.election("mayor")?.cast("voter 1", "yes")?.is_counted());
/// let (published, kept) = {
///     let export = ballots.close()?;
///     (export.root().to_string(), export.to_string())
/// };
///
/// let export: Export = kept.parse()?;
/// assert_eq!(export.root().to_string(), published);
/// let verified = verify_root(&path, &export)?;
/// for difference in &verified.differences {
///     println!("{difference}");
/// }
/// assert!(verified.is_unchanged());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`NotAStore`](Error::NotAStore), [`UnsupportedFormat`](Error::UnsupportedFormat) and
/// [`Corrupt`](Error::Corrupt) if the store's identity or its list of segments cannot be read at
/// all; [`Io`](Error::Io). Everything else is a difference.
pub fn verify_root(path: impl AsRef<Path>, export: &Export) -> Result<Verified> {
    let path = path.as_ref();
    let directory = Directory::open_shared(path)?;
    let identity = digest_of(&directory, IDENTITY_FILE)?;
    let (identity, _) = identity.ok_or_else(|| Error::NotAStore { path: path.to_path_buf() })?;
    let mut differences = Vec::new();
    if identity != export.identity() {
        let path = directory.path(IDENTITY_FILE);
        differences.push(Difference { segment: None, path, change: Change::Identity });
    }
    let listed = listed(&directory)?;
    let sealed: Vec<u64> = listed.iter().filter(|one| one.1).map(|one| one.0).collect();
    let known: HashMap<Digest, u64> =
        export.links().iter().map(|link| (link.digest, link.segment)).collect();
    for link in export.links() {
        let change = change_of(&directory, link, &sealed, &known);
        differences.extend(change.map(|change| difference(&directory, link.segment, change)));
    }
    let last = export.links().last().map_or(0, |link| link.segment);
    let covers = |number| export.links().iter().any(|link| link.segment == number);
    let inserted = listed.iter().filter(|one| one.0 < last && !covers(one.0));
    differences.extend(inserted.map(|one| difference(&directory, one.0, Change::Inserted)));
    let changed = differences.iter().filter(|one| one.segment.is_some_and(covers)).count();
    add_damage(path, &mut differences)?;
    differences.sort_by_key(|one| one.segment);
    Ok(Verified {
        unchanged: export.links().len() - changed,
        later: listed.iter().filter(|one| one.0 > last).count(),
        differences,
    })
}

fn difference(directory: &Directory, segment: u64, change: Change) -> Difference {
    let path = directory.path(&segment_file(segment));
    Difference { segment: Some(segment), path, change }
}

/// What became of one segment, if it is not as it was.
fn change_of(
    directory: &Directory,
    link: &Link,
    sealed: &[u64],
    known: &HashMap<Digest, u64>,
) -> Option<Change> {
    let found = match digest_of(directory, &segment_file(link.segment)) {
        Ok(Some(found)) => found,
        Ok(None) => return Some(Change::Missing),
        Err(error) => return Some(Change::Unreadable { what: error.to_string() }),
    };
    let (digest, bytes) = found;
    let change = if digest != link.digest {
        match known.get(&digest) {
            Some(segment) => Change::ContentsOf { segment: *segment },
            None if bytes != link.bytes => Change::Length { found: bytes },
            None => Change::Contents,
        }
    } else if sealed.binary_search(&link.segment).is_err() {
        Change::Unlisted
    } else {
        return None;
    };
    Some(change)
}

/// Adds what the store's own verification finds in files that are not among the differences yet.
fn add_damage(path: &Path, differences: &mut Vec<Difference>) -> Result<()> {
    let report = match inspect::verify(path) {
        Ok(report) => report,
        // What ended it is among the differences.
        Err(Error::Corrupt { .. } | Error::Io { .. }) if !differences.is_empty() => return Ok(()),
        Err(error) => return Err(error),
    };
    for problem in report.problems {
        if !differences.iter().any(|one| one.path == problem.path) {
            let what = format!("at byte {}: {}", problem.offset, problem.what);
            let (segment, path) = (problem.segment, problem.path);
            differences.push(Difference { segment, path, change: Change::Damaged { what } });
        }
    }
    Ok(())
}
