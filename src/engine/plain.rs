//! Checks and lookups of keys in a namespace, which need no lease.
//!
//! The same decisions as in `check` and `lookup`, without what makes those fast for the keys
//! outside of any namespace.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Next, admit_check};
use crate::engine::lookup::hand_over;
use crate::error::Result;
use crate::format::record::Kind;
use crate::record::Receive;
use crate::time::{Timestamp, expiry};

impl Engine {
    /// Records the key unless it is known; true when it was new. A duplicate goes to `receive`.
    pub(crate) fn check_full(
        &self,
        full: FullKey<'_>,
        outcome: &[u8],
        lifetime_ms: u64,
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        self.config.limits.check_outcome(outcome)?;
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        if let Some(replay) = lookup.live(now) {
            hand_over(&replay, receive);
            drop(stripe);
            self.count(full, |counters| &counters.duplicate);
            return Ok(false);
        }
        let expires = match &lookup.record {
            Some(view) => admit_check(view, now, expiry(now, lifetime_ms))?,
            None => expiry(now, lifetime_ms),
        };
        let next = Next { kind: Kind::Completed, state: None, outcome, now, expires, lifetime_ms };
        self.write_next(&mut stripe, full, &Before::of(&lookup), &next)?;
        drop(stripe);
        self.waiters.wake(full.hash);
        self.count(full, |counters| &counters.new);
        Ok(true)
    }

    /// Reads a key's live record into `receive`; true if there is one.
    pub(crate) fn get_full(
        &self,
        full: FullKey<'_>,
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        self.health.check_readable()?;
        let stripe = self.index.lock(full.hash);
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let Some(replay) = lookup.live(now) else {
            return Ok(false);
        };
        hand_over(&replay, receive);
        Ok(true)
    }
}
