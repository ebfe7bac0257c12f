//! One cell: 28 bits of hash and 36 bits of location.
//!
//! ```text
//! | tag 28 | location 36 |     location 0, tag 0: empty; location 0, tag not 0: cleared
//! ```
//!
//! A cleared slot holds nothing, but unlike an empty one it does not end the search for a key that
//! overflowed from this line into the next. A tag of zero is stored as one, so that a used slot is
//! never all zeros.

use crate::sys::sync::atomic::{AtomicU64, Ordering};

use crate::format::location::{LOCATION_BITS, Location};
use crate::key::KeyHash;

/// Where the tag stands in a slot.
pub(crate) const TAG_SHIFT: u32 = LOCATION_BITS;
const TAG_BITS: u32 = 64 - LOCATION_BITS;
const TAG_SHIFT_IN_HASH: u32 = 20;
const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const CLEARED: u64 = 1 << LOCATION_BITS;

/// The bits of a hash that a slot keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// What an empty slot has in a tag's place, and no other.
    pub(crate) const NONE_BITS: u32 = 0;

    #[inline]
    pub(crate) const fn of(hash: KeyHash) -> Self {
        let bits = hash.as_u64() >> TAG_SHIFT_IN_HASH & ((1 << TAG_BITS) - 1);
        Self(if bits == 0 { 1 } else { bits })
    }

    /// The tag as a number, never zero.
    #[inline]
    pub(crate) const fn bits(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it has 28 bits")]
        let bits = self.0 as u32;
        bits
    }

    /// The line, of `lines`, in which the search for it begins; it grows with the tag.
    #[inline]
    pub(crate) const fn home(self, lines: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "below `lines`, as the tag is below 1")]
        let line = ((self.0 * lines as u64) >> TAG_BITS) as u32;
        line
    }
}

/// A slot's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

impl Slot {
    pub(crate) const EMPTY: Self = Self(0);
    pub(crate) const CLEARED: Self = Self(CLEARED);

    #[inline]
    pub(crate) fn new(tag: Tag, location: Location) -> Self {
        Self(tag.0 << LOCATION_BITS | location.units())
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn load(cell: &AtomicU64) -> Self {
        Self(cell.load(Ordering::Relaxed))
    }

    /// As [`Slot::load`]; also makes visible the record that the slot leads to.
    #[inline]
    pub(crate) fn load_acquire(cell: &AtomicU64) -> Self {
        Self(cell.load(Ordering::Acquire))
    }

    /// Sets the cell; who loads it with [`Slot::load_acquire`] sees the record.
    #[inline]
    pub(crate) fn store(self, cell: &AtomicU64) {
        cell.store(self.0, Ordering::Release);
    }

    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Empty or cleared.
    #[inline]
    pub(crate) const fn is_free(self) -> bool {
        self.0 & LOCATION_MASK == 0
    }

    #[inline]
    pub(crate) const fn tag(self) -> Tag {
        Tag(self.0 >> LOCATION_BITS)
    }

    /// `None` for a slot that holds nothing.
    #[inline]
    pub(crate) const fn location(self) -> Option<Location> {
        if self.is_free() { None } else { Some(Location::from_units(self.0 & LOCATION_MASK)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Slot, Tag};
    use crate::format::location::Location;
    use crate::key::KeyHash;

    #[test]
    fn a_slot_gives_back_its_tag_and_location_at_their_extremes() {
        for hash in [0, u64::MAX, 1 << 20, 0x0fff_ffff << 20] {
            for at in [16, (1 << 40) - 16] {
                let (tag, location) = (Tag::of(KeyHash::from_u64(hash)), Location::from_bytes(at));
                let slot = Slot::new(tag, location);
                assert!(slot.tag() == tag && !slot.is_free() && !slot.is_empty());
                assert_eq!(slot.location(), Some(location));
            }
        }
    }

    #[test]
    fn a_cleared_slot_is_free_but_does_not_end_a_search() {
        assert!(Slot::CLEARED.is_free() && !Slot::CLEARED.is_empty());
        assert_eq!(Slot::CLEARED.location(), None);
    }

    #[test]
    fn the_home_line_grows_with_the_tag_and_stays_below_the_number_of_lines() {
        let home = |bits: u64, lines| Tag::of(KeyHash::from_u64(bits << 20)).home(lines);
        for lines in [1, 3, 8, 1000] {
            assert_eq!(home(1, lines), 0);
            assert_eq!(home((1 << 28) - 1, lines), lines - 1);
            assert!((1..100).all(|i| home(i << 21, lines) >= home((i - 1) << 21, lines)));
        }
    }
}
