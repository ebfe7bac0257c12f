//! Keeps removed what was removed, where a power cut took the removal and left what came after.
//!
//! A record ends no sooner than the live one that it follows, and a removal lives as long as what
//! it removes. So where an opening finds two records of a key of which the later one ends first,
//! the key was removed between them. If that removal is gone, the earlier record would count again
//! once the later one has ended and its segment is dropped. Before anything is answered, the
//! removal is therefore made anew: with the version after the one of the record that it removes,
//! which is below that of any later record, and in a bucket that ends no sooner. The next opening
//! finds it like any other, so one that is cut short, or that comes again, changes nothing more.
//!
//! Segments that have ended are dropped unread. A later record that was in one of them is as if it
//! had been lost with the removal: nobody was told of it since the power cut, or the removal would
//! have been made anew by then.

use crate::sys::sync::atomic::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::{Header, Kind, Marks};
use crate::key::KeyHash;
use crate::log::copies::Source;
use crate::log::segment::Segment;
use crate::log::{Draft, Found};
use crate::sys::sync::Mutex;
use crate::time::Timestamp;
use crate::version::Version;

/// Records that outlive a later one of their key, removals included, as they were found.
#[derive(Debug, Default)]
pub(crate) struct Outlived(Mutex<Vec<(KeyHash, Location)>>);

impl Outlived {
    pub(crate) fn add(&self, hash: KeyHash, location: Location) {
        self.0.lock().push((hash, location));
    }
}

/// A record that outlives a later one of its key.
#[derive(Clone, Copy, Debug)]
struct One {
    location: Location,
    header: Header,
}

/// A removal that is missing.
#[derive(Debug)]
struct Missing {
    key: Vec<u8>,
    marks: Marks,
    hash: KeyHash,
    version: Version,
    expires: Timestamp,
    /// The one that ends last of the segments with something that it removes.
    segment: Arc<Segment>,
    /// What it was found missing by.
    found: Vec<One>,
}

impl Engine {
    /// As [`Engine::renew_removals`], as far as there is room.
    pub(crate) fn renew_removals_with_room(&self, now: Timestamp) -> Result<u64> {
        match self.renew_removals(now) {
            Err(Error::Full { .. }) => Ok(0),
            renewed => renewed,
        }
    }

    /// Makes removals anew that are missing; returns how many, all of them on stable storage.
    ///
    /// # Errors
    /// `Full` where there is no room for all of them: another call goes on with the others.
    fn renew_removals(&self, now: Timestamp) -> Result<u64> {
        // Under its lock, as close() waits for it and then for nobody.
        let compactor = self.compactor.lock();
        let mut found = std::mem::take(&mut *self.outlived.0.lock());
        if found.is_empty() {
            return Ok(0);
        }
        self.health.check_writable()?;
        found.sort_unstable_by_key(|(hash, _)| hash.run_bits());
        let mut missing = Vec::new();
        for group in found.chunk_by(|(one, _), (other, _)| one.run_bits() == other.run_bits()) {
            self.find_missing(group, now, &mut missing)?;
        }
        // Each bucket has a segment of its own for what is copied.
        missing.sort_by_key(|one| one.segment.ends);
        for (done, one) in missing.iter().enumerate() {
            if let Err(error) = self.write_missing(one, compactor.reclaimed, now) {
                let rest = missing.iter().skip(done);
                let rest = rest.flat_map(|one| one.found.iter().map(|it| (one.hash, it.location)));
                self.outlived.0.lock().extend(rest);
                return Err(error);
            }
        }
        if !missing.is_empty() {
            self.log.end_copies();
            self.settle_all()?;
        }
        Ok(missing.len() as u64)
    }

    /// Adds the removals that are missing of the keys with one hash, as far as runs keep that.
    fn find_missing(
        &self,
        group: &[(KeyHash, Location)],
        now: Timestamp,
        missing: &mut Vec<Missing>,
    ) -> Result<()> {
        let mut keys: BTreeMap<(Vec<u8>, bool), Vec<One>> = BTreeMap::new();
        let Some((hash, _)) = group.first() else { return Ok(()) };
        let stripe = self.index.lock(*hash);
        for (_, location) in group {
            match self.log.view(*location) {
                Found::Record(view) => {
                    let mut buffer = Vec::new();
                    let key = view.copy_key(&mut buffer).to_vec();
                    let one = One { location: *location, header: view.header };
                    keys.entry((key, one.header.marks.has(Marks::NAMESPACED)))
                        .or_default()
                        .push(one);
                }
                // No opening will find it again.
                Found::Dead => {}
                Found::Damaged => return Err(self.damaged(*location)),
            }
        }
        for ((key, namespaced), found) in keys {
            let marks = if namespaced { Marks::NAMESPACED } else { Marks::NONE };
            let latest = self.find_marked(&stripe, *hash, &key, marks)?.record;
            let latest = latest.map(|view| view.header);
            let uncovered = uncovered(&found, latest.as_ref(), now);
            let headers = || uncovered.iter().map(|one| one.header);
            let segments = uncovered.iter().filter_map(|one| self.log.segment_at(one.location));
            let (Some(version), Some(expires), Some(segment)) = (
                headers().map(|header| header.version).max(),
                headers().map(|header| header.expires).max(),
                segments.max_by_key(|segment| segment.ends),
            ) else {
                continue;
            };
            let version = Version::from_u64(version.as_u64() + 1);
            // Where there is no version between them, nothing was removed between them.
            if latest.is_none_or(|latest| version < latest.version) {
                let hash = self.hasher.hash(&key);
                missing.push(Missing { key, marks, hash, version, expires, segment, found });
            }
        }
        Ok(())
    }

    /// Writes a removal to a segment of copies, which holds versions below those of its time.
    fn write_missing(&self, one: &Missing, reclaimed: u64, now: Timestamp) -> Result<()> {
        let draft = Draft {
            kind: Kind::Removed,
            marks: one.marks,
            key: &one.key,
            outcome: &[],
            hash: one.hash,
            created: now,
            expires: one.expires,
            after: None,
        };
        let source = Source { segment: &one.segment, bytes_left: 0, is_remain: true };
        let copied = loop {
            if let Some(copied) = self.log.append_as(&source, &draft, one.version) {
                break copied;
            }
            let begun = self.log.begin_copies(&source, (one.key.len() as u64, 0), now);
            let begun = begun.map_err(|error| self.health.judge(error))?;
            self.wheel.add(begun.ends, begun.number);
        };
        let chunk = copied.location.chunk();
        if let Found::Record(view) = self.log.view(copied.location) {
            self.log.waste.add_removals(chunk, view.header.record_bytes());
        }
        // Compaction need not look for what it removes: that was found just now.
        copied.segment.looked_at.store(reclaimed, Ordering::Release);
        Ok(())
    }
}

/// The records that would count again once `latest` has ended, as no removal found is for them.
fn uncovered(found: &[One], latest: Option<&Header>, now: Timestamp) -> Vec<One> {
    let outlives = |one: &&One| {
        let ends = latest.map_or(now, |latest| latest.expires.max(now));
        one.header.kind != Kind::Removed && one.header.expires > ends
    };
    let covers = |removal: &One, one: &One| {
        removal.header.kind == Kind::Removed
            && removal.header.version > one.header.version
            && removal.header.expires >= one.header.expires
    };
    let is_covered = |one: &One| found.iter().any(|removal| covers(removal, one));
    found.iter().filter(outlives).filter(|one| !is_covered(one)).copied().collect()
}
