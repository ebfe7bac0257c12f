//! Looking for a hash without its stripe's lock.
//!
//! A stripe has a sequence number, which changes with every change of its slots and is odd while
//! slots are being moved. Who reads it, looks at lines and records, and finds it unchanged
//! afterwards, has seen the stripe as it was at one moment, as if under the lock. (This is the
//! sequence lock of the Linux kernel.) Nothing that a search reads meanwhile can be missing: lines
//! and records are read as atomic integers in ranges that stay mapped, so the worst that stale
//! numbers lead to is a value that is then thrown away.
//!
//! A search begins with two lines, the home line and the next, which are loaded at the same time.
//! More than nine in ten end there; the others go on line by line.

use crate::sys::sync::atomic::{AtomicU64, Ordering, fence};

use crate::format::location::Location;
use crate::index::Index;
use crate::index::slot::{Slot, Tag};
use crate::index::stripe::{Stripe, compare};
use crate::key::KeyHash;
use crate::sys::arena::{LINE_SLOTS, Line};
use crate::sys::prefetch::prefetch;

/// Two neighbouring lines as they looked without the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    stripe: &'a Stripe,
    lines: [&'a Line; 2],
    tag: Tag,
    sequence: u32,
    /// The second line's number.
    next: u32,
    /// Slots with the tag: eight bits for the first line, above them eight for the second.
    equal: u32,
    /// Empty slots, likewise.
    empty: u32,
}

impl<'a> Search<'a> {
    /// Looks into as many lines as it takes; `None` where only the lock helps.
    #[inline]
    pub(crate) fn whole(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let mut search = Self::home(index, stripe, hash)?;
        search.look_further();
        if search.goes_on() {
            search.finish(index);
        }
        Some(search)
    }

    /// Looks into the home line alone.
    #[inline]
    pub(crate) fn home(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let sequence = stripe.sequence.load(Ordering::Acquire);
        let sizes = stripe.shape.sizes();
        let lines = sizes.lines();
        if lines == 0 || !sequence.is_multiple_of(2) {
            return None;
        }
        let tag = Tag::of(hash);
        let number = tag.home(lines);
        let next = if number + 1 == lines { 0 } else { number + 1 };
        let line = |number| index.line(stripe.shape.line(sizes, number)?);
        let lines = [line(number)?, line(next)?];
        let compared = compare(lines[0], tag);
        let (equal, empty) = (compared.equal, compared.zero);
        Some(Self { stripe, lines, tag, sequence, next, equal, empty })
    }

    /// No slot looked at has the tag and none is empty: the key may be in a later line.
    #[inline]
    pub(crate) fn goes_on(&self) -> bool {
        self.equal | self.empty == 0
    }

    /// Goes on from line to line until one has a match or an empty slot.
    #[cold]
    pub(crate) fn finish(&mut self, index: &'a Index) {
        let sizes = self.stripe.shape.sizes();
        // No more lines than there are: a stripe that is being changed may have no empty slot.
        for _ in 0..sizes.lines() {
            if !self.goes_on() {
                return;
            }
            let next = if self.next + 1 >= sizes.lines() { 0 } else { self.next + 1 };
            let line = self.stripe.shape.line(sizes, next).and_then(|line| index.line(line));
            let Some(line) = line else { return };
            (self.lines, self.next) = ([self.lines[1], line], next);
            self.look_further();
        }
    }

    /// Starts loading the next line, and the one that most likely follows it.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        let next: *const Line = self.lines[1];
        prefetch(next);
        prefetch(next.wrapping_add(1));
    }

    /// Looks into the second line as well.
    ///
    /// Also where the first line has an empty slot: what is found here then is not the key, as the
    /// comparison of keys will show, and no branch has to wait for the first line's contents.
    #[inline]
    pub(crate) fn look_further(&mut self) {
        let compared = compare(self.lines[1], self.tag);
        self.equal |= compared.equal << LINE_SLOTS;
        self.empty |= compared.zero << LINE_SLOTS;
    }

    /// True when some slot has the tag.
    #[inline]
    pub(crate) fn has_match(&self) -> bool {
        self.equal != 0
    }

    /// Where the first slot with the tag leads.
    #[inline]
    pub(crate) fn location(&self) -> Option<Location> {
        // With what the record's writer wrote before it set the slot. A slot changed meanwhile
        // leads elsewhere, where the key will be found to differ.
        Slot::load_acquire(self.cell(self.equal.trailing_zeros())).location()
    }

    /// True when a key for which there is no match is not in the stripe.
    #[inline]
    pub(crate) fn is_conclusive(&self) -> bool {
        self.empty != 0
    }

    /// True when nothing in the stripe has changed since the search began.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        // What was read before is not read later than the sequence.
        fence(Ordering::Acquire);
        self.stripe.sequence.load(Ordering::Relaxed) == self.sequence
    }

    /// The sequence at which the search began.
    #[inline]
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The first empty slot, where a key that was not found belongs.
    #[inline]
    pub(crate) fn empty_cell(&self) -> Option<&'a AtomicU64> {
        (self.empty != 0).then(|| self.cell(self.empty.trailing_zeros()))
    }

    /// The cell at a bit's place in the masks.
    #[inline]
    fn cell(&self, place: u32) -> &'a AtomicU64 {
        let place = place as usize;
        let line = if place & LINE_SLOTS == 0 { self.lines[0] } else { self.lines[1] };
        &line.0[place % LINE_SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::Search;
    use crate::format::location::Location;
    use crate::index::Index;
    use crate::key::KeyHash;

    fn hash_of(i: u64) -> KeyHash {
        KeyHash::from_u64(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()))
    }

    fn at(i: u64) -> Location {
        Location::from_units(i + 1)
    }

    fn index_of(keys: u64) -> Index {
        let index = Index::new(1).unwrap();
        (0..keys).for_each(|i| insert(&index, i));
        index
    }

    fn insert(index: &Index, i: u64) {
        let mut stripe = index.lock(hash_of(i));
        stripe.reserve(|_| false).unwrap();
        stripe.place(hash_of(i), at(i));
    }

    #[test]
    fn every_slot_is_found_without_the_lock_and_nothing_else_is() {
        for keys in [1, 7, 8, 9, 60, 500, 3_000] {
            let index = index_of(keys);
            for i in 0..keys {
                let search = index.search(hash_of(i)).unwrap();
                assert!(search.has_match() && search.location() == Some(at(i)) && search.holds());
            }
            for i in keys..keys + 500 {
                let search = index.search(hash_of(i)).unwrap();
                assert!(!search.has_match() && search.is_conclusive());
            }
        }
    }

    #[test]
    fn a_search_holds_until_any_slot_of_its_stripe_changes() {
        let index = index_of(100);
        let changes: [(&str, &dyn Fn()); 4] = [
            ("placed", &|| insert(&index, 1_000)),
            ("replaced", &|| {
                let mut stripe = index.lock(hash_of(5));
                let (cell, _) = stripe.find(hash_of(5), |_| true).unwrap();
                stripe.replace(cell, hash_of(5), at(2_000));
            }),
            ("swept", &|| {
                assert_eq!(index.lock_stripe(0).sweep(|location| location == at(7)), 1);
            }),
            ("grown", &|| (3_000..3_200).for_each(|i| insert(&index, i))),
        ];
        for (name, change) in changes {
            let search = index.search(hash_of(50)).unwrap();
            assert!(search.holds());
            change();
            assert!(!search.holds(), "a slot was {name}");
        }
    }

    #[test]
    fn a_place_found_empty_is_not_used_once_the_stripe_has_changed() {
        let index = index_of(100);
        let stale: Search<'_> = index.search(hash_of(500)).unwrap();
        let taken = stale.empty_cell().unwrap();
        // Until somebody else has the very cell that the search found empty.
        let other = (1_000..).find(|i| {
            let search = index.search(hash_of(*i)).unwrap();
            search.empty_cell().is_some_and(|cell| std::ptr::eq(cell, taken))
        });
        insert(&index, other.unwrap());
        let mut stripe = index.lock(hash_of(500));
        stripe.reserve(|_| false).unwrap();
        stripe.place_in(&stale, hash_of(500), at(500));
        drop(stripe);
        for i in [500, other.unwrap()] {
            assert_eq!(index.search(hash_of(i)).unwrap().location(), Some(at(i)));
        }
    }
}
