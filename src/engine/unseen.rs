//! What is said of keys without a lock, what the filter is told, and how it is laid out anew.
//!
//! A bucket's filter is laid out anew in two passes over the index, some stripes at a time: the
//! first counts the bucket's slots, so that the new layer gets the size that it needs, the second
//! adds them. Each key that has a slot when its stripe is passed is added there; each that gets one
//! later was added to the new layer as it came. So the old layers may go.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::error::Result;
use crate::filter::{Filter, Outgoing};
use crate::format::location::Location;
use crate::index::Index;
use crate::key::KeyHash;
use crate::stats::FilterStats;
use crate::sys::sync::atomic::Ordering;

/// Stripes passed between two looks at the clock.
const STRIPES_PER_STEP: usize = 16;

/// Buckets whose filters are being laid out anew.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// Slots of each bucket, by its number.
    pub(crate) counts: BTreeMap<usize, u64>,
    /// What goes at the end; `None` while slots are being counted.
    outgoing: Option<Vec<Outgoing>>,
    /// The next stripe.
    stripe: usize,
}

impl Engine {
    /// True when nothing is known of the key, by the filter or by a search. Takes no lock.
    ///
    /// False says nothing: the stripe's lock then decides.
    #[inline]
    pub(crate) fn is_unseen(&self, hash: KeyHash) -> bool {
        if self.is_excluded(hash) {
            return true;
        }
        let search = self.index.search(hash);
        search.is_some_and(|search| search.is_conclusive() && search.holds())
    }

    /// True when the filter knows that the key has no slot. Takes no lock.
    #[inline]
    pub(crate) fn is_excluded(&self, hash: KeyHash) -> bool {
        self.filter.as_ref().is_some_and(|filter| self.ask(filter, hash))
    }

    #[inline(never)]
    fn ask(&self, filter: &Filter, hash: KeyHash) -> bool {
        let unseen = filter.excludes(self.index.imprint(hash));
        let counters = self.counters();
        let counter = if unseen { &counters.filter_excluded } else { &counters.filter_passed };
        counter.fetch_add(1, Ordering::Relaxed);
        unseen
    }

    /// Tells the filter of a key that is about to get a slot. Its stripe is locked.
    #[inline]
    pub(crate) fn note(&self, location: Location, hash: KeyHash) {
        if let Some(filter) = &self.filter {
            self.note_in(filter, location, self.index.imprint(hash));
        }
    }

    #[inline(never)]
    fn note_in(&self, filter: &Filter, location: Location, imprint: u64) {
        let chunk = location.chunk();
        if filter.add(chunk, imprint) {
            return;
        }
        // Nobody asks for a key whose segment is gone already.
        if let Some((ends, chunks)) = self.log.bucket_at(chunk) {
            filter.adopt(ends, chunks);
            filter.add(chunk, imprint);
        }
    }

    /// Lays filters out anew where that pays, a few stripes at a time; false when none is due.
    pub(crate) fn renew_filter_step(&self) -> Result<bool> {
        let Some(filter) = &self.filter else { return Ok(false) };
        let mut renewal = self.renewal.lock();
        self.health.check_writable()?;
        if renewal.counts.is_empty() {
            renewal.counts = filter.due().into_iter().map(|bucket| (bucket, 0)).collect();
            if renewal.counts.is_empty() {
                return Ok(false);
            }
        }
        let Renewal { counts, outgoing, stripe } = &mut *renewal;
        for _ in 0..STRIPES_PER_STEP.min(self.index.stripe_count() - *stripe) {
            let number = *stripe;
            *stripe += 1;
            self.index.lock_stripe(number).each_tagged(|tag, location| {
                let bucket = filter.bucket_of(location.chunk());
                let Some(count) = bucket.and_then(|bucket| counts.get_mut(&bucket)) else {
                    return;
                };
                if self.log.is_dead(location) {
                    return;
                }
                match outgoing {
                    None => *count += 1,
                    Some(_) => self.note_in(filter, location, Index::imprint_in(number, tag)),
                }
            });
        }
        if *stripe < self.index.stripe_count() {
            return Ok(true);
        }
        *stripe = 0;
        match outgoing.take() {
            None => {
                let begun =
                    counts.iter().filter_map(|(bucket, count)| filter.begin_anew(*bucket, *count));
                let begun: Vec<_> = begun.collect();
                if begun.is_empty() {
                    // They have ended, or there is no room; the next maintenance sees.
                    counts.clear();
                    return Ok(false);
                }
                *outgoing = Some(begun);
            }
            Some(gone) => {
                gone.iter().for_each(|gone| filter.end_anew(gone));
                counts.clear();
            }
        }
        Ok(true)
    }

    /// What the filter takes and does, if it is on.
    pub(crate) fn filter_stats(&self) -> Option<FilterStats> {
        self.filter.as_ref().map(|filter| filter.stats())
    }
}
