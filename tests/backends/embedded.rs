//! The suite over the embedded engine, with a clock moved by hand and with that of the system.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::AnyBackend;
use oncelog::backend::suite::{Able, Clients, Harness, Skew, Task, Time, run_all};
use oncelog::{Builder, ManualClock, Policy, Result, Store, Timestamp};
use tempfile::TempDir;

use crate::threads::{block_on, sleep, spawn};

/// Where clocks moved by hand begin.
pub(crate) const START: u64 = 1_700_000_000_000;

/// The engine in a directory of its own.
pub(crate) struct Embedded {
    directory: TempDir,
    /// Moved by hand, if there is one.
    clock: Option<Arc<ManualClock>>,
    store: Mutex<Store>,
}

impl Embedded {
    pub(crate) fn new(clock: Option<ManualClock>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = clock.map(Arc::new);
        let store = Mutex::new(builder(&clock).open(directory.path()).unwrap());
        Self { directory, clock, store }
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
            *store = builder(&self.clock).open(self.directory.path()).unwrap();
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
