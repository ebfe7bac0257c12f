//! The whole protocol against a model: random calls, clock moves, crashes and reopening.
//!
//! The model is a map from key to what is known of it. It is written from the promises in
//! `docs/semantics.md` and shares no code with the engine. After each step the answer is compared,
//! and what both know of the key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oncelog::{
    AbandonPolicy, Begin, BeginOptions, Check, Error, Fingerprint, ManualClock, Status, Store,
    Version,
};
use proptest::prelude::*;

use crate::setup::{START, clock, fast_directory, small};

const KEYS: u8 = 4;
const LEASES_MS: [u64; 3] = [1, 30_000, 500_000];
const RETENTIONS_MS: [u64; 4] = [5_000, 100_000, 3_600_000, u64::MAX];
const STORE_TTL_MS: u64 = 200_000;

#[derive(Clone, Debug)]
enum Step {
    Begin {
        key: u8,
        lease: u8,
        retention: u8,
        print: u8,
        limit: u8,
        hold: bool,
    },
    /// Ends or renews one of the tokens given out so far, counted from the latest.
    End {
        back: u8,
        how: u8,
        by: u32,
    },
    Check {
        key: u8,
        ttl: u8,
    },
    Remove {
        key: u8,
    },
    RemoveIf {
        key: u8,
        stale: bool,
    },
    Resolve {
        key: u8,
    },
    Advance(u32),
    Maintain,
    Crash,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS;
    let step = prop_oneof![
        10 => (key.clone(), 0..3_u8, 0..4_u8, 0..3_u8, 0..4_u8, any::<bool>()).prop_map(
            |(key, lease, retention, print, limit, hold)| Step::Begin {
                key, lease, retention, print, limit, hold
            }
        ),
        10 => (0..5_u8, 0..5_u8, 0..60_000_u32).prop_map(|(back, how, by)| Step::End {
            back, how, by
        }),
        3 => (key.clone(), 0..4_u8).prop_map(|(key, ttl)| Step::Check { key, ttl }),
        1 => key.clone().prop_map(|key| Step::Remove { key }),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, stale)| Step::RemoveIf { key, stale }),
        2 => key.prop_map(|key| Step::Resolve { key }),
        3 => (1..40_000_u32).prop_map(Step::Advance),
        2 => (40_000..4_000_000_u32).prop_map(Step::Advance),
        2 => Just(Step::Maintain),
        2 => Just(Step::Crash),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..120)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Started,
    Released,
    Completed,
    Failed,
}

/// What is known of a key.
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    token: Option<Version>,
    version: Version,
    attempts: u32,
    first_seen: u64,
    deadline: u64,
    expires: u64,
    retention: u64,
    print: Option<u8>,
    hold: bool,
    outcome: Vec<u8>,
}

impl Entry {
    fn status(&self, now: u64) -> Status {
        match self.kind {
            Kind::Completed => Status::Completed,
            Kind::Failed => Status::Failed,
            Kind::Released => Status::Released,
            Kind::Started if now < self.deadline => Status::InProgress,
            Kind::Started if self.hold => Status::Unknown,
            Kind::Started => Status::Overdue,
        }
    }
}

/// A lifetime's end; for ever is `u64::MAX`.
fn end(now: u64, lifetime: u64) -> u64 {
    now.saturating_add(lifetime)
}

struct World<'a> {
    path: &'a Path,
    clock: Arc<ManualClock>,
    store: Option<Store>,
    now: u64,
    known: BTreeMap<u8, Entry>,
    /// Every token ever given out.
    tokens: Vec<(u8, Version)>,
    latest: BTreeMap<u8, Version>,
    count: u32,
}

impl World<'_> {
    fn open(&self) -> Store {
        small()
            .clock(self.clock.clone())
            .ttl(Duration::from_millis(STORE_TTL_MS))
            .open(self.path)
            .unwrap()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn live(&self, key: u8) -> Option<&Entry> {
        self.known.get(&key).filter(|entry| self.now < entry.expires)
    }

    fn outcome(&mut self) -> Vec<u8> {
        self.count += 1;
        vec![self.count.to_le_bytes()[0]; (self.count % 3 * 300) as usize]
    }

    /// A version of a key is above all that the key ever had.
    fn rises(&mut self, key: u8, version: Version) {
        let before = self.latest.insert(key, version);
        assert!(before.is_none_or(|before| before < version), "{before:?} then {version:?}");
    }

    fn begin(&mut self, key: u8, options: BeginOptions, terms: (u64, u64, u8, u8, bool)) {
        let (lease, retention, print, limit, hold) = terms;
        let print = (print > 0).then_some(print);
        let limit = if limit == 0 { u32::MAX } else { u32::from(limit) };
        let answer = self.store().begin_with([key], options).unwrap();
        let now = self.now;
        let live = self.live(key).cloned();
        let free = match &live {
            None => true,
            Some(entry) => {
                let mismatch = print.is_some() && entry.print.is_some() && print != entry.print;
                let status = entry.status(now);
                let used_up = entry.attempts >= limit;
                match (&answer, status) {
                    (Begin::Mismatch(meta), status) if mismatch => {
                        assert_eq!(meta.status, status);
                        return;
                    }
                    _ if mismatch => panic!("no mismatch but {answer:?}"),
                    (Begin::Completed(record), Status::Completed | Status::Failed) => {
                        assert_eq!(record.outcome(), entry.outcome);
                        assert_eq!(record.is_failure(), status == Status::Failed);
                        return;
                    }
                    (Begin::InProgress(other), Status::InProgress) => {
                        assert_eq!(other.deadline().as_millis(), entry.deadline);
                        return;
                    }
                    (Begin::Unknown(_), Status::Unknown) => return,
                    (Begin::Exhausted(_), Status::Overdue | Status::Released) if used_up => return,
                    (Begin::InProgress(_), Status::Released)
                        if now < entry.deadline && !used_up =>
                    {
                        return;
                    }
                    (_, Status::Overdue) => !used_up,
                    (_, Status::Released) => !used_up && now >= entry.deadline,
                    _ => false,
                }
            }
        };
        let Begin::Started(lease_given) = answer else { panic!("{answer:?} for {live:?}") };
        assert!(free, "started although {live:?}");
        let attempts = live.as_ref().map_or(0, |entry| entry.attempts) + 1;
        assert_eq!(lease_given.attempt(), attempts);
        let token = lease_given.version();
        self.rises(key, token);
        self.tokens.push((key, token));
        let deadline = end(now, lease);
        let floor = live.as_ref().map_or(0, |entry| entry.expires);
        let entry = Entry {
            kind: Kind::Started,
            token: Some(token),
            version: token,
            attempts,
            first_seen: live.as_ref().map_or(now, |entry| entry.first_seen),
            deadline,
            expires: end(now, retention).max(deadline).max(floor),
            retention,
            print: live.as_ref().and_then(|entry| entry.print).or(print),
            hold,
            outcome: Vec::new(),
        };
        self.known.insert(key, entry);
    }

    fn end(&mut self, back: u8, how: u8, by: u32) {
        let Some((key, token)) = self.tokens.iter().rev().nth(usize::from(back)).copied() else {
            return;
        };
        let outcome = self.outcome();
        let by = u64::from(by) + 1;
        let wait = Duration::from_millis(by);
        let result = match how {
            0 | 1 => self.store().complete_by([key], token, &outcome).map(Some),
            2 => self.store().fail_by([key], token, &outcome).map(Some),
            3 => self.store().release_by([key], token, Some(wait)).map(|()| None),
            _ => self.store().renew_by([key], token, wait).map(|()| None),
        };
        let now = self.now;
        let current = self
            .live(key)
            .is_some_and(|entry| entry.kind == Kind::Started && entry.token == Some(token));
        if !current {
            assert!(matches!(result, Err(Error::LeaseLost)), "{result:?}");
            return;
        }
        if let Some(version) = result.unwrap() {
            self.rises(key, version);
        }
        let version = self.store().peek([key]).unwrap().unwrap().version;
        let Some(entry) = self.known.get_mut(&key) else { return };
        entry.deadline = end(now, by);
        entry.expires = end(now, entry.retention).max(entry.expires);
        entry.kind = match how {
            0 | 1 => Kind::Completed,
            2 => Kind::Failed,
            3 => Kind::Released,
            _ => Kind::Started,
        };
        if how >= 3 {
            entry.expires = entry.expires.max(entry.deadline);
        } else {
            entry.outcome = outcome;
        }
        entry.version = if how >= 4 { token } else { version };
        let version = entry.version;
        self.latest.entry(key).and_modify(|latest| *latest = version.max(*latest));
    }

    fn check(&mut self, key: u8, ttl: u64) {
        let outcome = self.outcome();
        let lifetime = match ttl {
            u64::MAX => oncelog::Ttl::Never,
            ttl => Duration::from_millis(ttl).into(),
        };
        let result = self.store().check_and_set_for([key], &outcome, lifetime);
        let (now, live) = (self.now, self.live(key).cloned());
        match (result, live.as_ref().map(|entry| entry.status(now))) {
            (Ok(Check::Duplicate(record)), Some(Status::Completed | Status::Failed)) => {
                assert_eq!(Some(record.outcome()), live.as_ref().map(|e| e.outcome.as_slice()));
            }
            (Err(Error::InProgress { .. }), Some(Status::InProgress)) => {}
            (Err(Error::Unresolved), Some(Status::Unknown)) => {}
            (Ok(Check::New), None | Some(Status::Overdue | Status::Released)) => {
                let version = self.store().get([key]).unwrap().unwrap().version();
                self.rises(key, version);
                let floor = live.map_or(0, |entry| entry.expires);
                let entry = Entry {
                    kind: Kind::Completed,
                    token: None,
                    version,
                    attempts: 0,
                    first_seen: now,
                    deadline: 0,
                    expires: end(now, ttl).max(floor),
                    retention: 0,
                    print: None,
                    hold: false,
                    outcome,
                };
                self.known.insert(key, entry);
            }
            (result, status) => panic!("{result:?} for a key that is {status:?}"),
        }
    }

    fn resolve(&mut self, key: u8) {
        let outcome = self.outcome();
        let result = self.store().resolve([key], &outcome);
        let now = self.now;
        match self.live(key).map(|entry| entry.status(now)) {
            Some(Status::InProgress) => assert!(matches!(result, Err(Error::InProgress { .. }))),
            Some(Status::Overdue | Status::Unknown | Status::Released) => {
                assert!(result.unwrap());
                let version = self.store().get([key]).unwrap().unwrap().version();
                self.rises(key, version);
                let Some(entry) = self.known.get_mut(&key) else { return };
                entry.kind = Kind::Completed;
                entry.version = version;
                entry.outcome = outcome;
                entry.expires = end(now, entry.retention).max(entry.expires);
            }
            _ => assert!(!result.unwrap()),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Begin { key, lease, retention, print, limit, hold } => {
                let lease = LEASES_MS[usize::from(lease)];
                let retention = RETENTIONS_MS[usize::from(retention)];
                let mut options = BeginOptions::new().lease(Duration::from_millis(lease));
                options = options.retention(match retention {
                    u64::MAX => oncelog::Ttl::Never,
                    retention => Duration::from_millis(retention).into(),
                });
                if print > 0 {
                    options = options.fingerprint(Fingerprint::from_bytes([print; 16]));
                }
                if limit > 0 {
                    options = options.attempts_max(u32::from(limit));
                }
                if hold {
                    options = options.on_abandon(AbandonPolicy::Hold);
                }
                self.begin(key, options, (lease, retention, print, limit, hold));
            }
            Step::End { back, how, by } => self.end(back, how, by),
            Step::Check { key, ttl } => self.check(key, RETENTIONS_MS[usize::from(ttl)]),
            Step::Remove { key } => {
                let known = self.live(key).is_some();
                assert_eq!(self.store().remove([key]).unwrap(), known);
                self.known.remove(&key);
            }
            Step::RemoveIf { key, stale } => {
                let Some(entry) = self.live(key) else { return };
                let mut other = self.tokens.iter().map(|(_, token)| *token);
                let other = other.rfind(|token| *token != entry.version);
                let version = if stale { other.unwrap_or(entry.version) } else { entry.version };
                let same = version == entry.version;
                assert_eq!(self.store().remove_if([key], version).unwrap(), same);
                if same {
                    self.known.remove(&key);
                }
            }
            Step::Resolve { key } => self.resolve(key),
            Step::Advance(by) => {
                self.clock.advance(Duration::from_millis(u64::from(by)));
                self.now += u64::from(by);
            }
            Step::Maintain => drop(self.store().maintain(Duration::ZERO).unwrap()),
            Step::Crash => {
                self.store = None;
                self.store = Some(self.open());
            }
            Step::Close => {
                if let Some(store) = self.store.take() {
                    store.close().unwrap();
                }
                self.store = Some(self.open());
            }
        }
        for key in 0..KEYS {
            self.compare(key);
        }
    }

    fn compare(&self, key: u8) {
        let meta = self.store().peek([key]).unwrap();
        let live = self.live(key);
        assert_eq!(meta.is_some(), live.is_some(), "{meta:?} for {live:?}");
        let (Some(meta), Some(entry)) = (meta, live) else { return };
        assert_eq!(meta.status, entry.status(self.now));
        assert_eq!((meta.attempts, meta.version), (entry.attempts, entry.version));
        assert_eq!(meta.first_seen.as_millis(), entry.first_seen);
        let expires = meta.expires.map_or(u64::MAX, |expires| expires.as_millis());
        assert_eq!(expires, entry.expires);
        assert_eq!(meta.has_fingerprint, entry.print.is_some());
        let found = self.store().get([key]).unwrap();
        assert_eq!(found.is_some(), meta.status.is_final());
        if let Some(record) = found {
            assert_eq!((record.outcome(), record.meta()), (&entry.outcome[..], meta));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_protocol_and_its_model_agree_through_crashes_and_clock_moves(steps in steps()) {
        let directory = fast_directory();
        let mut world = World {
            path: directory.path(),
            clock: clock(),
            store: None,
            now: START,
            known: BTreeMap::new(),
            tokens: Vec::new(),
            latest: BTreeMap::new(),
            count: 0,
        };
        world.store = Some(world.open());
        for step in &steps {
            world.step(step);
        }
    }
}
