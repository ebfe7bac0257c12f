//! Keys, outcomes and their order, all computed from a seed and an index.

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
const ABSENT: u64 = 1 << 63;

/// The finalizer of SplitMix64, a bijection on 64 bits.
#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Makes the keys and outcomes of one seed.
///
/// The first eight bytes of a key are a bijection of its index, so distinct indexes never
/// make the same key, and an index with the top bit set makes a key that is never inserted.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    keys: u64,
    outcomes: u64,
}

impl Generator {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Generator {
        Generator {
            keys: mix(seed),
            outcomes: mix(seed ^ GAMMA),
        }
    }

    /// The key of an index below 2^63.
    #[inline(always)]
    pub fn key<const K: usize>(&self, index: u64) -> [u8; K] {
        fill(mix(self.keys.wrapping_add(index.wrapping_mul(GAMMA))))
    }

    /// A key that no index below 2^63 makes.
    #[inline(always)]
    pub fn absent<const K: usize>(&self, index: u64) -> [u8; K] {
        self.key(index | ABSENT)
    }

    /// The outcome recorded for an index.
    #[inline(always)]
    pub fn outcome<const V: usize>(&self, index: u64) -> [u8; V] {
        fill(mix(self.outcomes.wrapping_add(index.wrapping_mul(GAMMA))))
    }
}

/// Bytes that start with `first` and go on with a sequence of its own.
#[inline(always)]
fn fill<const N: usize>(first: u64) -> [u8; N] {
    let mut bytes = [0; N];
    let mut word = first;
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        if at > 0 {
            word = mix(first.wrapping_add(GAMMA.wrapping_mul(at as u64)));
        }
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// A pseudo-random permutation of `0..len`, without a table.
///
/// Three rounds of an odd multiplication and a shift permute the next power of two; a value
/// past `len` is permuted again until it falls inside, less than one extra step on average.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    len: u64,
    mask: u64,
    shift: u32,
    odd: [u64; 3],
}

impl Shuffle {
    /// The permutation of `0..len` that belongs to a seed.
    pub fn new(len: u64, seed: u64) -> Shuffle {
        let mask = len.next_power_of_two().max(2) - 1;
        let odd = [1, 2, 3].map(|round: u64| mix(seed.wrapping_add(round.wrapping_mul(GAMMA))) | 1);
        Shuffle {
            len,
            mask,
            shift: mask.count_ones().div_ceil(2),
            odd,
        }
    }

    /// Where position `at` (below `len`) goes.
    #[inline(always)]
    pub fn at(&self, at: u64) -> u64 {
        let mut x = at;
        loop {
            for odd in self.odd {
                x = x.wrapping_mul(odd) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.len {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_is_a_permutation() {
        for len in [1, 2, 3, 1000, 1024, 1025] {
            let shuffle = Shuffle::new(len, 7);
            let mut seen: Vec<u64> = (0..len).map(|at| shuffle.at(at)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..len), "{len}");
        }
    }

    #[test]
    fn keys_differ_and_repeat() {
        let generator = Generator::new(1);
        let key = |index| generator.key::<16>(index);
        assert_eq!(key(5), Generator::new(1).key::<16>(5));
        assert_ne!(key(5), key(6));
        assert_ne!(key(5), generator.absent::<16>(5));
        assert_ne!(key(5)[..8], key(5)[8..]);
        assert_eq!(generator.key::<36>(3)[..16], key(3));
    }
}
