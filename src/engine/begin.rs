//! The claim: who may work on a key, decided under the lock of its stripe.
//!
//! Taking over an overdue key is the same step as claiming a new one, so of any number of callers
//! exactly one gets it. The fingerprint is compared before the status is looked at: a request that
//! is not the same never waits for, and never sees, the outcome of another.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::engine::lookup::Lookup;
use crate::engine::seen::Seen;
use crate::error::{Error, Result};
use crate::format::record::Kind;
use crate::format::state::State;
use crate::index::search::Search;
use crate::meta::{Meta, Status};
use crate::policy::{Anchor, Terms};
use crate::record::{Own, Record};
use crate::time::{Timestamp, expiry};
use crate::version::Version;

/// The answer to a `begin`.
#[derive(Debug)]
pub(crate) enum Begun {
    Started(Grant),
    InProgress(Meta),
    Completed(Record),
    Mismatch(Meta),
    Unknown(Meta),
    Exhausted(Meta),
}

/// What a lease consists of.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) version: Version,
    pub(crate) attempt: u32,
    pub(crate) first_seen: Timestamp,
    pub(crate) deadline: Timestamp,
    /// The latest checkpoint of earlier attempts; empty if there was none.
    pub(crate) point: Vec<u8>,
}

impl Engine {
    /// What a `begin` without options of its own asks for; `None` where that is an error.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    /// Claims the key, or says what stands against it.
    pub(crate) fn begin(&self, full: FullKey<'_>, terms: &Terms, now: Timestamp) -> Result<Begun> {
        self.health.check_writable()?;
        let search = self.index.search(full.hash);
        if let Some(search) = &search
            && let Some(record) = self.completed_before(search, full, terms, now)
        {
            return Ok(Begun::Completed(record));
        }
        let absent = search.filter(Search::is_conclusive);
        let born = self.born(full);
        let mut stripe = self.index.lock(full.hash);
        // Again under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = match &absent {
            Some(search) if stripe.is_as_in(search) => Lookup::NONE,
            _ => self.find_marked(&stripe, full.hash, full.bytes, full.marks)?,
        };
        let known = self.known(&lookup, now)?;
        if let Some(known) = &known {
            if known.status.is_final() && !is_mismatch(known, terms) {
                let seen = Seen { anchor: terms.anchor, retention_ms: terms.retention_ms, now };
                let found = self.hand_over_seen(&mut stripe, full, &lookup, known, seen, &mut Own);
                let damaged = || self.log.corrupt(0, 0, "a completed record has no outcome");
                return found?.flatten().map(Begun::Completed).ok_or_else(damaged);
            }
            if let Some(refusal) = refusal(known, terms, now) {
                return Ok(refusal);
            }
        }
        if known.is_none() {
            refuse_stale(terms.sent_at, born, terms.retention_ms, now)?;
        }
        let point = known.map(|known| known.point()).unwrap_or_default();
        let before = known.map(|known| known.state);
        let deadline = expiry(now, terms.lease_ms);
        // At least as long as the record it follows, which would count again otherwise.
        let floor = known.map_or(deadline, |known| known.view.header.expires.max(deadline));
        let state = State {
            deadline,
            first_seen: before.map_or(now, |before| before.first_seen),
            token: None,
            retention_ms: terms.retention_ms,
            fingerprint: before.and_then(|before| before.fingerprint).or(terms.fingerprint),
            attempts: before.map_or(0, |before| before.attempts).saturating_add(1),
            on_abandon: terms.on_abandon,
            anchor: terms.anchor,
            outcome_ms: terms.outcome_ms,
            on_long_outcome: terms.on_long_outcome,
            mark_only: false,
        };
        let next = Next {
            kind: Kind::Started,
            state: Some(state),
            outcome: &point,
            now,
            expires: state.expires(now).max(floor),
            lifetime_ms: terms.anchor.lifetime_ms(terms.retention_ms),
            room: terms.room,
        };
        let before = Before::of(&lookup).unseen_by(absent.as_ref());
        let version = self.write_next(&mut stripe, full, &before, &next)?;
        drop(stripe);
        self.count(full, |counters| &counters.started);
        let State { attempts: attempt, first_seen, .. } = state;
        Ok(Begun::Started(Grant { version, attempt, first_seen, deadline, point }))
    }
}

impl Engine {
    /// The record of a key whose outcome stands, if a search without the lock has led to it.
    ///
    /// `None` says nothing. The lock is for what a look does not decide: fingerprints that may
    /// differ, records that are prolonged when they are seen, outcomes that end.
    fn completed_before(
        &self,
        search: &Search<'_>,
        full: FullKey<'_>,
        terms: &Terms,
        now: Timestamp,
    ) -> Option<Record> {
        if !search.has_match() || terms.anchor == Anchor::LastSeen {
            return None;
        }
        let replay = self.log.glance_wide(search.location()?, full.bytes, full.marks)?;
        if terms.fingerprint.is_some() && replay.meta.has_fingerprint {
            return None;
        }
        Self::hand_over_glanced(search, &replay, now, &mut Own).flatten()
    }
}

/// Refuses a key that is not known if it may have been known and forgotten.
///
/// The horizon is the later of the namespace's birth and now minus the lifetime: whatever was
/// first sent since then, and handled, is remembered.
pub(crate) fn refuse_stale(
    sent_at: Option<Timestamp>,
    born: Timestamp,
    lifetime_ms: u64,
    now: Timestamp,
) -> Result<()> {
    let remembered = Timestamp::from_millis(now.as_millis().saturating_sub(lifetime_ms));
    let horizon = born.max(remembered);
    match sent_at {
        Some(sent) if sent < horizon => Err(Error::Stale { horizon_ms: horizon.as_millis() }),
        _ => Ok(()),
    }
}

/// True for another request with the same key.
fn is_mismatch(known: &Known<'_>, terms: &Terms) -> bool {
    let (first, given) = (known.state.fingerprint, terms.fingerprint);
    first.zip(given).is_some_and(|(first, given)| first != given)
}

/// Why a known key without an outcome is not to be had; `None` if it is.
fn refusal(known: &Known<'_>, terms: &Terms, now: Timestamp) -> Option<Begun> {
    if is_mismatch(known, terms) {
        return Some(Begun::Mismatch(known.meta()));
    }
    let used_up = known.state.attempts >= terms.attempts_max;
    match known.status {
        // Answered before.
        Status::Completed | Status::Failed => None,
        Status::InProgress => Some(Begun::InProgress(known.meta())),
        Status::Unknown => Some(Begun::Unknown(known.meta())),
        Status::Overdue | Status::Released if used_up => Some(Begun::Exhausted(known.meta())),
        Status::Released if now < known.state.deadline => Some(Begun::InProgress(known.meta())),
        Status::Overdue | Status::Released => None,
    }
}
