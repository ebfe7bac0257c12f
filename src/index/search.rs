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
use crate::index::shape::Sizes;
use crate::index::slot::{Slot, Tag};
use crate::index::stripe::{Stripe, tags_of};
use crate::key::KeyHash;
use crate::sys::arena::{LINE_SLOTS, Line};
use crate::sys::prefetch::prefetch;

/// What a search has come upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A slot with the tag.
    Match,
    /// No such slot, and an empty one: the key is not in the stripe.
    Empty,
    /// Neither: the key may be in a later line.
    Nothing,
}

/// What a stripe showed of a hash without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    stripe: &'a Stripe,
    /// The slot with the tag, or the empty one; some slot if neither was seen.
    cell: &'a AtomicU64,
    /// The line behind the home line.
    second: &'a Line,
    tag: Tag,
    sequence: u32,
    seen: Seen,
}

impl<'a> Search<'a> {
    /// Looks into as many lines as it takes; `None` where only the lock helps.
    ///
    /// Two lines are compared at once, also where the first alone would do: what is found in the
    /// second then is not the key, as the comparison of keys will show, and no branch has to wait
    /// for the first line's contents. Every instruction here counts, as a processor that gets to
    /// the next call's memory while it waits for this one's does twice as many calls.
    #[inline(always)]
    pub(crate) fn whole(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let Begun { sequence, tag, first, second } = Begun::of(index, stripe, hash)?;
        let (tags, further) = (tags_of(first), tags_of(second));
        let equal = tags.equal_in_both(further, tag.bits());
        let (cell, seen) = if equal != 0 {
            (cell_at(first, second, equal), Seen::Match)
        } else {
            let empty = tags.equal_in_both(further, Tag::NONE_BITS);
            if empty != 0 {
                (cell_at(first, second, empty), Seen::Empty)
            } else {
                look_into(last_line(index, stripe, tag)?, tag)
            }
        };
        Some(Self { stripe, cell, second, tag, sequence, seen })
    }

    /// Looks into the home line alone.
    #[inline]
    pub(crate) fn home(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let Begun { sequence, tag, first, second } = Begun::of(index, stripe, hash)?;
        let (cell, seen) = look_into(first, tag);
        Some(Self { stripe, cell, second, tag, sequence, seen })
    }

    /// The key may be in a later line.
    #[inline]
    pub(crate) fn goes_on(&self) -> bool {
        self.seen == Seen::Nothing
    }

    /// Starts loading the line behind the home line, and the one that most likely follows it.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        let next: *const Line = self.second;
        prefetch(next);
        prefetch(next.wrapping_add(1));
    }

    /// Goes on behind the home line, until one has a match or an empty slot.
    #[inline]
    pub(crate) fn go_on(&mut self, index: &'a Index) {
        (self.cell, self.seen) = look_into(self.second, self.tag);
        if self.goes_on()
            && let Some(line) = last_line(index, self.stripe, self.tag)
        {
            (self.cell, self.seen) = look_into(line, self.tag);
        }
    }

    /// True when some slot has the tag.
    #[inline(always)]
    pub(crate) fn has_match(&self) -> bool {
        self.seen == Seen::Match
    }

    /// Where the slot with the tag leads.
    #[inline(always)]
    pub(crate) fn location(&self) -> Option<Location> {
        // With what the record's writer wrote before it set the slot. A slot changed meanwhile
        // leads elsewhere, where the key will be found to differ.
        Slot::load_acquire(self.cell).location()
    }

    /// True when a key for which there is [no match](Search::has_match) is not in the stripe.
    #[inline(always)]
    pub(crate) fn is_conclusive(&self) -> bool {
        self.seen == Seen::Empty
    }

    /// True when nothing in the stripe has changed since the search began.
    #[inline(always)]
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
        self.is_conclusive().then_some(self.cell)
    }
}

/// Where a search begins.
struct Begun<'a> {
    sequence: u32,
    tag: Tag,
    /// The home line.
    first: &'a Line,
    /// The one behind it.
    second: &'a Line,
}

impl<'a> Begun<'a> {
    #[inline(always)]
    fn of(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let sequence = stripe.sequence.load(Ordering::Acquire);
        let sizes = stripe.shape.sizes();
        if sizes.lines() == 0 || !sequence.is_multiple_of(2) {
            return None;
        }
        let tag = Tag::of(hash);
        let number = tag.home(sizes.lines());
        let at = stripe.shape.line(sizes, number)?;
        let [first, second] = if sizes.ends_block(number) {
            let next = stripe.shape.line(sizes, after(sizes, number))?;
            [index.line(at)?, index.line(next)?]
        } else {
            index.line_and_next(at)?
        };
        Some(Self { sequence, tag, first, second })
    }
}

/// The cell of the lowest bit that is set: eight bits stand for the first line, the eight above
/// them for the second.
#[inline(always)]
fn cell_at<'a>(first: &'a Line, second: &'a Line, bits: u32) -> &'a AtomicU64 {
    let place = bits.trailing_zeros() as usize;
    let line = if place & LINE_SLOTS == 0 { first } else { second };
    &line.0[place % LINE_SLOTS]
}

/// What one line shows of a tag.
#[inline(always)]
fn look_into(line: &Line, tag: Tag) -> (&AtomicU64, Seen) {
    let tags = tags_of(line);
    let (equal, empty) = (tags.equal(tag.bits()), tags.equal(Tag::NONE_BITS));
    if equal != 0 {
        (cell_at(line, line, equal), Seen::Match)
    } else if empty != 0 {
        (cell_at(line, line, empty), Seen::Empty)
    } else {
        (&line.0[0], Seen::Nothing)
    }
}

/// The line in which a search that goes on behind its second line ends.
#[cold]
fn last_line<'a>(index: &'a Index, stripe: &Stripe, tag: Tag) -> Option<&'a Line> {
    let sizes = stripe.shape.sizes();
    let mut number = after(sizes, tag.home(sizes.lines()));
    // No more lines than there are: a stripe that is being changed may have no empty slot.
    for _ in 0..sizes.lines() {
        number = after(sizes, number);
        let line = index.line(stripe.shape.line(sizes, number)?)?;
        let tags = tags_of(line);
        if tags.equal(tag.bits()) | tags.equal(Tag::NONE_BITS) != 0 {
            return Some(line);
        }
    }
    None
}

/// The number of the line that follows, in a stripe of these sizes.
#[inline]
fn after(sizes: Sizes, number: u32) -> u32 {
    if number + 1 >= sizes.lines() { 0 } else { number + 1 }
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
