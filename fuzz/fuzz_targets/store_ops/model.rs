//! What is known of each key, told from the promises alone.

use std::collections::BTreeMap;

use oncelog::Version;

/// What a key is to those who come for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Held,
    Overdue,
    /// Overdue, and not to be begun before it is resolved.
    Unknown,
    Free,
    /// Free from a later moment on.
    Delayed,
    /// With its outcome, and whether that is a failure.
    Done(Vec<u8>, bool),
}

#[derive(Clone, Debug)]
enum Kind {
    Started(Version),
    Released,
    Done(Vec<u8>, bool),
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    deadline: u64,
    expires: u64,
    attempts: u32,
    hold: bool,
}

/// All keys, and all tokens ever given out.
#[derive(Debug, Default)]
pub(crate) struct Model {
    known: BTreeMap<u8, Entry>,
    tokens: BTreeMap<u8, Vec<Version>>,
}

impl Model {
    pub(crate) fn forget_expired(&mut self, now: u64) {
        self.known.retain(|_, entry| now < entry.expires);
    }

    fn live(&self, key: u8, now: u64) -> Option<&Entry> {
        self.known.get(&key).filter(|entry| now < entry.expires)
    }

    pub(crate) fn what(&self, key: u8, now: u64) -> Option<What> {
        let entry = self.live(key, now)?;
        Some(match &entry.kind {
            Kind::Started(_) if now < entry.deadline => What::Held,
            Kind::Started(_) if entry.hold => What::Unknown,
            Kind::Started(_) => What::Overdue,
            Kind::Released if now < entry.deadline => What::Delayed,
            Kind::Released => What::Free,
            Kind::Done(outcome, failed) => What::Done(outcome.clone(), *failed),
        })
    }

    pub(crate) fn attempts(&self, key: u8, now: u64) -> Option<u32> {
        self.live(key, now).map(|entry| entry.attempts)
    }

    /// One of the key's tokens: 0 for the latest.
    pub(crate) fn token(&self, key: u8, back: u8) -> Option<Version> {
        self.tokens.get(&key)?.iter().rev().nth(usize::from(back)).copied()
    }

    pub(crate) fn is_current(&self, key: u8, token: Version) -> bool {
        self.known
            .get(&key)
            .is_some_and(|entry| matches!(entry.kind, Kind::Started(own) if own == token))
    }

    /// The number of the attempt that begins.
    pub(crate) fn begin(
        &mut self,
        key: u8,
        token: Version,
        now: u64,
        lease: u64,
        retention: u64,
        hold: bool,
    ) -> u32 {
        let before = self.known.get(&key);
        let attempts = before.map_or(0, |entry| entry.attempts) + 1;
        let floor = before.map_or(0, |entry| entry.expires);
        let deadline = now + lease;
        let expires = (now + retention).max(deadline).max(floor);
        let kind = Kind::Started(token);
        self.known.insert(key, Entry { kind, deadline, expires, attempts, hold });
        let tokens = self.tokens.entry(key).or_default();
        assert!(tokens.last().is_none_or(|last| *last < token), "tokens of a key rise");
        tokens.push(token);
        attempts
    }

    pub(crate) fn record(&mut self, key: u8, outcome: &[u8], expires: u64, failed: bool) {
        let before = self.known.get(&key);
        let expires = expires.max(before.map_or(0, |entry| entry.expires));
        let attempts = before.map_or(0, |entry| entry.attempts);
        let kind = Kind::Done(outcome.to_vec(), failed);
        self.known.insert(key, Entry { kind, deadline: 0, expires, attempts, hold: false });
    }

    pub(crate) fn release(&mut self, key: u8, now: u64, deadline: u64, retention: u64) {
        self.renew(key, now, deadline, retention);
        if let Some(entry) = self.known.get_mut(&key) {
            entry.kind = Kind::Released;
        }
    }

    pub(crate) fn renew(&mut self, key: u8, now: u64, deadline: u64, retention: u64) {
        if let Some(entry) = self.known.get_mut(&key) {
            entry.deadline = deadline;
            entry.expires = (now + retention).max(deadline).max(entry.expires);
        }
    }

    /// The key was recorded without a lease: attempts begin anew with it.
    pub(crate) fn record_unleased(&mut self, key: u8, outcome: &[u8], expires: u64) {
        self.record(key, outcome, expires, false);
        if let Some(entry) = self.known.get_mut(&key) {
            entry.attempts = 0;
        }
    }

    pub(crate) fn remove(&mut self, key: u8) {
        self.known.remove(&key);
    }
}
