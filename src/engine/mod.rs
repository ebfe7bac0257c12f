//! The four structures joined, and the invariants between them.
//!
//! - A record is complete in the log before its slot is visible, and its slot is set before the
//!   call returns.
//! - The slot of a key leads to the key's record of the highest version.
//! - *Duplicate* is answered only after the record's whole key was compared.
//! - What is read at a location counts only if its stripe's lock was held, or its sequence did not
//!   change meanwhile. A dropped segment's place is therefore free to be used again once every
//!   stripe was swept after the drop.
//! - Doubt is loud: a slot that leads to damaged bytes is an error, never *new*.
//!
//! Lock order: stripe, lane, catalog; of several stripes in the order of their numbers; the wheel's
//! lock is innermost and held for no call. No code of a caller runs under any of them.

pub(crate) mod append;
pub(crate) mod begin;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod choose;
pub(crate) mod claim;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod expire;
pub(crate) mod finish;
pub(crate) mod health;
pub(crate) mod hold;
pub(crate) mod lookup;
pub(crate) mod maintain;
pub(crate) mod open;
pub(crate) mod outlived;
pub(crate) mod plain;
pub(crate) mod recover;
pub(crate) mod remove;
pub(crate) mod scan;
#[cfg(feature = "ballot")]
pub(crate) mod seal;
pub(crate) mod seen;
mod set_if;
pub(crate) mod unseen;
pub(crate) mod waiters;
pub(crate) mod wake;

#[cfg(test)]
pub(crate) mod bench;
#[cfg(test)]
mod bundle_tests;
#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod compact_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod jump_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(all(test, oncelog_shuttle))]
mod models;
#[cfg(test)]
mod outlived_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod sealing_tests;
#[cfg(test)]
mod set_if_tests;
#[cfg(test)]
mod spare_tests;
#[cfg(test)]
mod subset_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unseen_tests;

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::config::Config;
use crate::engine::claim::FullKey;
use crate::engine::commit::Commit;
use crate::engine::compact::Compactor;
use crate::engine::expire::Sweeper;
use crate::engine::health::Health;
use crate::engine::outlived::Outlived;
use crate::engine::unseen::Renewal;
use crate::engine::waiters::Waiters;
use crate::engine::wake::Wake;
use crate::filter::Filter;
use crate::index::Index;
use crate::key::KeyHasher;
use crate::log::Log;
use crate::policy::Terms;
use crate::stats::{FilterStats, NamespaceStats, RecoveryReport, Stats};
use crate::sys::ring::Ring;
use crate::sys::sync::Mutex;
use crate::time::{EngineClock, Timestamp};
use crate::wheel::Wheel;

/// An open store without its public face.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) index: Index,
    pub(crate) log: Log,
    pub(crate) wheel: Wheel,
    pub(crate) clock: EngineClock,
    pub(crate) config: Config,
    /// On only where the settings ask for it.
    filter: Option<Box<Filter>>,
    renewal: Mutex<Renewal>,
    hasher: KeyHasher,
    /// The store's lifetime in milliseconds.
    lifetime: u64,
    /// Checks of keys outside of any namespace need nothing of the policy.
    plain: bool,
    /// What a `begin` asks for that has no options of its own; `None` where that is an error.
    terms: Option<Terms>,
    /// When the store was created, or last lost records: what was handled before may be forgotten.
    remembers_from: Timestamp,
    health: Health,
    sweeper: Mutex<Sweeper>,
    compactor: Mutex<Compactor>,
    outlived: Outlived,
    /// Rung when maintenance should come before its time.
    pub(crate) wake: Wake,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) commit: Commit,
    counters: Ring<CachePadded<Counters>>,
    /// By the namespace's number; made when one first counts something.
    space_counters: Box<[OnceLock<Box<Counters>>]>,
    pub(crate) recovery: RecoveryReport,
}

/// Sets of counters, among which threads are spread.
const COUNTERS: usize = 32;

/// What some of the threads have done.
#[derive(Debug, Default)]
struct Counters {
    new: AtomicU64,
    duplicate: AtomicU64,
    removed: AtomicU64,
    expired: AtomicU64,
    refused: AtomicU64,
    refreshed: AtomicU64,
    refresh_missed: AtomicU64,
    set: AtomicU64,
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    released: AtomicU64,
    renewed: AtomicU64,
    segments_expired: AtomicU64,
    segments_compacted: AtomicU64,
    filter_excluded: AtomicU64,
    filter_passed: AtomicU64,
}

impl Engine {
    /// The calling thread's counters.
    #[inline(always)]
    fn counters(&self) -> &Counters {
        self.counters.at(append::lane_of_thread())
    }

    /// Counts something that was done to a key, for the store and for the key's namespace.
    #[inline]
    fn count(&self, full: FullKey<'_>, of: fn(&Counters) -> &AtomicU64) {
        of(self.counters()).fetch_add(1, Ordering::Relaxed);
        if let Some(space) = full.space() {
            self.count_in_space(space, of);
        }
    }

    /// Counts something for a namespace alone.
    fn count_in_space(&self, space: u32, of: fn(&Counters) -> &AtomicU64) {
        if let Some(counters) = self.counters_of(space) {
            of(counters).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counters_of(&self, space: u32) -> Option<&Counters> {
        let counters = self.space_counters.get(usize::try_from(space).ok()?)?;
        Some(counters.get_or_init(Box::default))
    }

    /// What was done to the keys of a namespace.
    pub(crate) fn space_stats(&self, space: u32) -> NamespaceStats {
        let Some(counters) = self.counters_of(space) else {
            return NamespaceStats::default();
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let held = self.log.holdings.of(space);
        NamespaceStats {
            checks_new: of(&counters.new),
            checks_duplicate: of(&counters.duplicate),
            removals: of(&counters.removed),
            expired: of(&counters.expired),
            refused: of(&counters.refused),
            refreshes: of(&counters.refreshed),
            refreshes_missed: of(&counters.refresh_missed),
            keys: held.keys,
            bytes: held.bytes,
            sets: of(&counters.set),
            leases_started: of(&counters.started),
            leases_completed: of(&counters.completed),
            leases_failed: of(&counters.failed),
            leases_released: of(&counters.released),
            leases_renewed: of(&counters.renewed),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let sum = |of: fn(&Counters) -> &AtomicU64| {
            self.counters.iter().map(|counters| of(counters).load(Ordering::Relaxed)).sum()
        };
        let stripes = 0..self.index.stripe_count();
        let (segments, disk_bytes) = self.log.sizes();
        let drift = self.clock.drift();
        let filter = self.filter_stats().map(|stats| FilterStats {
            excluded: sum(|counters| &counters.filter_excluded),
            passed: sum(|counters| &counters.filter_passed),
            ..stats
        });
        Stats {
            keys: stripes.map(|stripe| self.index.lock_stripe(stripe).held()).sum(),
            segments,
            buckets: self.wheel.bucket_count(),
            disk_bytes,
            unsynced_bytes: self.log.unsynced_bytes(),
            syncs: self.commit.done(),
            index_bytes: self.index.bytes(),
            checks_new: sum(|counters| &counters.new),
            checks_duplicate: sum(|counters| &counters.duplicate),
            removals: sum(|counters| &counters.removed),
            expired: sum(|counters| &counters.expired),
            refreshes: sum(|counters| &counters.refreshed),
            refreshes_missed: sum(|counters| &counters.refresh_missed),
            sets: sum(|counters| &counters.set),
            leases_started: sum(|counters| &counters.started),
            leases_completed: sum(|counters| &counters.completed),
            leases_failed: sum(|counters| &counters.failed),
            leases_released: sum(|counters| &counters.released),
            leases_renewed: sum(|counters| &counters.renewed),
            waiting: self.waiters.count() as u64,
            segments_awaited: self.log.segments_awaited(),
            segments_expired: sum(|counters| &counters.segments_expired),
            segments_compacted: sum(|counters| &counters.segments_compacted),
            clock_suspended_ms: drift.suspended_ms,
            filter,
            clock_followed_ms: drift.followed_ms,
            clock_ahead_ms: drift.ahead_ms,
        }
    }
}
