//! Numbers that look random and follow from a seed, and outcomes that follow from a number.

/// A sequence that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of a part of what a seed decides.
    pub(crate) fn of(seed: u64, part: &str, number: u64) -> Self {
        let fold = |sum: u64, byte: u8| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
        let mut mixed = Self(part.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, fold));
        Self(mixed.next() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// An index of a list of so many; 0 of an empty one.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of a list that is not empty.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.index(list.len()))
    }
}

/// The number of an outcome; length and bytes follow from it.
pub(crate) type Salt = u64;

/// A number for an outcome that was not used before; one in `bulk` is long.
pub(crate) fn salt(random: &mut Random, bulk: u64) -> Salt {
    let class = if random.one_in(bulk) { 7 } else { random.below(7) };
    (random.next() >> 4 << 3) | class
}

/// Up to 80 bytes, sometimes 3000; those of class 7 have 40,000 to 90,000.
pub(crate) fn outcome(salt: Salt) -> Vec<u8> {
    let mut random = Random::new(salt);
    let len = match salt % 8 {
        7 => 40_000 + random.below(50_000),
        6 => random.below(3_000),
        _ => random.below(72),
    };
    let mut bytes = salt.to_le_bytes().to_vec();
    while (bytes.len() as u64) < 8 + len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(8 + usize::try_from(len).unwrap_or(0));
    bytes
}

/// The number that an outcome was made from; none for bytes that were never one.
pub(crate) fn salt_of(bytes: &[u8]) -> Option<Salt> {
    let salt = Salt::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (outcome(salt) == bytes).then_some(salt)
}
