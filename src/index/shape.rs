//! How many lines a stripe has and where they are.
//!
//! A stripe's lines lie in up to 6 blocks of equal size, a power of two. It grows by one block,
//! that is by a third to a fifth; when all 6 are in use it moves to 3 blocks of twice the size,
//! and one more. So no growth needs one large piece of memory, and what is given back fits others.
//! A slot is moved 3.75 times on average, and a key takes 9.8 to 13.1 bytes. (With up to 10 blocks
//! it would be 6.7 times, and 9.8 to 11.8 bytes.)
//!
//! The fields are atomic because they are read without the stripe's lock; they are changed under
//! it. A reader without the lock may combine old and new fields, which leads it to some line or
//! to none; whether what it read counts is for the stripe's sequence to say.

use crate::sys::sync::atomic::{AtomicU32, Ordering};

/// Blocks of a stripe at most.
pub(crate) const BLOCKS_MAX: usize = 6;

/// Places for blocks: a power of two, so that any number can be made a valid one.
const BASES: usize = 8;

const _: () = assert!(BASES >= BLOCKS_MAX && BASES.is_power_of_two());

/// Where the order stands in the packed sizes; the number of lines is below, under 2^25.
const ORDER_SHIFT: u32 = 27;

/// A stripe's lines.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The number of lines, and above it the order: lines in a block are two to its power.
    sizes: AtomicU32,
    /// What to add to the number of a line in each block to have its place in the arena: the
    /// block's first line, less the number which that has in the stripe.
    bases: [AtomicU32; BASES],
}

/// The two sizes of a shape, read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes(u32);

impl Sizes {
    /// The number of lines; zero for a stripe never used.
    #[inline]
    pub(crate) const fn lines(self) -> u32 {
        self.0 & ((1 << ORDER_SHIFT) - 1)
    }

    #[inline]
    pub(crate) const fn order(self) -> u32 {
        self.0 >> ORDER_SHIFT
    }

    /// True for the last line of a block.
    #[inline]
    pub(crate) const fn ends_block(self, line: u32) -> bool {
        line | (u32::MAX << self.order()) == u32::MAX
    }
}

impl Shape {
    #[inline]
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes(self.sizes.load(Ordering::Relaxed))
    }

    /// The number of lines; zero for a stripe never used.
    #[inline]
    pub(crate) fn lines(&self) -> u32 {
        self.sizes().lines()
    }

    pub(crate) fn order(&self) -> u32 {
        self.sizes().order()
    }

    pub(crate) fn block_count(&self) -> usize {
        (self.lines() >> self.order()) as usize
    }

    /// Where line `line` of the stripe is in the arena.
    #[inline(always)]
    pub(crate) fn line(&self, sizes: Sizes, line: u32) -> usize {
        let base = &self.bases[(line >> sizes.order()) as usize % BASES];
        base.load(Ordering::Relaxed).wrapping_add(line) as usize
    }

    /// The first line of a block.
    pub(crate) fn block(&self, index: usize) -> u32 {
        let first = u32::try_from(index << self.order()).unwrap_or(0);
        let base = self.bases.get(index).map_or(0, |base| base.load(Ordering::Relaxed));
        base.wrapping_add(first)
    }

    /// Replaces all blocks. `blocks` are of two to the `order` lines each.
    pub(crate) fn set(&self, order: u32, blocks: &[u32]) {
        for ((to, block), index) in self.bases.iter().zip(blocks).zip(0_u32..) {
            to.store(block.wrapping_sub(index << order), Ordering::Relaxed);
        }
        let count = u32::try_from(blocks.len()).unwrap_or(0);
        self.sizes.store(order << ORDER_SHIFT | count << order, Ordering::Relaxed);
    }
}
