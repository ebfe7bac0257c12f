//! The near side: which records are kept there, until when, and what takes them away.
//!
//! Whoever asks the far side notes before how often the key's part was changed. What the answer
//! says is kept only if that is still so, and nothing is being changed: an answer from before a
//! removal never comes back after it. Parts are few: a change costs keys beside it a question.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use super::copy::NearCopy;
use crate::backend::Backend;
use crate::fingerprint::Fingerprint;
use crate::key::OUTCOME_BYTES_MAX;
use crate::namespace::Namespace;
use crate::record::{Own, Record};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicU64, Ordering};
use crate::time::{Timestamp, Ttl};

/// Parts that keys fall into. A power of two, at most 256.
const PARTS: usize = 64;
/// How long the difference of two clocks is relied on.
const COMPARED_MS: u64 = 10_000;
/// How much earlier than the far record a copy ends: for the ticks in which the near clock moves.
const TICKS_MS: i128 = 20;
/// Since they were compared, a clock may have run faster by one part in so many.
const DRIFT: u64 = 500;

/// The near store, and what is known about the far clock.
#[derive(Debug)]
pub(super) struct Near {
    copies: Namespace,
    tier: u64,
    /// How long a copy answers, in milliseconds; zero keeps none.
    staleness_ms: u64,
    /// The shortest time, in milliseconds, after which an outcome may be gone.
    outcome_ms: AtomicU64,
    parts: Box<[Mutex<Part>]>,
    compared: Mutex<Option<Compared>>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) answered: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) kept: AtomicU64,
}

/// Some of the keys.
#[derive(Debug, Default)]
struct Part {
    /// Rises with each change.
    changes: u64,
    /// Changes under way.
    changing: u32,
}

/// What was asked when, and what had changed until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    at: Timestamp,
    changes: u64,
}

/// How far the far clock is ahead of the near one, at most.
#[derive(Clone, Copy, Debug)]
struct Compared {
    at: Timestamp,
    ahead_ms: i128,
}

/// A key is being changed on the far side: nothing is kept of it meanwhile.
pub(super) struct Changing<'n> {
    near: &'n Near,
    key: &'n [u8],
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Who asked before has another count, and who asked meanwhile keeps nothing.
        self.near.part(self.key).lock().changing -= 1;
    }
}

impl Near {
    pub(super) fn new(copies: Namespace, staleness: Duration, outcome_ms: u64) -> Self {
        Self {
            copies,
            tier: RandomState::new().build_hasher().finish(),
            staleness_ms: u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX),
            outcome_ms: AtomicU64::new(outcome_ms),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            compared: Mutex::default(),
            counters: Counters::default(),
        }
    }

    fn part(&self, key: &[u8]) -> &Mutex<Part> {
        let number = usize::from(Fingerprint::of(key).as_bytes()[0]) & (PARTS - 1);
        &self.parts[number]
    }

    /// A caller may have an outcome be gone after so long.
    pub(super) fn expect_gone_after(&self, outcome_ms: Option<u64>) {
        if let Some(outcome_ms) = outcome_ms {
            self.outcome_ms.fetch_min(outcome_ms, Ordering::SeqCst);
        }
    }

    /// The copy of a key, if there is one that may still answer.
    ///
    /// A near store that is out of order answers nothing: the far side does.
    pub(super) fn copy(&self, key: &[u8]) -> Option<NearCopy> {
        if self.staleness_ms == 0 {
            return None;
        }
        let record = self.copies.claims().get(key, &mut Own).ok()??;
        let copy = NearCopy::decode(record.outcome(), self.tier)?;
        (self.copies.now() < copy.ends).then_some(copy)
    }

    /// Before the far side is asked; `None` if the answer is not to be kept.
    pub(super) fn asking(&self, key: &[u8]) -> Option<Asking> {
        self.counters.asked.fetch_add(1, Ordering::Relaxed);
        let part = self.part(key).lock();
        let settled = part.changing == 0 && self.staleness_ms != 0;
        settled.then(|| Asking { at: self.copies.now(), changes: part.changes })
    }

    /// The far side said that the key has no outcome: if there is a copy, it is not true any more.
    pub(super) fn forget(&self, key: &[u8]) {
        let mut part = self.part(key).lock();
        part.changes += 1;
        self.remove(key);
    }

    /// The key is about to be changed on the far side.
    pub(super) fn changing<'n>(&'n self, key: &'n [u8]) -> Changing<'n> {
        let mut part = self.part(key).lock();
        part.changes += 1;
        part.changing += 1;
        self.remove(key);
        Changing { near: self, key }
    }

    /// What cannot be removed is of a store that answers nothing any more, or of a key beyond its
    /// limits.
    fn remove(&self, key: &[u8]) {
        if self.staleness_ms != 0 {
            let _ = self.copies.claims().remove(key, None);
        }
    }

    /// Keeps a record that the far side has answered with.
    pub(super) async fn keep(
        &self,
        far: &impl Backend,
        key: &[u8],
        record: &Record,
        fingerprint: Option<Fingerprint>,
        asking: Option<Asking>,
    ) {
        let Some(asking) = asking else { return };
        if record.outcome().len() + super::copy::HEAD_BYTES > OUTCOME_BYTES_MAX {
            return;
        }
        let Some(ends) = self.ends(far, record, asking.at).await else { return };
        let fingerprint = fingerprint.filter(|_| record.meta().has_fingerprint);
        let mut copy = NearCopy { record: record.clone(), fingerprint, ends };
        let part = self.part(key).lock();
        if part.changing != 0 || part.changes != asking.changes {
            return;
        }
        let claims = self.copies.claims();
        let Ok(before) = claims.get(key, &mut Own) else { return };
        if copy.fingerprint.is_none()
            && let Some(old) =
                before.as_ref().and_then(|old| NearCopy::decode(old.outcome(), self.tier))
            && old.record.version() == record.version()
        {
            copy.fingerprint = old.fingerprint;
        }
        let left = ends.as_millis().saturating_sub(self.copies.now().as_millis()).max(1);
        let ttl = Some(Ttl::After(Duration::from_millis(left)));
        let expected = before.map(|before| before.version());
        // Where there is no room for it, it is not kept.
        if let Ok(Some(_)) = claims.set_if(key, expected, &copy.encode(self.tier), ttl) {
            self.counters.kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Until when a copy may answer, by the near clock; `None` if it is over.
    async fn ends(
        &self,
        far: &impl Backend,
        record: &Record,
        asked: Timestamp,
    ) -> Option<Timestamp> {
        let mut end = i128::from(asked.as_millis()) + i128::from(self.staleness_ms);
        let outcome_ms = self.outcome_ms.load(Ordering::SeqCst);
        let outcome_ends = record.outcome_gone().is_none() && outcome_ms != u64::MAX;
        let expires = record.expires().map(|expires| i128::from(expires.as_millis()));
        let gone = i128::from(record.created().as_millis()) + i128::from(outcome_ms);
        let far_end = match (expires, outcome_ends) {
            (None, false) => None,
            (Some(expires), false) => Some(expires),
            (None, true) => Some(gone),
            (Some(expires), true) => Some(expires.min(gone)),
        };
        if let Some(far_end) = far_end {
            let ahead_ms = self.compared(far).await?.ahead_ms;
            let drift = i128::from(self.staleness_ms.saturating_add(COMPARED_MS) / DRIFT);
            end = end.min(far_end - ahead_ms - TICKS_MS - drift);
        }
        let end = u64::try_from(end).ok()?;
        (end > self.copies.now().as_millis()).then_some(Timestamp::from_millis(end))
    }

    /// How far the far clock is ahead, asked for again from time to time.
    async fn compared(&self, far: &impl Backend) -> Option<Compared> {
        let at = self.copies.now();
        let fresh = |compared: &Compared| {
            at.as_millis().saturating_sub(compared.at.as_millis()) < COMPARED_MS
        };
        if let Some(compared) = self.compared.lock().filter(fresh) {
            return Some(compared);
        }
        // It was read after the near clock, so it is not more ahead than this.
        let far = far.now().await.ok()?;
        let ahead_ms = i128::from(far.as_millis()) - i128::from(at.as_millis());
        let compared = Compared { at, ahead_ms };
        *self.compared.lock() = Some(compared);
        Some(compared)
    }
}
