//! Checks and lookups of keys in a namespace, which need no lease.
//!
//! The same decisions as in `check` and `lookup`, without what makes those fast for the keys
//! outside of any namespace.

use crate::engine::Engine;
use crate::engine::begin::refuse_stale;
use crate::engine::claim::{Before, FullKey, Next, admit_check};
use crate::engine::lookup::hand_over_at;
use crate::error::Result;
use crate::format::record::Kind;
use crate::format::state::State;
use crate::policy::Room;
use crate::record::Receive;
use crate::time::{Timestamp, expiry};

/// How long a check's record is kept, and how old its request may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) lifetime_ms: u64,
    /// How long the outcome is replayed; zero for as long as the key is known.
    pub(crate) outcome_ms: u64,
    pub(crate) sent_at: Option<Timestamp>,
    /// What a new key may take.
    pub(crate) room: Room,
}

impl Engine {
    /// Records the key unless it is known; true when it was new. A duplicate goes to `receive`.
    pub(crate) fn check_full(
        &self,
        full: FullKey<'_>,
        outcome: &[u8],
        kept: Kept,
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        self.config.limits.check_outcome(outcome)?;
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        if let Some(view) = lookup.record.as_ref().filter(|_| lookup.live(now).is_some()) {
            hand_over_at(view, now, receive);
            drop(stripe);
            self.count(full, |counters| &counters.duplicate);
            return Ok(false);
        }
        let Kept { lifetime_ms, outcome_ms, sent_at, room } = kept;
        if self.known(&lookup, now)?.is_none() {
            refuse_stale(sent_at, self.born(full), lifetime_ms, now)?;
        }
        let expires = match &lookup.record {
            Some(view) => admit_check(view, now, expiry(now, lifetime_ms))?,
            None => expiry(now, lifetime_ms),
        };
        let state = State { outcome_ms, ..State::of_unleased(now) };
        let state = (outcome_ms != 0).then_some(state);
        let kind = Kind::Completed;
        let next = Next { kind, state, outcome, now, expires, lifetime_ms, room };
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
        let Some(view) = lookup.record.as_ref().filter(|_| lookup.live(now).is_some()) else {
            return Ok(false);
        };
        hand_over_at(view, now, receive);
        Ok(true)
    }
}
