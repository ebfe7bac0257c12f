//! The timed loops: new keys, duplicates and misses, partitioned among threads.

use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::{Args, Workload};
use crate::engine::{Engine, Item, Session};
use crate::keys::{Generator, Shuffle};
use crate::tally::Tally;

/// Keys between two looks at the clock.
const CLOCK_EVERY: usize = 64;

/// Keys made ahead for single calls, so that between two calls there is nothing but the engine.
///
/// Making them is timed for every engine alike. Made one by one between the calls, they would take
/// the place of the next call's instructions among those that a processor looks at at once.
const KEYS_AHEAD: usize = 256;

/// The key indexes a store holds: one range for each thread that filled it.
#[derive(Clone, Debug, Default)]
pub struct Present(pub Vec<Range<u64>>);

impl Present {
    /// How many keys there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The index of key number `at`.
    #[inline]
    fn index(&self, mut at: u64) -> u64 {
        for range in &self.0 {
            let len = range.end - range.start;
            if at < len {
                return range.start + at;
            }
            at -= len;
        }
        unreachable!("key number past the keys present")
    }
}

/// What one workload did.
#[derive(Clone, Debug)]
pub struct Done {
    /// The part of its share that each thread did.
    pub ranges: Present,
    /// From the first thread's start to the last thread's end.
    pub seconds: f64,
}

/// What asking for absent keys did.
#[derive(Clone, Debug)]
pub struct Probed {
    /// As in [`Done`].
    pub ranges: Present,
    /// As in [`Done`].
    pub seconds: f64,
    /// Keys inserted between the questions.
    pub inserted: u64,
}

/// One thread's part: what it did, and how many answers were not as they must be.
struct Part {
    done: Range<u64>,
    wrong: u64,
    from: Instant,
    to: Instant,
}

/// How far a thread came in its share, and how many answers were wrong.
type Reached = (u64, u64);

/// Ends a loop at the time limit without asking the clock for every key.
struct Deadline {
    end: Instant,
    since: usize,
}

impl Deadline {
    #[inline(always)]
    fn passed(&mut self, keys: usize) -> bool {
        self.since += keys;
        if self.since < CLOCK_EVERY {
            return false;
        }
        self.since = 0;
        Instant::now() >= self.end
    }
}

/// A lifetime of a day and so many times more than a bucket of such lifetimes is wide.
fn lifetime(bucket: u64) -> Duration {
    const DAY_S: u64 = 24 * 3600;
    const WIDTH_S: u64 = (1 << 23) / 1000 + 1;
    Duration::from_secs(DAY_S + bucket * WIDTH_S)
}

/// Inserts keys `0..args.keys`; every answer must be new.
pub fn new_keys<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
) -> Result<Done> {
    let generator = Generator::new(args.seed);
    on_threads(
        engine,
        args,
        Workload::New,
        args.keys,
        |session, share, batch, deadline| {
            let mut tally = Tally::<V>::default();
            let make = |index| (generator.key(index), generator.outcome(index));
            let mut items = Vec::with_capacity(ahead(batch));
            let mut at = share.start;
            while at < share.end {
                let end = share.end.min(at + ahead(batch) as u64);
                items.clear();
                items.extend((at..end).map(make));
                if batch == 1 && args.buckets > 1 {
                    for (item, index) in items.iter().zip(at..) {
                        session.set_for(item, Some(lifetime(index % args.buckets)), &mut tally)?;
                    }
                } else {
                    set_all(session, &items, batch, &mut tally)?;
                }
                at = end;
                if deadline.passed(items.len()) {
                    break;
                }
            }
            Ok((
                at,
                (at - share.start) - tally.new.min(at - share.start) + tally.duplicate,
            ))
        },
    )
}

/// Repeats every key present, in random order and offering another outcome; every answer must
/// be a duplicate with the outcome recorded first.
pub fn duplicates<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<Done> {
    let generator = Generator::new(args.seed);
    let shuffle = Shuffle::new(present.len(), args.seed);
    on_threads(
        engine,
        args,
        Workload::Dup,
        present.len(),
        |session, share, batch, deadline| {
            let mut tally = Tally::<V>::default();
            let mut items = Vec::with_capacity(ahead(batch));
            let mut at = share.start;
            while at < share.end {
                let end = share.end.min(at + ahead(batch) as u64);
                items.clear();
                tally.expected.clear();
                for position in at..end {
                    let index = present.index(shuffle.at(position));
                    let outcome: [u8; V] = generator.outcome(index);
                    items.push((generator.key(index), outcome.map(|byte| !byte)));
                    tally.expected.push(outcome);
                }
                set_all(session, &items, batch, &mut tally)?;
                at = end;
                if deadline.passed(items.len()) {
                    break;
                }
            }
            Ok((
                at,
                (at - share.start) - tally.duplicate.min(at - share.start),
            ))
        },
    )
}

/// How many keys are made at a time.
fn ahead(batch: usize) -> usize {
    if batch == 1 { KEYS_AHEAD } else { batch }
}

/// Calls with the items made ahead: one by one, or as the one batch that they are.
#[inline]
fn set_all<const K: usize, const V: usize>(
    session: &mut impl Session<K, V>,
    items: &[Item<K, V>],
    batch: usize,
    tally: &mut Tally<V>,
) -> Result<()> {
    tally.first = 0;
    if batch > 1 {
        return session.set_many(items, tally);
    }
    for item in items {
        session.set(item, tally)?;
        tally.first += 1;
    }
    Ok(())
}

/// Looks up as many absent keys as there are present ones; none may be found.
pub fn misses<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<Done> {
    let generator = Generator::new(args.seed);
    on_threads(
        engine,
        args,
        Workload::Miss,
        present.len(),
        |session, share, batch, deadline| {
            let mut keys = Vec::with_capacity(ahead(batch));
            let mut known = 0;
            let mut at = share.start;
            while at < share.end {
                let end = share.end.min(at + ahead(batch) as u64);
                keys.clear();
                keys.extend((at..end).map(|index| generator.absent::<K>(index)));
                if batch == 1 {
                    for key in &keys {
                        known += usize::from(session.has(key)?);
                    }
                } else {
                    known += session.has_many(&keys)?;
                }
                at = end;
                if deadline.passed(keys.len()) {
                    break;
                }
            }
            Ok((at, known as u64))
        },
    )
}

/// Begins and completes as many keys as `new` inserts, but others; every one must be begun.
pub fn leases<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
) -> Result<Done> {
    let generator = Generator::new(args.seed);
    on_threads(
        engine,
        args,
        Workload::Lease,
        args.keys,
        |session, share, batch, deadline| {
            let make = |index| {
                let index = args.keys + index;
                (generator.key(index), generator.outcome(index))
            };
            let mut items = Vec::with_capacity(batch);
            let mut begun = 0;
            let mut at = share.start;
            while at < share.end {
                let end = share.end.min(at + batch as u64);
                items.clear();
                items.extend((at..end).map(make));
                begun += session.lease(&items)? as u64;
                at = end;
                if deadline.passed(items.len()) {
                    break;
                }
            }
            Ok((at, (at - share.start) - begun))
        },
    )
}

/// Questions between two insertions of a thread, in the workload that has any.
const PROBES_PER_INSERT: u64 = 3;

/// Asks for as many absent keys as `new` inserts, by the call that locks; in the workload
/// `contend` one call in four inserts a new key instead. No key asked for may be found.
pub fn probes<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
    workload: Workload,
) -> Result<Probed> {
    let generator = Generator::new(args.seed);
    let inserts = workload == Workload::Contend;
    let is_insert = |index: u64| inserts && index % (PROBES_PER_INSERT + 1) == PROBES_PER_INSERT;
    let done = on_threads(
        engine,
        args,
        workload,
        args.keys,
        |session, share, _, deadline| {
            let mut tally = Tally::<V>::default();
            let mut keys = Vec::with_capacity(KEYS_AHEAD);
            let (mut known, mut inserted) = (0, 0);
            let mut at = share.start;
            while at < share.end {
                let end = share.end.min(at + KEYS_AHEAD as u64);
                keys.clear();
                // Beyond those of `new`, `lease` and `miss`.
                keys.extend((at..end).map(|index| match is_insert(index) {
                    true => (true, generator.key::<K>(2 * args.keys + index)),
                    false => (false, generator.absent::<K>(args.keys + index)),
                }));
                for (insert, key) in &keys {
                    if *insert {
                        session.set(&(*key, [0; V]), &mut tally)?;
                        inserted += 1;
                    } else {
                        known += u64::from(session.probe(key)?);
                    }
                }
                at = end;
                if deadline.passed(keys.len()) {
                    break;
                }
            }
            Ok((at, known + inserted - tally.new.min(inserted)))
        },
    )?;
    let each = |range: &Range<u64>| range.clone().filter(|index| is_insert(*index)).count() as u64;
    let inserted = done.ranges.0.iter().map(each).sum();
    Ok(Probed {
        ranges: done.ranges,
        seconds: done.seconds,
        inserted,
    })
}

/// Checks a sample of the keys present, and some that are not; not timed.
pub fn verify<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
    present: &Present,
) -> Result<u64> {
    let generator = Generator::new(args.seed);
    let shuffle = Shuffle::new(present.len(), args.seed);
    let mut session = engine.session()?;
    let mut tally = Tally::<V>::default();
    let sample = present.len().min(10_000);
    for position in 0..sample {
        let index = present.index(shuffle.at(position));
        let outcome: [u8; V] = generator.outcome(index);
        tally.expected = vec![outcome];
        session.set(
            &(generator.key(index), outcome.map(|byte| !byte)),
            &mut tally,
        )?;
    }
    let mut found = 0;
    for index in 0..1_000 {
        found += u64::from(session.has(&generator.absent(index))?);
    }
    if tally.duplicate != sample || found != 0 {
        return Err(format!(
            "after the reopening, {} of {sample} keys are lost, {} have another outcome and \
             {found} absent keys are found",
            tally.new, tally.mismatched,
        )
        .into());
    }
    Ok(sample)
}

/// Runs `work` on every thread's share of `0..total` at once and sums up what it did.
fn on_threads<E, const K: usize, const V: usize>(
    engine: &E,
    args: &Args,
    workload: Workload,
    total: u64,
    work: impl Fn(&mut E::Session<'_>, Range<u64>, usize, &mut Deadline) -> Result<Reached> + Sync,
) -> Result<Done>
where
    E: Engine<K, V>,
{
    let threads = args.threads as u64;
    let start = Barrier::new(args.threads);
    let limit = Duration::try_from_secs_f64(args.seconds_max)?;
    let one = |thread: u64| -> Result<Part> {
        let share = total * thread / threads..total * (thread + 1) / threads;
        let session = engine.session();
        start.wait();
        let from = Instant::now();
        let mut deadline = Deadline {
            end: from + limit,
            since: 0,
        };
        let begin = share.start;
        let (end, wrong) = work(&mut session?, share, args.batch[0], &mut deadline)?;
        Ok(Part {
            done: begin..end,
            wrong,
            from,
            to: Instant::now(),
        })
    };
    let parts = thread::scope(|scope| -> Result<Vec<Part>> {
        let handles: Vec<_> = (0..threads).map(|t| scope.spawn(move || one(t))).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, Result<Part>>| match handle.join() {
            Ok(part) => part,
            Err(_) => Err("a measuring thread panicked".into()),
        };
        handles.into_iter().map(join).collect()
    })?;
    let ranges = Present(parts.iter().map(|part| part.done.clone()).collect());
    let wrong: u64 = parts.iter().map(|part| part.wrong).sum();
    if wrong > 0 {
        let (name, count) = (workload.as_str(), ranges.len());
        return Err(format!("{wrong} of {count} answers of workload {name} are wrong").into());
    }
    let from = parts.iter().map(|part| part.from).min();
    let to = parts.iter().map(|part| part.to).max();
    let seconds = from
        .zip(to)
        .map_or(0.0, |(from, to)| (to - from).as_secs_f64());
    Ok(Done { ranges, seconds })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::engine::Setup;
    use crate::engine::dashmap::Dashmap;

    /// Forgets every key at once.
    struct Forgetful;

    impl Engine<16, 32> for Forgetful {
        type Session<'a> = &'a Forgetful;

        fn open(_setup: &Setup<'_>) -> Result<Self> {
            Ok(Forgetful)
        }

        fn session(&self) -> Result<Self::Session<'_>> {
            Ok(self)
        }
    }

    impl Session<16, 32> for &Forgetful {
        fn set(&mut self, _item: &Item<16, 32>, tally: &mut Tally<32>) -> Result<()> {
            tally.answer(0, None);
            Ok(())
        }

        fn set_many(&mut self, items: &[Item<16, 32>], tally: &mut Tally<32>) -> Result<()> {
            (0..items.len()).for_each(|at| tally.answer(at, None));
            Ok(())
        }

        fn has(&mut self, _key: &[u8; 16]) -> Result<bool> {
            Ok(true)
        }

        fn has_many(&mut self, keys: &[[u8; 16]]) -> Result<usize> {
            Ok(keys.len())
        }
    }

    fn args(batch: &str) -> Args {
        Args::parse_from([
            "compare",
            "--keys",
            "10001",
            "--threads",
            "3",
            "--batch",
            batch,
        ])
    }

    #[test]
    fn right_answers_pass() {
        for batch in ["1", "64"] {
            let args = args(batch);
            let setup = Setup {
                dir: Path::new(""),
                keys: 10_001,
                threads: 3,
                synced: false,
            };
            let map = <Dashmap<16, 32> as Engine<16, 32>>::open(&setup).unwrap();
            let present = new_keys(&map, &args).unwrap().ranges;
            assert_eq!(present.len(), 10_001);
            assert_eq!(
                duplicates(&map, &args, &present).unwrap().ranges.len(),
                10_001
            );
            assert_eq!(misses(&map, &args, &present).unwrap().ranges.len(), 10_001);
            assert_eq!(verify(&map, &args, &present).unwrap(), 10_000);
            assert!(new_keys(&map, &args).is_err(), "nothing is new any more");
        }
    }

    #[test]
    fn wrong_answers_fail() {
        for batch in ["1", "64"] {
            let args = args(batch);
            let present = new_keys(&Forgetful, &args).unwrap().ranges;
            assert!(duplicates(&Forgetful, &args, &present).is_err());
            assert!(misses(&Forgetful, &args, &present).is_err());
            assert!(verify(&Forgetful, &args, &present).is_err());
        }
    }
}
