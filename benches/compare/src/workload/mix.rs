//! New and known keys mixed, as in production: the known ones by Zipf's law or by age.

use super::{Done, Present, Share, blank, on_threads, tally_for};
use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Item, Session};
use crate::keys::{Generator, Shuffle, invert};
use crate::kinds::Workload;
use crate::popular::{Random, Zipf};
use crate::tally::Tally;

/// Where the new keys begin, in times of the keys of `new`: each mix has its own.
fn first_index(workload: Workload, keys: u64) -> u64 {
    match workload {
        Workload::MixZipf => 3 * keys,
        _ => 4 * keys,
    }
}

/// Which keys a thread asks for.
struct Choice<'a> {
    args: &'a Args,
    workload: Workload,
    random: Random,
    zipf: Zipf,
    shuffle: Shuffle,
    present: &'a Present,
    /// The thread that draws, and the index of the first key that it adds.
    thread: usize,
    first: u64,
    /// Keys that it has added.
    added: u64,
}

impl<'a> Choice<'a> {
    fn new(args: &'a Args, workload: Workload, present: &'a Present, share: &Share) -> Self {
        Choice {
            args,
            workload,
            random: Random::new(args.seed ^ (share.thread as u64) << 32),
            zipf: Zipf::new(present.len(), args.zipf),
            shuffle: Shuffle::new(present.len(), args.seed),
            present,
            thread: share.thread,
            first: first_index(workload, args.keys()) + share.range.start,
            added: 0,
        }
    }

    #[inline]
    fn add(&mut self) -> u64 {
        self.added += 1;
        self.first + self.added - 1
    }

    /// The index of a known key: any thread's by Zipf's law, this thread's own by age.
    #[inline]
    fn known(&mut self) -> u64 {
        if self.workload == Workload::MixZipf {
            // The ranks are scattered over the keys, as popularity is in life.
            let rank = self.zipf.rank(&mut self.random);
            return self.present.index(self.shuffle.at(rank));
        }
        let filled = &self.present.0[self.thread];
        let len = filled.end - filled.start + self.added;
        let mean = self.args.keys() as f64 * self.args.recency;
        let back = self.random.age(mean) % len + 1;
        match self.added.checked_sub(back) {
            Some(added) => self.first + added,
            None => filled.end - (back - self.added),
        }
    }
}

/// What is asked of one group of keys, and what must be answered.
#[derive(Debug, Default)]
struct Group {
    /// Whether each key is looked up only; a batch is one call, which the first key decides.
    is_read: Vec<bool>,
    /// Keys that must be answered new.
    new: u64,
    /// Keys that must be answered duplicate.
    known: u64,
    /// Keys that must be found.
    read: u64,
}

/// As many calls as `new` has keys, on a store that holds `present`, which also the shares of new
/// keys and look-ups of the command line apply to.
pub fn mix<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    workload: Workload,
    present: &Present,
) -> Result<Done> {
    if present.0.iter().any(|range| range.is_empty()) {
        return Err("a thread has recorded no key before the mix".into());
    }
    let generator = Generator::new(args.seed, args.key_shape);
    on_threads(engine, args, workload, 0..args.keys(), |session, share| {
        let mut choice = Choice::new(args, workload, present, share);
        let mut tally = tally_for::<V>(args, share.ahead);
        let mut items: Vec<Item<K, V>> = blank(args, share.ahead);
        let mut keys = vec![K::zeros(args.key_shape.len()); share.ahead];
        let mut group = Group::default();
        let mut found = 0;
        let mut at = share.range.start;
        while at < share.range.end {
            let len = (share.group(at).end - at) as usize;
            prepare(
                &mut choice,
                &generator,
                share.batch,
                &mut group,
                (&mut items[..len], &mut tally),
            );
            if share.batch > 1 {
                found += call_many(session, &group, &items[..len], (&mut keys, &mut tally))?;
            } else {
                tally.first = 0;
                for (item, is_read) in items[..len].iter().zip(&group.is_read) {
                    match is_read {
                        true => found += u64::from(session.has(&item.0)?),
                        false => session.set(item, &mut tally)?,
                    }
                    tally.first += 1;
                }
            }
            at += len as u64;
            if share.is_over(len) {
                break;
            }
        }
        let wrong = group.new.abs_diff(tally.new)
            + group.known.abs_diff(tally.duplicate)
            + group.read.abs_diff(found);
        Ok((at, wrong))
    })
}

/// Draws the keys of a group and makes them.
#[inline]
fn prepare<K: Bytes, V: Bytes>(
    choice: &mut Choice<'_>,
    generator: &Generator,
    batch: usize,
    group: &mut Group,
    (items, tally): (&mut [Item<K, V>], &mut Tally<V>),
) {
    group.is_read.clear();
    for (item, expected) in items.iter_mut().zip(&mut tally.expected) {
        let is_read = match (batch > 1, group.is_read.first()) {
            (true, Some(first)) => *first,
            _ => choice.random.happens(choice.args.mix_reads),
        };
        group.is_read.push(is_read);
        let is_new = !is_read && choice.random.happens(choice.args.mix_new);
        let index = if is_new { choice.add() } else { choice.known() };
        generator.item(index, item);
        if is_new {
            group.new += 1;
        } else if is_read {
            group.read += 1;
        } else {
            group.known += 1;
            expected.clone_from(&item.1);
            invert(&mut item.1);
        }
    }
}

/// Asks for all keys at once; how many were found, where they are looked up only.
fn call_many<K: Bytes, V: Bytes>(
    session: &mut impl Session<K, V>,
    group: &Group,
    items: &[Item<K, V>],
    (keys, tally): (&mut [K], &mut Tally<V>),
) -> Result<u64> {
    if group.is_read.first() == Some(&true) {
        let keys = &mut keys[..items.len()];
        keys.iter_mut()
            .zip(items)
            .for_each(|(key, item)| key.clone_from(&item.0));
        return Ok(session.has_many(keys)? as u64);
    }
    tally.first = 0;
    session.set_many(items, tally)?;
    Ok(0)
}
