//! Finding keys by their state and age, for reconciliation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::scan::Item;
use crate::error::{Error, Result};
use crate::meta::{Meta, Status};
use crate::store::Store;
use crate::time::Timestamp;

/// Which keys a scan is to find; without any choice, all of them.
///
/// ```
/// use oncelog::{Scan, Status, Store};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let stuck = Scan::new().status(Status::InProgress).older_than(Duration::from_secs(600));
/// for found in store.scan(stuck) {
///     let (key, meta) = found?;
///     println!("{key:?} has been in progress since {}", meta.updated);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a choice does nothing until it is passed to a scan"]
pub struct Scan {
    status: Option<Status>,
    older_than: Duration,
}

impl Scan {
    /// All keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys in this state alone.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Keys that have been as they are for at least so long: those in progress by when they were
    /// begun or renewed, the others by when their outcome or release was recorded.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = age;
        self
    }

    fn wants(&self, meta: &Meta, now: Timestamp) -> bool {
        let age = now.as_millis().saturating_sub(meta.updated.as_millis());
        self.status.is_none_or(|status| status == meta.status)
            && u128::from(age) >= self.older_than.as_millis()
    }
}

/// Stripes that share one sync, of up to 4096 altogether.
const STRIPES_PER_SYNC: usize = 64;
/// Keys that are held in memory for the sake of sharing a sync.
const KEYS_PER_SYNC: usize = 4096;

/// The keys that a scan finds, each with what is known of it, in no order.
///
/// Reads one stripe of the index at a time and holds its keys in memory meanwhile. No lock is held
/// between two items. What is recorded during the scan may be found or not.
///
/// By a handle at [`Durability::Synced`] nothing is told that a power loss could take back: up to
/// 64 stripes are read together, and where they have shown a record that is not on stable storage,
/// a sync is waited for before the first of their keys is told.
pub struct Scanned {
    engine: Arc<Engine>,
    durability: Durability,
    space: Option<u32>,
    scan: Scan,
    now: Timestamp,
    stripe: usize,
    items: Vec<Item>,
}

impl Scanned {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        durability: Durability,
        space: Option<u32>,
        scan: Scan,
    ) -> Self {
        let now = engine.clock.now();
        let (engine, items) = (engine.clone(), Vec::new());
        Self { engine, durability, space, scan, now, stripe: 0, items }
    }

    fn is_over(&self) -> bool {
        self.stripe >= self.engine.index.stripe_count()
    }

    /// Reads the next stripe; whether all that it shows is on stable storage.
    fn read(&mut self) -> Result<bool> {
        let (stripe, scan, now) = (self.stripe, self.scan, self.now);
        self.stripe += 1;
        let wanted = |meta: &Meta| scan.wants(meta, now);
        self.engine.scan_stripe(stripe, self.space, now, wanted, &mut self.items)
    }

    /// Reads some stripes, and returns once what they have shown is as durable as asked for.
    fn read_some(&mut self) -> Result<()> {
        if !self.durability.is_synced() {
            return self.read().map(|_durable| ());
        }
        let (mut damage, mut durable) = (Ok(()), true);
        for _ in 0..STRIPES_PER_SYNC {
            if self.is_over() || self.items.len() >= KEYS_PER_SYNC || damage.is_err() {
                break;
            }
            match self.read() {
                Ok(all) => durable &= all,
                // It is not known what a stripe with damage in it rests on.
                Err(error) => (damage, durable) = (Err(error), false),
            }
        }
        if !durable && !matches!(damage, Err(Error::Closed)) {
            self.engine.settle_all().inspect_err(|_| self.items.clear())?;
        }
        damage
    }
}

impl Iterator for Scanned {
    type Item = Result<(Vec<u8>, Meta)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.items.is_empty() && !self.is_over() {
            if let Err(error) = self.read_some() {
                return Some(Err(error));
            }
        }
        self.items.pop().map(Ok)
    }
}

impl fmt::Debug for Scanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanned").field("scan", &self.scan).finish_non_exhaustive()
    }
}

impl Store {
    /// Finds the keys outside of any namespace by their state and age. Reads every record of the
    /// store: some 100 ns each.
    ///
    /// Yields [`Corrupt`](crate::Error::Corrupt) once for each stripe with a damaged record, and
    /// goes on. At the level [`Durability::Synced`] it waits for what its answers rest on, as every
    /// call does, and yields [`Indeterminate`](crate::Error::Indeterminate) in place of the keys of
    /// which that cannot be said.
    pub fn scan(&self, scan: Scan) -> Scanned {
        Scanned::new(self.engine(), self.durability(), None, scan)
    }
}
