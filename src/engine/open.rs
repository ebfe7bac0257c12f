//! From a directory to a running engine: identity, manifest, segments, a new epoch.
//!
//! The order is what makes a crash at any point harmless: a new store's identity is written last,
//! so that a directory without one is empty; an existing store changes nothing but debris before
//! its segments were read, and gives no version out before the new epoch is on stable storage.

use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::config::{Config, Durability, SEGMENT_BYTES_MAX};
use crate::engine::{COUNTERS, Counters, Engine};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::format::identity::{Identity, IdentityError};
use crate::format::layout::{FORMAT_VERSION, IDENTITY_FILE, MANIFEST_FILE};
use crate::format::manifest::{ListedDurability, Manifest};
use crate::index::Index;
use crate::key::KeyHasher;
use crate::log::Log;
use crate::log::catalog::Sizes;
use crate::log::spaces::SPACES_MAX;
use crate::policy::BeginOptions;
use crate::stats::RecoveryReport;
use crate::sys::disk::Disk;
use crate::sys::random;
use crate::sys::ring::Ring;
use crate::time::{EngineClock, Jumps};
use crate::wheel::Wheel;

/// The filter, if one is asked for.
fn filter_for(config: &Config, log: &Log) -> std::io::Result<Option<Box<Filter>>> {
    config.negative_filter.then(|| Filter::new(log.chunk_count()).map(Box::new)).transpose()
}

impl Engine {
    /// Opens the store on `disk`, which nobody else uses, or creates it.
    pub(crate) fn open(disk: Arc<dyn Disk>, config: Config) -> Result<Self> {
        Self::open_with(disk, config, |_hasher| {})
    }

    /// As [`Engine::open`]; `adjust` may change how keys are hashed, for tests.
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        config: Config,
        adjust: impl FnOnce(&mut KeyHasher),
    ) -> Result<Self> {
        config.validate()?;
        let lifetime = config.ttl.millis()?;
        let mut report = RecoveryReport::default();
        let (identity, manifest) = match read_identity(&*disk)? {
            Some(identity) => (identity, read_manifest(&*disk)?),
            None => {
                report.created = true;
                create(&*disk, &config)?
            }
        };
        report.after_close = manifest.closed;
        report.salvaged = manifest.salvaged;
        let epoch = manifest.epoch.checked_add(1).ok_or(Error::Full { what: "epochs" })?;
        let (min, max) = (config.segment_bytes_min, config.segment_bytes_max);
        let total = config.max_bytes.unwrap_or(u64::MAX);
        let sizes = Sizes { min, max, limit: SEGMENT_BYTES_MAX, total };
        let log = Log::new(disk.clone(), identity.id, config.lanes, sizes, epoch)?;
        let index = Index::limited(config.stripes, config.max_keys)
            .map_err(|e| Error::io("reserve index memory", &disk.path(""), e))?;
        let filter = filter_for(&config, &log)
            .map_err(|e| Error::io("reserve filter memory", &disk.path(""), e))?;
        let mut hasher = KeyHasher::new(identity.secret);
        adjust(&mut hasher);
        let config_is_plain = config.policy.is_plain();
        let terms = config.policy.terms(&BeginOptions::new(), lifetime).ok();
        let counters = Ring::new(COUNTERS, |_| CachePadded::new(Counters::default()));
        let mut engine = Self {
            index,
            log,
            wheel: Wheel::default(),
            clock: EngineClock::new(config.clock.clone(), manifest.time, config.jumps),
            config,
            filter,
            renewal: crate::sys::sync::Mutex::default(),
            hasher,
            lifetime,
            plain: config_is_plain,
            terms,
            remembers_from: identity.created.max(manifest.salvaged.unwrap_or_default()),
            health: crate::engine::health::Health::default(),
            sweeper: crate::sys::sync::Mutex::default(),
            compactor: crate::sys::sync::Mutex::default(),
            outlived: crate::engine::outlived::Outlived::default(),
            wake: crate::engine::wake::Wake::default(),
            waiters: Arc::default(),
            commit: crate::engine::commit::Commit::default(),
            space_counters: (0..=SPACES_MAX).map(|_| OnceLock::new()).collect(),
            counters,
            recovery: report,
        };
        engine.log.note_durability(match engine.config.durability {
            Durability::Process => ListedDurability::Process,
            Durability::Interval(interval) => {
                engine.commit.demand(interval);
                ListedDurability::Interval
            }
            Durability::Synced => ListedDurability::Synced,
        });
        let unused = engine.recover(&manifest)?;
        engine.recovery.clock_held_ms = engine.clock.settle();
        // From here on the epoch is in use; nothing was answered before.
        if engine.log.list_epoch(engine.clock.now())? {
            engine.settle_opening(&unused)?;
        }
        Ok(engine)
    }

    /// What an opening changes once its manifest is written, before anything is answered.
    fn settle_opening(&mut self, unused: &[u64]) -> Result<()> {
        self.log.remove_unused(unused)?;
        let now = self.clock.now();
        self.recovery.removals_renewed = self.renew_removals_with_room(now)?;
        self.log.keep_for_earlier(now)
    }

    pub(crate) fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }
}

/// The store's identity; `None` if there is no store yet.
pub(crate) fn read_identity(disk: &dyn Disk) -> Result<Option<Identity>> {
    let path = disk.path(IDENTITY_FILE);
    let Some(bytes) = disk.read(IDENTITY_FILE)? else {
        let leftover = disk.entries()?.iter().any(|e| e.name.ends_with(".seg") && e.is_file);
        if leftover {
            return Err(Error::corrupt(&path, 0, "the store's identity file is missing"));
        }
        return Ok(None);
    };
    match Identity::decode(&bytes) {
        Ok(identity) => Ok(Some(identity)),
        Err(IdentityError::Version(found)) => {
            Err(Error::UnsupportedFormat { path, found, supported: FORMAT_VERSION })
        }
        Err(IdentityError::NotOurs) => {
            Err(Error::corrupt(&path, 0, "this is not the identity file of a store"))
        }
        Err(IdentityError::Damaged) => Err(Error::corrupt(&path, 8, "its checksum disagrees")),
    }
}

/// The store's manifest, which exists wherever an identity does.
pub(crate) fn read_manifest(disk: &dyn Disk) -> Result<Manifest> {
    let path = disk.path(MANIFEST_FILE);
    let bytes = disk
        .read(MANIFEST_FILE)?
        .ok_or_else(|| Error::corrupt(&path, 0, "the manifest is missing"))?;
    Manifest::decode(&bytes).ok_or_else(|| Error::corrupt(&path, 0, "its checksum disagrees"))
}

fn create(disk: &dyn Disk, config: &Config) -> Result<(Identity, Manifest)> {
    let fail = |e| Error::io("draw a random secret", &disk.path(""), e);
    let id = random::bytes().map_err(fail)?;
    let secret = random::bytes().map_err(fail)?;
    let none = crate::time::Timestamp::default();
    let clock = EngineClock::new(config.clock.clone(), none, Jumps::DEFAULT);
    let created = clock.now();
    let identity = Identity { id, secret, created };
    let manifest = Manifest {
        epoch: 0,
        closed: true,
        durability: ListedDurability::default(),
        time: created,
        next_number: 1,
        salvaged: None,
        spaces: Vec::new(),
        segments: Vec::new(),
    };
    disk.replace(MANIFEST_FILE, &manifest.encode())?;
    // This makes the directory a store.
    disk.replace(IDENTITY_FILE, &identity.encode())?;
    Ok((identity, manifest))
}
