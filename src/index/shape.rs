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

/// Where the order stands in the packed sizes; the number of lines is below, under 2^25.
const ORDER_SHIFT: u32 = 27;

/// A stripe's lines.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The number of lines, and above it the order: lines in a block are two to its power.
    sizes: AtomicU32,
    /// First line of each block in the arena.
    blocks: [AtomicU32; BLOCKS_MAX],
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
    #[inline]
    pub(crate) fn line(&self, sizes: Sizes, line: u32) -> Option<usize> {
        let order = sizes.order();
        let block = self.blocks.get((line >> order) as usize)?.load(Ordering::Relaxed);
        Some(block as usize + (line & !(u32::MAX << order)) as usize)
    }

    pub(crate) fn block(&self, index: usize) -> u32 {
        self.blocks.get(index).map_or(0, |block| block.load(Ordering::Relaxed))
    }

    /// Replaces all blocks. `blocks` are of two to the `order` lines each.
    pub(crate) fn set(&self, order: u32, blocks: &[u32]) {
        for (to, from) in self.blocks.iter().zip(blocks) {
            to.store(*from, Ordering::Relaxed);
        }
        let count = u32::try_from(blocks.len()).unwrap_or(0);
        self.sizes.store(order << ORDER_SHIFT | count << order, Ordering::Relaxed);
    }
}
