//! A key's next outcome, if what is known of the key is still what the caller has seen.
//!
//! Comparing the version and writing the record are one step under the stripe's lock, and what is
//! written is one record: after a crash the key has the old outcome or the new one. The bytes of
//! the old outcome are not looked at here, so no code of a caller runs under the lock: it reads,
//! computes, and comes with the version that it has read.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::error::Result;
use crate::format::record::Kind;
use crate::format::state::State;
use crate::options::Kept;
use crate::time::{Timestamp, expiry};
use crate::version::Version;

impl Engine {
    /// Records the outcome, if the key's outcome stands and has the expected version or, where none
    /// is expected, if nothing is known of the key. The version of the new record, or `None` if
    /// nothing was changed.
    ///
    /// Without a lifetime the key ends when it would have ended; a new one is kept as the policy
    /// says.
    pub(crate) fn set_if(
        &self,
        full: FullKey<'_>,
        expected: Option<Version>,
        outcome: &[u8],
        (lifetime_ms, kept): (Option<u64>, Kept),
        now: Timestamp,
    ) -> Result<Option<Version>> {
        self.config.limits.check_outcome(outcome)?;
        let mut stripe = self.index.lock(full.hash);
        // Under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let known = self.known(&lookup, now)?;
        let terms = (lifetime_ms, kept);
        let Some(next) = next_if(known.as_ref(), expected, outcome, terms, now) else {
            return Ok(None);
        };
        let version = self.write_next(&mut stripe, full, &Before::of(&lookup), &next)?;
        drop(stripe);
        self.count(full, |counters| &counters.set);
        Ok(Some(version))
    }
}

/// A key that was begun has no outcome that could be expected, and is not unknown either.
fn is_as_expected(known: Option<&Known<'_>>, expected: Option<Version>) -> bool {
    match (known, expected) {
        (None, None) => true,
        (Some(known), Some(version)) => known.status.is_final() && known.version() == version,
        _ => false,
    }
}

/// The record that sets the outcome; `None` if the key is not as expected.
pub(crate) fn next_if<'a>(
    known: Option<&Known<'_>>,
    expected: Option<Version>,
    outcome: &'a [u8],
    (lifetime_ms, kept): (Option<u64>, Kept),
    now: Timestamp,
) -> Option<Next<'a>> {
    if !is_as_expected(known, expected) {
        return None;
    }
    let lifetime = lifetime_ms.unwrap_or(kept.retention_ms);
    let expires = match (known, lifetime_ms) {
        (Some(known), None) => known.view.header.expires,
        // At least as long as the record it follows, which would count again otherwise.
        (Some(known), Some(_)) => expiry(now, lifetime).max(known.view.header.expires),
        (None, _) => expiry(now, lifetime),
    };
    let new = || State { outcome_ms: kept.outcome_ms, ..State::of_unleased(now) };
    let state = match known {
        Some(known) => known.view.state().map(|state| State { mark_only: false, ..state }),
        None => Some(new()).filter(State::outcome_ends),
    };
    let (kind, lifetime_ms, room) = (Kind::Completed, lifetime, kept.room);
    Some(Next { kind, state, outcome, now, expires, lifetime_ms, room })
}
