//! Items in a circle: whatever the index, there is one.
//!
//! For arrays that are looked into on the way of every call, where the index is part of a hash or a
//! number that spreads threads: a remainder costs a mask, and nothing is left to be checked.

/// As many items as a power of two.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    items: Box<[T]>,
    /// One less than there are.
    mask: usize,
}

impl<T> Ring<T> {
    /// At least `count` items, and at least one.
    pub(crate) fn new(count: usize, item: impl FnMut(usize) -> T) -> Self {
        let count = count.max(1).next_power_of_two();
        Self { items: (0..count).map(item).collect(), mask: count - 1 }
    }

    /// The number of the item at `index`.
    #[inline(always)]
    pub(crate) fn number(&self, index: usize) -> usize {
        index & self.mask
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// The item at `index`, counted round the circle.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &T {
        // SAFETY: the mask is one less than the number of items, which never changes.
        unsafe { self.items.get_unchecked(index & self.mask) }
    }
}

impl<'a, T> IntoIterator for &'a Ring<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;

    #[test]
    fn an_index_beyond_the_end_comes_round_to_the_front() {
        for (count, len) in [(0, 1), (1, 1), (3, 4), (4, 4), (5, 8)] {
            let ring = Ring::new(count, |item| item);
            assert_eq!((ring.len(), ring.iter().count()), (len, len));
            for index in 0..3 * len {
                assert_eq!((*ring.at(index), ring.number(index)), (index % len, index % len));
            }
            assert_eq!(*ring.at(usize::MAX), len - 1);
        }
    }
}
