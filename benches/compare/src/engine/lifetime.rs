//! How long an engine is to keep what it records.

use std::time::Duration;

/// The lifetime of everything in a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lifetime {
    /// Nothing expires.
    Never,
    /// Everything lives equally long.
    After(Duration),
    /// Each key lives as long as [`of_key`] says.
    Mixed,
}

/// The lifetimes of a mixture in seconds, each of half as many keys as the one before.
///
/// Behind the last one comes the same number of keys that live for ever.
const MIXED_SECONDS: [u64; 9] = [1, 2, 4, 8, 16, 60, 3_600, 86_400, 30 * 86_400];

/// The shortest lifetime in a mixture, which half of the keys have.
pub const MIXED_SHORTEST: Duration = Duration::from_secs(MIXED_SECONDS[0]);

/// Seconds of a mixture's arrivals that are alive at a time, but for those that outlive a run.
pub const MIXED_ALIVE_SECONDS: f64 = 3.5;

/// The lifetime of a key in a mixture; `None` for ever.
///
/// A function of the key, so that it need not be kept beside it.
#[inline]
pub fn of_key(key: &[u8]) -> Option<Duration> {
    let last = key
        .last_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let seconds = MIXED_SECONDS.get(last.trailing_zeros() as usize)?;
    Some(Duration::from_secs(*seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Generator, KeyShape};

    #[test]
    fn half_of_the_keys_live_a_second_and_a_few_for_ever() {
        let generator = Generator::new(1, KeyShape::Random(16));
        let count = |lifetime| {
            let of = |index| {
                let mut key = [0; 16];
                generator.key(index, &mut key);
                of_key(&key)
            };
            (0..102_400).filter(|index| of(*index) == lifetime).count()
        };
        assert!((50_000..52_500).contains(&count(Some(MIXED_SHORTEST))));
        assert!((100..320).contains(&count(None)));
    }
}
