//! The timed loops, partitioned among threads; every answer is checked.

mod basic;
mod growth;
mod hot;
mod mix;
mod pairs;
mod sample;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{Engine, Item, Session};
use crate::kinds::Workload;
use crate::tally::Tally;
use crate::timed::{Timed, Times};

pub use basic::{duplicates, misses, new_keys};
pub use growth::growth;
pub use hot::hot;
pub use mix::mix;
pub use pairs::{leases, probes};
pub use sample::{first_answer, verify};

/// Keys between two looks at the clock.
const CLOCK_EVERY: usize = 64;

/// Keys made ahead for single calls, so that between two calls there is nothing but the engine.
///
/// Making them is timed for every engine alike. Made one by one between the calls, they would take
/// the place of the next call's instructions among those that a processor looks at at once.
const KEYS_AHEAD: usize = 256;

/// The same where each call waits for the disk: the clock is looked at in between.
const KEYS_AHEAD_SYNCED: usize = 8;

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
    /// How long the calls took, where that was asked for.
    pub times: Option<Times>,
}

/// One thread's part: what it did, and how many answers were not as they must be.
struct Part {
    done: Range<u64>,
    wrong: u64,
    from: Instant,
    to: Instant,
    times: Option<Box<Times>>,
}

/// How far a thread came in its share, and how many answers were wrong.
type Reached = (u64, u64);

/// What a thread is to do, and until when.
struct Share {
    /// Which of the threads it is.
    thread: usize,
    /// The part of the whole that is its own.
    range: Range<u64>,
    /// Keys per call.
    batch: usize,
    /// How many keys are made at a time.
    ahead: usize,
    end: Instant,
    /// Keys since the last look at the clock.
    since: usize,
}

impl Share {
    /// The next keys that are made at once, from `at` on.
    #[inline(always)]
    fn group(&self, at: u64) -> Range<u64> {
        at..self.range.end.min(at + self.ahead as u64)
    }

    /// Whether time is over, without asking the clock for every key.
    #[inline(always)]
    fn is_over(&mut self, keys: usize) -> bool {
        self.since += keys;
        if self.since < CLOCK_EVERY.min(self.ahead) {
            return false;
        }
        self.since = 0;
        Instant::now() >= self.end
    }
}

/// Room for so many items.
fn blank<K: Bytes, V: Bytes>(args: &Args, count: usize) -> Vec<Item<K, V>> {
    vec![(K::zeros(args.key_shape.len()), V::zeros(args.outcome_bytes)); count]
}

/// A tally with room for as many expected outcomes.
fn tally_for<V: Bytes>(args: &Args, count: usize) -> Tally<V> {
    Tally {
        expected: vec![V::zeros(args.outcome_bytes); count],
        ..Tally::default()
    }
}

/// Calls with the items made ahead: one by one, or as the one batch that they are.
#[inline]
fn set_all<K: Bytes, V: Bytes>(
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

/// Runs `work` on every thread's share of `total` at once and sums up what it did.
fn on_threads<E, K: Bytes, V: Bytes>(
    engine: &E,
    args: &Args,
    workload: Workload,
    total: Range<u64>,
    work: impl Fn(&mut Timed<E::Session<'_>>, &mut Share) -> Result<Reached> + Sync,
) -> Result<Done>
where
    E: Engine<K, V>,
{
    let threads = args.threads() as u64;
    let start = Barrier::new(args.threads());
    let limit = Duration::try_from_secs_f64(args.seconds_max)?;
    let is_timed = args.latency || workload == Workload::Growth;
    let one = |thread: u64| -> Result<Part> {
        let len = total.end - total.start;
        let edge = |thread| total.start + len * thread / threads;
        let range = edge(thread)..edge(thread + 1);
        let begin = range.start;
        let session = engine.session();
        let session = session.and_then(|session| Timed::new(session, is_timed));
        start.wait();
        let from = Instant::now();
        let mut share = Share {
            thread: thread as usize,
            range,
            batch: args.batch(),
            ahead: match (args.batch(), args.synced()) {
                (1, false) => KEYS_AHEAD,
                (1, true) => KEYS_AHEAD_SYNCED,
                (batch, _) => batch,
            },
            end: from + limit,
            since: 0,
        };
        let mut session = session?;
        let (end, wrong) = work(&mut session, &mut share)?;
        Ok(Part {
            done: begin..end,
            wrong,
            from,
            to: Instant::now(),
            times: session.into_times(),
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
    sum_up(&parts, workload)
}

fn sum_up(parts: &[Part], workload: Workload) -> Result<Done> {
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
    let mut times: Option<Times> = None;
    for part in parts.iter().filter_map(|part| part.times.as_deref()) {
        match &mut times {
            Some(times) => times.add(part)?,
            None => times = Some(part.clone()),
        }
    }
    Ok(Done {
        ranges,
        seconds,
        times,
    })
}
