//! A bounded slice of background work, run by the caller or by one optional thread.

use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::log::spares::Next;
use crate::stats::Maintained;
use crate::sys::clock;
use crate::time::Timestamp;
use crate::wheel;

/// The bucket that records of this lifetime, which go to the one ending at `ends`, move on to soon.
fn upcoming(ends: Timestamp, lifetime: u64, now: Timestamp) -> Option<Next> {
    let (next, width_ms, elapsed_ms) = wheel::upcoming(ends, lifetime, now)?;
    Some(Next { ends: next, width_ms, elapsed_ms })
}

impl Engine {
    /// Expires, sweeps, seals, compacts and prepares until `budget` is used up or nothing is left
    /// to do.
    ///
    /// At least one step of each kind of work is done, whatever the budget.
    pub(crate) fn maintain(&self, budget: Duration) -> Result<Maintained> {
        self.maintain_and(budget, true)
    }

    /// As [`Engine::maintain`]; seals and compacts only if asked to.
    pub(crate) fn maintain_and(&self, budget: Duration, seal: bool) -> Result<Maintained> {
        self.maintain_unjudged(budget, seal).map_err(|error| self.health.judge(error))
    }

    fn maintain_unjudged(&self, budget: Duration, seal: bool) -> Result<Maintained> {
        // First of all, as futures that wait learn of a failure by it as well.
        self.commit_step(self.clock.now())?;
        self.health.check_writable()?;
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        let until = clock::monotonic_millis().saturating_add(budget_ms);
        self.clock.follow_wall();
        let now = self.clock.now();
        self.waiters.wake_due(now);
        let mut done = Maintained::default();
        for ends in self.wheel.close_idle(now) {
            self.log.withdraw_bucket(Some(ends));
        }
        self.prepare_room(now)?;
        // A full disk may have taken none of them at open.
        self.renew_removals_with_room(now)?;
        done.segments_expired = self.expire(now)?;
        // What was sealed of a store whose records are never replaced stays as it is.
        let mut compact = seal && !self.config.write_once;
        loop {
            self.commit_step(now)?;
            if self.log.wants_spare() {
                // One may have come to be wanted during a long step.
                self.prepare_room(now)?;
            }
            let (freed, sweep_more) = self.sweep_step()?;
            done.slots_freed += freed;
            let sealed = seal && self.seal_step()?;
            done.segments_sealed += u64::from(sealed);
            // Once there is nothing to compact, only another sealed segment can change that.
            compact = (compact || sealed) && self.compact_step()?;
            let renewed = self.renew_filter_step()?;
            done.more = sweep_more || sealed || compact || renewed;
            if !done.more || clock::monotonic_millis() >= until {
                return Ok(done);
            }
        }
    }

    /// Prepares segments ahead of need, as far as there is room.
    fn prepare_room(&self, now: Timestamp) -> Result<()> {
        // Under this lock, as close() waits for it and then for nobody.
        let _compactor = self.compactor.lock();
        self.health.check_writable()?;
        // Room for new records first: one that waits for a segment is a caller waiting.
        let upcoming = |ends, lifetime| upcoming(ends, lifetime, now);
        let spares = self.log.prepare_ahead(&upcoming, now).map(|_| ());
        let kept = if self.config.write_once { Ok(()) } else { self.log.keep_for_removals(now) };
        for prepared in [spares, kept] {
            match prepared {
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Seals one segment, if one is complete.
    fn seal_step(&self) -> Result<bool> {
        let Some(segment) = self.log.sealable() else {
            return Ok(false);
        };
        match self.log.seal(&segment, &self.hasher, self.clock.now()) {
            Ok(()) => Ok(true),
            // Without room for the run the segment stays as it is, and is scanned at open.
            Err(Error::Full { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the store: seals, syncs and says so in the manifest. False if it was closed before.
    pub(crate) fn close(&self) -> Result<bool> {
        let poisoned = self.health.check_writable();
        if !self.health.close() {
            return Ok(false);
        }
        poisoned?;
        // Calls check again once they hold their stripe: after this no call can write.
        for stripe in 0..self.index.stripe_count() {
            drop(self.index.lock_stripe(stripe));
        }
        self.waiters.wake_all();
        // A step of compaction goes on to its end; the next one sees that the store is closed.
        let _compactor = self.compactor.lock();
        // Whoever still waits for stable storage is served by this.
        self.settle_all()?;
        self.log.close(&self.hasher, self.clock.now()).map_err(|error| self.health.judge(error))?;
        Ok(true)
    }
}
