//! Opens what is sound of a damaged store again, and lists what is lost.
//!
//! [`Store::open`](crate::Store::open) refuses a store with damage, or answers
//! [`Corrupt`](crate::Error::Corrupt) for the keys concerned: no key is *new* because its record is
//! damaged. A salvage gives those records up. It therefore says of each file what is missing,
//! keeps the damaged files beside the new ones, writes its report to the directory, and marks the
//! store: from then on requests sent before the salvage are [`Stale`](crate::Error::Stale), and
//! [`RecoveryReport::salvaged`](crate::RecoveryReport::salvaged) says when that was. A check that
//! tells no time of sending cannot be held back so: a key that was lost is new to it.
//!
//! ```
//! use oncelog::Store;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! # drop(Store::open(path)?);
//! let plan = Store::builder().salvage_plan(path)?;
//! print!("{plan}");
//! if plan.lost_records() == Some(0) {
//!     Store::salvage(path)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apply;
mod examine;
mod gaps;
mod listing;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sys::files::Directory;
use crate::time::{Clock, Timestamp};
use crate::version::Version;

/// A range of a damaged file in which records were, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Byte offset in the damaged file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Records lost there, where the segment's run says so.
    pub records: Option<u64>,
    /// Records there have greater versions than this one: that of the record before them.
    pub after: Option<Version>,
    /// Records there have lower versions than this one: that of the record behind them.
    pub before: Option<Version>,
}

/// What is done about a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// It is put right: what was in it is known.
    Repaired,
    /// It is made anew from what is sound in it or in other files.
    Rebuilt,
    /// Nothing in it can be used: the store goes on without it.
    GivenUp,
}

/// One damaged file, what is done about it, and what is lost with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The segment's number, where it is a segment or its run.
    pub segment: Option<u64>,
    /// What is wrong with it.
    pub what: String,
    /// What is done about it.
    pub remedy: Remedy,
    /// The name that the damaged file is kept under; `None` where there is no such file.
    pub kept_as: Option<PathBuf>,
    /// Sound records in it, all of which stay in the store.
    pub records_kept: u64,
    /// Records lost with it; `None` where nothing tells how many.
    pub records_lost: Option<u64>,
    /// Where in it.
    pub gaps: Vec<Gap>,
    /// When the first of its records can have been recorded, where known.
    pub created: Option<Timestamp>,
    /// By when its last record would have expired; `None` for never, or where not known.
    pub ends: Option<Timestamp>,
}

/// What a salvage does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// True when it was done, false for a plan.
    pub done: bool,
    /// The store's time of the salvage. If anything is lost, what was handled before may be
    /// forgotten, and requests sent before are answered [`Stale`](crate::Error::Stale).
    pub at: Timestamp,
    /// Segments that the store consists of afterwards.
    pub segments: u64,
    /// Records in them, but for segments being written to that are sound.
    pub records: u64,
    /// The damaged files.
    pub damages: Vec<Damage>,
    /// Numbers of namespaces that have keys and whose names are lost. Their keys are kept, and
    /// cannot be reached: a namespace of the same name would begin anew.
    pub nameless: Vec<u32>,
    /// The file in the store's directory that this report is written to, if anything is damaged.
    pub written_to: Option<PathBuf>,
}

impl SalvageReport {
    /// True when nothing is damaged, so that nothing is changed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }

    /// Records lost in all; `None` where some damaged file does not tell how many.
    #[must_use]
    pub fn lost_records(&self) -> Option<u64> {
        self.damages.iter().map(|damage| damage.records_lost).sum()
    }

    /// True when keys may be forgotten that should be known.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.lost_records() != Some(0) || !self.nameless.is_empty()
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for damage in &self.damages {
            write!(f, "{damage}")?;
        }
        for number in &self.nameless {
            writeln!(f, "the name of namespace {number} is lost; its keys cannot be reached")?;
        }
        let lost = self.lost_records().map_or("unknown".to_string(), |lost| lost.to_string());
        let verb = if self.done { "was" } else { "would be" };
        writeln!(f, "records lost: {lost}; damaged files: {}", self.damages.len())?;
        if self.forgets() {
            let at = self.at;
            writeln!(f, "what {verb} lost was recorded before {at}; its keys count as new")?;
        }
        Ok(())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match self.remedy {
            Remedy::Repaired => "repaired",
            Remedy::Rebuilt => "rebuilt",
            Remedy::GivenUp => "given up",
        };
        write!(f, "{}: {}; {remedy}", self.path.display(), self.what)?;
        write!(f, "; {} records kept, ", self.records_kept)?;
        match self.records_lost {
            Some(lost) => write!(f, "{lost} lost")?,
            None => f.write_str("an unknown number lost")?,
        }
        if let Some(created) = self.created {
            write!(f, "; recorded from {created} on")?;
        }
        if let Some(ends) = self.ends {
            write!(f, "; all expire by {ends}")?;
        }
        if let Some(kept) = &self.kept_as {
            write!(f, "; kept as {}", kept.display())?;
        }
        writeln!(f)?;
        for gap in &self.gaps {
            write!(f, "  bytes {} to {}", gap.offset, gap.offset + gap.bytes)?;
            match gap.records {
                Some(records) => write!(f, ": records lost {records}")?,
                None => f.write_str(": records, or an unfinished one")?,
            }
            if let Some(after) = gap.after {
                write!(f, ", versions after {after}")?;
            }
            if let Some(before) = gap.before {
                write!(f, ", versions before {before}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Says what a salvage of the store would do; changes nothing.
pub(crate) fn plan(
    path: &Path,
    clock: Option<&std::sync::Arc<dyn Clock>>,
) -> Result<SalvageReport> {
    let directory = Directory::open_shared(path)?;
    if directory.is_in_use()? {
        return Err(Error::AlreadyOpen { path: path.to_path_buf() });
    }
    Ok(examine::examine(&directory, clock)?.report)
}

/// Does what [`plan`] says.
pub(crate) fn salvage(
    path: &Path,
    clock: Option<&std::sync::Arc<dyn Clock>>,
) -> Result<SalvageReport> {
    // Before anything is created, as for a directory without a store.
    plan(path, clock)?;
    let directory = Directory::open_exclusive(path)?;
    let mut plan = examine::examine(&directory, clock)?;
    if !plan.report.is_sound() {
        apply::apply(&directory, &mut plan, &mut || Ok(()))?;
    }
    plan.report.done = true;
    Ok(plan.report)
}
