//! The decision: new or duplicate; one key at a time, or many with their memory fetched ahead.

use crate::sys::sync::atomic::Ordering;

use crate::answers::{Answers, Lookups};
use crate::engine::Engine;
use crate::engine::lookup::Lookup;
use crate::error::Result;
use crate::format::record::{Kind, Marks};
use crate::index::search::Search;
use crate::key::KeyHash;
use crate::log::Draft;
use crate::record::Receive;
use crate::time::{Timestamp, expiry};

/// Keys whose cache lines are fetched together: enough to keep all of a core's miss buffers busy.
pub(crate) const GROUP: usize = 32;

/// A key's hash, and the search for it made ahead.
pub(crate) type Ahead<'a> = (KeyHash, Option<Search<'a>>);

/// An answer, and whether it is *new*.
struct Decided<A> {
    answer: A,
    new: bool,
}

impl Engine {
    /// Records the key unless it is known.
    ///
    /// Every way back writes the answer where the caller asked for it: a duplicate takes so few
    /// instructions that moving it once more would be felt.
    #[inline]
    pub(crate) fn check_and_set<R: Receive>(
        &self,
        key: &[u8],
        outcome: &[u8],
        lifetime: u64,
        receive: &mut R,
    ) -> Result<R::Answer> {
        self.health.check_writable()?;
        self.config.limits.check_key(key)?;
        self.config.limits.check_outcome(outcome)?;
        let hash = self.hasher.hash(key);
        let look = self.index.look(hash);
        let matches = look.matches();
        if matches == 0 {
            let search = Search::without_match(&look, &self.index, hash);
            return self.decide_alone(search, hash, (key, outcome), lifetime, receive);
        }
        // Read while the line is awaited. Behind the record it would stand between that and the
        // next call's line, which a processor loads ahead only if it is not too far away.
        let now = self.clock.now();
        if let Some(location) = look.location(matches)
            && let Some(brief) = self.brief(look.sight, location, key, now)
        {
            self.counters().duplicate.fetch_add(1, Ordering::Relaxed);
            return Ok(receive.brief(brief));
        }
        self.decide_again(hash, (key, outcome), lifetime, receive)
    }

    /// Decides on a key that may be known, but not from a look at one slot and a compact header.
    #[inline(never)]
    fn decide_again<R: Receive>(
        &self,
        hash: KeyHash,
        item: (&[u8], &[u8]),
        lifetime: u64,
        receive: &mut R,
    ) -> Result<R::Answer> {
        self.decide_alone(self.index.search(hash), hash, item, lifetime, receive)
    }

    #[inline(never)]
    fn decide_alone<R: Receive>(
        &self,
        search: Option<Search<'_>>,
        hash: KeyHash,
        item: (&[u8], &[u8]),
        lifetime: u64,
        receive: &mut R,
    ) -> Result<R::Answer> {
        let decided = self.decide(search, hash, item, self.clock.now(), lifetime, receive)?;
        let counters = self.counters();
        let counter = if decided.new { &counters.new } else { &counters.duplicate };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(decided.answer)
    }

    /// The store's own lifetime, in milliseconds.
    #[inline]
    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// True if checks of keys outside of any namespace need nothing of the policy.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Decides on a key whose search did not lead straight to a live record with a compact header.
    ///
    /// The lock is for whoever writes, and for what a search without it leaves open.
    fn decide<R: Receive>(
        &self,
        search: Option<Search<'_>>,
        hash: KeyHash,
        (key, outcome): (&[u8], &[u8]),
        now: Timestamp,
        lifetime: u64,
        receive: &mut R,
    ) -> Result<Decided<R::Answer>> {
        if let Some(search) = &search
            && let Some(answer) = self.replay(search, key, now, receive)
        {
            return Ok(Decided { answer, new: false });
        }
        let absent = search.filter(Search::is_conclusive);
        let mut stripe = self.index.lock(hash);
        // Again under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = match &absent {
            Some(search) if stripe.is_as_in(search) => Lookup::NONE,
            _ => self.find(&stripe, hash, key)?,
        };
        if let Some(answer) = lookup.hand_over_live(now, receive) {
            return Ok(Decided { answer, new: false });
        }
        let expires = match &lookup.record {
            Some(view) => {
                if super::claim::is_expired(view, now) {
                    self.counters().expired.fetch_add(1, Ordering::Relaxed);
                }
                super::claim::admit_check(view, now, expiry(now, lifetime))?
            }
            None => expiry(now, lifetime),
        };
        if lookup.cell.is_none() {
            let any_dead = self.log.has_dead();
            stripe.reserve(|location| any_dead && self.log.is_dead(location))?;
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
        match (lookup.cell, absent) {
            (Some(cell), _) => {
                stripe.replace(cell, hash, location);
                self.supersede(&lookup, key);
                drop(stripe);
                // The key may have been released for later, and somebody wait for that.
                self.waiters.wake(hash);
            }
            (None, Some(search)) => stripe.place_in(&search, hash, location),
            (None, None) => stripe.place(hash, location),
        }
        Ok(Decided { answer: receive.nothing(), new: true })
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
            let ahead = self.fetch_ahead(group.iter().map(|(key, _)| key.as_ref()));
            for ((key, outcome), (hash, search)) in group.iter().zip(ahead) {
                let (key, outcome) = (key.as_ref(), outcome.as_ref());
                self.config.limits.check_key(key)?;
                self.config.limits.check_outcome(outcome)?;
                let search = self.renewed(search, hash);
                let (item, receive) = ((key, outcome), answers.receiver());
                match search.as_ref().and_then(|found| self.brief_found(found, key, now)) {
                    Some(brief) => receive.brief(brief),
                    None => self.decide(search, hash, item, now, lifetime, receive)?.answer,
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
            let ahead = self.fetch_ahead(group.iter().map(AsRef::as_ref));
            for (key, (hash, search)) in group.iter().zip(ahead) {
                let key = key.as_ref();
                self.config.limits.check_key(key)?;
                let search = self.renewed(search, hash);
                self.get_hashed(search, hash, key, now, lookups.receiver())?;
            }
        }
        Ok(())
    }

    /// A search made ahead, or a new one where the stripe has changed since.
    #[inline]
    fn renewed<'a>(&'a self, ahead: Option<Search<'a>>, hash: KeyHash) -> Option<Search<'a>> {
        ahead.filter(Search::holds).or_else(|| self.index.search(hash))
    }

    /// Hashes up to a group of keys and searches for them, loading what deciding will touch.
    ///
    /// Rounds that each use what the one before has brought near: the stripes' fields, the lines,
    /// the records that the lines lead to, and the same for searches that overflow into a second
    /// line, as every fourth does.
    #[inline]
    pub(crate) fn fetch_ahead<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> [Ahead<'_>; GROUP] {
        let mut ahead: [Ahead<'_>; GROUP] = [(KeyHash::from_u64(0), None); GROUP];
        let mut count = 0;
        for ((hash, _), key) in ahead.iter_mut().zip(keys) {
            *hash = self.hasher.hash(key);
            self.index.prefetch_stripe(*hash);
            count += 1;
        }
        let used = ahead.get_mut(..count).unwrap_or_default();
        for (hash, _) in used.iter() {
            self.index.prefetch_line(*hash);
        }
        let mut further = 0_u32;
        for (place, (hash, search)) in used.iter_mut().enumerate() {
            *search = self.index.search_home(*hash);
            let Some(search) = search else { continue };
            if search.has_match() {
                self.prefetch_match(search);
            } else if search.goes_on() {
                search.prefetch_next();
                further |= 1 << place;
            }
        }
        while let Some((_, search)) = used.get_mut(further.trailing_zeros() as usize) {
            further &= further - 1;
            let Some(search) = search else { continue };
            search.go_on(&self.index);
            if search.has_match() {
                self.prefetch_match(search);
            }
        }
        ahead
    }

    #[inline]
    pub(crate) fn prefetch_match(&self, search: &Search<'_>) {
        if let Some(location) = search.location() {
            self.log.prefetch(location);
        }
    }
}
