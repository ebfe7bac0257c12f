//! The decision: new or duplicate; one key at a time, or many with their memory fetched ahead.

use std::sync::atomic::Ordering;

use crate::answers::{Answers, Lookups};
use crate::engine::Engine;
use crate::engine::lookup::hand_over;
use crate::error::Result;
use crate::format::record::{Kind, Marks};
use crate::index::Peek;
use crate::key::KeyHash;
use crate::log::Draft;
use crate::record::Receive;
use crate::time::{Timestamp, expiry};

/// Keys whose cache lines are fetched together: enough to keep all of a core's miss buffers busy.
pub(crate) const GROUP: usize = 32;

impl Engine {
    /// Records the key unless it is known; true when it was new. A duplicate goes to `receive`.
    #[inline]
    pub(crate) fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        lifetime: u64,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        self.health.check_writable()?;
        self.config.limits.check_key(key)?;
        self.config.limits.check_outcome(outcome)?;
        let hash = self.hasher.hash(key);
        let new = self.decide(hash, (key, outcome), self.clock.now(), lifetime, receive)?;
        let counters = self.counters();
        let counter = if new { &counters.new } else { &counters.duplicate };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(new)
    }

    /// The store's own lifetime, in milliseconds.
    #[inline]
    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Decides on a key that was checked and hashed.
    #[inline]
    fn decide(
        &self,
        hash: KeyHash,
        (key, outcome): (&[u8], &[u8]),
        now: Timestamp,
        lifetime: u64,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        let mut stripe = self.index.lock(hash);
        // Again under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = self.find(&stripe, hash, key)?;
        if let Some(view) = lookup.live(now) {
            hand_over(view, receive);
            return Ok(false);
        }
        let expires = match &lookup.record {
            Some(view) => super::claim::admit_check(view, now, expiry(now, lifetime))?,
            None => expiry(now, lifetime),
        };
        if lookup.cell.is_none() {
            stripe.reserve(|location| self.log.is_dead(location))?;
        }
        let draft = Draft {
            kind: Kind::Completed,
            marks: Marks::NONE,
            key,
            outcome,
            hash,
            created: now,
            expires,
            after: lookup.record.as_ref().map(|view| view.header.version),
        };
        let (location, _version) = self.append(&draft, lifetime)?;
        match lookup.cell {
            Some(cell) => {
                stripe.replace(cell, hash, location);
                self.end_promise(&lookup, key);
                drop(stripe);
                // The key may have been released for later, and somebody wait for that.
                self.waiters.wake(hash);
            }
            None => stripe.place(hash, location),
        }
        Ok(true)
    }

    /// Decides on many keys in their order, each as a single call would.
    pub(crate) fn check_and_set_many<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        lifetime: u64,
        answers: &mut Answers,
    ) -> Result<()> {
        answers.clear();
        let result = self.check_groups(items, lifetime, answers);
        let new = answers.new_count();
        let counters = self.counters();
        counters.new.fetch_add(new, Ordering::Relaxed);
        counters.duplicate.fetch_add(answers.len() as u64 - new, Ordering::Relaxed);
        result
    }

    fn check_groups<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        lifetime: u64,
        answers: &mut Answers,
    ) -> Result<()> {
        self.health.check_writable()?;
        let now = self.clock.now();
        for group in items.chunks(GROUP) {
            let hashes = self.fetch_ahead(group.iter().map(|(key, _)| key.as_ref()));
            for ((key, outcome), hash) in group.iter().zip(hashes) {
                let (key, outcome) = (key.as_ref(), outcome.as_ref());
                self.config.limits.check_key(key)?;
                self.config.limits.check_outcome(outcome)?;
                let item = (key, outcome);
                if self.decide(hash, item, now, lifetime, answers.receiver())? {
                    answers.push_new();
                }
            }
        }
        Ok(())
    }

    /// Looks many keys up, in their order.
    pub(crate) fn get_many<K: AsRef<[u8]>>(&self, keys: &[K], lookups: &mut Lookups) -> Result<()> {
        lookups.clear();
        self.health.check_readable()?;
        let now = self.clock.now();
        for group in keys.chunks(GROUP) {
            let hashes = self.fetch_ahead(group.iter().map(AsRef::as_ref));
            for (key, hash) in group.iter().zip(hashes) {
                self.config.limits.check_key(key.as_ref())?;
                if !self.get_hashed(hash, key.as_ref(), now, lookups.receiver())? {
                    lookups.push_absent();
                }
            }
        }
        Ok(())
    }

    /// Hashes up to a group of keys and starts loading what deciding on them will touch.
    ///
    /// Rounds that each use what the one before has brought near: the stripes' fields, the lines,
    /// the records that the lines lead to, and the same for searches that overflow into a second
    /// line, as every third does.
    #[inline]
    pub(crate) fn fetch_ahead<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> [KeyHash; GROUP] {
        let mut hashes = [KeyHash::from_u64(0); GROUP];
        let mut count = 0;
        for (slot, key) in hashes.iter_mut().zip(keys) {
            *slot = self.hasher.hash(key);
            self.index.prefetch_stripe(*slot);
            count += 1;
        }
        let used = hashes.get(..count).unwrap_or(&hashes);
        for hash in used {
            self.index.prefetch_line(*hash);
        }
        let mut further = 0_u32;
        for (place, hash) in used.iter().enumerate() {
            match self.index.peek(*hash, 0) {
                Peek::At(location) => self.log.prefetch(location),
                Peek::Further => further |= 1 << place,
                Peek::Absent => {}
            }
        }
        while let Some(hash) = used.get(further.trailing_zeros() as usize) {
            further &= further - 1;
            if let Peek::At(location) = self.index.peek(*hash, 1) {
                self.log.prefetch(location);
            }
        }
        hashes
    }
}
