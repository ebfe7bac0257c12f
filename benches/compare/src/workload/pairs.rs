//! Leases, and questions by the call that locks: what only some engines have.

use std::ops::Range;

use super::{Done, KEYS_AHEAD, Present, blank, on_threads};
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Item, Session};
use crate::keys::Generator;
use crate::kinds::Workload;
use crate::tally::Tally;

/// Questions between two insertions of a thread, in the workload that has any.
const PROBES_PER_INSERT: u64 = 3;

/// What asking for absent keys did.
#[derive(Clone, Debug)]
pub struct Probed {
    /// What was done, in which time.
    pub done: Done,
    /// Keys inserted between the questions.
    pub inserted: u64,
}

/// Begins and completes as many keys as `new` inserts, but others; every one must be begun.
pub fn leases<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, args: &Args) -> Result<Done> {
    let generator = Generator::new(args.seed, args.key_shape);
    let all = 0..args.keys();
    on_threads(engine, args, Workload::Lease, all, |session, share| {
        let mut items = blank(args, share.batch);
        let mut begun = 0;
        let mut at = share.range.start;
        while at < share.range.end {
            let end = share.range.end.min(at + share.batch as u64);
            let items = &mut items[..(end - at) as usize];
            for (item, index) in items.iter_mut().zip(args.keys() + at..) {
                generator.item(index, item);
            }
            begun += session.lease(items)? as u64;
            at = end;
            if share.is_over(items.len()) {
                break;
            }
        }
        Ok((at, (at - share.range.start) - begun))
    })
}

/// Asks for as many absent keys as `new` inserts, by the call that locks; in the workload
/// `contend` one call in four inserts a new key instead. No key asked for may be found.
pub fn probes<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    workload: Workload,
) -> Result<Probed> {
    let generator = Generator::new(args.seed, args.key_shape);
    let inserts = workload == Workload::Contend;
    let is_insert = |index: u64| inserts && index % (PROBES_PER_INSERT + 1) == PROBES_PER_INSERT;
    let all = 0..args.keys();
    let done = on_threads(engine, args, workload, all, |session, share| {
        let mut tally = Tally::<V>::default();
        let mut items: Vec<Item<K, V>> = blank(args, KEYS_AHEAD);
        let (mut known, mut inserted) = (0, 0);
        let mut at = share.range.start;
        while at < share.range.end {
            let end = share.range.end.min(at + KEYS_AHEAD as u64);
            let items = &mut items[..(end - at) as usize];
            for (item, index) in items.iter_mut().zip(at..) {
                // Beyond those of `new`, `lease` and `miss`.
                match is_insert(index) {
                    true => generator.item(2 * args.keys() + index, item),
                    false => generator.absent(args.keys() + index, &mut item.0),
                }
            }
            for (item, index) in items.iter().zip(at..) {
                if is_insert(index) {
                    session.set(item, &mut tally)?;
                    inserted += 1;
                } else {
                    known += u64::from(session.probe(&item.0)?);
                }
            }
            at = end;
            if share.is_over(items.len()) {
                break;
            }
        }
        Ok((at, known + inserted - tally.new.min(inserted)))
    })?;
    let each = |range: &Range<u64>| range.clone().filter(|index| is_insert(*index)).count() as u64;
    let Present(ranges) = &done.ranges;
    let inserted = ranges.iter().map(each).sum();
    Ok(Probed { done, inserted })
}
