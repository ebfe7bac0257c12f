//! Group commit: one sync serves everybody who recorded something before it began.
//!
//! Rounds are numbered. Whoever wants stable storage takes the number of the next round that is to
//! begin, his ticket, after he has recorded; that round syncs everything recorded before it began.
//! Of those who wait, one runs the round and the others sleep; while it runs, the next round's
//! tickets are taken. Futures do not run rounds, as they must not block: maintenance does it for
//! them.
//!
//! A round that fails is the last one. Everybody who waits, and whoever takes a ticket later, is
//! told that the outcome is indeterminate; nothing is tried again.
//!
//! No answer rests on what a power loss may take: a call at [`Durability::Synced`] looks, before
//! it answers, whether the record that its key's slot leads to is durable, whoever has written it,
//! and waits for a round if not. A later record of the key serves as well as the one the answer
//! rests on: it was written after that one, so a round that covers it covers both.
//!
//! [`Durability::Synced`]: crate::config::Durability::Synced

use crate::sys::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "async")]
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::key::KeyHash;
use crate::sys::sync::{Condvar, Mutex};
use crate::time::Timestamp;

/// No interval was asked for.
const NO_INTERVAL: u64 = u64::MAX;

/// The rounds of one store.
#[derive(Debug)]
pub(crate) struct Commit {
    rounds: Mutex<Rounds>,
    changed: Condvar,
    /// The longest that something may stay unsynced, in milliseconds.
    interval_ms: AtomicU64,
    /// When the last round began, in milliseconds of the store's time.
    last_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Rounds {
    /// The latest round that has begun; the first one is 1.
    begun: u64,
    /// The latest round that has ended well.
    done: u64,
    running: bool,
    /// Why there are no rounds any more.
    failure: Option<String>,
    #[cfg(feature = "async")]
    wakers: Vec<(u64, Waker)>,
}

impl Rounds {
    /// What became of a ticket; `None` while that is open.
    fn settled(&self, ticket: u64) -> Option<Result<()>> {
        if self.done >= ticket {
            return Some(Ok(()));
        }
        let reason = self.failure.clone()?;
        Some(Err(Error::Indeterminate { reason }))
    }
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            rounds: Mutex::default(),
            changed: Condvar::new(),
            interval_ms: AtomicU64::new(NO_INTERVAL),
            last_ms: AtomicU64::new(0),
        }
    }
}

impl Commit {
    /// The round that covers everything recorded before the call.
    pub(crate) fn ticket(&self) -> u64 {
        self.rounds.lock().begun + 1
    }

    /// What became of the ticket; `None` while that is open.
    pub(crate) fn settled(&self, ticket: u64) -> Option<Result<()>> {
        self.rounds.lock().settled(ticket)
    }

    /// Rounds that have ended well.
    pub(crate) fn done(&self) -> u64 {
        self.rounds.lock().done
    }

    /// Waits for the ticket's round, or runs it if nobody else runs one.
    pub(crate) fn wait(&self, ticket: u64, mut sync: impl FnMut() -> Result<()>) -> Result<()> {
        let mut rounds = self.rounds.lock();
        loop {
            if let Some(settled) = rounds.settled(ticket) {
                return settled;
            }
            if rounds.running {
                self.changed.wait(&mut rounds);
                continue;
            }
            rounds.running = true;
            rounds.begun += 1;
            let round = rounds.begun;
            drop(rounds);
            let synced = sync();
            rounds = self.rounds.lock();
            rounds.running = false;
            match synced {
                Ok(()) => rounds.done = round,
                Err(error) => _ = rounds.failure.get_or_insert_with(|| error.to_string()),
            }
            #[cfg(feature = "async")]
            let wakers = rounds.take_wakers();
            drop(rounds);
            self.changed.notify_all();
            // Code of the callers' runtimes: under no lock.
            #[cfg(feature = "async")]
            wakers.into_iter().for_each(Waker::wake);
            rounds = self.rounds.lock();
        }
    }

    /// Asks for syncs at least so often, from now on.
    pub(crate) fn demand(&self, interval: Duration) {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(NO_INTERVAL);
        self.interval_ms.fetch_min(millis.max(1), Ordering::Relaxed);
    }

    /// How long until a round must begin, if an interval was asked for.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let interval = self.interval_ms.load(Ordering::Relaxed);
        if interval == NO_INTERVAL {
            return None;
        }
        let passed = now.as_millis().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        Some(Duration::from_millis(interval.saturating_sub(passed)))
    }
}

#[cfg(feature = "async")]
impl Rounds {
    /// Those whose tickets are settled.
    fn take_wakers(&mut self) -> Vec<Waker> {
        let done = if self.failure.is_some() { u64::MAX } else { self.done };
        let settled = self.wakers.extract_if(.., |(ticket, _)| *ticket <= done);
        settled.map(|(_, waker)| waker).collect()
    }
}

#[cfg(feature = "async")]
impl Commit {
    /// As [`Commit::settled`]; if that is open, `waker` is woken when it no longer is.
    pub(crate) fn poll(&self, ticket: u64, waker: &Waker) -> Poll<Result<()>> {
        let mut rounds = self.rounds.lock();
        if let Some(settled) = rounds.settled(ticket) {
            return Poll::Ready(settled);
        }
        let known = |(other, own): &(u64, Waker)| *other == ticket && own.will_wake(waker);
        if !rounds.wakers.iter().any(known) {
            rounds.wakers.push((ticket, waker.clone()));
        }
        Poll::Pending
    }

    /// The latest ticket that a future waits for.
    fn awaited(&self) -> Option<u64> {
        self.rounds.lock().wakers.iter().map(|(ticket, _)| *ticket).max()
    }
}

impl Engine {
    /// What a round does.
    fn round(&self) -> Result<()> {
        // After a failure elsewhere it is not known what a sync would say.
        self.health.check_sound()?;
        self.commit.last_ms.store(self.clock.now().as_millis(), Ordering::Relaxed);
        self.log.sync().map_err(|error| self.health.poison(error))
    }

    /// Refuses on a store that takes no writes.
    pub(crate) fn health_check(&self) -> Result<()> {
        self.health.check_writable()
    }

    /// Waits for a ticket's round, or runs it.
    pub(crate) fn await_ticket(&self, ticket: u64) -> Result<()> {
        self.commit.wait(ticket, || self.round())
    }

    /// Everything recorded before the call is on stable storage when it returns.
    pub(crate) fn settle_all(&self) -> Result<()> {
        self.await_ticket(self.commit.ticket())
    }

    /// As [`Engine::settle_all`], unless the store is poisoned or closed.
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check_writable()?;
        self.settle_all()
    }

    /// Returns once whatever the key's slot leads to is on stable storage.
    pub(crate) fn settle(&self, hash: KeyHash) -> Result<()> {
        if self.is_settled(hash) { Ok(()) } else { self.settle_all() }
    }

    /// Hands an answer about a key on, once the record that it rests on is as durable as asked for.
    pub(crate) fn settled<T>(
        &self,
        durability: Durability,
        hash: KeyHash,
        answer: Result<T>,
    ) -> Result<T> {
        if durability.is_synced() && is_answer(&answer) {
            self.settle(hash)?;
        }
        answer
    }

    /// Returns once what many answers rest on is on stable storage. If none of the keys is `new`,
    /// their records may be durable already.
    pub(crate) fn settle_many<'k>(
        &self,
        new: bool,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<()> {
        let settled = |key: &[u8]| self.is_settled(self.hasher.hash(key));
        if !new && keys.into_iter().all(settled) { Ok(()) } else { self.settle_all() }
    }

    /// True when the latest record of every key with this hash is on stable storage.
    pub(crate) fn is_settled(&self, hash: KeyHash) -> bool {
        let mut settled = true;
        self.index.lock(hash).find(hash, |location| {
            settled &= self.log.is_durable(location);
            false
        });
        settled
    }

    /// Runs a round if one is due or a future waits for it.
    pub(crate) fn commit_step(&self, now: Timestamp) -> Result<()> {
        #[cfg(feature = "async")]
        while let Some(ticket) = self.commit.awaited() {
            self.await_ticket(ticket)?;
        }
        match self.commit.due_in(now) {
            Some(Duration::ZERO) => self.settle_all(),
            _ => Ok(()),
        }
    }
}

/// True for what rests on a record of the key: some errors are answers about the key as well.
pub(crate) fn is_answer<T>(answer: &Result<T>) -> bool {
    use Error::{InProgress, LeaseLost, Stale, Unresolved};
    matches!(answer, Ok(_) | Err(InProgress { .. } | LeaseLost | Stale { .. } | Unresolved))
}
