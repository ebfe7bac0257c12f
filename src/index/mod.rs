//! From key hash to location, spread over stripes that are small and grow one by one.
//!
//! The top bits of the hash choose the stripe, the 28 bits from bit 20 on are the tag that the
//! slot keeps. Within a stripe the line is chosen by multiplying the tag into the number of lines,
//! so that a stripe can be laid out anew at any size from its slots alone: no key is read, and no
//! stored bit is used up by growing. Slots of a full line overflow into the next ones.

pub(crate) mod blocks;
pub(crate) mod shape;
pub(crate) mod slot;
pub(crate) mod stripe;

use std::cell::RefCell;
use std::io;

use crate::format::location::Location;
use crate::index::blocks::Blocks;
use crate::index::slot::{Slot, Tag};
use crate::index::stripe::{Moving, Stripe, StripeGuard, has_empty, matches};
use crate::key::KeyHash;
use crate::sys::arena::{Arena, Line};
use crate::sys::prefetch::prefetch;

/// Lines reserved: 64 GiB, or room for seven billion keys.
const LINES: usize = 1 << 30;
const LINES_MIN: usize = 1 << 22;

thread_local! {
    /// Slots of a stripe while it is laid out anew.
    static MOVING: RefCell<Moving> = const { RefCell::new(Moving::new()) };
}

/// What a line shows of a key, as far as can be told without a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peek {
    /// The key may be at this location.
    At(Location),
    /// The key is not in the index.
    Absent,
    /// The line is full: the search goes on in the next.
    Further,
}

/// The index of one store.
#[derive(Debug)]
pub(crate) struct Index {
    arena: Arena,
    blocks: Blocks,
    stripes: Box<[Stripe]>,
    stripe_shift: u32,
}

impl Index {
    /// An empty index of `stripes` stripes, a power of two.
    pub(crate) fn new(stripes: usize) -> io::Result<Self> {
        let arena = Arena::reserve(LINES, LINES_MIN)?;
        let blocks = Blocks::new(arena.len());
        let all = (0..stripes).map(|_| Stripe::default()).collect();
        Ok(Self { arena, blocks, stripes: all, stripe_shift: 64 - stripes.trailing_zeros() })
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
        #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
        let stripe = &self.stripes[number & (self.stripes.len() - 1)];
        StripeGuard::new(self, stripe)
    }

    /// Starts loading the stripe's own fields.
    #[inline]
    pub(crate) fn prefetch_stripe(&self, hash: KeyHash) {
        prefetch(self.stripes.as_ptr().wrapping_add(self.stripe_of(hash)));
    }

    /// Starts loading the line that the hash's slot is in, most likely.
    #[inline]
    pub(crate) fn prefetch_line(&self, hash: KeyHash) {
        if let Some(line) = self.home_line(hash) {
            self.arena.prefetch(line);
        }
    }

    /// What line `step` of the search for a hash shows, without a lock: only good for prefetching.
    ///
    /// Where the search goes on, loading of the next line has been started.
    #[inline]
    pub(crate) fn peek(&self, hash: KeyHash, step: u32) -> Peek {
        let Some(shape) = self.stripes.get(self.stripe_of(hash)).map(|s| &s.shape) else {
            return Peek::Absent;
        };
        let (tag, lines) = (Tag::of(hash), shape.lines());
        let number = tag.home(lines) + step;
        let line = shape.line(number).and_then(|line| self.arena.line(line));
        let Some(line) = line.filter(|_| number < lines) else {
            return Peek::Absent;
        };
        let matches = matches(line, tag);
        if matches != 0 {
            let slot = line.0.get(matches.trailing_zeros() as usize).map(Slot::load);
            return slot.and_then(Slot::location).map_or(Peek::Absent, Peek::At);
        }
        if has_empty(line) {
            return Peek::Absent;
        }
        if let Some(next) = shape.line(number + 1) {
            self.arena.prefetch(next);
        }
        Peek::Further
    }

    /// Bytes of memory that the lines take.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.lines_in_use() * size_of::<Line>() as u64
            + (self.stripes.len() * size_of::<Stripe>()) as u64
    }

    #[inline]
    fn home_line(&self, hash: KeyHash) -> Option<usize> {
        let shape = &self.stripes.get(self.stripe_of(hash))?.shape;
        let lines = shape.lines();
        if lines == 0 {
            return None;
        }
        shape.line(Tag::of(hash).home(lines))
    }

    #[inline]
    fn stripe_of(&self, hash: KeyHash) -> usize {
        // With one stripe the shift is 64, which leaves nothing of the hash.
        let bits = hash.as_u64().checked_shr(self.stripe_shift).unwrap_or(0);
        usize::try_from(bits).unwrap_or(0)
    }

    #[inline]
    fn prefetch_at(&self, line: usize) {
        self.arena.prefetch(line);
    }

    #[inline]
    fn line(&self, index: usize) -> Option<&Line> {
        self.arena.line(index)
    }
}
