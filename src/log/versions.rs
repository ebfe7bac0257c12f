//! Hands out versions: in ranges, so that appending threads do not meet at one counter.
//!
//! Per key a later record needs a greater version, though different lanes hold different ranges.
//! Two rules give that. A lane whose range is not above the key's latest record takes a new range,
//! which is above everything handed out so far. And before records become invisible (their
//! segment is dropped), all ranges taken until then are retired, so that no lane can follow an
//! invisible record with a lower version.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::ops::Range;

use crate::version::{COUNTER_BITS, Version};

/// Versions in a range.
const RANGE: u64 = 4096;

/// Epochs that each written manifest reserves beyond the present one.
///
/// A manifest is written with every segment, and a segment holds far fewer records than one epoch
/// has versions, so the reservation is never used up.
const EPOCHS_RESERVED: u64 = 16;

/// The source of versions of one open store.
#[derive(Debug)]
pub(crate) struct Versions {
    next: AtomicU64,
    /// Ranges of an earlier generation are no longer used.
    generation: AtomicU64,
}

/// Versions that one lane may give to records.
#[derive(Debug, Default)]
pub(crate) struct VersionRange {
    range: Range<u64>,
    generation: u64,
}

impl Versions {
    pub(crate) fn new(epoch: u32) -> Self {
        let next = AtomicU64::new(Version::first_of_epoch(epoch).as_u64());
        Self { next, generation: AtomicU64::new(1) }
    }

    /// Everything handed out later is at least this.
    pub(crate) fn current(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// The epoch that a manifest written now must name, so that the next open starts beyond it.
    pub(crate) fn epoch_reserved(&self) -> u32 {
        let epoch = (self.current() >> COUNTER_BITS) + EPOCHS_RESERVED;
        u32::try_from(epoch).unwrap_or(u32::MAX)
    }

    /// Ranges taken before this call are not used after it.
    pub(crate) fn retire_ranges(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl VersionRange {
    /// The next version, above `after` and not below `floor`.
    #[inline]
    pub(crate) fn next(
        &mut self,
        versions: &Versions,
        after: Option<Version>,
        floor: u64,
    ) -> Version {
        let least = after.map_or(floor, |version| floor.max(version.as_u64() + 1));
        let generation = versions.generation.load(Ordering::SeqCst);
        let usable = self.generation == generation && self.range.start >= least;
        if !usable || self.range.is_empty() {
            let start = versions.next.fetch_add(RANGE, Ordering::SeqCst);
            self.range = start..start + RANGE;
            self.generation = generation;
        }
        let version = Version::from_u64(self.range.start);
        self.range.start += 1;
        version
    }
}

#[cfg(test)]
mod tests {
    use super::{VersionRange, Versions};

    #[test]
    fn a_lane_with_an_older_range_jumps_above_the_record_it_follows() {
        let versions = Versions::new(1);
        let (mut a, mut b) = (VersionRange::default(), VersionRange::default());
        let first = a.next(&versions, None, 0);
        let later = b.next(&versions, Some(first), 0);
        assert!(later > first);
        assert!(a.next(&versions, Some(later), 0) > later);
    }

    #[test]
    fn ranges_taken_before_a_retirement_are_not_used_after_it() {
        let versions = Versions::new(1);
        let (mut a, mut b) = (VersionRange::default(), VersionRange::default());
        a.next(&versions, None, 0);
        let dropped = b.next(&versions, None, 0);
        versions.retire_ranges();
        assert!(a.next(&versions, None, 0) > dropped);
    }
}
