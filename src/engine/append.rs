//! Puts a record into the log, in a bucket that ends when the record may be forgotten.

use crate::sys::sync;
use crate::sys::sync::atomic::{AtomicUsize, Ordering};
use std::cell::Cell;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::Header;
use crate::log::lane::bundle_bytes_max;
use crate::log::reserve::Urgent;
use crate::log::{Draft, Log, NoBlock};
use crate::time::Timestamp;
use crate::version::Version;
use crate::wheel::bucket_end;

/// Threads get lanes in turn.
static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

sync::thread_local! {
    static LANE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A number that spreads threads over lanes.
#[inline(always)]
pub(crate) fn lane_of_thread() -> usize {
    let lane = LANE.with(Cell::get);
    if lane == usize::MAX { assign_lane() } else { lane }
}

#[cold]
fn assign_lane() -> usize {
    let lane = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % (usize::MAX / 2);
    LANE.with(|own| own.set(lane));
    lane
}

impl Engine {
    /// Appends a record; when it returns, the record survives the process.
    ///
    /// `lifetime` is what records of the bucket have in common, most likely.
    #[inline]
    pub(crate) fn append(&self, draft: &Draft<'_>, lifetime: u64) -> Result<(Location, Version)> {
        let digest = draft.hash.digest(draft.outcome);
        let lane = lane_of_thread();
        let ends = bucket_end(draft.created, draft.expires);
        let appended = match self.log.append(lane, ends, draft, digest) {
            Ok(appended) => appended,
            Err(_no_block) => self.append_slowly(lane, draft, digest, lifetime)?,
        };
        self.note(appended.0, draft.hash);
        Ok(appended)
    }

    /// Appends a record that room was promised for, also when there is none elsewhere.
    pub(crate) fn append_promised(
        &self,
        draft: &Draft<'_>,
        lifetime: u64,
    ) -> Result<(Location, Version)> {
        self.append_or(draft, lifetime, Log::append_urgently)
    }

    /// Appends a removal, also when there is no room for new keys.
    pub(crate) fn append_removal(
        &self,
        draft: &Draft<'_>,
        lifetime: u64,
    ) -> Result<(Location, Version)> {
        self.append_or(draft, lifetime, Log::append_removal)
    }

    /// Appends a record, on a full disk by `urgently`.
    fn append_or(
        &self,
        draft: &Draft<'_>,
        lifetime: u64,
        urgently: fn(&Log, &Draft<'_>, u64) -> Result<Urgent>,
    ) -> Result<(Location, Version)> {
        match self.append(draft, lifetime) {
            Err(Error::Full { .. }) => {}
            done => return done,
        }
        let urgent = urgently(&self.log, draft, draft.hash.digest(draft.outcome))
            .map_err(|error| self.health.judge(error))?;
        // A kept segment that was opened for it belongs to a bucket from now on.
        if let Some((ends, number)) = urgent.opened {
            self.wheel.add(ends, number);
        }
        self.note(urgent.location, draft.hash);
        Ok((urgent.location, urgent.version))
    }

    /// Appends after making room; a failure of the disk ends all writing.
    #[cold]
    fn append_slowly(
        &self,
        lane: usize,
        draft: &Draft<'_>,
        digest: u64,
        lifetime: u64,
    ) -> Result<(Location, Version)> {
        let bytes = Header::record_bytes_max(draft.key.len() as u64, draft.outcome.len() as u64);
        let times = (draft.created, draft.expires);
        let append = |ends| self.log.append(lane, ends, draft, digest);
        let appended = self.append_with_room(lane, times, bytes, lifetime, append);
        appended.map_err(|error| self.health.judge(error))
    }

    /// Appends records that are there together or not at all, or one alone; where each lies, and
    /// its version. Each comes with its digest.
    ///
    /// Their bucket is that of the one which expires last.
    pub(crate) fn append_together(
        &self,
        drafts: &[(Draft<'_>, u64)],
        lifetime: u64,
    ) -> Result<Vec<(Location, Version)>> {
        let expires = drafts.iter().map(|(draft, _)| draft.expires).max();
        let (expires, Some((first, digest))) = (expires.unwrap_or_default(), drafts.first()) else {
            return Ok(Vec::new());
        };
        let (lane, created) = (lane_of_thread(), first.created);
        let append = |ends| match drafts {
            [_] => self.log.append(lane, ends, first, *digest).map(|placed| vec![placed]),
            _ => self.log.append_bundle(lane, ends, drafts),
        };
        let placed = match append(bucket_end(created, expires)) {
            Ok(placed) => placed,
            Err(_no_block) => {
                let bytes = bundle_bytes_max(drafts);
                let times = (created, expires);
                let placed = self.append_with_room(lane, times, bytes, lifetime, append);
                placed.map_err(|error| self.health.judge(error))?
            }
        };
        for ((draft, _), (location, _)) in drafts.iter().zip(&placed) {
            self.note(*location, draft.hash);
        }
        Ok(placed)
    }

    /// Makes room in an open bucket, in a new block, in a new segment, and appends so many bytes
    /// that expire then.
    fn append_with_room<T>(
        &self,
        lane: usize,
        (created, expires): (Timestamp, Timestamp),
        bytes: u64,
        lifetime: u64,
        append: impl Fn(Timestamp) -> std::result::Result<T, NoBlock>,
    ) -> Result<T> {
        loop {
            let ideal = bucket_end(created, expires);
            let (ends, closed) = self.wheel.admit(ideal, created, expires);
            if closed.is_some() {
                self.log.withdraw_bucket(closed);
            }
            if let Ok(appended) = append(ends) {
                return Ok(appended);
            }
            if let Some(segment) = self.log.provide(lane, ends, bytes, created, lifetime)? {
                self.wheel.add(ends, segment.number);
            }
            if self.log.wants_spare() {
                // At full speed a segment lasts for less than the time between two looks.
                self.wake.ring();
            }
            // Another thread of the lane may use the block up first; then there is another round.
            if let Ok(appended) = append(ends) {
                return Ok(appended);
            }
        }
    }
}
