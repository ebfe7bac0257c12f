//! Where in the arena blocks of lines are free: the buddy system.
//!
//! Blocks have power-of-two sizes and lie at multiples of their size; two free neighbours of one
//! size join. Stripes of about equal size ask for few sizes at a time, which suits it. (Knowlton,
//! "A fast storage allocator", 1965.)

use std::collections::BTreeSet;

use crate::sys::sync::Mutex;

/// The largest block: 2^20 lines, 64 MiB.
const ORDERS: usize = 21;

/// The free blocks of an arena.
#[derive(Debug)]
pub(crate) struct Blocks {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// First lines of free blocks, by order.
    free: [BTreeSet<u32>; ORDERS],
    /// Lines from here on have never been used.
    end: u64,
    limit: u64,
    in_use: u64,
}

impl Blocks {
    pub(crate) fn new(lines: usize) -> Self {
        let limit = (lines as u64).min(u64::from(u32::MAX));
        let state = State { free: Default::default(), end: 0, limit, in_use: 0 };
        Self { state: Mutex::new(state) }
    }

    /// The first line of a block of two to the `order` lines, whose contents are arbitrary.
    pub(crate) fn take(&self, order: u32) -> Option<u32> {
        let mut state = self.state.lock();
        let wanted = order as usize;
        if wanted >= ORDERS {
            return None;
        }
        let found =
            (wanted..ORDERS).find(|size| state.free.get(*size).is_some_and(|f| !f.is_empty()));
        let first = match found {
            Some(size) => {
                let first = state.free.get_mut(size)?.pop_first()?;
                // The upper halves of what is larger than wanted stay free.
                for half in wanted..size {
                    state.free.get_mut(half)?.insert(first + (1 << half));
                }
                first
            }
            None => state.extend(order)?,
        };
        state.in_use += 1 << order;
        Some(first)
    }

    /// Takes a block back.
    pub(crate) fn give(&self, first: u32, order: u32) {
        let mut state = self.state.lock();
        state.in_use -= 1 << order;
        let (mut first, mut order) = (first, order as usize);
        while order + 1 < ORDERS {
            let buddy = first ^ (1 << order);
            if !state.free.get_mut(order).is_some_and(|free| free.remove(&buddy)) {
                break;
            }
            first &= !(1 << order);
            order += 1;
        }
        if let Some(free) = state.free.get_mut(order) {
            free.insert(first);
        }
    }

    pub(crate) fn lines_in_use(&self) -> u64 {
        self.state.lock().in_use
    }
}

impl State {
    /// Takes lines never used; what alignment skips becomes free.
    fn extend(&mut self, order: u32) -> Option<u32> {
        let size = 1_u64 << order;
        let first = self.end.next_multiple_of(size);
        if first + size > self.limit {
            return None;
        }
        while self.end < first {
            let part = self.end.trailing_zeros().min(order);
            self.free.get_mut(part as usize)?.insert(u32::try_from(self.end).ok()?);
            self.end += 1 << part;
        }
        self.end = first + size;
        u32::try_from(first).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn blocks_do_not_overlap_lie_at_multiples_of_their_size_and_join_again() {
        let blocks = Blocks::new(64);
        let mut taken = Vec::new();
        for order in [0, 2, 1, 3, 0, 4] {
            let first = blocks.take(order).unwrap();
            assert_eq!(first % (1 << order), 0);
            for (other, size) in &taken {
                assert!(first + (1_u32 << order) <= *other || other + (1_u32 << size) <= first);
            }
            taken.push((first, order));
        }
        assert_eq!(blocks.lines_in_use(), 1 + 4 + 2 + 8 + 1 + 16);
        for (first, order) in taken {
            blocks.give(first, order);
        }
        assert_eq!(blocks.lines_in_use(), 0);
        assert_eq!(blocks.take(5), Some(0));
        assert_eq!((blocks.take(5), blocks.take(0)), (Some(32), None));
    }
}
