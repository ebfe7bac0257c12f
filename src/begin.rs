//! The answers to a `begin`, and waiting for the one that somebody else is working on.

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::claim::{FullKey, OwnedKey};
#[cfg(feature = "async")]
use crate::engine::waiters::Registration;
#[cfg(feature = "async")]
use crate::error::Error;
use crate::error::Result;
use crate::lease::Lease;
use crate::meta::Meta;
use crate::policy::Terms;
use crate::record::Record;
use crate::sys::clock;
#[cfg(feature = "async")]
use crate::ticket::Ticket;
use crate::time::Timestamp;

/// What `begin` found.
///
/// Exhaustive on purpose: a caller decides about each of these.
#[derive(Debug)]
#[must_use = "the answer says whether to work, to wait, or to replay an outcome"]
pub enum Begin {
    /// The key is the caller's to work on.
    Started(Lease),
    /// Somebody else is working on it, or it was released for later.
    InProgress(InProgress),
    /// The work is done; a stored failure is a completed record that says so, and so is one whose
    /// outcome is [gone](Record::outcome_gone).
    Completed(Record),
    /// The key was begun with another fingerprint: this is not the same request.
    Mismatch(Meta),
    /// A lease on the key ran out, its effect is unknown, and the policy says to hold it until
    /// [`Store::resolve`](crate::Store::resolve).
    Unknown(Meta),
    /// The key could be begun, but its attempts are used up.
    Exhausted(Meta),
}

impl Begin {
    /// The lease, if the key is the caller's.
    #[must_use]
    pub fn started(self) -> Option<Lease> {
        match self {
            Self::Started(lease) => Some(lease),
            _ => None,
        }
    }

    /// The same answer, of which the handles keep to this level.
    #[cfg(feature = "async")]
    pub(crate) fn at(mut self, level: Durability) -> Self {
        match &mut self {
            Self::Started(lease) => lease.set_durability(level),
            Self::InProgress(other) => other.durability = level,
            _ => {}
        }
        self
    }

    /// The record, if the work is done.
    #[must_use]
    pub fn completed(self) -> Option<Record> {
        match self {
            Self::Completed(record) => Some(record),
            _ => None,
        }
    }
}

/// Begins a full key, and makes handles of the answer once it is as durable as asked for.
pub(crate) fn begin_full(
    engine: &Arc<Engine>,
    full: FullKey<'_>,
    terms: &Terms,
    now: Timestamp,
    durability: Durability,
) -> Result<Begin> {
    if !durability.is_synced() {
        return begin_unsettled(engine, full, terms, now, durability);
    }
    let answer = begin_unsettled(engine, full, terms, now, durability);
    engine.settled(durability, full.hash, answer)
}

/// As [`begin_full`]; whoever calls it sees to durability.
pub(crate) fn begin_unsettled(
    engine: &Arc<Engine>,
    full: FullKey<'_>,
    terms: &Terms,
    now: Timestamp,
    durability: Durability,
) -> Result<Begin> {
    Ok(match engine.begin(full, terms, now)? {
        Begun::Started(grant) => {
            let key = full.to_owned();
            Begin::Started(Lease::new(engine.clone(), key, grant, terms.on_drop, durability))
        }
        Begun::InProgress(meta) => Begin::InProgress(InProgress {
            engine: engine.clone(),
            key: full.to_owned(),
            terms: *terms,
            meta,
            durability,
        }),
        Begun::Completed(record) => Begin::Completed(record),
        Begun::Mismatch(meta) => Begin::Mismatch(meta),
        Begun::Unknown(meta) => Begin::Unknown(meta),
        Begun::Exhausted(meta) => Begin::Exhausted(meta),
    })
}

/// A key that somebody else is working on, and what this caller wanted of it.
pub struct InProgress {
    engine: Arc<Engine>,
    key: OwnedKey,
    terms: Terms,
    meta: Meta,
    durability: Durability,
}

impl InProgress {
    /// What is known of the key.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// When the lease ends, unless it is renewed; of a released key, when it can be begun.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.meta.deadline.unwrap_or_default()
    }

    /// How long until then, by the store's time: what a server answers to its client.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let now = self.engine.clock.now().as_millis();
        Duration::from_millis(self.deadline().as_millis().saturating_sub(now))
    }

    /// Waits until the key is not in progress any more and begins again, with the same options.
    ///
    /// Woken by completion, failure, release, removal, and the end of the lease. Of several who
    /// wait for one key, one gets it where it was released or its lease ran out; the others go on
    /// waiting. `timeout` is measured by the system's monotonic clock; when it is over, the answer
    /// is [`Begin::InProgress`] again. With a clock of your own, its moves are noticed by
    /// [`maintain`](crate::Store::maintain).
    ///
    /// # Errors
    /// As [`Store::begin`](crate::Store::begin).
    pub fn wait(self, timeout: Duration) -> Result<Begin> {
        let end = Duration::from_millis(clock::monotonic_millis()).saturating_add(timeout);
        let full = self.key.full();
        let registration = self.engine.waiters.register(full.hash);
        loop {
            registration.arm();
            let now = self.engine.clock.now();
            let answer = begin_full(&self.engine, full, &self.terms, now, self.durability)?;
            let Begin::InProgress(latest) = answer else {
                return Ok(answer);
            };
            registration.expect(latest.deadline());
            let left = end.saturating_sub(Duration::from_millis(clock::monotonic_millis()));
            if left.is_zero() {
                return Ok(Begin::InProgress(latest));
            }
            let lease_left = latest.retry_after().max(Duration::from_millis(1));
            registration.wait(left.min(lease_left));
        }
    }

    /// As [`InProgress::wait`] without a timeout, as a future for any runtime.
    ///
    /// The end of a lease is noticed by the maintenance thread, within a tenth of a second, or by
    /// the caller's own [`maintain`](crate::Store::maintain). Dropping the future ends the waiting
    /// and changes nothing.
    #[cfg(feature = "async")]
    pub fn wait_async(self) -> Wait {
        Wait { inner: self, registration: None, settling: None }
    }
}

impl fmt::Debug for InProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProgress").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// The future of [`InProgress::wait_async`].
#[cfg(feature = "async")]
#[must_use = "a future does nothing until it is polled"]
#[derive(Debug)]
pub struct Wait {
    inner: InProgress,
    registration: Option<Registration>,
    /// The answer, and the ticket that it waits for.
    settling: Option<(Begin, Ticket)>,
}

#[cfg(feature = "async")]
impl Future for Wait {
    type Output = Result<Begin>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { inner, registration, settling } = &mut *self;
        if settling.is_some() {
            return poll_settling(settling, context);
        }
        let full = inner.key.full();
        let registered =
            registration.get_or_insert_with(|| inner.engine.waiters.register(full.hash));
        registered.arm_with(context.waker());
        let now = inner.engine.clock.now();
        let level = inner.durability;
        match begin_unsettled(&inner.engine, full, &inner.terms, now, level) {
            Ok(Begin::InProgress(latest)) => {
                registered.expect(latest.deadline());
                Poll::Pending
            }
            Ok(answer) if level.is_synced() && !inner.engine.is_settled(full.hash) => {
                *registration = None;
                *settling = Some((answer, Ticket::new(inner.engine.clone())));
                poll_settling(settling, context)
            }
            answer => {
                *registration = None;
                Poll::Ready(answer)
            }
        }
    }
}

/// Hands the answer over once its ticket is settled.
#[cfg(feature = "async")]
fn poll_settling(
    settling: &mut Option<(Begin, Ticket)>,
    context: &mut Context<'_>,
) -> Poll<Result<Begin>> {
    let Some((_, ticket)) = settling else { return Poll::Pending };
    let settled = Pin::new(ticket).poll(context);
    settled.map(|settled| match (settled, settling.take()) {
        (Ok(()), Some((answer, _))) => Ok(answer),
        (Err(error), _) => Err(error),
        (Ok(()), None) => Err(Error::Closed),
    })
}
