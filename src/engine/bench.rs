//! What the engine's own tests begin with: an engine on a simulated disk, a clock moved by hand.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Maintenance};
use crate::engine::Engine;
use crate::key::{KeyHasher, SECRET_BYTES};
use crate::record::Own;
use crate::sys::memory_disk::MemoryDisk;
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

/// The key's outcome, if it is known.
pub(crate) fn get(engine: &Engine, key: &str) -> Option<Vec<u8>> {
    let found = engine.get(key.as_bytes(), &mut Own).unwrap();
    found.map(|record| record.outcome().to_vec())
}
