//! Checks and lookups of keys in a namespace, which need no lease.
//!
//! The same decisions as in `check` and `lookup`, without what makes those fast for the keys
//! outside of any namespace.

use crate::engine::Engine;
use crate::engine::begin::refuse_stale;
use crate::engine::claim::{Before, FullKey, Next, admit_check};
use crate::engine::lookup::Lookup;
use crate::engine::seen::Seen;
use crate::error::Result;
use crate::format::record::Kind;
use crate::format::state::State;
use crate::options::Kept;
use crate::policy::LongOutcomePolicy;
use crate::record::{Mark, OutcomeGone, Receive};
use crate::time::{Timestamp, expiry};

impl Engine {
    /// Records the key unless it is known.
    pub(crate) fn check_full<R: Receive>(
        &self,
        full: FullKey<'_>,
        outcome: &[u8],
        kept: Kept,
        now: Timestamp,
        receive: &mut R,
    ) -> Result<R::Answer> {
        let mark = self.mark_of_long(outcome);
        if mark.is_some() && kept.on_long_outcome == LongOutcomePolicy::Refuse {
            self.config.limits.check_outcome(outcome)?;
        }
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let Kept { retention_ms, anchor, .. } = kept;
        let known = self.known(&lookup, now)?;
        if let Some(known) = known.as_ref().filter(|known| known.status.is_final()) {
            let seen = Seen { anchor, retention_ms, now };
            let answer = self.hand_over_seen(&mut stripe, full, &lookup, known, seen, receive)?;
            let damaged = || self.log.corrupt(0, 0, "a completed record has no outcome");
            let answer = answer.ok_or_else(damaged)?;
            drop(stripe);
            self.count(full, |counters| &counters.duplicate);
            return Ok(answer);
        }
        let next = self.next_new(full, &lookup, (outcome, mark.as_ref()), kept, now)?;
        self.write_next(&mut stripe, full, &Before::of(&lookup), &next)?;
        drop(stripe);
        self.waiters.wake(full.hash);
        self.count(full, |counters| &counters.new);
        Ok(receive.nothing())
    }

    /// The first record of a key whose outcome does not stand.
    ///
    /// # Errors
    /// What a check answers of a key that is in progress, whose effect is unknown, or that may have
    /// been forgotten.
    pub(crate) fn next_new<'a>(
        &self,
        full: FullKey<'_>,
        lookup: &Lookup<'_>,
        (outcome, mark): (&'a [u8], Option<&'a Mark>),
        kept: Kept,
        now: Timestamp,
    ) -> Result<Next<'a>> {
        let Kept { retention_ms, anchor, outcome_ms, sent_at, room, .. } = kept;
        if self.known(lookup, now)?.is_none() {
            refuse_stale(sent_at, self.born(full), retention_ms, now)?;
        }
        let lifetime_ms = anchor.lifetime_ms(retention_ms);
        let expires = match &lookup.record {
            Some(view) => admit_check(view, now, expiry(now, lifetime_ms))?,
            None => expiry(now, lifetime_ms),
        };
        let mark_only = mark.is_some();
        let state = State { outcome_ms, mark_only, ..State::of_unleased(now) };
        let state = state.outcome_ends().then_some(state);
        let (kind, outcome) = (Kind::Completed, mark.map_or(outcome, |mark| &mark[..]));
        Ok(Next { kind, state, outcome, now, expires, lifetime_ms, room })
    }

    /// What is kept of an outcome that is longer than the store takes.
    pub(crate) fn mark_of_long(&self, outcome: &[u8]) -> Option<Mark> {
        let is_long = outcome.len() > self.config.limits.outcome_bytes_max;
        is_long.then(|| OutcomeGone::of(outcome).encode())
    }

    /// Reads a key's live record.
    pub(crate) fn get_full<R: Receive>(
        &self,
        full: FullKey<'_>,
        now: Timestamp,
        receive: &mut R,
    ) -> Result<R::Answer> {
        self.health.check_readable()?;
        if self.is_unseen(full.hash) {
            return Ok(receive.nothing());
        }
        let stripe = self.index.lock(full.hash);
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let answer = lookup.hand_over_live(now, receive);
        Ok(answer.unwrap_or_else(|| receive.nothing()))
    }
}
