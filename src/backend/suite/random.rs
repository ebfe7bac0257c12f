//! Numbers that look random and are the same for the same seed.

use crate::sys::{clock, random};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A seed of this run: `ONCELOG_SUITE_SEED`, if it is set to a number.
pub(super) fn seed() -> u64 {
    let given = std::env::var("ONCELOG_SUITE_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(any)
}

/// A number that no other run has, most likely.
pub(super) fn any() -> u64 {
    random::bytes().map_or_else(|_| clock::monotonic_millis(), u64::from_le_bytes)
}
