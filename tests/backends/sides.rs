//! A near tier, the two sides of it, and their clocks.
//!
//! The far side is the embedded engine too, through a wrapper that counts what it is asked and can
//! hold an answer back until the test lets it go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::suite::{Filler, Slot, slot};
use oncelog::backend::{Backend, Begin, Grant, Profile, Tiered};
use oncelog::{
    BeginOptions, Check, CheckOptions, Fingerprint, ManualClock, Meta, Namespace, Policy, Record,
    Result, Store, Timestamp, Ttl, Version,
};
use tempfile::TempDir;

use crate::embedded::START;
use crate::threads::block_on;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const STALENESS: Duration = Duration::from_secs(60);

/// The far side: what it is asked, and answers that are held back.
#[derive(Clone)]
pub(crate) struct Far {
    pub(crate) inner: Arc<Namespace>,
    asked: Arc<AtomicU64>,
    held: Arc<Mutex<Option<Slot<()>>>>,
}

impl Far {
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The next answer is held back until the result is filled.
    pub(crate) fn hold(&self) -> Filler<()> {
        let (filler, slot) = slot();
        *self.held.lock().unwrap() = Some(slot);
        filler
    }

    /// After the answer was made, and before it is given.
    async fn held(&self) {
        let held = self.held.lock().unwrap().take();
        if let Some(held) = held {
            held.await;
        }
    }
}

impl Backend for Far {
    fn profile(&self) -> Profile {
        self.inner.profile()
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(Namespace::now(&self.inner))
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        self.ask();
        Backend::check_and_set(&*self.inner, key, outcome, options).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        self.asked.fetch_add(items.len() as u64, Ordering::SeqCst);
        Backend::check_and_set_many(&*self.inner, items, options).await
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        self.ask();
        Backend::begin(&*self.inner, key, options).await
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.inner.complete(key, version, outcome).await
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.inner.fail(key, version, outcome).await
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        self.inner.release(key, version, retry_after).await
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        self.inner.renew(key, version, length).await
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        Backend::resolve(&*self.inner, key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        self.ask();
        let found = Backend::get(&*self.inner, key).await;
        self.held().await;
        found
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.ask();
        Backend::peek(&*self.inner, key).await
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        let removed = Backend::remove(&*self.inner, key, version).await;
        self.held().await;
        removed
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        self.ask();
        self.inner.wait(key, timeout).await
    }
}

/// A tier whose two sides have clocks of their own.
pub(crate) struct Sides {
    _directories: [TempDir; 2],
    pub(crate) near_clock: Arc<ManualClock>,
    far_clock: Arc<ManualClock>,
    pub(crate) near_store: Store,
    pub(crate) far: Far,
    pub(crate) tier: Tiered<Far>,
}

fn clock(start: u64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(start)))
}

pub(crate) fn lasting() -> Policy {
    Policy { retention: Some(Ttl::After(DAY)), lease: HOUR, ..Policy::default() }
}

impl Sides {
    /// The far clock is so much ahead.
    pub(crate) fn new(policy: Policy, ahead: Duration) -> Self {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let ahead = u64::try_from(ahead.as_millis()).unwrap();
        let (near_clock, far_clock) = (clock(START), clock(START + ahead));
        let open = |directory: &TempDir, clock: &Arc<ManualClock>| {
            let builder = Store::builder().stripes(16).lanes(2).clock(clock.clone());
            builder.open(directory.path()).unwrap()
        };
        let near_store = open(&directories[0], &near_clock);
        let far_store = open(&directories[1], &far_clock);
        let far = Far {
            inner: Arc::new(far_store.namespace("keys", policy).unwrap()),
            asked: Arc::default(),
            held: Arc::default(),
        };
        let near = near_store.namespace("near", policy).unwrap();
        let tier = Tiered::new(near, far.clone(), STALENESS).unwrap();
        Self { _directories: directories, near_clock, far_clock, near_store, far, tier }
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.near_clock.advance(time);
        self.far_clock.advance(time);
    }

    pub(crate) fn begin(&self, key: &[u8], options: BeginOptions) -> Begin {
        block_on(self.tier.begin(key, options)).unwrap()
    }

    pub(crate) fn started(&self, key: &[u8], options: BeginOptions) -> Grant {
        match self.begin(key, options) {
            Begin::Started(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        block_on(self.tier.get(key)).unwrap().map(|record| record.outcome().to_vec())
    }

    /// A key that is done, and of which the tier has a copy.
    pub(crate) fn copied(&self, key: &[u8], options: BeginOptions) -> Record {
        let grant = self.started(key, options);
        block_on(self.tier.complete(key, grant.version, b"outcome")).unwrap();
        assert!(matches!(self.begin(key, options), Begin::Completed(_)));
        let asked = self.far.asked();
        let record = block_on(self.tier.get(key)).unwrap().unwrap();
        assert_eq!(self.far.asked(), asked, "it was asked of the far side");
        record
    }
}

/// A begin for this request.
pub(crate) fn asks(payload: &[u8]) -> BeginOptions {
    BeginOptions::new().fingerprint(Fingerprint::of(payload))
}
