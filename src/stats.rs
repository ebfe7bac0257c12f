//! Counters and sizes, each with its unit and what a surprising number means.

use crate::time::Timestamp;

/// What a store holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Index slots in use: live keys, and expired or removed ones not yet reclaimed. Well above
    /// the keys you expect: maintenance is not running.
    pub keys: u64,
    /// Segment files.
    pub segments: u64,
    /// Expiry buckets that hold segments.
    pub buckets: u64,
    /// Bytes allocated on disk for segments and runs.
    pub disk_bytes: u64,
    /// Bytes of records that are not on stable storage for certain: what a power loss may take.
    pub unsynced_bytes: u64,
    /// Rounds of syncs since opening, each of which served all who waited for it.
    pub syncs: u64,
    /// Bytes of memory that the index takes.
    pub index_bytes: u64,
    /// Checks answered *new* since opening.
    pub checks_new: u64,
    /// Checks answered *duplicate* since opening.
    pub checks_duplicate: u64,
    /// Live records removed since opening.
    pub removals: u64,
    /// Keys recorded or begun as new since opening of which an expired record was still there: they
    /// had been known, and were forgotten in time. Of the others nothing can be said: an expired
    /// key leaves no trace once its segment is dropped. Many: callers come again after the lifetime
    /// that you gave their keys.
    pub expired: u64,
    /// Records written anew since opening because a duplicate prolonged them: see
    /// [`Anchor::LastSeen`](crate::Anchor::LastSeen).
    pub refreshes: u64,
    /// Duplicates since opening that were to prolong a record and found no room for that: those
    /// keys are forgotten as if they had not been seen then.
    pub refreshes_missed: u64,
    /// Outcomes set by version since opening.
    pub sets: u64,
    /// Leases given out since opening.
    pub leases_started: u64,
    /// Keys completed or resolved since opening.
    pub leases_completed: u64,
    /// Keys failed for good since opening.
    pub leases_failed: u64,
    /// Leases given back since opening.
    pub leases_released: u64,
    /// Renewals since opening.
    pub leases_renewed: u64,
    /// Threads and futures that wait for a lease to end, now.
    pub waiting: u64,
    /// Segments that a caller had to wait for, since opening: creating one takes several syncs, and
    /// maintenance does so ahead where it can. Rising steadily: maintenance is not running, or the
    /// lifetimes given to keys are all different.
    pub segments_awaited: u64,
    /// Segments dropped because their time had passed, since opening.
    pub segments_expired: u64,
    /// Segments dropped after their last live records were copied out, since opening.
    pub segments_compacted: u64,
    /// The filters of keys, where
    /// [`Builder::negative_filter`](crate::Builder::negative_filter) is on.
    pub filter: Option<FilterStats>,
    /// For how long the machine was suspended since opening, in milliseconds: it counts as time
    /// passed.
    pub clock_suspended_ms: u64,
    /// By how much the store's time has followed the wall clock beyond that and the kernel's
    /// monotonic one since opening, in milliseconds: corrections, and jumps that were followed.
    pub clock_followed_ms: u64,
    /// How far the clock is ahead of the store's time and not followed, in milliseconds, as of the
    /// last maintenance. Not zero: the clock has jumped. Unless that is
    /// [held back](crate::JumpPolicy), the next open will follow it, and drop what has expired by
    /// then.
    pub clock_ahead_ms: u64,
}

/// What the filters take, how well they tell keys apart, and how often they were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterStats {
    /// Expiry buckets that have a filter.
    pub buckets: u64,
    /// Layers of all filters; each is a cache line to look at for every question. Many more than
    /// the buckets: maintenance is not running.
    pub layers: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
    /// Keys added, those that were superseded or removed since then included.
    pub keys: u64,
    /// Of a million unknown keys, how many would pass for known, by the bits that are set now.
    pub false_positive_ppm: u64,
    /// Questions answered *certainly not seen* since opening.
    pub excluded: u64,
    /// Questions about other keys since opening: what the filter was asked for in vain.
    pub passed: u64,
}

impl FilterStats {
    /// Bits of memory a key; zero without keys.
    #[must_use]
    pub fn bits_per_key(&self) -> f64 {
        if self.keys == 0 { 0.0 } else { self.bytes as f64 * 8.0 / self.keys as f64 }
    }

    /// The share of unknown keys that would pass for known, by the bits that are set now.
    #[must_use]
    pub fn false_positive_rate(&self) -> f64 {
        self.false_positive_ppm as f64 / 1e6
    }
}

/// What one namespace holds, and what was done to its keys since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceStats {
    /// Checks answered *new*.
    pub checks_new: u64,
    /// Checks answered *duplicate*.
    pub checks_duplicate: u64,
    /// Keys removed.
    pub removals: u64,
    /// Keys recorded or begun as new of which an expired record was still there.
    pub expired: u64,
    /// Records written anew because a duplicate prolonged them.
    pub refreshes: u64,
    /// Duplicates that were to prolong a record and found no room for that.
    pub refreshes_missed: u64,
    /// New keys refused because the namespace was at its `max_keys` or `max_bytes`.
    pub refused: u64,
    /// Keys that it holds now, expired ones included until maintenance has reclaimed them.
    pub keys: u64,
    /// Bytes that the latest records of its keys take in the log now.
    pub bytes: u64,
    /// Outcomes set by version.
    pub sets: u64,
    /// Leases given out.
    pub leases_started: u64,
    /// Keys completed or resolved.
    pub leases_completed: u64,
    /// Keys failed for good.
    pub leases_failed: u64,
    /// Leases given back.
    pub leases_released: u64,
    /// Renewals.
    pub leases_renewed: u64,
}

/// What opening a store found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// True when the directory held no store yet.
    pub created: bool,
    /// True when the store had been closed; otherwise its last user ended in some other way.
    pub after_close: bool,
    /// Segments opened.
    pub segments: u64,
    /// Of those, segments opened through their runs, without reading their records.
    pub sealed: u64,
    /// Records found.
    pub records: u64,
    /// Blocks that ended in a record which was never completed: its call had not returned.
    pub torn_tails: u64,
    /// Bytes in such ends.
    pub torn_bytes: u64,
    /// Places in segments not yet sealed where bytes are damaged although valid records follow.
    /// Not zero only after a power loss or damage by others; the valid records are kept.
    pub damaged: u64,
    /// Runs that were missing or damaged and were made again from their segments.
    pub runs_rebuilt: u64,
    /// Removals written again that a power loss had taken, although later records of their keys
    /// were left: without them, what was removed would be known again once those have ended.
    pub removals_renewed: u64,
    /// Segments dropped at once because their time had passed.
    pub expired: u64,
    /// By the clock, how long ago the store's time was last written down, in milliseconds: with
    /// each new segment, with each drop, and at close. Much more than the store was unused for:
    /// the clock has jumped, and what expired by it is gone. Zero where the clock is behind.
    pub time_passed_ms: u64,
    /// By how much the store's time is held back behind the clock, in milliseconds: see
    /// [`JumpPolicy::Hold`](crate::JumpPolicy::Hold).
    pub clock_held_ms: u64,
    /// Files removed that a crash had left behind unfinished or unlisted.
    pub debris: u64,
    /// When a salvage last gave up records: keys recorded before may be forgotten, and requests
    /// sent before are answered [`Stale`](crate::Error::Stale). `None` if there never was one.
    pub salvaged: Option<Timestamp>,
}

/// What one slice of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Segments dropped because their time had passed.
    pub segments_expired: u64,
    /// Index slots freed.
    pub slots_freed: u64,
    /// Segments sealed.
    pub segments_sealed: u64,
    /// True when there was more to do than the budget allowed.
    pub more: bool,
}
