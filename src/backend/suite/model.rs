//! The contract as a map in memory: what a backend has to answer, one call after another.
//!
//! A step is decided by the time that the model knows, and applied with the time that the backend
//! has stamped it with: where time runs, that is read from what the backend says of the key.

use std::collections::BTreeMap;

use crate::fingerprint::Fingerprint;
use crate::meta::{Meta, Status};
use crate::policy::{AbandonPolicy, Anchor, LongOutcomePolicy};
use crate::time::Timestamp;
use crate::version::Version;

/// What a call asks for; lengths of time in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) lease: u64,
    /// `None` for ever.
    pub(super) retention: Option<u64>,
    pub(super) attempts_max: Option<u32>,
    pub(super) on_abandon: AbandonPolicy,
    pub(super) anchor: Anchor,
    pub(super) outcome_ttl: Option<u64>,
    pub(super) on_long_outcome: LongOutcomePolicy,
}

/// What becomes of a lease.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Complete(Vec<u8>),
    Fail(Vec<u8>),
    Release(u64),
    Renew(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Started,
    Released,
    Completed,
    Failed,
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    kind: Kind,
    /// While it is in progress, the lease's.
    pub(super) version: Version,
    attempts: u32,
    first_seen: Timestamp,
    written: Timestamp,
    deadline: Timestamp,
    /// The least; what prolongs itself may be kept for an eighth longer.
    pub(super) expires: Option<Timestamp>,
    asked: Asked,
    fingerprint: Option<Fingerprint>,
    outcome: Vec<u8>,
    /// The outcome is too long to be kept.
    long: bool,
}

/// What a call is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It changes the key.
    Done,
    /// The key has an outcome.
    Known,
    InProgress,
    Unknown,
    Mismatch,
    Exhausted,
    LeaseLost,
    TooLong,
    /// There is nothing to change.
    Nothing,
}

/// All keys, at some time.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) now: Timestamp,
    pub(super) outcome_bytes_max: usize,
    keys: BTreeMap<u8, Entry>,
}

fn later(start: Timestamp, millis: u64) -> Timestamp {
    Timestamp::from_millis(start.as_millis() + millis)
}

impl Asked {
    /// When a key is forgotten that is written at `now`.
    fn expires(&self, first_seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let from = if self.anchor == Anchor::FirstSeen { first_seen } else { now };
        self.retention.map(|retention| later(from, retention))
    }
}

/// The later one, where none is for ever.
fn longer(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    Some(one?.max(other?))
}

impl Entry {
    fn status(&self, now: Timestamp) -> Status {
        match self.kind {
            Kind::Completed => Status::Completed,
            Kind::Failed => Status::Failed,
            Kind::Released => Status::Released,
            Kind::Started if now < self.deadline => Status::InProgress,
            Kind::Started if self.asked.on_abandon == AbandonPolicy::Hold => Status::Unknown,
            Kind::Started => Status::Overdue,
        }
    }

    pub(super) fn is_gone(&self, now: Timestamp) -> bool {
        let over = |ttl| later(self.written, ttl) <= now;
        self.long || self.asked.outcome_ttl.is_some_and(over)
    }

    /// When its lease ends, it is forgotten, and its outcome is gone.
    pub(super) fn ends(&self) -> [Option<Timestamp>; 3] {
        let gone = self.asked.outcome_ttl.map(|ttl| later(self.written, ttl));
        [Some(self.deadline), self.expires, gone]
    }

    pub(super) fn outcome(&self) -> &[u8] {
        &self.outcome
    }

    /// What a backend has to say of it.
    pub(super) fn meta(&self, now: Timestamp) -> Meta {
        let status = self.status(now);
        let done = status.is_final();
        Meta {
            attempts: self.attempts,
            first_seen: self.first_seen,
            updated: self.written,
            completed_at: done.then_some(self.written),
            deadline: (!done).then_some(self.deadline),
            expires: self.expires,
            has_fingerprint: self.fingerprint.is_some(),
            outcome_bytes: self.outcome.len(),
            outcome_gone: done && self.is_gone(now),
            ..Meta::new(status, self.version)
        }
    }

    /// True if calls may find it kept for an eighth longer than the least.
    pub(super) fn prolongs(&self) -> bool {
        self.asked.anchor == Anchor::LastSeen
    }

    fn next(&self, kind: Kind, deadline: Timestamp, now: Timestamp) -> Self {
        let anchored = self.asked.expires(self.first_seen, now);
        let expires = longer(longer(anchored, self.expires), Some(deadline));
        Self { kind, deadline, written: now, expires, ..self.clone() }
    }
}

impl Model {
    pub(super) fn new(now: Timestamp, outcome_bytes_max: usize) -> Self {
        Self { now, outcome_bytes_max, keys: BTreeMap::new() }
    }

    /// What is known of a key.
    pub(super) fn get(&self, key: u8) -> Option<&Entry> {
        let entry = self.keys.get(&key)?;
        entry.expires.is_none_or(|end| self.now < end).then_some(entry)
    }

    pub(super) fn get_mut(&mut self, key: u8) -> Option<&mut Entry> {
        let now = self.now;
        self.keys.get_mut(&key).filter(|entry| entry.expires.is_none_or(|end| now < end))
    }

    fn status(&self, key: u8) -> Option<Status> {
        self.get(key).map(|entry| entry.status(self.now))
    }

    pub(super) fn decide_begin(&self, key: u8, asked: &Asked) -> Decision {
        let Some(entry) = self.get(key) else { return Decision::Done };
        let fingerprints = entry.fingerprint.zip(asked.fingerprint);
        if fingerprints.is_some_and(|(first, given)| first != given) {
            return Decision::Mismatch;
        }
        let used_up = asked.attempts_max.is_some_and(|max| entry.attempts >= max);
        match entry.status(self.now) {
            Status::Completed | Status::Failed => Decision::Known,
            Status::InProgress => Decision::InProgress,
            Status::Unknown => Decision::Unknown,
            Status::Overdue | Status::Released if used_up => Decision::Exhausted,
            Status::Released if self.now < entry.deadline => Decision::InProgress,
            Status::Overdue | Status::Released => Decision::Done,
        }
    }

    pub(super) fn begin(&mut self, key: u8, asked: &Asked, version: Version, now: Timestamp) {
        let before = self.get(key);
        let first_seen = before.map_or(now, |entry| entry.first_seen);
        let deadline = later(now, asked.lease);
        let floor = before.map_or(Some(deadline), |entry| longer(entry.expires, Some(deadline)));
        let entry = Entry {
            kind: Kind::Started,
            version,
            attempts: before.map_or(0, |entry| entry.attempts) + 1,
            first_seen,
            written: now,
            deadline,
            expires: longer(asked.expires(first_seen, now), floor),
            asked: *asked,
            fingerprint: before.and_then(|entry| entry.fingerprint).or(asked.fingerprint),
            outcome: Vec::new(),
            long: false,
        };
        self.keys.insert(key, entry);
    }

    pub(super) fn decide_check(&self, key: u8, asked: &Asked, outcome: &[u8]) -> Decision {
        let long = outcome.len() > self.outcome_bytes_max;
        if long && asked.on_long_outcome == LongOutcomePolicy::Refuse {
            return Decision::TooLong;
        }
        match self.status(key) {
            Some(Status::Completed | Status::Failed) => Decision::Known,
            Some(Status::InProgress) => Decision::InProgress,
            Some(Status::Unknown) => Decision::Unknown,
            Some(Status::Overdue | Status::Released) | None => Decision::Done,
        }
    }

    pub(super) fn check(&mut self, key: u8, asked: &Asked, outcome: &[u8], now: Timestamp) {
        let mut expires = asked.expires(now, now);
        if let Some(before) = self.get(key) {
            expires = longer(expires, before.expires);
        }
        let entry = Entry {
            kind: Kind::Completed,
            version: Version::from_u64(0),
            attempts: 0,
            first_seen: now,
            written: now,
            deadline: now,
            expires,
            asked: *asked,
            fingerprint: None,
            outcome: outcome.to_vec(),
            long: outcome.len() > self.outcome_bytes_max,
        };
        self.keys.insert(key, entry);
    }

    pub(super) fn decide_finish(&self, key: u8, version: Version, ending: &Ending) -> Decision {
        let held = |entry: &&Entry| entry.kind == Kind::Started && entry.version == version;
        let Some(entry) = self.get(key).filter(held) else { return Decision::LeaseLost };
        self.decide_outcome(entry, ending)
    }

    fn decide_outcome(&self, entry: &Entry, ending: &Ending) -> Decision {
        let (Ending::Complete(outcome) | Ending::Fail(outcome)) = ending else {
            return Decision::Done;
        };
        let refuses = entry.asked.on_long_outcome == LongOutcomePolicy::Refuse;
        let long = outcome.len() > self.outcome_bytes_max;
        if refuses && long { Decision::TooLong } else { Decision::Done }
    }

    pub(super) fn decide_resolve(&self, key: u8, ending: &Ending) -> Decision {
        match self.get(key) {
            None => Decision::Nothing,
            Some(entry) => match entry.status(self.now) {
                Status::InProgress => Decision::InProgress,
                Status::Completed | Status::Failed => Decision::Nothing,
                _ => self.decide_outcome(entry, ending),
            },
        }
    }

    /// Ends, renews or resolves; a version of zero for what the caller was not told.
    pub(super) fn finish(&mut self, key: u8, ending: &Ending, now: Timestamp) {
        let max = self.outcome_bytes_max;
        let Some(entry) = self.keys.get(&key) else { return };
        let mut next = match ending {
            Ending::Complete(_) => entry.next(Kind::Completed, now, now),
            Ending::Fail(_) => entry.next(Kind::Failed, now, now),
            Ending::Release(after) => entry.next(Kind::Released, later(now, *after), now),
            Ending::Renew(lease) => entry.next(Kind::Started, later(now, *lease), now),
        };
        if let Ending::Complete(outcome) | Ending::Fail(outcome) = ending {
            next.outcome.clone_from(outcome);
            next.long = outcome.len() > max;
        }
        if !matches!(ending, Ending::Renew(_)) {
            next.version = Version::from_u64(0);
        }
        self.keys.insert(key, next);
    }

    /// True if it is to be removed.
    pub(super) fn decide_remove(&self, key: u8, version: Option<Version>) -> bool {
        let entry = self.get(key);
        entry.is_some_and(|entry| version.is_none_or(|version| version == entry.version))
    }

    pub(super) fn remove(&mut self, key: u8) {
        self.keys.remove(&key);
    }
}
