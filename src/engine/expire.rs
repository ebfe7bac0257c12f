//! Dropping whole segments whose time has passed, and the sweep that makes their room usable.
//!
//! A drop marks the segments dead, which makes every slot that leads to them meaningless at once,
//! and removes their files: nothing is done per key. The slots are freed by a sweep over the
//! stripes at a bounded rate. When it has passed every stripe after a drop, no slot and no thread
//! can still refer to the dropped segments, and their places in memory are used again.

use crate::sys::sync::atomic::Ordering;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Result;
use crate::log::segment::Segment;
use crate::time::Timestamp;

/// Stripes swept between two looks at the clock.
const STRIPES_PER_STEP: usize = 16;

/// How far the sweep is, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    /// Stripes swept so far, over all passes.
    swept: u64,
    /// Dropped segments, with the value of `swept` at which no slot leads to them any more.
    dropped: Vec<(u64, Arc<Segment>)>,
}

impl Engine {
    /// Drops the segments of every bucket that has ended; returns how many.
    pub(crate) fn expire(&self, now: Timestamp) -> Result<u64> {
        let due = self.wheel.take_due(now);
        let dropped = if due.is_empty() { Vec::new() } else { self.drop_and_sweep(&due, now)? };
        if let Some(filter) = &self.filter {
            filter.drop_ended(now);
        }
        if dropped.is_empty() {
            return Ok(0);
        }
        let superseded = |segment: &Arc<Segment>| self.log.waste.of(segment.chunks()).superseded;
        self.compactor.lock().reclaimed += dropped.iter().map(superseded).sum::<u64>();
        let count = dropped.len() as u64;
        self.counters().segments_expired.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    /// Drops the segments, and hands them to the sweep.
    pub(crate) fn drop_and_sweep(
        &self,
        numbers: &[u64],
        now: Timestamp,
    ) -> Result<Vec<Arc<Segment>>> {
        let dropped = self.log.drop_segments(numbers, now).inspect_err(|_| {
            // They are due again at the next attempt.
            numbers.iter().for_each(|number| self.wheel.add(now, *number));
        })?;
        let mut sweeper = self.sweeper.lock();
        let until = sweeper.swept + self.index.stripe_count() as u64;
        sweeper.dropped.extend(dropped.iter().map(|segment| (until, segment.clone())));
        Ok(dropped)
    }

    /// Sweeps some stripes, if segments wait for it. Returns slots freed and whether more remain.
    pub(crate) fn sweep_step(&self) -> Result<(u64, bool)> {
        let mut sweeper = self.sweeper.lock();
        let mut freed = 0;
        for _ in 0..STRIPES_PER_STEP {
            if sweeper.dropped.is_empty() {
                break;
            }
            let stripe = usize::try_from(sweeper.swept).unwrap_or(0);
            freed += self.index.lock_stripe(stripe).sweep(|location| self.log.is_dead(location));
            sweeper.swept += 1;
            let swept = sweeper.swept;
            while let Some(at) = sweeper.dropped.iter().position(|(until, _)| *until <= swept) {
                let segment = &sweeper.dropped[at].1;
                if let Some(filter) = &self.filter {
                    filter.release(segment.chunks());
                }
                // Where the system refuses, the place is given back at a later step.
                self.log.free(segment)?;
                sweeper.dropped.swap_remove(at);
            }
        }
        Ok((freed, !sweeper.dropped.is_empty()))
    }
}
