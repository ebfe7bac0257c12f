//! Which chunks of the address space are taken.
//!
//! Chunks are given out in pairs, so that every segment begins at a multiple of a huge page.

use std::collections::BTreeMap;
use std::ops::Range;

/// Chunks in a huge page of 2 MiB.
const PAIR: u64 = 2;

/// Free ranges below `end`, and everything from `end` to `limit`.
#[derive(Debug)]
pub(crate) struct Places {
    /// Start to length; no two touch.
    free: BTreeMap<u64, u64>,
    end: u64,
    limit: u64,
}

impl Places {
    /// All of `0..limit` is free.
    pub(crate) fn new(limit: u64) -> Self {
        Self { free: BTreeMap::new(), end: 0, limit }
    }

    /// The start of `count` consecutive chunks, now taken.
    pub(crate) fn take(&mut self, count: u64) -> Option<u64> {
        let count = count.next_multiple_of(PAIR);
        let fit =
            self.free.iter().find(|(_, len)| **len >= count).map(|(start, len)| (*start, *len));
        if let Some((start, len)) = fit {
            self.free.remove(&start);
            if len > count {
                self.free.insert(start + count, len - count);
            }
            return Some(start);
        }
        if self.limit - self.end < count {
            return None;
        }
        self.end += count;
        Some(self.end - count)
    }

    /// Makes a range that was taken free again.
    pub(crate) fn give(&mut self, range: Range<u64>) {
        let (mut start, mut len) = (range.start, (range.end - range.start).next_multiple_of(PAIR));
        if let Some((before, before_len)) = self.free.range(..start).next_back()
            && before + before_len == start
        {
            (start, len) = (*before, before_len + len);
        }
        self.free.remove(&start);
        if let Some(after_len) = self.free.remove(&(start + len)) {
            len += after_len;
        }
        if start + len == self.end {
            self.end = start;
        } else {
            self.free.insert(start, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn places_are_used_again_and_neighbours_join() {
        let mut places = Places::new(20);
        assert_eq!((places.take(6), places.take(5), places.take(6)), (Some(0), Some(6), Some(12)));
        assert_eq!(places.take(4), None);
        places.give(0..6);
        assert_eq!(places.take(8), None);
        places.give(6..11);
        assert_eq!(places.take(12), Some(0));
        places.give(12..18);
        assert_eq!(places.take(8), Some(12));
    }
}
