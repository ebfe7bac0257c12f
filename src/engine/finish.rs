//! The ends of a lease: complete, fail, release; and renewing it, resolving and removing a key.
//!
//! A lease is known by its token, the version of the record that its `begin` wrote. A renewal
//! carries the token on, so that one attempt has one token however often it is renewed. Whoever
//! comes with another token changes nothing.

use std::sync::atomic::AtomicU64;

use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::engine::{Counters, Engine};
use crate::error::{Error, Result};
use crate::format::record::Kind;
use crate::format::state::State;
use crate::index::stripe::StripeGuard;
use crate::meta::{Meta, Status};
use crate::record::RecordMeta;
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
        if let Ending::Complete(bytes) | Ending::Fail(bytes) | Ending::Checkpoint(_, bytes) = ending
        {
            self.config.limits.check_outcome(bytes)?;
        }
        let mut stripe = self.index.lock(full.hash);
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let known = self.known(&lookup, now)?.ok_or(Error::LeaseLost)?;
        if known.view.header.kind != Kind::Started || known.version() != token {
            return Err(Error::LeaseLost);
        }
        let written = self.end(&mut stripe, full, (&Before::of(&lookup), &known), ending, now)?;
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
        if let Ending::Complete(outcome) | Ending::Fail(outcome) = ending {
            self.config.limits.check_outcome(outcome)?;
        }
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
        self.end(&mut stripe, full, (&Before::of(&lookup), &known), ending, now)?;
        drop(stripe);
        self.waiters.wake(full.hash);
        Ok(true)
    }

    /// Writes the record that ends or renews the lease which `known` is of.
    fn end(
        &self,
        stripe: &mut StripeGuard<'_>,
        full: FullKey<'_>,
        (before, known): (&Before<'_>, &Known<'_>),
        ending: Ending<'_>,
        now: Timestamp,
    ) -> Result<Written> {
        // What neither ends the work nor says how far it is leaves the point where it was.
        let point = match ending {
            Ending::Release(_) | Ending::Renew(_) => known.point(),
            _ => Vec::new(),
        };
        let (kind, outcome, deadline, counter): (_, _, _, fn(&Counters) -> &AtomicU64) =
            match ending {
                Ending::Complete(outcome) => {
                    (Kind::Completed, outcome, Timestamp::default(), |counters| &counters.completed)
                }
                Ending::Fail(outcome) => {
                    (Kind::Failed, outcome, Timestamp::default(), |counters| &counters.failed)
                }
                Ending::Release(after) => {
                    (Kind::Released, &point[..], expiry(now, after), |counters| &counters.released)
                }
                Ending::Renew(lease) => {
                    (Kind::Started, &point[..], expiry(now, lease), |counters| &counters.renewed)
                }
                Ending::Checkpoint(lease, point) => {
                    (Kind::Started, point, expiry(now, lease), |counters| &counters.renewed)
                }
            };
        let state = State { deadline, token: Some(known.version()), ..known.state };
        // At least as long as the record it follows, which would count again otherwise.
        let floor = known.view.header.expires.max(deadline);
        let retention = known.state.retention_ms;
        let expires = state.expires(now).max(floor);
        let next = Next { kind, state: Some(state), outcome, now, expires, lifetime_ms: retention };
        let version = self.write_next(stripe, full, before, &next)?;
        self.count(full, counter);
        let meta = RecordMeta {
            version,
            created: now,
            expires,
            first_seen: state.first_seen,
            attempts: state.attempts,
            failed: kind == Kind::Failed,
            has_fingerprint: state.fingerprint.is_some(),
            gone: false,
        };
        Ok(Written { meta, deadline })
    }

    /// What is known of the key.
    pub(crate) fn peek(&self, full: FullKey<'_>, now: Timestamp) -> Result<Option<Meta>> {
        self.health.check_readable()?;
        let stripe = self.index.lock(full.hash);
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        Ok(self.known(&lookup, now)?.map(|known| known.meta()))
    }
}
