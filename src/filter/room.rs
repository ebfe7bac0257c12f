//! Which lines of the arena are free: powers of two, each size with a list of its own.
//!
//! The sizes of layers follow from how they grow, so a block given back is soon wanted again as it
//! is, and neighbours need not be joined.

/// The largest layer: 2^25 lines, which is 2 GiB or 1.3 billion keys.
pub(crate) const ORDER_MAX: u32 = 25;

/// The free lines of a filter.
#[derive(Debug)]
pub(crate) struct Room {
    /// First lines of blocks given back, by order.
    free: Vec<Vec<usize>>,
    /// Lines from here on were never used.
    end: usize,
    limit: usize,
    in_use: usize,
}

impl Room {
    pub(crate) fn new(lines: usize) -> Self {
        let free = vec![Vec::new(); ORDER_MAX as usize + 1];
        Self { free, end: 0, limit: lines, in_use: 0 }
    }

    /// The first of two to the `order` lines, all zero.
    pub(crate) fn take(&mut self, order: u32) -> Option<usize> {
        let lines = 1 << order;
        let first = match self.free.get_mut(order as usize)?.pop() {
            Some(first) => first,
            None if self.limit - self.end < lines => return None,
            None => {
                self.end += lines;
                self.end - lines
            }
        };
        self.in_use += lines;
        Some(first)
    }

    /// Takes lines back that are all zero again.
    pub(crate) fn give(&mut self, first: usize, order: u32) {
        self.in_use -= 1 << order;
        if let Some(free) = self.free.get_mut(order as usize) {
            free.push(first);
        }
    }

    /// Lines that were ever used.
    #[cfg(test)]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    pub(crate) fn lines_in_use(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::{ORDER_MAX, Room};

    #[test]
    fn lines_are_used_once_at_a_time_and_again_afterwards() {
        let mut room = Room::new(24);
        let (a, b) = (room.take(3).unwrap(), room.take(3).unwrap());
        assert_ne!(a, b);
        assert_eq!((room.take(4), room.take(ORDER_MAX + 1)), (None, None));
        room.give(a, 3);
        assert_eq!((room.take(3), room.lines_in_use()), (Some(a), 16));
    }
}
