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
use crate::sys::arena::{LINE_SLOTS, Line, Pair, cells};
use crate::sys::compare::Upper;
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

/// What was seen in a stripe counts if nothing has changed there since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    stripe: &'a Stripe,
    sequence: u32,
}

impl Sight<'_> {
    /// True when nothing in the stripe has changed since the search began.
    #[inline(always)]
    pub(crate) fn holds(self) -> bool {
        // What was read before is not read later than the sequence.
        fence(Ordering::Acquire);
        self.stripe.sequence.load(Ordering::Relaxed) == self.sequence
    }
}

/// What a stripe showed of a hash without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    pub(crate) sight: Sight<'a>,
    /// The slot with the tag, or the empty one; some slot if neither was seen.
    cell: &'a AtomicU64,
    /// The line behind the home line, where that was all that was looked into.
    second: &'a Line,
    tag: Tag,
    seen: Seen,
}

impl<'a> Search<'a> {
    /// Looks into as many lines as it takes; `None` where only the lock helps.
    #[inline]
    pub(crate) fn whole(look: &Look<'a>, index: &'a Index, hash: KeyHash) -> Option<Self> {
        match look.matches() {
            0 => Self::without_match(look, index, hash),
            matches => Some(look.met(cell_at(look.pair, matches), Seen::Match)),
        }
    }

    /// Goes on with a look that has no [match](Look::matches).
    #[inline(always)]
    pub(crate) fn without_match(look: &Look<'a>, index: &'a Index, hash: KeyHash) -> Option<Self> {
        if look.ends_block() {
            return Self::across_blocks(index, look.sight.stripe, hash);
        }
        let empty = look.cells_with(Tag::NONE_BITS);
        if empty != 0 {
            return Some(look.met(cell_at(look.pair, empty), Seen::Empty));
        }
        let (cell, seen) = look_into(last_line(index, look.sight.stripe, look.tag)?, look.tag);
        Some(look.met(cell, seen))
    }

    /// Looks line by line, from the last line of a block on.
    #[cold]
    fn across_blocks(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Option<Self> {
        let look = Look::new(index, stripe, hash);
        if look.sizes.lines() == 0 {
            return None;
        }
        for line in [look.first(), look.second(index)] {
            let (cell, seen) = look_into(line, look.tag);
            if seen != Seen::Nothing {
                return Some(look.met(cell, seen));
            }
        }
        let (cell, seen) = look_into(last_line(index, stripe, look.tag)?, look.tag);
        Some(look.met(cell, seen))
    }

    /// Looks into the home line alone.
    #[inline]
    pub(crate) fn home(look: &Look<'a>, index: &'a Index) -> Option<Self> {
        if look.sizes.lines() == 0 {
            return None;
        }
        let (cell, seen) = look_into(look.first(), look.tag);
        let second = look.second(index);
        Some(Self { second, ..look.met(cell, seen) })
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
            && let Some(line) = last_line(index, self.sight.stripe, self.tag)
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
        location_in(self.cell)
    }

    /// True when a key for which there is [no match](Search::has_match) is not in the stripe.
    #[inline(always)]
    pub(crate) fn is_conclusive(&self) -> bool {
        self.seen == Seen::Empty
    }

    /// As [`Sight::holds`].
    #[inline(always)]
    pub(crate) fn holds(&self) -> bool {
        self.sight.holds()
    }

    /// The sequence at which the search began.
    #[inline]
    pub(crate) fn sequence(&self) -> u32 {
        self.sight.sequence
    }

    /// The first empty slot, where a key that was not found belongs.
    #[inline]
    pub(crate) fn empty_cell(&self) -> Option<&'a AtomicU64> {
        self.is_conclusive().then_some(self.cell)
    }
}

/// The two lines in which a search begins.
///
/// Both are compared at once, also where the first alone would do: what is found in the second then
/// is not the key, as the comparison of keys will show, and no branch has to wait for the first
/// line's contents. Every instruction here counts, as a processor that gets to the next call's
/// memory while it waits for this one's does twice as many calls. So nothing is asked before there
/// is a match: what lies behind the last line of a block, or at the place of a stripe without
/// lines, is no less harmless to read than a line that is being changed.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) sight: Sight<'a>,
    sizes: Sizes,
    tag: Tag,
    /// The home line's number.
    number: u32,
    /// The home line, and what lies behind it: the next one, unless it [ends](Look::ends_block)
    /// its block.
    pair: &'a Pair,
    /// The tags in both, as they were when they were loaded.
    tags: [Upper; 2],
}

impl<'a> Look<'a> {
    #[inline(always)]
    pub(crate) fn new(index: &'a Index, stripe: &'a Stripe, hash: KeyHash) -> Self {
        // An odd one is made another than it is, so that the search will not hold.
        let sequence = stripe.sequence.load(Ordering::Acquire) & !1;
        let sizes = stripe.shape.sizes();
        let tag = Tag::of(hash);
        let number = tag.home(sizes.lines());
        let pair = index.pair(stripe.shape.line(sizes, number));
        let [first, second] = pair;
        let tags = [tags_of(first), tags_of(second)];
        Self { sight: Sight { stripe, sequence }, sizes, tag, number, pair, tags }
    }

    /// Which cells of both lines have the tag, one bit for each. The lines are most likely the
    /// stripe's.
    #[inline(always)]
    pub(crate) fn matches(&self) -> u32 {
        self.cells_with(self.tag.bits())
    }

    /// Where the first of the cells that [match](Look::matches) leads.
    #[inline(always)]
    pub(crate) fn location(&self, matches: u32) -> Option<Location> {
        location_in(cell_at(self.pair, matches))
    }

    /// Which cells of both lines have a tag of these bits, one bit for each.
    #[inline(always)]
    fn cells_with(&self, bits: u32) -> u32 {
        let [first, second] = self.tags;
        first.equal_in_both(second, bits)
    }

    #[inline]
    fn first(&self) -> &'a Line {
        &self.pair[0]
    }

    #[inline(always)]
    fn ends_block(&self) -> bool {
        self.sizes.ends_block(self.number)
    }

    /// The line that follows the home line.
    #[inline]
    fn second(&self, index: &'a Index) -> &'a Line {
        if !self.ends_block() {
            return &self.pair[1];
        }
        index.line(self.sight.stripe.shape.line(self.sizes, after(self.sizes, self.number)))
    }

    #[inline(always)]
    fn met(&self, cell: &'a AtomicU64, seen: Seen) -> Search<'a> {
        let Self { sight, tag, .. } = *self;
        Search { sight, cell, second: &self.pair[1], tag, seen }
    }
}

/// Where a slot leads.
#[inline(always)]
fn location_in(cell: &AtomicU64) -> Option<Location> {
    // With what the record's writer wrote before it set the slot. A slot changed meanwhile leads
    // elsewhere, where the key will be found to differ.
    Slot::load_acquire(cell).location()
}

/// The cell of the lowest bit that is set: eight bits stand for the first line, the eight above
/// them for the second.
#[inline(always)]
fn cell_at(pair: &Pair, bits: u32) -> &AtomicU64 {
    &cells(pair)[bits.trailing_zeros() as usize % (2 * LINE_SLOTS)]
}

/// What one line shows of a tag.
#[inline(always)]
fn look_into(line: &Line, tag: Tag) -> (&AtomicU64, Seen) {
    let tags = tags_of(line);
    let (equal, empty) = (tags.equal(tag.bits()), tags.equal(Tag::NONE_BITS));
    let cell = |bits: u32| &line.0[bits.trailing_zeros() as usize % LINE_SLOTS];
    if equal != 0 {
        (cell(equal), Seen::Match)
    } else if empty != 0 {
        (cell(empty), Seen::Empty)
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
        let line = index.line(stripe.shape.line(sizes, number));
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
