//! How far a partition is handled: everything below one offset, and what was handled beyond it.

use crate::recipes::keys::split_u64;

/// Ranges beyond the next offset that are kept; what they leave out is delivered and found done.
const AHEAD_MAX: usize = 64;

/// All offsets from `start` on and below `next` are handled, and those in the ranges ahead. What is
/// below `start` was never asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    start: u64,
    pub(super) next: u64,
    /// From and to, in order, apart from each other and from `next`.
    ahead: Vec<(u64, u64)>,
}

impl Progress {
    pub(super) fn starting(start: u64) -> Self {
        Self { start, next: start, ahead: Vec::new() }
    }

    /// True if the offset is handled.
    pub(super) fn covers(&self, offset: u64) -> bool {
        let own = (self.start, self.next);
        std::iter::once(&own).chain(&self.ahead).any(|(from, to)| (*from..*to).contains(&offset))
    }

    /// Goes back to an offset below all that was asked for before; false if it is not.
    pub(super) fn begin_at(&mut self, from: u64) -> bool {
        if from >= self.start {
            return false;
        }
        if self.start < self.next {
            self.ahead.insert(0, (self.start, self.next));
            self.ahead.truncate(AHEAD_MAX);
        }
        (self.start, self.next) = (from, from);
        true
    }

    /// Everything from `from` on and below `to` is handled, or is no message.
    pub(super) fn cover(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from.max(self.start), to);
        if from >= to {
            return;
        }
        // What touches the range is joined with it.
        self.ahead.retain(|(other_from, other_to)| {
            let apart = *other_to < from || to < *other_from;
            if !apart {
                from = from.min(*other_from);
                to = to.max(*other_to);
            }
            apart
        });
        if from <= self.next {
            self.next = self.next.max(to);
            return;
        }
        let at = self.ahead.partition_point(|(other_from, _)| *other_from < from);
        self.ahead.insert(at, (from, to));
        // Forgetting that something is handled is safe: it has its own mark.
        self.ahead.truncate(AHEAD_MAX);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let ranges = self.ahead.iter().flat_map(|(from, to)| [*from, *to]);
        let numbers = [self.start, self.next].into_iter().chain(ranges);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// `None` for anything that [`Progress::encode`] did not make.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (start, rest) = split_u64(bytes)?;
        let (next, mut rest) = split_u64(rest)?;
        if next < start {
            return None;
        }
        let (mut ahead, mut last) = (Vec::new(), next);
        while !rest.is_empty() {
            let (from, behind) = split_u64(rest)?;
            let (to, behind) = split_u64(behind)?;
            if from <= last || to <= from || ahead.len() == AHEAD_MAX {
                return None;
            }
            ahead.push((from, to));
            (last, rest) = (to, behind);
        }
        Some(Self { start, next, ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD_MAX, Progress};
    use std::collections::BTreeSet;

    #[test]
    fn ranges_in_any_order_cover_what_a_set_holds_and_come_back_from_their_bytes() {
        let mut seed = 3_u64;
        let mut below = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % end
        };
        for _ in 0..300 {
            let mut start = 40 + below(20);
            let mut progress = Progress::starting(start);
            let mut set = BTreeSet::new();
            for _ in 0..30 {
                if below(8) == 0 {
                    let back = start.saturating_sub(below(10));
                    assert_eq!(progress.begin_at(back), back < start);
                    start = start.min(back);
                }
                let from = start + below(60);
                let to = from + 1 + below(6);
                progress.cover(from, to);
                set.extend(from..to);
                assert!((0..140).all(|offset| progress.covers(offset) == set.contains(&offset)));
                let next = (start..).find(|offset| !set.contains(offset)).unwrap();
                assert_eq!(progress.next, next);
                assert_eq!(Progress::decode(&progress.encode()), Some(progress.clone()));
            }
        }
    }

    #[test]
    fn many_holes_cost_bounded_room_and_forget_only_what_is_farthest() {
        let mut progress = Progress::starting(0);
        for number in (1..1_000_u64).rev() {
            progress.cover(number * 2, number * 2 + 1);
        }
        assert!(progress.encode().len() <= 16 + 16 * AHEAD_MAX);
        assert!(progress.covers(2) && progress.covers(64) && !progress.covers(1_998));
        progress.cover(0, 2);
        assert_eq!(progress.next, 3);
        assert_eq!(Progress::decode(&progress.encode()), Some(progress));
    }

    #[test]
    fn bytes_that_are_no_progress_are_refused() {
        let wrong: [&[u64]; 7] =
            [&[], &[5], &[6, 5], &[5, 5, 6], &[5, 5, 5, 6], &[5, 5, 7, 7], &[5, 5, 7, 9, 9, 12]];
        for numbers in wrong {
            let bytes: Vec<u8> = numbers.iter().copied().flat_map(u64::to_le_bytes).collect();
            assert_eq!(Progress::decode(&bytes), None, "{numbers:?}");
        }
    }
}
