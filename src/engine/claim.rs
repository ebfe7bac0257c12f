//! What the calls of the lease protocol share: the full key, what is known of it, its next record.

use std::borrow::Cow;

use crate::engine::Engine;
use crate::engine::append::lane_of_thread;
use crate::engine::check::GROUP;
use crate::engine::hold::Taken;
use crate::engine::lookup::Lookup;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::{Kind, Marks};
use crate::format::state::{STATE_BYTES, State};
use crate::index::search::Search;
use crate::index::stripe::{Cell, StripeGuard};
use crate::key::KeyHash;
use crate::log::holdings::promised_bytes;
use crate::log::view::RecordView;
use crate::log::{Draft, Found};
use crate::meta::{Meta, Status};
use crate::outcome::Outcome;
use crate::policy::{AbandonPolicy, OUTCOME_BYTES_RESERVED, Room};
use crate::sys::words;
use crate::time::{Timestamp, expiry};
use crate::version::Version;

/// Bytes that a namespace's number takes in front of its keys.
pub(crate) const PREFIX_BYTES: usize = 8;
/// Keys up to this length are joined with their prefix without an allocation.
const JOINED_BYTES: usize = 264;
/// Outcomes that have up to this length with their state before them are joined with it without an
/// allocation.
const STAGED_BYTES: usize = 512;
/// The same for those that most outcomes are, as room has to be cleared before it is used.
const STAGED_SHORT_BYTES: usize = 128;

/// A key with the prefix of its namespace, and its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullKey<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) marks: Marks,
    pub(crate) hash: KeyHash,
}

/// A full key that outlives its caller's bytes.
#[derive(Clone)]
pub(crate) struct OwnedKey {
    /// Keys are about as short as outcomes, and are kept in the same way.
    bytes: Outcome,
    marks: Marks,
    hash: KeyHash,
}

impl FullKey<'_> {
    /// The number of its namespace, if it has one.
    pub(crate) fn space(self) -> Option<u32> {
        if !self.marks.has(Marks::NAMESPACED) {
            return None;
        }
        let prefix = self.bytes.first_chunk::<PREFIX_BYTES>()?;
        u32::try_from(u64::from_le_bytes(*prefix)).ok()
    }

    pub(crate) fn to_owned(self) -> OwnedKey {
        let bytes = Outcome::from_bytes(self.bytes);
        OwnedKey { bytes, marks: self.marks, hash: self.hash }
    }
}

impl OwnedKey {
    pub(crate) fn full(&self) -> FullKey<'_> {
        FullKey { bytes: self.bytes.as_bytes(), marks: self.marks, hash: self.hash }
    }

    /// The key as the caller gave it.
    pub(crate) fn key(&self) -> &[u8] {
        let prefix = if self.marks.has(Marks::NAMESPACED) { PREFIX_BYTES } else { 0 };
        self.bytes.as_bytes().get(prefix..).unwrap_or_default()
    }
}

/// A key's latest record, if it is neither expired nor a removal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) view: &'a RecordView<'a>,
    pub(crate) state: State,
    pub(crate) status: Status,
    /// Its outcome is not replayed any more.
    pub(crate) gone: bool,
}

impl Known<'_> {
    /// The version that orders the key for its callers: while it is in progress, the token.
    pub(crate) fn version(&self) -> Version {
        match self.view.header.kind {
            Kind::Started => self.state.token.unwrap_or(self.view.header.version),
            _ => self.view.header.version,
        }
    }

    /// Bytes that its outcome has or had.
    fn outcome_bytes(&self) -> usize {
        if !self.state.mark_only {
            return self.view.outcome_len();
        }
        // A mark begins with the length.
        let length = self.view.replay().and_then(|replay| replay.outcome.first().map(words::load));
        usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX)
    }

    /// The point that the work had come to at its latest checkpoint; empty if there was none.
    pub(crate) fn point(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.status.is_final() && self.view.outcome_len() != 0 {
            self.view.copy_payload(&mut bytes);
            bytes.drain(..STATE_BYTES.min(bytes.len()));
        }
        bytes
    }

    pub(crate) fn meta(&self) -> Meta {
        let header = &self.view.header;
        let done = self.status.is_final();
        Meta {
            status: self.status,
            version: self.version(),
            attempts: self.state.attempts,
            first_seen: self.state.first_seen,
            updated: if done { self.state.recorded(header.created) } else { header.created },
            completed_at: done.then_some(self.state.recorded(header.created)),
            deadline: (!done).then_some(self.state.deadline),
            expires: header.expires.finite(),
            has_fingerprint: self.state.fingerprint.is_some(),
            outcome_bytes: self.outcome_bytes(),
            outcome_gone: done && self.gone,
        }
    }
}

/// What a key's next record follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    pub(crate) cell: Option<Cell>,
    pub(crate) record: Option<&'a RecordView<'a>>,
    pub(crate) location: Option<Location>,
    /// The record that keeps a promise, if it is one.
    promise: Option<Location>,
    /// A search without the lock that has seen no slot of the key.
    absent: Option<&'a Search<'a>>,
}

impl<'a> Before<'a> {
    pub(crate) fn of(lookup: &'a Lookup<'_>) -> Self {
        let record = lookup.record.as_ref();
        let keeps = record.is_some_and(|view| view.header.kind == Kind::Started);
        let location = lookup.location;
        let promise = location.filter(|_| keeps);
        Self { cell: lookup.cell, record, location, promise, absent: None }
    }

    /// The same, where a search without the lock may have seen no slot of the key.
    pub(crate) fn unseen_by(self, absent: Option<&'a Search<'a>>) -> Self {
        Self { absent, ..self }
    }

    /// The key was known until its time was over.
    fn is_expired(&self, now: Timestamp) -> bool {
        self.record.is_some_and(|view| is_expired(view, now))
    }
}

/// The next record of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next<'a> {
    pub(crate) kind: Kind,
    /// `None` for a removal, and for a key that is recorded without a lease.
    pub(crate) state: Option<State>,
    pub(crate) outcome: &'a [u8],
    pub(crate) now: Timestamp,
    pub(crate) expires: Timestamp,
    /// What records of its bucket have in common, most likely.
    pub(crate) lifetime_ms: u64,
    /// What a new key may take.
    pub(crate) room: Room,
}

/// True for the record of a key that was known until its time was over.
pub(crate) fn is_expired(view: &RecordView<'_>, now: Timestamp) -> bool {
    view.header.kind != Kind::Removed && view.header.expires <= now
}

/// Whether a record that is not final lets a key be recorded without a lease; until when then.
///
/// The new record lives as long as the one it follows: that one would count again otherwise.
pub(crate) fn admit_check(
    view: &RecordView<'_>,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Timestamp> {
    let header = &view.header;
    if header.kind == Kind::Removed || header.expires <= now {
        return Ok(expires);
    }
    if let (Kind::Started, Some(state)) = (header.kind, view.state()) {
        if now < state.deadline {
            return Err(Error::InProgress { deadline_ms: state.deadline.as_millis() });
        }
        if state.on_abandon == AbandonPolicy::Hold {
            return Err(Error::Unresolved);
        }
    }
    Ok(expires.max(header.expires))
}

/// Calls `then` with the state's bytes and the outcome behind them.
fn with_payload<T>(state: Option<&State>, outcome: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    let Some(state) = state else {
        return then(outcome);
    };
    let state = state.encode();
    let length = STATE_BYTES + outcome.len();
    if length <= STAGED_SHORT_BYTES {
        return then(joined(&mut [0; STAGED_SHORT_BYTES], &state, outcome));
    }
    if length <= STAGED_BYTES {
        return then(joined(&mut [0; STAGED_BYTES], &state, outcome));
    }
    then(&[&state[..], outcome].concat())
}

/// Both one after the other, in a buffer that has room for them.
fn joined<'a>(buffer: &'a mut [u8], front: &[u8], back: &[u8]) -> &'a [u8] {
    let length = front.len() + back.len();
    let Some(joined) = buffer.get_mut(..length) else { return &[] };
    let (to_front, to_back) = joined.split_at_mut(front.len());
    to_front.copy_from_slice(front);
    to_back.copy_from_slice(back);
    joined
}

/// The state's bytes and the outcome behind them, of a record that is not written at once.
pub(crate) fn payload<'a>(next: &Next<'a>) -> Cow<'a, [u8]> {
    match next.state {
        Some(state) => Cow::Owned([&state.encode()[..], next.outcome].concat()),
        None => Cow::Borrowed(next.outcome),
    }
}

impl Engine {
    /// Checks and hashes a key, and hands it over with the prefix of its namespace.
    pub(crate) fn with_key<T>(
        &self,
        space: Option<u32>,
        key: &[u8],
        then: impl FnOnce(FullKey<'_>) -> Result<T>,
    ) -> Result<T> {
        self.config.limits.check_key(key)?;
        let full = |bytes, marks| FullKey { bytes, marks, hash: self.hasher.hash(bytes) };
        let Some(space) = space else {
            return then(full(key, Marks::NONE));
        };
        let prefix = u64::from(space).to_le_bytes();
        let mut staged = [0; JOINED_BYTES];
        if let Some(joined) = staged.get_mut(..PREFIX_BYTES + key.len()) {
            let (front, back) = joined.split_at_mut(PREFIX_BYTES);
            front.copy_from_slice(&prefix);
            back.copy_from_slice(key);
            return then(full(joined, Marks::NAMESPACED));
        }
        then(full(&[&prefix[..], key].concat(), Marks::NAMESPACED))
    }

    /// Hands over keys with the prefix of their namespace, one after another until one fails; what
    /// deciding on them will touch was fetched for all of them at once. At most a group of keys.
    pub(crate) fn with_group<'k>(
        &self,
        space: Option<u32>,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        buffer: &mut Vec<u8>,
        mut then: impl FnMut(FullKey<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(space) = space else {
            for (key, (hash, _)) in keys.clone().zip(self.fetch_ahead(keys)) {
                self.config.limits.check_key(key)?;
                then(FullKey { bytes: key, marks: Marks::NONE, hash })?;
            }
            return Ok(());
        };
        buffer.clear();
        let mut parts = [(0, 0); GROUP];
        for (part, key) in parts.iter_mut().zip(keys.clone()) {
            let from = buffer.len();
            buffer.extend_from_slice(&u64::from(space).to_le_bytes());
            // One beyond the limits is refused when it is its turn.
            let key = self.config.limits.check_key(key).map_or(&[][..], |()| key);
            buffer.extend_from_slice(key);
            *part = (from, buffer.len());
        }
        let joined = |(from, to): (usize, usize)| buffer.get(from..to).unwrap_or_default();
        let ahead = self.fetch_ahead(parts.into_iter().zip(keys.clone()).map(|(p, _)| joined(p)));
        for ((key, part), (hash, _)) in keys.zip(parts).zip(ahead) {
            self.config.limits.check_key(key)?;
            then(FullKey { bytes: joined(part), marks: Marks::NAMESPACED, hash })?;
        }
        Ok(())
    }

    /// Starts loading what deciding on a key will touch.
    pub(crate) fn fetch(&self, full: FullKey<'_>) {
        self.index.prefetch_line(full.hash);
        if let Some(search) = self.index.search_home(full.hash)
            && search.has_match()
        {
            self.prefetch_match(&search);
        }
    }

    /// When the key's namespace was made or, outside of any, the store; or when a salvage gave up
    /// records, if that was later. Of requests before that nothing is known for certain.
    pub(crate) fn born(&self, full: FullKey<'_>) -> Timestamp {
        let space = full.space().and_then(|number| self.log.space_created(number));
        space.map_or(self.remembers_from, |made| made.max(self.remembers_from))
    }

    /// The number of the namespace with this name, which is made where there is none yet.
    pub(crate) fn space_number(&self, name: &str) -> Result<u32> {
        // Under a stripe's lock, as close() waits for the stripes and then for nobody.
        let _stripe = self.index.lock_stripe(0);
        self.health.check_writable()?;
        let number = self.log.space_number(name, self.clock.now());
        number.map_err(|error| self.health.judge(error))
    }

    /// What is known of a key that was looked up.
    ///
    /// # Errors
    /// `Corrupt` if a record of a lease has no readable state.
    pub(crate) fn known<'a>(
        &self,
        lookup: &'a Lookup<'_>,
        now: Timestamp,
    ) -> Result<Option<Known<'a>>> {
        let Some(view) = &lookup.record else {
            return Ok(None);
        };
        self.known_of(view, now)
    }

    /// As [`Engine::known`], of one record.
    pub(crate) fn known_of<'a>(
        &self,
        view: &'a RecordView<'a>,
        now: Timestamp,
    ) -> Result<Option<Known<'a>>> {
        let header = &view.header;
        if header.kind == Kind::Removed || header.expires <= now {
            return Ok(None);
        }
        let state = match view.state() {
            Some(state) => state,
            None if view.is_final() => State::of_unleased(header.created),
            None => return Err(self.log.corrupt(0, 0, "a lease's record has no state")),
        };
        let status = match header.kind {
            Kind::Completed | Kind::Removed => Status::Completed,
            Kind::Failed => Status::Failed,
            Kind::Released => Status::Released,
            Kind::Started if now < state.deadline => Status::InProgress,
            Kind::Started if state.on_abandon == AbandonPolicy::Hold => Status::Unknown,
            Kind::Started => Status::Overdue,
        };
        let gone = view.is_final() && state.outcome_is_gone(state.recorded(header.created), now);
        Ok(Some(Known { view, state, status, gone }))
    }

    /// Appends the key's next record and lets its slot lead there; the record's version.
    ///
    /// A record of a lease makes a promise: there will be room for the completion. Whatever
    /// follows it ends the promise.
    ///
    /// # Errors
    /// `Full` also where the key is new to its namespace, and that has no room for it.
    pub(crate) fn write_next(
        &self,
        stripe: &mut StripeGuard<'_>,
        full: FullKey<'_>,
        before: &Before<'_>,
        next: &Next<'_>,
    ) -> Result<Version> {
        if before.cell.is_none() {
            stripe.reserve(|location| self.log.is_dead(location))?;
        }
        let taken = self.take_held(full, before, next)?;
        let (location, version) = self
            .append_promising(full, before, next)
            .inspect_err(|_| self.log.holdings.give(taken.space, taken.most))?;
        match (before.cell, before.absent) {
            (Some(cell), _) => stripe.replace(cell, full.hash, location),
            (None, Some(search)) => stripe.place_in(search, full.hash, location),
            (None, None) => stripe.place(full.hash, location),
        }
        self.settle_next(full, before, next, location, &taken);
        Ok(version)
    }

    /// Counts what has changed with a key's next record, to which its slot leads by now.
    pub(crate) fn settle_next(
        &self,
        full: FullKey<'_>,
        before: &Before<'_>,
        next: &Next<'_>,
        location: Location,
        taken: &Taken,
    ) {
        self.count_waste(before);
        let removed = next.kind == Kind::Removed;
        if (removed || taken.counts())
            && let Found::Record(view) = self.log.view(location)
        {
            if removed {
                self.log.waste.add_removals(location.chunk(), view.header.record_bytes());
            }
            self.settle_held(taken, before, location, &view);
        }
        if !removed && before.is_expired(next.now) {
            self.count(full, |counters| &counters.expired);
        }
    }

    /// Appends the record; one of a lease with its promise, and one that follows it without.
    fn append_promising(
        &self,
        full: FullKey<'_>,
        before: &Before<'_>,
        next: &Next<'_>,
    ) -> Result<(Location, Version)> {
        let (lane, promised) = (lane_of_thread(), promised_bytes(full.bytes.len() as u64));
        let started = next.kind == Kind::Started;
        if let (true, Some(state)) = (started, next.state) {
            // The last moment at which it can be completed is that of its own expiry.
            let latest = expiry(next.expires, state.retention_ms);
            let kept = self.log.promise(lane, promised, latest, next.now);
            kept.map_err(|error| self.health.judge(error))?;
        }
        let appended = self.append_next(full, before, next).inspect_err(|_| {
            if started {
                self.log.reserve.take_back(lane, promised);
            }
        })?;
        if started {
            self.log.reserve.attach(appended.0, promised);
        }
        self.end_promise(full.bytes, before);
        Ok(appended)
    }

    /// Ends the promise that a key's record keeps, once another one follows it.
    pub(crate) fn end_promise(&self, key: &[u8], before: &Before<'_>) {
        if let Some(kept) = before.promise {
            let promised = promised_bytes(key.len() as u64);
            self.log.reserve.detach(lane_of_thread(), kept, promised);
        }
    }

    /// Counts a record that was found and is superseded by a check, and ends the promise that it
    /// keeps if it is a lease's.
    pub(crate) fn supersede(&self, lookup: &Lookup<'_>, key: &[u8]) {
        let before = Before::of(lookup);
        self.count_waste(&before);
        self.end_promise(key, &before);
    }

    /// Counts the record that a slot no longer leads to. The stripe is locked.
    fn count_waste(&self, before: &Before<'_>) {
        if let (Some(location), Some(view)) = (before.location, before.record) {
            self.log.waste.add_superseded(location.chunk(), view.header.record_bytes());
        }
    }

    /// The promise that a copy of a record is to keep, taken away from the record.
    pub(crate) fn promise_of_copy(&self, view: &RecordView<'_>, location: Location) -> Option<u64> {
        if view.header.kind != Kind::Started {
            return None;
        }
        let promised = promised_bytes(u64::from(view.header.key_len));
        Some(self.log.reserve.take_out(location, promised))
    }

    /// Stands by the promise that an earlier process has made to a lease, if the record at
    /// `location` is one's and its key's latest.
    pub(crate) fn promise_again(&self, location: Location, view: &RecordView<'_>) {
        let (Kind::Started, Some(state)) = (view.header.kind, view.state()) else { return };
        let mut buffer = Vec::new();
        let key = view.copy_key(&mut buffer);
        let hash = self.hasher.hash(key);
        let stripe = self.index.lock(hash);
        if stripe.find(hash, |other| other == location).is_some() {
            let latest = expiry(view.header.expires, state.retention_ms);
            self.log.promise_again(location, promised_bytes(key.len() as u64), latest);
        }
    }

    fn append_next(
        &self,
        full: FullKey<'_>,
        before: &Before<'_>,
        next: &Next<'_>,
    ) -> Result<(Location, Version)> {
        let marks = if next.state.is_some() { Marks::STATE } else { Marks::NONE };
        with_payload(next.state.as_ref(), next.outcome, |outcome| {
            let draft = Draft {
                kind: next.kind,
                marks: full.marks.and(marks),
                key: full.bytes,
                outcome,
                hash: full.hash,
                created: next.now,
                expires: next.expires,
                after: before.record.map(|view| view.header.version),
            };
            // A larger outcome would use up what was promised to other leases.
            let promised = before.promise.is_some()
                && next.kind != Kind::Started
                && next.outcome.len() <= OUTCOME_BYTES_RESERVED;
            if promised {
                self.append_promised(&draft, next.lifetime_ms)
            } else if next.kind == Kind::Removed {
                self.append_removal(&draft, next.lifetime_ms)
            } else {
                self.append(&draft, next.lifetime_ms)
            }
        })
    }
}
