//! Several keys in one step: all of their next records are written, or none.
//!
//! What each key is to become is said by an [`Act`]. The stripes of all keys are locked in order of
//! their numbers, so that two calls whose keys overlap wait for each other one way only. Then every
//! key is looked at, and only if each is as its act expects, all records are written as one
//! bundle: a crash leaves them all or none. Before the first slot is set, searches without the lock
//! are sent to the locks of all these stripes, until the last is set: whoever sees one key changed
//! sees all changed.

use std::borrow::Cow;

use crate::engine::claim::{Before, FullKey, Known, Next, OwnedKey, payload};
use crate::engine::finish::{Ending, Ends, ended};
use crate::engine::hold::{Taken, to_take};
use crate::engine::lookup::Lookup;
use crate::engine::seen::Seen;
use crate::engine::set_if::next_if;
use crate::engine::{Counters, Engine};
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::{Header, Kind, Marks};
use crate::format::state::STATE_BYTES;
use crate::index::stripe::StripeGuard;
use crate::key::{BUNDLE_BYTES_MAX, BUNDLE_KEYS_MAX};
use crate::log::Draft;
use crate::log::holdings::Held;
use crate::options::Kept;
use crate::policy::{LongOutcomePolicy, Room};
use crate::record::{Mark, Own, Record};
use crate::sys::sync::atomic::AtomicU64;
use crate::time::Timestamp;
use crate::version::Version;

/// What is to become of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act<'a> {
    /// It is recorded, and is not known before.
    New { outcome: &'a [u8], kept: Kept },
    /// Its lease, which has this token, is completed.
    Complete { token: Version, outcome: &'a [u8] },
    /// Its outcome is set, as [`Engine::set_if`] does, with a lifetime in milliseconds.
    Set { expected: Option<Version>, outcome: &'a [u8], lifetime_ms: Option<u64>, kept: Kept },
    /// It is removed; it is known with this version.
    Remove { expected: Version },
}

/// A key of a bundle.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub(crate) key: OwnedKey,
    pub(crate) act: Act<'a>,
}

/// What came of several keys.
#[derive(Clone, Debug)]
pub(crate) enum Together {
    /// All were changed; the versions of their records, in the order of the parts.
    Done(Vec<Version>),
    /// None was, because of these, in the order of the parts.
    Refused(Vec<(usize, Refusal)>),
}

/// Why a key is not as its act expects.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// It was to be new and is known, with this record.
    Known(Record),
    /// Its lease is not current any more.
    LeaseLost,
    /// It is not what it was when it was looked at.
    Changed,
}

/// The record that a key is to get, and what it follows.
struct Plan<'a> {
    full: FullKey<'a>,
    before: Before<'a>,
    next: Next<'a>,
    counter: fn(&Counters) -> &AtomicU64,
}

/// What was found out about a key: its plan, or why it has none.
enum Found<'a> {
    Plan(Plan<'a>),
    Known(Known<'a>),
    Refused(Refusal),
}

/// The stripes of all keys, locked.
struct Stripes<'e> {
    guards: Vec<StripeGuard<'e>>,
    /// By part, which of them its key is in.
    places: Vec<usize>,
}

impl<'e> Stripes<'e> {
    /// Locks the stripes in the order of their numbers, each once.
    fn lock(engine: &'e Engine, parts: &[Part<'_>], order: &[usize]) -> Self {
        let mut guards = Vec::new();
        let mut places = vec![0; parts.len()];
        let mut last = None;
        for index in order {
            let Some(part) = parts.get(*index) else { continue };
            let number = engine.index.stripe_of(part.key.full().hash);
            if last != Some(number) {
                guards.push(engine.index.lock_stripe(number));
                last = Some(number);
            }
            if let Some(place) = places.get_mut(*index) {
                *place = guards.len() - 1;
            }
        }
        Self { guards, places }
    }

    fn of(&mut self, part: usize) -> Option<&mut StripeGuard<'e>> {
        self.guards.get_mut(*self.places.get(part)?)
    }
}

impl Engine {
    /// Does to every key what its part says, or nothing to any.
    ///
    /// # Errors
    /// `TooLarge` and `RepeatedKey` for parts that cannot be written together; what a single call
    /// would answer for the first key that it would refuse with an error.
    pub(crate) fn together(&self, parts: &[Part<'_>], now: Timestamp) -> Result<Together> {
        let marks = self.check_parts(parts)?;
        let order = self.order(parts)?;
        parts.iter().for_each(|part| self.fetch(part.key.full()));
        let mut stripes = Stripes::lock(self, parts, &order);
        // Under the locks, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let mut lookups = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let full = part.key.full();
            let stripe = stripes.of(index).ok_or(Error::Closed)?;
            lookups.push(self.find_marked(stripe, full.hash, full.bytes, full.marks)?);
        }
        let mut found = Vec::with_capacity(parts.len());
        for ((part, lookup), mark) in parts.iter().zip(&lookups).zip(&marks) {
            found.push(self.look_at(part, lookup, mark.as_ref(), now)?);
        }
        if found.iter().any(|found| !matches!(found, Found::Plan(_))) {
            let refused = self.refuse(&mut stripes, parts, &lookups, found, now)?;
            return Ok(Together::Refused(refused));
        }
        let plans: Vec<Plan<'_>> = found.into_iter().filter_map(Found::plan).collect();
        let versions = self.write_together(&mut stripes, &plans)?;
        drop(stripes);
        for plan in &plans {
            self.waiters.wake(plan.full.hash);
            self.count(plan.full, plan.counter);
        }
        Ok(Together::Done(versions))
    }

    /// Checks number and lengths; by part, what is kept of an outcome that is too long.
    fn check_parts(&self, parts: &[Part<'_>]) -> Result<Vec<Option<Mark>>> {
        let too_large = |what, len, max| Err(Error::TooLarge { what, len, max });
        if parts.len() > BUNDLE_KEYS_MAX {
            return too_large("keys", parts.len(), BUNDLE_KEYS_MAX);
        }
        let (mut bytes, mut marks) = (0_u64, Vec::with_capacity(parts.len()));
        for part in parts {
            let (outcome, refuses) = match part.act {
                Act::New { outcome, kept } => {
                    (outcome, kept.on_long_outcome == LongOutcomePolicy::Refuse)
                }
                // Whether it may be left out is known once the key is looked at.
                Act::Complete { outcome, .. } => (outcome, false),
                Act::Set { outcome, .. } => (outcome, true),
                Act::Remove { .. } => (&[][..], false),
            };
            if refuses {
                self.config.limits.check_outcome(outcome)?;
            }
            let mark = self.mark_of_long(outcome);
            let length = mark.as_ref().map_or(outcome.len(), |mark| mark.len()) + STATE_BYTES;
            let key = part.key.full().bytes.len() as u64;
            bytes += Header::record_bytes_max(key, length as u64);
            marks.push(mark);
        }
        match usize::try_from(bytes).unwrap_or(usize::MAX) {
            bytes if bytes > BUNDLE_BYTES_MAX => too_large("bytes", bytes, BUNDLE_BYTES_MAX),
            _ => Ok(marks),
        }
    }

    /// The parts in the order in which their stripes are locked.
    ///
    /// # Errors
    /// `RepeatedKey` if two have one key: it can only be new once.
    fn order(&self, parts: &[Part<'_>]) -> Result<Vec<usize>> {
        let rank = |index: &usize| {
            let full = parts.get(*index).map(|part| part.key.full());
            full.map(|full| (self.index.stripe_of(full.hash), full.hash.as_u64(), full))
        };
        let mut order: Vec<usize> = (0..parts.len()).collect();
        let key = |full: FullKey<'_>| (full.marks.has(Marks::NAMESPACED), full.bytes.to_vec());
        order.sort_by(|a, b| match (rank(a), rank(b)) {
            (Some((stripe, hash, own)), Some((other_stripe, other_hash, other))) => {
                let ranks = (stripe, hash).cmp(&(other_stripe, other_hash));
                // Two keys with one hash are rare.
                ranks.then_with(|| key(own).cmp(&key(other))).then(a.cmp(b))
            }
            _ => a.cmp(b),
        });
        for (a, b) in order.iter().zip(order.iter().skip(1)) {
            if let (Some((_, _, own)), Some((_, _, other))) = (rank(a), rank(b))
                && own.hash == other.hash
                && key(own) == key(other)
            {
                return Err(Error::RepeatedKey { first: *a, second: *b });
            }
        }
        Ok(order)
    }

    /// Says what a key's next record is to be, or what stands against it.
    fn look_at<'a>(
        &self,
        part: &'a Part<'_>,
        lookup: &'a Lookup<'_>,
        mark: Option<&'a Mark>,
        now: Timestamp,
    ) -> Result<Found<'a>> {
        let (full, known) = (part.key.full(), self.known(lookup, now)?);
        let (next, counter): (_, fn(&Counters) -> &AtomicU64) = match part.act {
            Act::New { outcome, kept } => {
                if let Some(known) = known.filter(|known| known.status.is_final()) {
                    return Ok(Found::Known(known));
                }
                let next = self.next_new(full, lookup, (outcome, mark), kept, now)?;
                (next, |counters| &counters.new)
            }
            Act::Complete { token, outcome } => {
                let is_current = |known: &Known<'_>| {
                    known.view.header.kind == Kind::Started && known.version() == token
                };
                let Some(known) = known.filter(is_current) else {
                    return Ok(Found::Refused(Refusal::LeaseLost));
                };
                let ending = Ending::Complete(outcome);
                let mark = self.admit_mark(&known, ending, mark)?;
                let ends = Ends { ending, mark, now };
                (ended(&known, ends, &[]).next, |counters| &counters.completed)
            }
            Act::Set { expected, outcome, lifetime_ms, kept } => {
                let terms = (lifetime_ms, kept);
                match next_if(known.as_ref(), expected, outcome, terms, now) {
                    Some(next) => (next, |counters| &counters.set),
                    None => return Ok(Found::Refused(Refusal::Changed)),
                }
            }
            Act::Remove { expected } => match known.filter(|known| known.version() == expected) {
                Some(known) => (self.next_removed(&known, now), |counters| &counters.removed),
                None => return Ok(Found::Refused(Refusal::Changed)),
            },
        };
        Ok(Found::Plan(Plan { full, before: Before::of(lookup), next, counter }))
    }

    /// Collects why the parts cannot be done; keys that were to be new were seen by that.
    fn refuse(
        &self,
        stripes: &mut Stripes<'_>,
        parts: &[Part<'_>],
        lookups: &[Lookup<'_>],
        found: Vec<Found<'_>>,
        now: Timestamp,
    ) -> Result<Vec<(usize, Refusal)>> {
        let mut refused = Vec::new();
        for (index, found) in found.into_iter().enumerate() {
            let refusal = match found {
                Found::Plan(_) => continue,
                Found::Refused(refusal) => refusal,
                Found::Known(known) => {
                    let (Some(part), Some(lookup)) = (parts.get(index), lookups.get(index)) else {
                        continue;
                    };
                    let Act::New { kept, .. } = part.act else { continue };
                    let (full, stripe) = (part.key.full(), stripes.of(index));
                    let Kept { anchor, retention_ms, .. } = kept;
                    let seen = Seen { anchor, retention_ms, now };
                    let stripe = stripe.ok_or(Error::Closed)?;
                    let answer =
                        self.hand_over_seen(stripe, full, lookup, &known, seen, &mut Own)?;
                    let damaged = || self.log.corrupt(0, 0, "a completed record has no outcome");
                    self.count(full, |counters| &counters.duplicate);
                    Refusal::Known(answer.flatten().ok_or_else(damaged)?)
                }
            };
            refused.push((index, refusal));
        }
        Ok(refused)
    }

    /// Writes all records, and lets all slots lead to them as if at once.
    fn write_together(
        &self,
        stripes: &mut Stripes<'_>,
        plans: &[Plan<'_>],
    ) -> Result<Vec<Version>> {
        let reserved = self.reserve_slots(stripes, plans);
        let taken = reserved.and_then(|()| self.take_together(plans));
        let placed = taken.and_then(|taken| match self.append_plans(plans) {
            Ok(placed) => Ok((taken, placed)),
            Err(error) => {
                taken.iter().for_each(|taken| self.log.holdings.give(taken.space, taken.most));
                Err(error)
            }
        });
        let (taken, placed) =
            placed.inspect_err(|_| stripes.guards.iter_mut().for_each(StripeGuard::give_up))?;
        stripes.guards.iter_mut().for_each(StripeGuard::hide);
        for (index, (plan, (location, _))) in plans.iter().zip(&placed).enumerate() {
            let Some(stripe) = stripes.of(index) else { continue };
            // Making room may have moved its slot.
            let old = plan.before.location;
            let cell = old.and_then(|old| stripe.find(plan.full.hash, |other| other == old));
            match cell {
                Some((cell, _)) => stripe.replace(cell, plan.full.hash, *location),
                None => stripe.place(plan.full.hash, *location),
            }
        }
        stripes.guards.iter_mut().for_each(StripeGuard::show);
        for ((plan, taken), (location, _)) in plans.iter().zip(&taken).zip(&placed) {
            self.end_promise(plan.full.bytes, &plan.before);
            self.settle_next(plan.full, &plan.before, &plan.next, *location, taken);
        }
        Ok(placed.into_iter().map(|(_, version)| version).collect())
    }

    /// Makes sure that a slot can be set for every key.
    fn reserve_slots(&self, stripes: &mut Stripes<'_>, plans: &[Plan<'_>]) -> Result<()> {
        let mut needs = vec![(0, 0); stripes.guards.len()];
        for (plan, place) in plans.iter().zip(&stripes.places) {
            if let Some((new, all)) = needs.get_mut(*place) {
                *new += u32::from(plan.before.cell.is_none());
                *all += 1;
            }
        }
        let is_dead = |location| self.log.is_dead(location);
        let mut stripes = stripes.guards.iter_mut().zip(needs);
        stripes.try_for_each(|(stripe, (new, all))| stripe.reserve_many(new, all, is_dead))
    }

    /// Takes room in their namespaces for all keys that are new there; by plan, what was taken.
    fn take_together(&self, plans: &[Plan<'_>]) -> Result<Vec<Taken>> {
        let taken: Vec<Taken> =
            plans.iter().map(|plan| to_take(plan.full, &plan.before, &plan.next)).collect();
        let mut sums: Vec<(u32, Held, Room)> = Vec::new();
        for (taken, plan) in taken.iter().zip(plans) {
            let own = sums.iter_mut().find(|(space, ..)| *space == taken.space);
            match own {
                Some((_, held, _)) => {
                    held.keys += taken.most.keys;
                    held.bytes += taken.most.bytes;
                }
                None => sums.push((taken.space, taken.most, plan.next.room)),
            }
        }
        for (done, (space, held, room)) in sums.iter().enumerate() {
            if let Err(error) = self.take_in(*space, *held, *room) {
                let before = sums.iter().take(done);
                before.for_each(|(space, held, _)| self.log.holdings.give(*space, *held));
                return Err(error);
            }
        }
        Ok(taken)
    }

    fn append_plans(&self, plans: &[Plan<'_>]) -> Result<Vec<(Location, Version)>> {
        let payloads: Vec<Cow<'_, [u8]>> = plans.iter().map(|plan| payload(&plan.next)).collect();
        let member = if plans.len() == 1 { Marks::NONE } else { Marks::MEMBER };
        let mut drafts = Vec::with_capacity(plans.len());
        for (plan, outcome) in plans.iter().zip(&payloads) {
            let state = if plan.next.state.is_some() { Marks::STATE } else { Marks::NONE };
            let draft = Draft {
                kind: plan.next.kind,
                marks: plan.full.marks.and(state).and(member),
                key: plan.full.bytes,
                outcome,
                hash: plan.full.hash,
                created: plan.next.now,
                expires: plan.next.expires,
                after: plan.before.record.map(|view| view.header.version),
            };
            drafts.push((draft, plan.full.hash.digest(outcome)));
        }
        let lifetime = plans.iter().map(|plan| plan.next.lifetime_ms).max().unwrap_or(0);
        self.append_together(&drafts, lifetime)
    }
}

impl<'a> Found<'a> {
    fn plan(self) -> Option<Plan<'a>> {
        match self {
            Self::Plan(plan) => Some(plan),
            Self::Known(_) | Self::Refused(_) => None,
        }
    }
}
