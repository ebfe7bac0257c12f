//! All threads on one key.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Done, blank, on_threads, set_all, tally_for};
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Item};
use crate::keys::{Generator, invert};
use crate::kinds::Workload;

/// Which key it is, in times of the keys of `new`: beyond those of all other workloads.
const INDEX_TIMES: u64 = 5;

/// Checks one key as often as `new` inserts keys; one call of all must be answered new, all others
/// must get that one's outcome.
///
/// The first calls of the threads race for the key and offer one outcome. What they offer later is
/// another one, which must not be found.
pub fn hot<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, args: &Args) -> Result<Done> {
    let generator = Generator::new(args.seed, args.key_shape);
    let (all, recorded) = (0..args.keys(), AtomicU64::new(0));
    let done = on_threads(engine, args, Workload::Hot, all, |session, share| {
        let mut tally = tally_for::<V>(args, share.ahead);
        let mut items: Vec<Item<K, V>> = blank(args, share.ahead);
        let made = items.iter_mut().zip(&mut tally.expected);
        for (item, expected) in made {
            generator.item(INDEX_TIMES * args.keys(), item);
            expected.clone_from(&item.1);
        }
        let mut at = share.range.start;
        while at < share.range.end {
            let len = (share.group(at).end - at) as usize;
            set_all(session, &items[..len], share.batch, &mut tally)?;
            if at == share.range.start {
                items.iter_mut().for_each(|(_, outcome)| invert(outcome));
            }
            at += len as u64;
            if share.is_over(len) {
                break;
            }
        }
        recorded.fetch_add(tally.new, Ordering::Relaxed);
        let answered = tally.new + tally.duplicate;
        Ok((at, (at - share.range.start).abs_diff(answered)))
    })?;
    match recorded.into_inner() {
        1 => Ok(done),
        count => Err(format!("of all calls with one new key, {count} were answered new").into()),
    }
}
