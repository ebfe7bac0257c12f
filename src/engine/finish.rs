//! The ends of a lease: complete, fail, release; and renewing it, resolving and removing a key.
//!
//! A lease is known by its token, the version of the record that its `begin` wrote. A renewal
//! carries the token on, so that one attempt has one token however often it is renewed. Whoever
//! comes with another token changes nothing.

use crate::sys::sync::atomic::AtomicU64;

use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::engine::{Counters, Engine};
use crate::error::{Error, Result};
use crate::format::record::Kind;
use crate::format::state::State;
use crate::index::stripe::StripeGuard;
use crate::meta::{Meta, Status};
use crate::policy::{LongOutcomePolicy, Room};
use crate::record::{Mark, RecordMeta};
use crate::time::{Timestamp, expiry};
use crate::version::Version;

/// What becomes of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending<'a> {
    Complete(&'a [u8]),
    Fail(&'a [u8]),
    /// Free to be begun after so many milliseconds.
    Release(u64),
    /// Held for so many milliseconds from now on.
    Renew(u64),
    /// The same, with the point that the work has come to.
    Checkpoint(u64, &'a [u8]),
}

impl<'a> Ending<'a> {
    fn outcome(self) -> Option<&'a [u8]> {
        match self {
            Self::Complete(outcome) | Self::Fail(outcome) => Some(outcome),
            Self::Checkpoint(..) | Self::Release(_) | Self::Renew(_) => None,
        }
    }
}

/// An ending, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) ending: Ending<'a>,
    /// What is kept of an outcome that is too long.
    pub(crate) mark: Option<&'a Mark>,
    pub(crate) now: Timestamp,
}

/// The record that an ending is to write, and what it counts as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) next: Next<'a>,
    deadline: Timestamp,
    counter: fn(&Counters) -> &AtomicU64,
}

/// What was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) meta: RecordMeta,
    pub(crate) deadline: Timestamp,
}

impl Engine {
    /// Ends or renews the lease with this token.
    ///
    /// # Errors
    /// `LeaseLost` if the key's current lease has another token, or if it has none.
    pub(crate) fn finish(
        &self,
        full: FullKey<'_>,
        token: Version,
        ending: Ending<'_>,
        now: Timestamp,
    ) -> Result<Written> {
        if let Ending::Checkpoint(_, point) = ending {
            self.config.limits.check_outcome(point)?;
        }
        let mark = ending.outcome().and_then(|outcome| self.mark_of_long(outcome));
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let known = self.known(&lookup, now)?.ok_or(Error::LeaseLost)?;
        if known.view.header.kind != Kind::Started || known.version() != token {
            return Err(Error::LeaseLost);
        }
        let ends = Ends { ending, mark: self.admit_mark(&known, ending, mark.as_ref())?, now };
        let written = self.end(&mut stripe, full, (&Before::of(&lookup), &known), ends)?;
        drop(stripe);
        if !matches!(ending, Ending::Renew(_) | Ending::Checkpoint(..)) {
            self.waiters.wake(full.hash);
        }
        Ok(written)
    }

    /// Settles a key that was begun and is held by nobody; false if there is nothing to settle.
    pub(crate) fn resolve(
        &self,
        full: FullKey<'_>,
        ending: Ending<'_>,
        now: Timestamp,
    ) -> Result<bool> {
        let mark = ending.outcome().and_then(|outcome| self.mark_of_long(outcome));
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let Some(known) = self.known(&lookup, now)? else {
            return Ok(false);
        };
        match known.status {
            Status::InProgress => {
                let deadline_ms = known.state.deadline.as_millis();
                return Err(Error::InProgress { deadline_ms });
            }
            Status::Completed | Status::Failed => return Ok(false),
            Status::Overdue | Status::Unknown | Status::Released => {}
        }
        let ends = Ends { ending, mark: self.admit_mark(&known, ending, mark.as_ref())?, now };
        self.end(&mut stripe, full, (&Before::of(&lookup), &known), ends)?;
        drop(stripe);
        self.waiters.wake(full.hash);
        Ok(true)
    }

    /// Lets a key that was begun so be recorded without an outcome that is too long.
    pub(crate) fn admit_mark<'m>(
        &self,
        known: &Known<'_>,
        ending: Ending<'_>,
        mark: Option<&'m Mark>,
    ) -> Result<Option<&'m Mark>> {
        if let (Some(outcome), LongOutcomePolicy::Refuse) =
            (ending.outcome(), known.state.on_long_outcome)
        {
            self.config.limits.check_outcome(outcome)?;
        }
        Ok(mark)
    }

    /// Writes the record that ends or renews the lease which `known` is of.
    fn end(
        &self,
        stripe: &mut StripeGuard<'_>,
        full: FullKey<'_>,
        (before, known): (&Before<'_>, &Known<'_>),
        ends: Ends<'_>,
    ) -> Result<Written> {
        // What neither ends the work nor says how far it is leaves the point where it was.
        let point = match ends.ending {
            Ending::Release(_) | Ending::Renew(_) => known.point(),
            _ => Vec::new(),
        };
        let Ended { next, deadline, counter } = ended(known, ends, &point);
        let version = self.write_next(stripe, full, before, &next)?;
        self.count(full, counter);
        let meta = RecordMeta {
            version,
            created: next.now,
            expires: next.expires,
            first_seen: known.state.first_seen,
            attempts: known.state.attempts,
            failed: next.kind == Kind::Failed,
            has_fingerprint: known.state.fingerprint.is_some(),
            gone: ends.mark.is_some(),
        };
        Ok(Written { meta, deadline })
    }

    /// What is known of the key.
    pub(crate) fn peek(&self, full: FullKey<'_>, now: Timestamp) -> Result<Option<Meta>> {
        self.health.check_readable()?;
        if self.is_unseen(full.hash) {
            return Ok(None);
        }
        let stripe = self.index.lock(full.hash);
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        Ok(self.known(&lookup, now)?.map(|known| known.meta()))
    }
}

/// The record that ends or renews the lease which `known` is of; `point` is where its work stands.
pub(crate) fn ended<'a>(known: &Known<'_>, ends: Ends<'a>, point: &'a [u8]) -> Ended<'a> {
    let Ends { ending, mark, now } = ends;
    let (kind, outcome, deadline, counter): (_, _, _, fn(&Counters) -> &AtomicU64) = match ending {
        Ending::Complete(outcome) => {
            (Kind::Completed, outcome, Timestamp::default(), |counters| &counters.completed)
        }
        Ending::Fail(outcome) => {
            (Kind::Failed, outcome, Timestamp::default(), |counters| &counters.failed)
        }
        Ending::Release(after) => {
            (Kind::Released, point, expiry(now, after), |counters| &counters.released)
        }
        Ending::Renew(lease) => {
            (Kind::Started, point, expiry(now, lease), |counters| &counters.renewed)
        }
        Ending::Checkpoint(lease, point) => {
            (Kind::Started, point, expiry(now, lease), |counters| &counters.renewed)
        }
    };
    let (outcome, mark_only) = (mark.map_or(outcome, |mark| &mark[..]), mark.is_some());
    let state = State { deadline, token: Some(known.version()), mark_only, ..known.state };
    // At least as long as the record it follows, which would count again otherwise.
    let floor = known.view.header.expires.max(deadline);
    let expires = state.expires(now).max(floor);
    let lifetime_ms = state.anchor.lifetime_ms(known.state.retention_ms);
    let room = Room::default();
    let next = Next { kind, state: Some(state), outcome, now, expires, lifetime_ms, room };
    Ended { next, deadline, counter }
}
