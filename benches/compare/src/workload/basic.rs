//! New keys, duplicates and misses.

use std::time::Duration;

use super::{Done, Present, blank, on_threads, set_all, tally_for};
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Session};
use crate::keys::{Generator, Shuffle, invert};
use crate::kinds::Workload;
use crate::tally::Tally;

/// A lifetime of a day and so many times more than a bucket of such lifetimes is wide.
fn lifetime(bucket: u64) -> Duration {
    const DAY_S: u64 = 24 * 3600;
    const WIDTH_S: u64 = (1 << 23) / 1000 + 1;
    Duration::from_secs(DAY_S + bucket * WIDTH_S)
}

/// Inserts keys `0..keys`; every answer must be new.
pub fn new_keys<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, args: &Args) -> Result<Done> {
    let generator = Generator::new(args.seed, args.key_shape);
    let all = 0..args.keys();
    on_threads(engine, args, Workload::New, all, |session, share| {
        let mut tally = Tally::<V>::default();
        let mut items = blank(args, share.ahead);
        let mut at = share.range.start;
        while at < share.range.end {
            let group = share.group(at);
            let items = &mut items[..(group.end - at) as usize];
            for (item, index) in items.iter_mut().zip(at..) {
                generator.item(index, item);
            }
            if share.batch == 1 && args.buckets > 1 {
                for (item, index) in items.iter().zip(at..) {
                    session.set_for(item, Some(lifetime(index % args.buckets)), &mut tally)?;
                }
            } else {
                set_all(session, items, share.batch, &mut tally)?;
            }
            at = group.end;
            if share.is_over(items.len()) {
                break;
            }
        }
        let done = at - share.range.start;
        Ok((at, done.abs_diff(tally.new) + tally.duplicate))
    })
}

/// Repeats every key present, in random order and offering another outcome; every answer must
/// be a duplicate with the outcome recorded first.
pub fn duplicates<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<Done> {
    let generator = Generator::new(args.seed, args.key_shape);
    let shuffle = Shuffle::new(present.len(), args.seed);
    let all = 0..present.len();
    on_threads(engine, args, Workload::Dup, all, |session, share| {
        let mut tally = tally_for::<V>(args, share.ahead);
        let mut items = blank::<K, V>(args, share.ahead);
        let mut at = share.range.start;
        while at < share.range.end {
            let group = share.group(at);
            let items = &mut items[..(group.end - at) as usize];
            let made = items.iter_mut().zip(&mut tally.expected);
            for ((item, expected), position) in made.zip(at..) {
                generator.item(present.index(shuffle.at(position)), item);
                expected.clone_from(&item.1);
                invert(&mut item.1);
            }
            set_all(session, items, share.batch, &mut tally)?;
            at = group.end;
            if share.is_over(items.len()) {
                break;
            }
        }
        Ok((at, (at - share.range.start).abs_diff(tally.duplicate)))
    })
}

/// Looks up as many absent keys as there are present ones; none may be found.
pub fn misses<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<Done> {
    let generator = Generator::new(args.seed, args.key_shape);
    let all = 0..present.len();
    on_threads(engine, args, Workload::Miss, all, |session, share| {
        let mut keys = vec![K::zeros(args.key_shape.len()); share.ahead];
        let mut known = 0;
        let mut at = share.range.start;
        while at < share.range.end {
            let group = share.group(at);
            let keys = &mut keys[..(group.end - at) as usize];
            for (key, index) in keys.iter_mut().zip(at..) {
                generator.absent(index, key);
            }
            if share.batch == 1 {
                for key in &*keys {
                    known += usize::from(session.has(key)?);
                }
            } else {
                known += session.has_many(keys)?;
            }
            at = group.end;
            if share.is_over(keys.len()) {
                break;
            }
        }
        Ok((at, known as u64))
    })
}
