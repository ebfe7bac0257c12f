//! From key hash to location, spread over stripes that are small and grow one by one.
//!
//! The top bits of the hash choose the stripe, the 28 bits from bit 20 on are the tag that the
//! slot keeps. Within a stripe the line is chosen by multiplying the tag into the number of lines,
//! so that a stripe can be laid out anew at any size from its slots alone: no key is read, and no
//! stored bit is used up by growing. Slots of a full line overflow into the next ones.

pub(crate) mod blocks;
pub(crate) mod credit;
#[cfg(all(test, oncelog_shuttle))]
mod models;
pub(crate) mod search;
pub(crate) mod shape;
pub(crate) mod slot;
pub(crate) mod stripe;

use std::cell::RefCell;
use std::io;

use crate::index::blocks::Blocks;
use crate::index::credit::Credit;
use crate::index::search::{Look, Search};
use crate::index::slot::Tag;
use crate::index::stripe::{Moving, Stripe, StripeGuard};
use crate::key::KeyHash;
use crate::sys::arena::{Arena, Line, Pair};
use crate::sys::prefetch::prefetch;
use crate::sys::ring::Ring;
use crate::sys::sync;

/// Lines reserved: 64 GiB, or room for seven billion keys.
const LINES: usize = 1 << 30;
const LINES_MIN: usize = 1 << 22;

sync::thread_local! {
    /// Slots of a stripe while it is laid out anew.
    static MOVING: RefCell<Moving> = const { RefCell::new(Moving::new()) };
}

/// The index of one store.
#[derive(Debug)]
pub(crate) struct Index {
    arena: Arena,
    blocks: Blocks,
    credit: Credit,
    stripes: Ring<Stripe>,
    /// The bits of a stripe's number, which are a hash's uppermost.
    stripe_bits: u32,
}

impl Index {
    /// An empty index of `stripes` stripes, a power of two.
    #[cfg(test)]
    pub(crate) fn new(stripes: usize) -> io::Result<Self> {
        Self::limited(stripes, None)
    }

    /// As [`Index::new`], for so many keys at most.
    pub(crate) fn limited(stripes: usize, keys_max: Option<u64>) -> io::Result<Self> {
        let arena = Arena::reserve(LINES, LINES_MIN)?;
        let blocks = Blocks::new(arena.len());
        let credit = Credit::new(keys_max, stripes);
        let stripes = Ring::new(stripes, |_| Stripe::new(credit.at_first()));
        let stripe_bits = stripes.len().trailing_zeros();
        Ok(Self { arena, blocks, credit, stripes, stripe_bits })
    }

    pub(crate) fn stripe_count(&self) -> usize {
        self.stripes.len()
    }

    /// Locks the stripe of a hash.
    #[inline]
    pub(crate) fn lock(&self, hash: KeyHash) -> StripeGuard<'_> {
        self.lock_stripe(self.stripe_of(hash))
    }

    /// Locks stripe `number`, counted modulo their number.
    #[inline]
    pub(crate) fn lock_stripe(&self, number: usize) -> StripeGuard<'_> {
        StripeGuard::new(self, self.stripe(number))
    }

    #[inline(always)]
    fn stripe(&self, number: usize) -> &Stripe {
        self.stripes.at(number)
    }

    /// Starts loading the stripe's own fields.
    #[inline]
    pub(crate) fn prefetch_stripe(&self, hash: KeyHash) {
        prefetch(self.stripe(self.stripe_of(hash)));
    }

    /// Starts loading the line that the hash's slot is in, most likely.
    #[inline]
    pub(crate) fn prefetch_line(&self, hash: KeyHash) {
        let shape = &self.stripe(self.stripe_of(hash)).shape;
        let sizes = shape.sizes();
        self.arena.prefetch(shape.line(sizes, Tag::of(hash).home(sizes.lines())));
    }

    /// Begins to look for a hash without its stripe's lock.
    #[inline(always)]
    pub(crate) fn look(&self, hash: KeyHash) -> Look<'_> {
        Look::new(self, self.stripe(self.stripe_of(hash)), hash)
    }

    /// Looks for a hash without its stripe's lock.
    #[inline]
    pub(crate) fn search(&self, hash: KeyHash) -> Option<Search<'_>> {
        Search::whole(&self.look(hash), self, hash)
    }

    /// As [`Index::search`], in the home line alone.
    #[inline]
    pub(crate) fn search_home(&self, hash: KeyHash) -> Option<Search<'_>> {
        Search::home(&self.look(hash), self)
    }

    /// The bits of a hash that can be told from its slot: its stripe and its tag.
    #[inline]
    pub(crate) fn imprint(&self, hash: KeyHash) -> u64 {
        Self::imprint_in(self.stripe_of(hash), Tag::of(hash))
    }

    /// The imprint of a key with this tag in stripe `number`.
    #[inline]
    pub(crate) fn imprint_in(number: usize, tag: Tag) -> u64 {
        (number as u64) << 28 | u64::from(tag.bits())
    }

    /// Bytes of memory that the lines take.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.lines_in_use() * size_of::<Line>() as u64
            + (self.stripes.len() * size_of::<Stripe>()) as u64
    }

    /// The number of a hash's stripe.
    #[inline]
    pub(crate) fn stripe_of(&self, hash: KeyHash) -> usize {
        // Rotated, as with one stripe nothing is left of a hash, which no shift does.
        let bits = hash.as_u64().rotate_left(self.stripe_bits);
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits are used")]
        let number = self.stripes.number(bits as usize);
        number
    }

    /// A line of a stripe, at its place in the arena.
    #[inline(always)]
    fn line(&self, at: usize) -> &Line {
        self.arena.line_at(at)
    }

    /// The same, with what lies behind it: the next line, unless it is the last one of its block.
    #[inline(always)]
    fn pair(&self, at: usize) -> &Pair {
        self.arena.pair_at(at)
    }

    /// The two to the `order` lines of a block.
    fn lines(&self, first: u32, order: u32) -> &[Line] {
        self.arena.lines(first as usize, 1 << order)
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::format::location::Location;
    use crate::key::KeyHash;

    #[test]
    fn what_overflowed_its_line_is_found_after_the_line_was_swept() {
        let index = Index::new(1).unwrap();
        // Of one hash, so that all begin at one line and fill it and the next ones.
        let hash = KeyHash::from_u64(0x1234_5678_9abc_def0);
        let at = |i: u64| Location::from_units(i + 1);
        let mut stripe = index.lock(hash);
        for i in 0..40 {
            stripe.reserve(|_| false).unwrap();
            stripe.place(hash, at(i));
        }
        let is_dead = |location: Location| (0..40).step_by(3).any(|i| at(i) == location);
        assert_eq!(stripe.sweep(is_dead), 14);
        for i in 0..40 {
            let found = stripe.find(hash, |location| location == at(i)).is_some();
            assert_eq!(found, i % 3 != 0, "slot {i}");
        }
        // Their room is used again, and no slot is lost to that.
        for i in 40..54 {
            stripe.reserve(|_| false).unwrap();
            stripe.place(hash, at(i));
        }
        let found = |i: &u64| stripe.find(hash, |location| location == at(*i)).is_some();
        assert_eq!((0..54).filter(found).count(), 40);
        assert_eq!(stripe.held(), 40);
    }
}
