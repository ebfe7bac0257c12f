//! Segments prepared ahead, so that no caller waits for the syncs that creating one takes.
//!
//! A bucket's next segment is prepared once its open one is half full, and the first segment of a
//! bucket to come shortly before records move on to it: with one lifetime they all do so at the
//! same instant, and it is known when. That first segment has half of the size that the bucket
//! before it has come to, so that in steady state a bucket consists of a few segments.
//!
//! A spare whose bucket takes no more records is idle: it becomes another bucket's, for one sync
//! instead of several. Spares never make a store full: when room is needed they are given up.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::layout::{CHUNK_BYTES, segment_file};
use crate::log::Log;
use crate::log::catalog::Need;
use crate::log::segment::{Prepared, Segment};
use crate::time::Timestamp;

/// Idle spares that are kept for the next bucket that needs one.
const IDLE_MAX: usize = 1;

/// The bucket that follows another one of the same lifetime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) ends: Timestamp,
    /// The time that a bucket takes records for, and how long the one before has taken some.
    pub(crate) width_ms: u64,
    pub(crate) elapsed_ms: u64,
}

impl Next {
    /// What will have come in a bucket's whole time, if `so_far` has come in the time elapsed.
    pub(crate) fn expect(&self, so_far: u64) -> u64 {
        let whole = u128::from(so_far) * u128::from(self.width_ms);
        u64::try_from(whole / u128::from(self.elapsed_ms.max(1))).unwrap_or(u64::MAX)
    }
}

/// Tells which bucket follows that with this end and lifetime, when it is about to.
pub(crate) type Upcoming<'a> = dyn Fn(Timestamp, u64) -> Option<Next> + 'a;

/// At most one prepared segment for each bucket.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    by_end: BTreeMap<Timestamp, Segment>,
}

impl Spares {
    pub(crate) fn has(&self, ends: Timestamp) -> bool {
        self.by_end.contains_key(&ends)
    }

    /// True when the bucket has a spare that will do for a while.
    pub(crate) fn serve(&self, ends: Timestamp, now: Timestamp) -> bool {
        self.by_end.get(&ends).is_some_and(|spare| !is_idle(spare, now))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Segment> {
        self.by_end.values()
    }

    /// Adds a spare, in place of an idle one that the bucket may have.
    pub(crate) fn put(&mut self, spare: Segment) -> Option<Segment> {
        self.by_end.insert(spare.ends, spare)
    }

    /// The bucket's own, if it has room for so many bytes and was not begun too long ago.
    pub(crate) fn take_own(
        &mut self,
        ends: Timestamp,
        least: u64,
        now: Timestamp,
    ) -> Option<Segment> {
        self.by_end.get(&ends).filter(|own| own.bytes >= least && !own.is_aged(now))?;
        self.by_end.remove(&ends)
    }

    /// An idle one of this size.
    pub(crate) fn take_idle(&mut self, bytes: u64, now: Timestamp) -> Option<Segment> {
        let mut idle = self.by_end.values().filter(|spare| is_idle(spare, now));
        let ends = idle.find(|spare| spare.bytes == bytes)?.ends;
        self.by_end.remove(&ends)
    }

    /// Any one with room for so many bytes.
    pub(crate) fn take_any(&mut self, least: u64) -> Option<Segment> {
        let ends = self.by_end.values().find(|spare| spare.bytes >= least)?.ends;
        self.by_end.remove(&ends)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.by_end).into_values().collect()
    }

    /// Idle ones beyond those that are kept, and all whose buckets have ended: nothing comes any
    /// more that would need them.
    fn take_surplus(&mut self, now: Timestamp) -> Vec<Segment> {
        let idle = self.by_end.iter().filter(|(_, spare)| is_idle(spare, now));
        let (over, rest): (Vec<_>, Vec<_>) = idle.partition(|(ends, _)| **ends <= now);
        let surplus: Vec<Timestamp> =
            over.iter().chain(rest.iter().skip(IDLE_MAX)).map(|(ends, _)| **ends).collect();
        surplus.iter().filter_map(|ends| self.by_end.remove(ends)).collect()
    }
}

/// True when the spare's bucket takes no records of its lifetime any more, or when it was begun so
/// long ago that it should be begun anew.
fn is_idle(spare: &Segment, now: Timestamp) -> bool {
    let moved_on = now.as_millis().saturating_add(spare.common.lifetime) > spare.ends.as_millis();
    (moved_on && spare.ends != Timestamp::NEVER) || spare.is_aging(now)
}

impl Log {
    /// True when a segment should be created ahead of need.
    pub(crate) fn wants_spare(&self) -> bool {
        self.catalog.lock().wants_spare()
    }

    /// Bytes that files without records take.
    #[cfg(test)]
    pub(crate) fn unused_bytes(&self) -> u64 {
        self.catalog.lock().unused_bytes()
    }

    /// Creates segments ahead of need; true when it did.
    ///
    /// # Errors
    /// `Full` where there is no room for all of them.
    pub(crate) fn prepare_ahead(&self, upcoming: &Upcoming<'_>, now: Timestamp) -> Result<bool> {
        let needs = self.catalog.lock().wanted(upcoming, now);
        for need in &needs {
            // Who holds it is creating a segment because there was no spare.
            let Some(growing) = self.growing.try_lock() else {
                return Ok(false);
            };
            let fresh = self.prepare_spare(*need, now)?;
            drop(growing);
            if let Some((at, bytes)) = fresh {
                self.space.populate(at, bytes);
            }
        }
        let surplus = self.catalog.lock().spares.take_surplus(now);
        self.give_up(surplus, now)?;
        Ok(!needs.is_empty())
    }

    /// Prepares one spare, or makes an idle one of it. Returns the place of a new file, whose pages
    /// were never touched.
    fn prepare_spare(&self, need: Need, now: Timestamp) -> Result<Option<(usize, usize)>> {
        let idle = self.catalog.lock().take_spare(|spares| spares.take_idle(need.bytes, now));
        let is_fresh = idle.is_none();
        let prepared = match idle {
            Some(idle) => idle.unused(),
            None => self.prepare_within(need.bytes, now)?,
        };
        let spare = self.begin(prepared, need, now)?;
        let place = usize::try_from(spare.at).ok().zip(usize::try_from(spare.bytes).ok());
        let replaced = self.catalog.lock().put_spare(spare);
        self.give_up(replaced.into_iter().collect(), now)?;
        Ok(place.filter(|_| is_fresh))
    }

    /// As `prepare` answers, with all spares given up if there is no room otherwise.
    ///
    /// The growing lock is held.
    pub(crate) fn before_spares(
        &self,
        now: Timestamp,
        prepare: impl Fn() -> Result<Prepared>,
    ) -> Result<Prepared> {
        match prepare() {
            Err(Error::Full { .. }) if self.give_up_spares(now)? => prepare(),
            prepared => prepared,
        }
    }

    /// Gives all spares up, where something else needs their room; false if there are none.
    ///
    /// The growing lock is held.
    fn give_up_spares(&self, now: Timestamp) -> Result<bool> {
        let spares = self.catalog.lock().spares.take_all();
        let any = !spares.is_empty();
        self.give_up(spares, now).map(|()| any)
    }

    /// Removes segments without records that are no spares any more.
    fn give_up(&self, spares: Vec<Segment>, now: Timestamp) -> Result<()> {
        if spares.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.save_manifest(now, false) {
            let mut catalog = self.catalog.lock();
            spares.into_iter().for_each(|spare| drop(catalog.put_spare(spare)));
            return Err(error);
        }
        for spare in spares {
            // A file that cannot be removed now is unlisted debris, which the next open removes.
            let _ = self.disk.remove(&segment_file(spare.number));
            let (at, bytes) = (usize::try_from(spare.at), usize::try_from(spare.bytes));
            let unmapped = match (at, bytes) {
                (Ok(at), Ok(bytes)) => self.space.unmap(at, bytes).is_ok(),
                _ => false,
            };
            if unmapped {
                let first = spare.at / CHUNK_BYTES;
                self.catalog.lock().free(first..first + spare.bytes / CHUNK_BYTES);
            }
        }
        Ok(())
    }
}
