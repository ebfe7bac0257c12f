//! Keys, outcomes and their order, all computed from a seed and an index.

use std::fmt;
use std::str::FromStr;

use crate::bytes::Bytes;
use crate::engine::Item;

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
const ABSENT: u64 = 1 << 63;
/// The shortest key: its bytes are a bijection of the index.
const KEY_BYTES_MIN: usize = 8;
/// The longest key.
const KEY_BYTES_MAX: usize = 200;
/// Keys of one millisecond, of the kind that begins with the time.
const KEYS_PER_MILLISECOND: u64 = 1000;
/// Where time begins for them, in milliseconds since 1970: November 2023.
const TIME_BEGINS: u64 = 1_700_000_000_000;

/// The finalizer of SplitMix64, a bijection on 64 bits.
#[inline(always)]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// What the keys of a run look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShape {
    /// So many random bytes.
    Random(usize),
    /// The 16 bytes of a UUID of version 7: a time in milliseconds, a counter, random bits.
    UuidV7,
    /// The 36 characters of a random UUID.
    Text,
}

impl KeyShape {
    /// The length of every key in bytes.
    pub fn len(self) -> usize {
        match self {
            KeyShape::Random(len) => len,
            KeyShape::UuidV7 => 16,
            KeyShape::Text => 36,
        }
    }
}

impl FromStr for KeyShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("random").unwrap_or(text);
        match (text, digits.parse::<usize>()) {
            ("uuidv7", _) => Ok(KeyShape::UuidV7),
            ("text", _) => Ok(KeyShape::Text),
            (_, Ok(len @ KEY_BYTES_MIN..=KEY_BYTES_MAX)) => Ok(KeyShape::Random(len)),
            _ => Err(format!(
                "a key's shape is random16, uuidv7, text, or a number of random bytes from \
                 {KEY_BYTES_MIN} to {KEY_BYTES_MAX}"
            )),
        }
    }
}

impl fmt::Display for KeyShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyShape::Random(len) => write!(f, "random{len}"),
            KeyShape::UuidV7 => f.write_str("uuidv7"),
            KeyShape::Text => f.write_str("text"),
        }
    }
}

/// Makes the keys and outcomes of one seed.
///
/// The first eight bytes of a random key are a bijection of its index, so distinct indexes never
/// make the same key, and an index with the top bit set makes a key that is never inserted. Keys of
/// the other shapes keep that: they have all bits of the bijection, or a count of those of the same
/// millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    keys: u64,
    outcomes: u64,
    shape: KeyShape,
}

impl Generator {
    /// The generator of a seed.
    pub fn new(seed: u64, shape: KeyShape) -> Generator {
        Generator {
            keys: mix(seed),
            outcomes: mix(seed ^ GAMMA),
            shape,
        }
    }

    /// Writes the key of an index below 2^63.
    #[inline(always)]
    pub fn key<K: Bytes>(&self, index: u64, key: &mut K) {
        let first = mix(self.keys.wrapping_add(index.wrapping_mul(GAMMA)));
        match self.shape {
            KeyShape::Random(_) => fill(key.bytes_mut(), first),
            KeyShape::UuidV7 => key.bytes_mut().copy_from_slice(&uuid_v7(index, first)),
            KeyShape::Text => key.bytes_mut().copy_from_slice(&uuid_text(first)),
        }
    }

    /// Writes a key that no index below 2^63 makes.
    #[inline(always)]
    pub fn absent<K: Bytes>(&self, index: u64, key: &mut K) {
        self.key(index | ABSENT, key);
    }

    /// Writes the outcome recorded for an index.
    #[inline(always)]
    pub fn outcome<V: Bytes>(&self, index: u64, outcome: &mut V) {
        let first = mix(self.outcomes.wrapping_add(index.wrapping_mul(GAMMA)));
        fill(outcome.bytes_mut(), first);
    }

    /// Writes the key and the outcome recorded for an index.
    #[inline(always)]
    pub fn item<K: Bytes, V: Bytes>(&self, index: u64, (key, outcome): &mut Item<K, V>) {
        self.key(index, key);
        self.outcome(index, outcome);
    }
}

/// Turns an outcome into one that no index makes; does nothing to one without bytes.
#[inline(always)]
pub fn invert<V: Bytes>(outcome: &mut V) {
    outcome
        .bytes_mut()
        .iter_mut()
        .for_each(|byte| *byte = !*byte);
}

/// Bytes that start with `first` and go on with a sequence of its own.
#[inline(always)]
fn fill(bytes: &mut [u8], first: u64) {
    let mut word = first;
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        if at > 0 {
            word = mix(first.wrapping_add(GAMMA.wrapping_mul(at as u64)));
        }
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// As RFC 9562 has it, with a counter in the place of the first random bits.
#[inline(always)]
fn uuid_v7(index: u64, random: u64) -> [u8; 16] {
    let (absent, index) = (index >> 63, index & !ABSENT);
    let time = TIME_BEGINS + index / KEYS_PER_MILLISECOND;
    let counter = index % KEYS_PER_MILLISECOND + absent * 2048;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&((time << 16) | 0x7000 | counter).to_be_bytes());
    bytes[8..].copy_from_slice(&((1 << 63) | (random >> 2)).to_be_bytes());
    bytes
}

/// The text of a UUID of version 4 that has all bits of `first`.
#[inline(always)]
fn uuid_text(first: u64) -> [u8; 36] {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let second = mix(first.wrapping_add(GAMMA));
    let high = (first & !0xf000) | 0x4000;
    let low: u64 = (1 << 63) | ((second >> 6) << 4) | ((first >> 12) & 15);
    let mut text = [b'-'; 36];
    let digits = (u128::from(high) << 64) | u128::from(low);
    let mut shift = 128;
    for (at, character) in text.iter_mut().enumerate() {
        if !HYPHENS.contains(&at) {
            shift -= 4;
            *character = b"0123456789abcdef"[(digits >> shift) as usize & 15];
        }
    }
    text
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
    use std::collections::HashSet;

    use super::*;

    fn key(shape: KeyShape, index: u64) -> Box<[u8]> {
        let mut key = Box::zeros(shape.len());
        Generator::new(1, shape).key(index, &mut key);
        key
    }

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
    fn keys_of_every_shape_differ_and_repeat() {
        let shapes = [
            KeyShape::Random(8),
            KeyShape::Random(16),
            KeyShape::Random(77),
            KeyShape::UuidV7,
            KeyShape::Text,
        ];
        for shape in shapes {
            let both = |index: u64| [key(shape, index), key(shape, index | ABSENT)];
            let keys: Vec<_> = (0..5_000).flat_map(both).collect();
            assert!(keys.iter().all(|key| key.len() == shape.len()));
            let distinct: HashSet<&Box<[u8]>> = keys.iter().collect();
            assert_eq!(distinct.len(), 10_000, "{shape}");
            assert_eq!(key(shape, 5), keys[10]);
        }
        assert_eq!(
            key(KeyShape::Random(36), 3)[..16],
            *key(KeyShape::Random(16), 3)
        );
    }

    #[test]
    fn an_array_and_a_slice_get_the_same_key_and_outcome() {
        let generator = Generator::new(9, KeyShape::UuidV7);
        let mut array = ([0; 16], [0; 32]);
        let mut slice = (Box::zeros(16), Box::zeros(32));
        generator.item(12_345, &mut array);
        generator.item(12_345, &mut slice);
        assert_eq!((&array.0[..], &array.1[..]), (&*slice.0, &*slice.1));
        invert(&mut array.1);
        assert!(array.1.iter().zip(&*slice.1).all(|(a, b)| *a == !*b));
    }

    #[test]
    fn uuids_are_of_their_version_and_those_of_version_7_grow() {
        let text = key(KeyShape::Text, 77);
        let text = std::str::from_utf8(&text).unwrap();
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
        let keys: Vec<_> = (0..3_000)
            .map(|index| key(KeyShape::UuidV7, index))
            .collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key[6] >> 4 == 7 && key[8] >> 6 == 2));
    }

    #[test]
    fn shapes_are_read_as_they_are_written() {
        for shape in [
            KeyShape::Random(8),
            KeyShape::Random(200),
            KeyShape::UuidV7,
            KeyShape::Text,
        ] {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        assert_eq!("64".parse(), Ok(KeyShape::Random(64)));
        for wrong in ["7", "201", "random", "randomx", "", "uuid"] {
            assert!(wrong.parse::<KeyShape>().is_err(), "{wrong}");
        }
    }
}
