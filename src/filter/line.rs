//! One line of a filter: a bit in each of its eight words for every key.
//!
//! A key has one line, so a question costs one cache miss a layer. (A blocked Bloom filter in the
//! split form: Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007.)

use crate::sys::arena::{LINE_SLOTS, Line};
use crate::sys::sync::atomic::{AtomicU64, Ordering};

/// Keys a line takes before another layer is begun: 12.8 bits a key, of which 0.4 % of other keys
/// find all of theirs set.
pub(crate) const KEYS_PER_LINE: u64 = 40;

const BITS_PER_PLACE: u32 = 6;
/// The pattern's bits are the upper ones of a product, which depend on all others.
const PATTERN_SHIFT: u32 = 64 - BITS_PER_PLACE * LINE_SLOTS as u32;

/// What a filter knows a key by: its line, as a fraction of all lines, and its bits there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Print {
    place: u64,
    pattern: u64,
}

impl Print {
    /// Of the bits that the index keeps of a key's hash.
    #[inline]
    pub(crate) fn of(imprint: u64) -> Self {
        // The imprint has some forty good bits at its lower end; two products spread them.
        let mixed = imprint.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let pattern = (mixed ^ (mixed >> 32)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        Self { place: mixed >> 32, pattern: pattern >> PATTERN_SHIFT }
    }

    /// The number of its line, of two to the `order`.
    #[inline]
    pub(crate) const fn line(self, order: u32) -> usize {
        ((self.place << order) >> 32) as usize
    }

    #[inline]
    const fn bit(self, word: usize) -> u64 {
        1 << (self.pattern >> (word as u32 * BITS_PER_PLACE) & 63)
    }

    /// Sets its bits.
    #[inline]
    pub(crate) fn set(self, line: &Line) {
        for (at, word) in line.0.iter().enumerate() {
            // A key that shares the bit, or is recorded once more, writes nothing: whoever learns
            // of it from this thread reads the word no earlier than it was read here.
            if word.load(Ordering::Relaxed) & self.bit(at) == 0 {
                word.fetch_or(self.bit(at), Ordering::Relaxed);
            }
        }
    }

    /// True when all of its bits are set.
    #[inline]
    pub(crate) fn is_set(self, line: &Line) -> bool {
        let missing =
            |(at, word): (usize, &AtomicU64)| !word.load(Ordering::Relaxed) & self.bit(at);
        line.0.iter().enumerate().map(missing).fold(0, |all, one| all | one) == 0
    }
}

/// The chance that a key not in the line finds all of its bits set.
pub(crate) fn chance(line: &Line) -> f64 {
    let share = |word: &AtomicU64| f64::from(word.load(Ordering::Relaxed).count_ones()) / 64.0;
    line.0.iter().map(share).product()
}

#[cfg(test)]
mod tests {
    use super::{KEYS_PER_LINE, Print, chance};
    use crate::sys::arena::Arena;

    #[test]
    fn what_was_set_is_set_and_few_others_are() {
        let arena = Arena::reserve(256, 256).unwrap();
        let imprint = |i: u64| i.wrapping_mul(0x1234_5677) & 0xff_ffff_ffff;
        let line = |i| arena.line(Print::of(imprint(i)).line(8)).unwrap();
        let keys = 256 * KEYS_PER_LINE;
        (0..keys).for_each(|i| Print::of(imprint(i)).set(line(i)));
        assert!((0..keys).all(|i| Print::of(imprint(i)).is_set(line(i))));
        let others = keys..keys + 100_000;
        let wrong = others.filter(|i| Print::of(imprint(*i)).is_set(line(*i))).count();
        assert!((100..900).contains(&wrong), "{wrong} of 100,000");
        let expected: f64 = (0..256).filter_map(|at| arena.line(at)).map(chance).sum();
        let expected = expected / 256.0 * 100_000.0;
        assert!((expected - wrong as f64).abs() < 200.0, "{expected} {wrong}");
    }
}
