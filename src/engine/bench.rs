//! What the engine's own tests begin with: an engine on a simulated disk, a clock moved by hand.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Maintenance};
use crate::engine::Engine;
use crate::engine::begin::{Begun, Grant};
use crate::key::{KeyHasher, SECRET_BYTES};
use crate::policy::{BeginOptions, Policy};
use crate::record::Own;
use crate::sys::memory_disk::MemoryDisk;
use crate::sys::power_cut::Snapshot;
use crate::sys::sync::Mutex;
use crate::time::{ManualClock, Timestamp, Ttl};

/// Where the clock begins.
pub(crate) const START: u64 = 1_700_000_000_000;
pub(crate) const MINUTE: u64 = 60_000;
/// The lifetime of a key that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

/// A disk, a clock and settings, from which engines are opened one after another.
pub(crate) struct Bench {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: Config,
    pub(crate) constant_hash: bool,
    /// In place of the store's own.
    pub(crate) secret: Option<[u8; SECRET_BYTES]>,
}

impl Bench {
    /// Small segments, few stripes, and keys that live for ten minutes.
    pub(crate) fn new() -> Self {
        Self::with(|config| config.ttl = Ttl::After(Duration::from_millis(10 * MINUTE)))
    }

    /// As [`Bench::new`] for keys that do not expire, with other settings.
    pub(crate) fn with(set: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START)));
        let mut config = Config {
            ttl: Ttl::Never,
            maintenance: Maintenance::Manual,
            clock: Some(clock.clone()),
            stripes: 4,
            lanes: 2,
            segment_bytes_max: 1 << 20,
            ..Config::default()
        };
        set(&mut config);
        Self { disk: Arc::default(), clock, config, constant_hash: false, secret: None }
    }

    pub(crate) fn open(&self) -> Engine {
        self.open_on(self.disk.clone())
    }

    pub(crate) fn open_on(&self, disk: Arc<MemoryDisk>) -> Engine {
        let adjust = |hasher: &mut KeyHasher| {
            if let Some(secret) = self.secret {
                *hasher = KeyHasher::new(secret);
            }
            hasher.constant = self.constant_hash;
        };
        Engine::open_with(disk, self.config.clone(), adjust).unwrap()
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }
}

/// Does all there is to do.
pub(crate) fn maintain(engine: &Engine) {
    while engine.maintain(Duration::from_secs(1)).unwrap().more {}
}

/// Numbers that look random, the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }
}

/// Begins a key that is free.
pub(crate) fn begin(engine: &Engine, key: &str, retention_ms: u64) -> Grant {
    let terms = Policy::DEFAULT.terms(&BeginOptions::new(), retention_ms).unwrap();
    let now = engine.clock.now();
    match engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now)) {
        Ok(Begun::Started(grant)) => grant,
        other => panic!("not started: {other:?}"),
    }
}

/// The key's outcome, if it is known.
pub(crate) fn get(engine: &Engine, key: &str) -> Option<Vec<u8>> {
    let found = engine.get(key.as_bytes(), &mut Own).unwrap();
    found.map(|record| record.outcome().to_vec())
}

/// What a disk keeps or loses as a whole.
const UNITS: [usize; 3] = [4096, 512, 8];

/// Looks at the disk before each of its calls while `work` is done, and at the end.
pub(crate) fn watched(bench: &Bench, work: impl FnOnce()) -> Vec<Snapshot> {
    let looks: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
    let kept = looks.clone();
    *bench.disk.watch.lock() = Some(Box::new(move |disk: &MemoryDisk| {
        kept.lock().extend(UNITS.map(|unit| Snapshot::of(disk, unit)));
    }));
    work();
    *bench.disk.watch.lock() = None;
    let mut looks = std::mem::take(&mut *looks.lock());
    looks.extend(UNITS.map(|unit| Snapshot::of(&bench.disk, unit)));
    looks
}

/// Opens what every one of many power cuts may leave of each look; returns how many there were.
pub(crate) fn cut(bench: &Bench, looks: &[Snapshot], most: usize, check: impl Fn(Engine)) -> usize {
    let (mut seed, mut images) = (5_u64, 0);
    for look in looks {
        let draw = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed
        };
        for left in look.cuts(most, draw) {
            let engine = bench.open_on(Arc::new(left.disk()));
            check(engine);
            images += 1;
        }
    }
    images
}
