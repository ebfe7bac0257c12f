//! How many lines a stripe has and where they are.
//!
//! A stripe's lines lie in up to 10 blocks of equal size, a power of two. It grows by one block,
//! that is by a tenth to a fifth; when all 10 are in use it moves to 5 blocks of twice the size,
//! and one more. So no growth needs one large piece of memory, and what is given back fits others.
//!
//! The fields are atomic because they are read without the stripe's lock, for prefetching; they
//! are changed under it. A reader without the lock may combine old and new fields: it then
//! prefetches a line for nothing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Blocks of a stripe at most.
pub(crate) const BLOCKS_MAX: usize = 10;

/// A stripe's lines.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    lines: AtomicU32,
    /// Lines in a block: two to this power.
    order: AtomicU32,
    /// First line of each block in the arena.
    blocks: [AtomicU32; BLOCKS_MAX],
}

impl Shape {
    /// The number of lines; zero for a stripe never used.
    #[inline]
    pub(crate) fn lines(&self) -> u32 {
        self.lines.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn order(&self) -> u32 {
        self.order.load(Ordering::Relaxed)
    }

    pub(crate) fn block_count(&self) -> usize {
        (self.lines() >> self.order()) as usize
    }

    /// Where line `line` of the stripe is in the arena.
    #[inline]
    pub(crate) fn line(&self, line: u32) -> Option<usize> {
        let order = self.order() & 31;
        let block = self.blocks.get((line >> order) as usize)?.load(Ordering::Relaxed);
        Some(block as usize + (line & ((1 << order) - 1)) as usize)
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
        self.order.store(order, Ordering::Relaxed);
        self.lines.store(count << order, Ordering::Relaxed);
    }
}
