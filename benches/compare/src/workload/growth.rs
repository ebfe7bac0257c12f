//! What growing costs: new keys one at a time from empty, by stages of twice the size.

use super::{Done, blank, on_threads, set_all};
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Item};
use crate::keys::Generator;
use crate::kinds::Workload;
use crate::tally::Tally;

/// Keys of the first stage, where that is not more than an eighth of all.
const FIRST: u64 = 1_000_000;

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Keys in the store at its end.
    pub keys: u64,
    /// What was done in it.
    pub done: Done,
}

/// Where the stages end: at one million, two, four and so on, and at all keys.
fn ends(keys: u64) -> Vec<u64> {
    let first = FIRST.min(keys.div_ceil(8));
    let doubled = std::iter::successors(Some(first), |end| end.checked_mul(2));
    let mut ends: Vec<u64> = doubled.take_while(|end| *end < keys).collect();
    ends.push(keys);
    ends
}

/// Inserts keys `0..keys`, each call timed; every answer must be new. Tells of each stage as it
/// ends; the time limit is one for all of them.
pub fn growth<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    mut tell: impl FnMut(Stage) -> Result<()>,
) -> Result<()> {
    let generator = Generator::new(args.seed, args.key_shape);
    let mut args = args.clone();
    let mut from = 0;
    for keys in ends(args.keys()) {
        let done = on_threads(
            engine,
            &args,
            Workload::Growth,
            from..keys,
            |session, share| {
                let mut tally = Tally::<V>::default();
                let mut items: Vec<Item<K, V>> = blank(&args, share.ahead);
                let mut at = share.range.start;
                while at < share.range.end {
                    let group = share.group(at);
                    let items = &mut items[..(group.end - at) as usize];
                    for (item, index) in items.iter_mut().zip(at..) {
                        generator.item(index, item);
                    }
                    set_all(session, items, 1, &mut tally)?;
                    at = group.end;
                    if share.is_over(items.len()) {
                        break;
                    }
                }
                let done = at - share.range.start;
                Ok((at, done.abs_diff(tally.new) + tally.duplicate))
            },
        )?;
        let is_whole = done.ranges.len() == keys - from;
        args.seconds_max -= done.seconds;
        tell(Stage {
            keys: from + done.ranges.len(),
            done,
        })?;
        if !is_whole || args.seconds_max <= 0.0 {
            break;
        }
        from = keys;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_double_from_a_million_on() {
        assert_eq!(ends(5), [1, 2, 4, 5]);
        assert_eq!(
            ends(20_000_000),
            [1, 2, 4, 8, 16, 20].map(|m| m * 1_000_000)
        );
        assert_eq!(ends(8_000_000), [1, 2, 4, 8].map(|m| m * 1_000_000));
        assert_eq!(ends(1), [1]);
    }
}
