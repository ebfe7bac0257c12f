//! Where a record lives: an offset in the log's address space, packed in 36 bits.
//!
//! The address space is one terabyte, counted in units of 16 bytes; each segment has its place in
//! it while the store is open. Offset zero is a segment's head and never a record, so zero is free
//! to mean "none".

use crate::format::layout::{CHUNK_BYTES, UNIT_BYTES};

/// Bits of a location.
pub(crate) const LOCATION_BITS: u32 = 36;
/// Bytes that locations reach.
pub(crate) const SPACE_BYTES: u64 = UNIT_BYTES << LOCATION_BITS;

/// Where a record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location(u64);

impl Location {
    /// The record at byte `at` of the address space, a multiple of the unit.
    #[inline]
    pub(crate) fn from_bytes(at: u64) -> Self {
        debug_assert!(at.is_multiple_of(UNIT_BYTES) && at < SPACE_BYTES && at > 0);
        Self(at / UNIT_BYTES)
    }

    #[inline]
    pub(crate) const fn bytes(self) -> u64 {
        self.0 * UNIT_BYTES
    }

    /// Which chunk of the address space, and thereby which segment.
    #[inline]
    pub(crate) const fn chunk(self) -> u64 {
        self.bytes() / CHUNK_BYTES
    }

    #[inline]
    pub(crate) const fn units(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn from_units(units: u64) -> Self {
        Self(units & ((1 << LOCATION_BITS) - 1))
    }
}
