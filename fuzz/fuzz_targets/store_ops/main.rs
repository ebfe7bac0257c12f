//! A whole store against a plain map: checks of one or many keys, leases, removals, time, crashes.
#![no_main]

mod model;

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use oncelog::{
    AbandonPolicy, Begin, BeginOptions, Check, CheckAll, Clock, Error, Maintenance, ManualClock,
    Store, Timestamp, Ttl, Version,
};

use model::{Model, What};

const START: u64 = 1_700_000_000_000;
const LIFETIMES_MS: [u64; 4] = [1, 5_000, 600_000, u64::MAX];
const LEASES_MS: [u64; 3] = [1, 30_000, 500_000];
const STORE_MS: u64 = 200_000;
const KEYS: u8 = 8;

fuzz_target!(|bytes: &[u8]| run(bytes));

struct World {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: Option<Store>,
    model: Model,
}

/// Each step is three bytes: what to do, to which key, with what.
fn run(bytes: &[u8]) {
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let Ok(directory) = memory else { return };
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START)));
    let mut world = World { directory, clock, store: None, model: Model::default() };
    world.reopen();
    for step in bytes.as_chunks::<3>().0 {
        let [action, key, with] = *step;
        world.model.forget_expired(world.now());
        let chosen: Vec<u8> = (0..KEYS).filter(|bit| key >> bit & 1 == 1).collect();
        let key = key % KEYS;
        match action % 16 {
            0..2 => world.check(key, with, action >> 4),
            2..5 => world.begin(key, with),
            5..9 => world.end(action % 16 - 5, key, with),
            9 => world.remove(key, with),
            10 => world.resolve(key, with),
            11..13 => {
                let millis = u64::from(key + 1) << (with % 18);
                world.clock.advance(Duration::from_millis(millis));
            }
            13 => {
                let done = world.store().maintain(Duration::from_millis(u64::from(with)));
                assert!(done.is_ok(), "{done:?}");
            }
            14 => {
                // The process ends, or the store is closed first.
                if with % 2 == 0 {
                    assert!(world.store().clone().close().is_ok());
                }
                world.reopen();
            }
            _ => {
                world.check_all(&chosen, with);
                chosen.iter().for_each(|key| world.compare(*key));
            }
        }
        world.compare(key);
    }
}

impl World {
    fn now(&self) -> u64 {
        self.clock.now().as_millis()
    }

    fn reopen(&mut self) {
        self.store = None;
        let builder = Store::builder().clock(self.clock.clone()).maintenance(Maintenance::Manual);
        let builder = builder.stripes(4).lanes(2).ttl(Duration::from_millis(STORE_MS));
        let opened = builder.open(self.directory.path());
        self.store = Some(opened.unwrap_or_else(|error| panic!("{error}")));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap_or_else(|| panic!("a store is open between steps"))
    }

    fn outcome(with: u8) -> Vec<u8> {
        vec![with; usize::from(with) * usize::from(with % 5)]
    }

    fn check(&mut self, key: u8, with: u8, lifetime: u8) {
        let now = self.now();
        let lifetime = LIFETIMES_MS[usize::from(lifetime) % LIFETIMES_MS.len()];
        let ttl = match lifetime {
            u64::MAX => Ttl::Never,
            millis => Ttl::After(Duration::from_millis(millis)),
        };
        let outcome = Self::outcome(with);
        let answer = self.store().check_and_set_for([key], &outcome, ttl);
        match (answer, self.model.what(key, now)) {
            (Ok(Check::New), None | Some(What::Overdue | What::Free | What::Delayed)) => {
                self.model.record_unleased(key, &outcome, now.saturating_add(lifetime));
            }
            (Ok(Check::Duplicate(record)), Some(What::Done(known, failed))) => {
                assert_eq!((record.outcome(), record.is_failure()), (&known[..], failed));
            }
            (Err(Error::InProgress { .. }), Some(What::Held)) => {}
            (Err(Error::Unresolved), Some(What::Unknown)) => {}
            (answer, what) => panic!("{answer:?} for {what:?}"),
        }
    }

    /// Keys together: all are recorded, or none.
    fn check_all(&mut self, keys: &[u8], with: u8) {
        let (now, outcome) = (self.now(), Self::outcome(with));
        let items: Vec<_> = keys.iter().map(|key| ([*key], &outcome)).collect();
        let what: Vec<_> = keys.iter().map(|key| self.model.what(*key, now)).collect();
        let refused = what.iter().find(|what| matches!(what, Some(What::Held | What::Unknown)));
        let done = |(index, what): (usize, &Option<What>)| match what {
            Some(What::Done(known, _)) => Some((index, known.clone())),
            _ => None,
        };
        let known: Vec<_> = what.iter().enumerate().filter_map(done).collect();
        match (self.store().check_and_set_all(&items), refused) {
            (Err(Error::InProgress { .. }), Some(Some(What::Held)))
            | (Err(Error::Unresolved), Some(Some(What::Unknown))) => {}
            (Ok(CheckAll::Known(found)), None) => {
                let found = found.iter().map(|(index, record)| (*index, record.outcome().to_vec()));
                assert_eq!(found.collect::<Vec<_>>(), known);
            }
            (Ok(CheckAll::New), None) => {
                assert!(known.is_empty(), "{known:?}");
                for key in keys {
                    self.model.record_unleased(*key, &outcome, now.saturating_add(STORE_MS));
                }
            }
            (answer, refused) => panic!("{answer:?} for {refused:?}"),
        }
    }

    fn begin(&mut self, key: u8, with: u8) {
        let now = self.now();
        let lease = LEASES_MS[usize::from(with) % LEASES_MS.len()];
        let hold = with & 64 != 0;
        let policy = if hold { AbandonPolicy::Hold } else { AbandonPolicy::Reclaim };
        let options = BeginOptions::new().lease(Duration::from_millis(lease)).on_abandon(policy);
        let answer = self.store().begin_with([key], options);
        match (answer, self.model.what(key, now)) {
            (Ok(Begin::Started(begun)), None | Some(What::Overdue | What::Free)) => {
                let attempts = self.model.begin(key, begun.version(), now, lease, STORE_MS, hold);
                assert_eq!(begun.attempt(), attempts);
            }
            (Ok(Begin::Completed(record)), Some(What::Done(known, failed))) => {
                assert_eq!((record.outcome(), record.is_failure()), (&known[..], failed));
            }
            (Ok(Begin::InProgress(_)), Some(What::Held | What::Delayed)) => {}
            (Ok(Begin::Unknown(_)), Some(What::Unknown)) => {}
            (answer, what) => panic!("{answer:?} for {what:?}"),
        }
    }

    /// Ends or renews a lease: the key's latest, or any that was ever given out.
    fn end(&mut self, how: u8, key: u8, with: u8) {
        let now = self.now();
        let Some(token) = self.model.token(key, with >> 6) else { return };
        let (outcome, by) = (Self::outcome(with), u64::from(with) * 100 + 1);
        let (store, length) = (self.store(), Duration::from_millis(by));
        let answer: Result<Option<Version>, Error> = match how {
            0 => store.complete_by([key], token, &outcome).map(Some),
            1 => store.fail_by([key], token, &outcome).map(Some),
            2 => store.release_by([key], token, Some(length)).map(|()| None),
            _ => store.renew_by([key], token, length).map(|()| None),
        };
        match (answer, self.model.is_current(key, token)) {
            (Err(Error::LeaseLost), false) => {}
            (Ok(version), true) => {
                if let Some(version) = version {
                    assert!(version > token, "an outcome is above its lease");
                }
                match how {
                    0 | 1 => self.model.record(key, &outcome, now + STORE_MS, how == 1),
                    2 => self.model.release(key, now, now + by, STORE_MS),
                    _ => self.model.renew(key, now, now + by, STORE_MS),
                }
            }
            (answer, current) => panic!("{answer:?} though current: {current}"),
        }
    }

    fn remove(&mut self, key: u8, with: u8) {
        let known = self.store().peek([key]).unwrap_or_else(|error| panic!("{error}"));
        let version = match with % 3 {
            0 => None,
            1 => known.map(|meta| meta.version),
            _ => self.model.token(key, with >> 6),
        };
        let answer = match version {
            None => self.store().remove([key]),
            Some(version) => self.store().remove_if([key], version),
        };
        let fits = known.is_some_and(|meta| version.is_none_or(|version| version == meta.version));
        assert_eq!(answer.ok(), Some(fits));
        if fits {
            self.model.remove(key);
        }
    }

    fn resolve(&mut self, key: u8, with: u8) {
        let now = self.now();
        let outcome = Self::outcome(with);
        match (self.store().resolve([key], &outcome), self.model.what(key, now)) {
            (Ok(false), None | Some(What::Done(..)))
            | (Err(Error::InProgress { .. }), Some(What::Held)) => {}
            (Ok(true), Some(What::Overdue | What::Unknown | What::Free | What::Delayed)) => {
                self.model.record(key, &outcome, now + STORE_MS, false);
            }
            (answer, what) => panic!("{answer:?} for {what:?}"),
        }
    }

    /// What is known of the key, by both.
    fn compare(&self, key: u8) {
        let found = self.store().get([key]).unwrap_or_else(|error| panic!("{error}"));
        let meta = self.store().peek([key]).unwrap_or_else(|error| panic!("{error}"));
        let what = self.model.what(key, self.now());
        assert_eq!(meta.map(|meta| meta.attempts), self.model.attempts(key, self.now()));
        match what {
            Some(What::Done(known, failed)) => {
                let found = found.map(|record| (record.outcome().to_vec(), record.is_failure()));
                assert_eq!(found, Some((known, failed)));
            }
            other => assert!(found.is_none() && meta.is_some() == other.is_some(), "{other:?}"),
        }
    }
}
