//! The suite over the embedded engine, with a clock moved by hand and with that of the system.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::suite::{
    Able, CASES, Clients, Harness, Skew, Task, Time, run_all, run_named,
};
use oncelog::backend::{AnyBackend, Backend, Begin, Profile, Survives};
use oncelog::{
    BeginOptions, Builder, CheckOptions, Durability, ManualClock, Policy, Result, Store, Timestamp,
};
use tempfile::TempDir;

use crate::threads::{block_on, sleep, spawn};

/// Where clocks moved by hand begin.
pub(crate) const START: u64 = 1_700_000_000_000;

/// The engine in a directory of its own.
pub(crate) struct Embedded {
    directory: TempDir,
    /// Moved by hand, if there is one.
    clock: Option<Arc<ManualClock>>,
    durability: Durability,
    store: Mutex<Store>,
}

impl Embedded {
    pub(crate) fn new(clock: Option<ManualClock>) -> Self {
        Self::at(clock, Durability::Process)
    }

    fn at(clock: Option<ManualClock>, durability: Durability) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = clock.map(Arc::new);
        let store = builder(&clock).durability(durability).open(directory.path()).unwrap();
        Self { directory, clock, durability, store: Mutex::new(store) }
    }

    /// With a clock that stands still until it is moved.
    pub(crate) fn still() -> Self {
        Self::new(Some(ManualClock::new(Timestamp::from_millis(START))))
    }

    /// With the clock of the system.
    pub(crate) fn running() -> Self {
        Self::new(None)
    }

    pub(crate) fn store(&self) -> Store {
        self.store.lock().unwrap().clone()
    }
}

fn builder(clock: &Option<Arc<ManualClock>>) -> Builder {
    let builder = Store::builder().stripes(16).lanes(2).outcome_bytes_max(100_000);
    match clock {
        Some(clock) => builder.clock(clock.clone()),
        None => builder,
    }
}

impl Harness for Embedded {
    fn client<'a>(&'a self, namespace: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
        Box::pin(async move { Ok(AnyBackend::new(self.store().namespace(namespace, policy)?)) })
    }

    fn spawn(&self, task: Task<'static, ()>) {
        spawn(task);
    }

    fn sleep(&self, time: Duration) -> Task<'static, ()> {
        sleep(time)
    }

    /// Closed rather than killed: `crash` and `killed` are about that.
    fn restart(&self) -> Task<'_, Able<Clients>> {
        Box::pin(async {
            let mut store = self.store.lock().unwrap();
            store.clone().close().unwrap();
            let builder = builder(&self.clock).durability(self.durability);
            *store = builder.open(self.directory.path()).unwrap();
            Able::Done(Clients::Anew)
        })
    }

    fn skewed_client<'a>(
        &'a self,
        _namespace: &'a str,
        _policy: Policy,
        _skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>> {
        Box::pin(async { Able::Cannot("all clients have the clock of the store") })
    }

    fn time(&self) -> Time {
        if self.clock.is_some() { Time::StandsStill } else { Time::Runs }
    }

    fn pass(&self, time: Duration) -> Task<'_, ()> {
        let Some(clock) = &self.clock else { return sleep(time) };
        clock.advance(time);
        let store = self.store();
        Box::pin(async move { store.maintain(Duration::ZERO).map(drop).unwrap() })
    }
}

#[test]
fn the_embedded_engine_keeps_the_contract_by_a_clock_moved_by_hand() {
    block_on(run_all(&Embedded::still())).assert_passed();
}

#[test]
fn the_embedded_engine_keeps_the_contract_by_the_clock_of_the_system() {
    block_on(run_all(&Embedded::running())).assert_passed();
}

/// Calls at random are left out, as each would wait for the disk.
#[test]
fn the_embedded_engine_keeps_the_contract_at_synced() {
    let synced = Embedded::at(None, Durability::Synced);
    let random = "calls_at_random_are_answered_as_the_model_says";
    let names: Vec<_> = CASES.iter().map(|case| case.name).filter(|name| *name != random).collect();
    block_on(run_named(&synced, &names)).assert_passed();
}

#[test]
fn at_synced_nothing_is_answered_before_what_it_rests_on_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = builder(&None).open(directory.path()).unwrap();
    let process = store.namespace("keys", Policy::default()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    let Profile { survives, .. } = Backend::profile(&synced);
    assert_eq!(survives, Survives::PowerLoss);
    let settled = |verb: &str| {
        assert_eq!(store.stats().unsynced_bytes, 0, "{verb} was answered too early");
    };
    let begun = |key: &[u8]| match block_on(Backend::begin(&synced, key, BeginOptions::new())) {
        Ok(Begin::Started(grant)) => {
            settled("begin");
            grant.version
        }
        other => panic!("{other:?}"),
    };
    let version = begun(b"completed");
    block_on(synced.complete(b"completed", version, b"x")).unwrap();
    settled("complete");
    let version = begun(b"failed");
    block_on(synced.fail(b"failed", version, b"x")).unwrap();
    settled("fail");
    let version = begun(b"released");
    block_on(synced.renew(b"released", version, Duration::from_secs(60))).unwrap();
    settled("renew");
    block_on(synced.release(b"released", version, None)).unwrap();
    settled("release");
    assert!(block_on(Backend::resolve(&synced, b"released", b"x")).unwrap());
    settled("resolve");
    assert!(block_on(Backend::remove(&synced, b"released", None)).unwrap());
    settled("remove");
    let options = CheckOptions::new();
    let items: [(&[u8], &[u8]); 2] = [(b"one", b"x"), (b"two", b"x")];
    for check in block_on(Backend::check_and_set_many(&synced, &items, options)).unwrap() {
        assert!(check.unwrap().is_new());
    }
    settled("check_and_set_many");
    // What others have recorded, and not synced, is waited for as well.
    for verb in ["check_and_set", "get", "peek", "begin", "wait"] {
        assert!(process.insert(verb).unwrap());
        assert!(store.stats().unsynced_bytes > 0);
        let key = verb.as_bytes();
        match verb {
            "get" => assert!(block_on(Backend::get(&synced, key)).unwrap().is_some()),
            "peek" => assert!(block_on(Backend::peek(&synced, key)).unwrap().is_some()),
            "wait" => assert!(block_on(synced.wait(key, Duration::ZERO)).unwrap().is_some()),
            "begin" => {
                let begun = block_on(Backend::begin(&synced, key, BeginOptions::new())).unwrap();
                assert!(matches!(begun, Begin::Completed(_)));
            }
            _ => {
                let check = block_on(Backend::check_and_set(&synced, key, b"x", options)).unwrap();
                assert!(check.is_duplicate());
            }
        }
        settled(verb);
    }
}
