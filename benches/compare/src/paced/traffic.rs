//! What a thread of a paced workload calls, and whether the answers are right.
//!
//! Each call is prepared before it is timed. Most are the workload's own; a few ask for a key that
//! was just recorded, which must be a duplicate, and for one that has expired, which must be gone.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::lifetime::{self, Lifetime, MIXED_SHORTEST};
use crate::engine::{Item, Session};
use crate::keys::{Generator, Shuffle, invert};
use crate::tally::Tally;

/// Of so many calls one repeats a key and one asks for an expired one.
const CHECK_EVERY: u64 = 64;
const REMEMBER_AT: u64 = 40;
const REPEAT_AT: u64 = 56;
const EXPIRED_AT: u64 = 60;
/// A key is only asked for again if it was recorded at most this long ago, half of the shortest
/// lifetime: the thread may have been without a processor.
const REPEAT_WITHIN: Duration = Duration::from_millis(500);
/// An expired key is asked for this long after its end, as an engine may read its clock rarely.
const EXPIRED_FOR: Duration = Duration::from_millis(200);
/// Every so many inserted keys one is kept in mind until it has expired.
const KEEP_EVERY: u64 = 4096;

/// The keys that a thread works on.
#[derive(Clone, Debug)]
pub enum Work {
    /// New keys from this index on, all living as long as the store says.
    Insert(u64),
    /// New keys from this index on, with a mixture of lifetimes.
    Mixed(u64),
    /// Keys of this range, all recorded: each is checked, removed and recorded again.
    Rewrite(Range<u64>),
}

/// What the next call is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    New,
    Repeat,
    Expired,
    Remove,
}

/// The calls of one thread.
#[derive(Debug)]
pub struct Traffic<K: Bytes, V: Bytes> {
    work: Work,
    generator: Generator,
    shuffle: Shuffle,
    lifetime: Lifetime,
    /// Calls prepared.
    count: u64,
    /// Keys inserted, or cycles of rewriting.
    keys: u64,
    call: Call,
    item: Item<K, V>,
    tally: Tally<V>,
    found: bool,
    wrong: u64,
    /// A key inserted a moment ago.
    recent: Option<(u64, Instant)>,
    /// Keys kept in mind, the oldest first, and the last of them that has expired.
    kept: VecDeque<(u64, Instant)>,
    expired: Option<u64>,
}

impl<K: Bytes, V: Bytes> Traffic<K, V> {
    /// The calls for this work, in a store with this lifetime.
    pub fn new(args: &Args, work: Work, lifetime: Lifetime) -> Self {
        let len = match &work {
            Work::Rewrite(range) => range.end - range.start,
            _ => 1,
        };
        Traffic {
            work,
            generator: Generator::new(args.seed, args.key_shape),
            shuffle: Shuffle::new(len, args.seed),
            lifetime,
            count: 0,
            keys: 0,
            call: Call::New,
            item: (K::zeros(args.key_shape.len()), V::zeros(args.outcome_bytes)),
            tally: Tally::default(),
            found: false,
            wrong: 0,
            recent: None,
            kept: VecDeque::with_capacity(1 << 14),
            expired: None,
        }
    }

    /// Wrong answers so far.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Records every key of a range to be rewritten that is not known.
    pub fn record_all(&self, session: &mut impl Session<K, V>) -> Result<()> {
        let Work::Rewrite(range) = &self.work else {
            return Ok(());
        };
        let mut tally = Tally::default();
        let mut item = self.item.clone();
        range.clone().try_for_each(|index| {
            self.generator.item(index, &mut item);
            session.set(&item, &mut tally)
        })
    }

    /// Makes the next call's key and outcome.
    #[inline]
    pub fn prepare(&mut self) {
        match &self.work {
            Work::Rewrite(range) => {
                let len = range.end - range.start;
                let index = range.start + self.shuffle.at(self.keys % len);
                self.call = match self.count % 3 {
                    0 => Call::Repeat,
                    1 => Call::Remove,
                    _ => Call::New,
                };
                self.keys += u64::from(self.call == Call::New);
                self.set_item(index);
            }
            Work::Insert(first) | Work::Mixed(first) => {
                let first = *first;
                self.prepare_insert(first);
            }
        }
        self.count += 1;
    }

    #[inline]
    fn prepare_insert(&mut self, first: u64) {
        let next = first + self.keys;
        let (call, index) = match self.count % CHECK_EVERY {
            REPEAT_AT => self
                .repeat()
                .map_or((Call::New, next), |at| (Call::Repeat, at)),
            EXPIRED_AT => self
                .expired
                .map_or((Call::New, next), |at| (Call::Expired, at)),
            _ => (Call::New, next),
        };
        self.call = call;
        self.set_item(index);
        if call == Call::New {
            self.keys += 1;
            if self.count % CHECK_EVERY == REMEMBER_AT {
                self.recent = Some((index, Instant::now()));
            }
            if index % KEEP_EVERY == 0 {
                self.keep_in_mind(index);
            }
        }
    }

    fn repeat(&mut self) -> Option<u64> {
        let (index, then) = self.recent.take()?;
        (then.elapsed() < REPEAT_WITHIN).then_some(index)
    }

    /// Remembers a key that will expire within the run, and forgets those that have.
    fn keep_in_mind(&mut self, index: u64) {
        let lives = match self.lifetime {
            Lifetime::Never => return,
            Lifetime::After(lifetime) => lifetime,
            Lifetime::Mixed => MIXED_SHORTEST,
        };
        let is_short = lifetime::of_key(self.item.0.as_ref()) == Some(MIXED_SHORTEST);
        if self.lifetime != Lifetime::Mixed || is_short {
            self.kept.push_back((index, Instant::now()));
        }
        let over = |(_, then): &(u64, Instant)| then.elapsed() > lives + EXPIRED_FOR;
        while self.kept.front().is_some_and(over) {
            self.expired = self.kept.pop_front().map(|(index, _)| index);
        }
    }

    /// The key of an index; a repetition offers another outcome than the recorded one.
    #[inline]
    fn set_item(&mut self, index: u64) {
        self.generator.item(index, &mut self.item);
        if self.call == Call::Repeat {
            self.tally.expected.clear();
            self.tally.expected.push(self.item.1.clone());
            invert(&mut self.item.1);
        }
    }

    /// Does what was prepared. Nothing but the engine is in here that takes time.
    #[inline]
    pub fn call(&mut self, session: &mut impl Session<K, V>) -> Result<()> {
        match (self.call, &self.work) {
            (Call::New | Call::Repeat, Work::Mixed(_)) => {
                let lifetime = lifetime::of_key(self.item.0.as_ref());
                session.set_for(&self.item, lifetime, &mut self.tally)
            }
            (Call::New | Call::Repeat, _) => session.set(&self.item, &mut self.tally),
            (Call::Expired, _) => {
                self.found = session.has(&self.item.0)?;
                Ok(())
            }
            (Call::Remove, _) => {
                self.found = session.remove(&self.item.0)?;
                Ok(())
            }
        }
    }

    /// Counts the answer if it was wrong.
    #[inline]
    pub fn check(&mut self) {
        let Tally { new, duplicate, .. } = self.tally;
        let right = match self.call {
            Call::New => new == 1,
            Call::Repeat => duplicate == 1,
            Call::Expired => !self.found,
            Call::Remove => self.found,
        };
        self.wrong += u64::from(!right);
        self.tally.new = 0;
        self.tally.duplicate = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use clap::Parser;

    use super::*;

    type Pair = Item<[u8; 16], [u8; 32]>;

    fn args() -> Args {
        Args::parse_from(["compare"])
    }

    /// A map of one thread, which can be made to forget or to keep for ever.
    #[derive(Default)]
    struct Map {
        held: HashMap<[u8; 16], [u8; 32]>,
        forgetful: bool,
    }

    impl Session<[u8; 16], [u8; 32]> for Map {
        fn set(&mut self, (key, outcome): &Pair, tally: &mut Tally<[u8; 32]>) -> Result<()> {
            tally.answer(0, self.held.get(key).map(<[u8; 32]>::as_slice));
            if !self.forgetful {
                self.held.entry(*key).or_insert(*outcome);
            }
            Ok(())
        }

        fn set_many(&mut self, _: &[Pair], _: &mut Tally<[u8; 32]>) -> Result<()> {
            Err("not used".into())
        }

        fn has(&mut self, key: &[u8; 16]) -> Result<bool> {
            Ok(self.held.contains_key(key))
        }

        fn has_many(&mut self, _: &[[u8; 16]]) -> Result<usize> {
            Err("not used".into())
        }

        fn remove(&mut self, key: &[u8; 16]) -> Result<bool> {
            Ok(self.held.remove(key).is_some())
        }
    }

    fn wrong(map: &mut Map, work: Work, calls: u64) -> u64 {
        let mut traffic = Traffic::<[u8; 16], [u8; 32]>::new(&args(), work, Lifetime::Never);
        for _ in 0..calls {
            traffic.prepare();
            traffic.call(map).unwrap();
            traffic.check();
        }
        traffic.wrong()
    }

    #[test]
    fn right_answers_pass_and_every_sixty_fourth_key_is_repeated() {
        let mut map = Map::default();
        assert_eq!(wrong(&mut map, Work::Insert(5), 6_400), 0);
        assert_eq!(map.held.len(), 6_300);
        // Over and over again, and what was rewritten is what was there.
        let held = map.held.clone();
        assert_eq!(wrong(&mut map, Work::Rewrite(5..1_005), 3 * 2_500), 0);
        assert_eq!(map.held, held);
    }

    #[test]
    fn an_engine_that_forgets_is_found_out() {
        let mut map = Map {
            forgetful: true,
            ..Map::default()
        };
        assert_eq!(wrong(&mut map, Work::Insert(5), 6_400), 100);
        assert_eq!(wrong(&mut map, Work::Rewrite(5..1_005), 300), 200);
    }

    #[test]
    fn an_engine_that_keeps_what_has_expired_is_found_out() {
        let mut map = Map::default();
        let lifetime = Lifetime::After(Duration::ZERO);
        let mut traffic = Traffic::<[u8; 16], [u8; 32]>::new(&args(), Work::Insert(0), lifetime);
        traffic
            .kept
            .push_back((0, Instant::now() - Duration::from_secs(1)));
        for _ in 0..3 * KEEP_EVERY {
            traffic.prepare();
            traffic.call(&mut map).unwrap();
            traffic.check();
        }
        assert!(traffic.wrong() > 10);
    }
}
