//! What filters would take for so many keys, without making them.

use crate::filter::line::KEYS_PER_LINE;
use crate::filter::room::ORDER_MAX;
use crate::stats::FilterStats;
use crate::sys::arena::{LINE_SLOTS, Line};

/// A bucket's first layer: 4 KiB, 2560 keys.
pub(crate) const ORDER_FIRST: u32 = 6;

/// Keys that one layer takes at most.
pub(crate) const KEYS_MAX: u64 = KEYS_PER_LINE << ORDER_MAX;

/// The size of one layer for so many keys and half as many again, as a power of two of lines.
pub(crate) fn order_for(keys: u64) -> u32 {
    let lines = keys.saturating_add(keys / 2) / KEYS_PER_LINE + 1;
    lines.next_power_of_two().trailing_zeros().clamp(ORDER_FIRST, ORDER_MAX)
}

/// What buckets with so many keys take when each has one layer of the size it needs.
pub(crate) fn forecast(keys: impl Iterator<Item = u64>) -> FilterStats {
    let mut stats = FilterStats::default();
    let mut right = 1.0;
    for keys in keys {
        let lines = 1_u64 << order_for(keys);
        stats.buckets += 1;
        stats.layers += 1;
        stats.keys += keys;
        stats.bytes += lines * size_of::<Line>() as u64;
        right *= 1.0 - false_positives(keys as f64 / lines as f64);
    }
    stats.false_positive_ppm = ((1.0 - right) * 1e6).round() as u64;
    stats
}

/// The rate of a layer with so many keys a line on average: how many there are in a line varies.
fn false_positives(mean: f64) -> f64 {
    let (mut chance, mut rate) = ((-mean).exp(), 0.0);
    let mut unset = 1.0_f64;
    for keys in 0..400_u32 {
        rate += chance * (1.0 - unset).powi(LINE_SLOTS as i32);
        unset *= 63.0 / 64.0;
        chance *= mean / f64::from(keys + 1);
    }
    rate
}

#[cfg(test)]
mod tests {
    use super::forecast;

    #[test]
    fn memory_and_errors_grow_with_the_buckets() {
        let one = forecast([1_000_000].into_iter());
        assert!((1..6_000).contains(&one.false_positive_ppm), "{one:?}");
        assert!((12.0..40.0).contains(&one.bits_per_key()), "{one:?}");
        let ten = forecast([1_000_000; 10].into_iter());
        assert_eq!((ten.bytes, ten.keys), (10 * one.bytes, 10_000_000));
        let ratio = ten.false_positive_ppm as f64 / one.false_positive_ppm as f64;
        assert!((9.0..11.0).contains(&ratio), "{ratio}");
        assert_eq!(forecast([].into_iter()).false_positive_ppm, 0);
    }
}
