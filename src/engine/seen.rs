//! Duplicates that prolong what they find, where lifetimes count from when a key was last seen.
//!
//! A record is kept for an eighth longer than the retention, and written anew by the first
//! duplicate that finds less than the retention left. So however often a key is seen, it is
//! written at most eight times in its retention, and is remembered at least that long after every
//! single sight.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::engine::lookup::{Lookup, hand_over_as};
use crate::error::{Error, Result};
use crate::format::state::{STATE_BYTES, State};
use crate::index::stripe::StripeGuard;
use crate::policy::{Anchor, Room};
use crate::record::{OutcomeGone, Receive, RecordMeta};
use crate::time::{Timestamp, expiry};

/// A key was seen, by a call with this policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) anchor: Anchor,
    pub(crate) retention_ms: u64,
    pub(crate) now: Timestamp,
}

impl Seen {
    /// True if a record that ends then would be forgotten too early.
    fn prolongs(&self, expires: Timestamp) -> bool {
        self.anchor == Anchor::LastSeen && expires < expiry(self.now, self.retention_ms)
    }
}

impl Engine {
    /// Answers a duplicate with what is known, and prolongs that where it was seen.
    pub(crate) fn hand_over_seen<R: Receive>(
        &self,
        stripe: &mut StripeGuard<'_>,
        full: FullKey<'_>,
        lookup: &Lookup<'_>,
        known: &Known<'_>,
        seen: Seen,
        receive: &mut R,
    ) -> Result<Option<R::Answer>> {
        let mut meta = known.view.meta();
        if seen.prolongs(meta.expires) {
            match self.refresh(stripe, full, lookup, known, seen) {
                Ok(refreshed) => {
                    self.count(full, |counters| &counters.refreshed);
                    meta = refreshed;
                }
                // What is known is answered also where there is no room to remember it longer.
                Err(Error::Full { .. }) => self.count(full, |counters| &counters.refresh_missed),
                Err(error) => return Err(error),
            }
        }
        Ok(hand_over_as(known.view, seen.now, meta, receive))
    }

    /// Writes a key's outcome again, to be kept for longer; nothing else of it changes.
    fn refresh(
        &self,
        stripe: &mut StripeGuard<'_>,
        full: FullKey<'_>,
        lookup: &Lookup<'_>,
        known: &Known<'_>,
        seen: Seen,
    ) -> Result<RecordMeta> {
        let view = known.view;
        let meta = view.meta();
        let mut payload = Vec::new();
        view.copy_payload(&mut payload);
        let skipped = if view.state().is_some() { STATE_BYTES } else { 0 };
        let mut outcome = payload.get(skipped..).unwrap_or_default();
        let mut state = State { deadline: meta.created, ..known.state };
        let mark;
        if known.gone && !state.mark_only {
            mark = OutcomeGone::of(outcome).encode();
            state.mark_only = true;
            outcome = &mark;
        }
        let lifetime_ms = seen.anchor.lifetime_ms(seen.retention_ms);
        let expires = expiry(seen.now, lifetime_ms);
        let (kind, now, room) = (view.header.kind, seen.now, Room::default());
        let next = Next { kind, state: Some(state), outcome, now, expires, lifetime_ms, room };
        let version = self.write_next(stripe, full, &Before::of(lookup), &next)?;
        Ok(RecordMeta { version, expires, ..meta })
    }
}
