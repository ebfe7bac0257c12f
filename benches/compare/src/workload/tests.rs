//! Right answers pass in every workload, wrong ones do not.

use std::path::Path;

use clap::Parser;

use super::growth::Stage;
use super::*;
use crate::engine::Setup;
use crate::engine::dashmap::Dashmap;

type Key = [u8; 16];
type Outcome = [u8; 32];
type Map = Dashmap<Key, Outcome>;

/// Forgets every key at once, and finds every key that it is asked for.
struct Forgetful;

impl Engine<Key, Outcome> for Forgetful {
    type Session<'a> = &'a Forgetful;

    fn open(_setup: &Setup<'_>) -> Result<Self> {
        Ok(Forgetful)
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl Session<Key, Outcome> for &Forgetful {
    fn set(&mut self, _item: &Item<Key, Outcome>, tally: &mut Tally<Outcome>) -> Result<()> {
        tally.answer(0, None);
        Ok(())
    }

    fn set_many(&mut self, items: &[Item<Key, Outcome>], tally: &mut Tally<Outcome>) -> Result<()> {
        (0..items.len()).for_each(|at| tally.answer(at, None));
        Ok(())
    }

    fn has(&mut self, _key: &Key) -> Result<bool> {
        Ok(true)
    }

    fn has_many(&mut self, keys: &[Key]) -> Result<usize> {
        Ok(keys.len())
    }

    fn lease(&mut self, items: &[Item<Key, Outcome>]) -> Result<usize> {
        Ok(items.len() - 1)
    }
}

/// A map that takes the second outcome in the place of the first.
struct Fickle(Map);

impl Engine<Key, Outcome> for Fickle {
    type Session<'a> = &'a Fickle;

    fn open(setup: &Setup<'_>) -> Result<Self> {
        Ok(Fickle(<Map as Engine<Key, Outcome>>::open(setup)?))
    }

    fn session(&self) -> Result<Self::Session<'_>> {
        Ok(self)
    }
}

impl Session<Key, Outcome> for &Fickle {
    fn set(&mut self, item: &Item<Key, Outcome>, tally: &mut Tally<Outcome>) -> Result<()> {
        if (&self.0).has(&item.0)? {
            tally.answer(0, Some(&item.1));
            return Ok(());
        }
        (&self.0).set(item, tally)
    }

    fn set_many(&mut self, items: &[Item<Key, Outcome>], tally: &mut Tally<Outcome>) -> Result<()> {
        items.iter().try_for_each(|item| self.set(item, tally))
    }

    fn has(&mut self, key: &Key) -> Result<bool> {
        (&self.0).has(key)
    }

    fn has_many(&mut self, keys: &[Key]) -> Result<usize> {
        (&self.0).has_many(keys)
    }
}

fn args(batch: &str) -> Args {
    let line = [
        "compare",
        "--keys",
        "10001",
        "--threads",
        "3",
        "--mix-reads",
        "0.3",
        "--batch",
        batch,
    ];
    Args::parse_from(line)
}

fn open<E: Engine<Key, Outcome>>(args: &Args) -> E {
    E::open(&Setup::of(args, Path::new(""))).unwrap()
}

#[test]
fn right_answers_pass() {
    for batch in ["1", "64"] {
        let args = args(batch);
        let map: Map = open(&args);
        let present = new_keys(&map, &args).unwrap().ranges;
        assert_eq!(present.len(), 10_001);
        let count = |done: Result<Done>| done.unwrap().ranges.len();
        assert_eq!(count(duplicates(&map, &args, &present)), 10_001);
        assert_eq!(count(misses(&map, &args, &present)), 10_001);
        assert_eq!(verify(&map, &args, &present).unwrap(), 10_000);
        first_answer(&map, &args, &present).unwrap();
        assert_eq!(count(hot(&map, &args)), 10_001);
        for workload in [Workload::MixZipf, Workload::MixRecency] {
            assert_eq!(count(mix(&map, &args, workload, &present)), 10_001);
        }
        assert!(new_keys(&map, &args).is_err(), "nothing is new any more");
        assert!(hot(&map, &args).is_err(), "the one key is not new any more");
    }
}

#[test]
fn forgotten_keys_and_found_absent_ones_fail() {
    for batch in ["1", "64"] {
        let args = args(batch);
        let present = new_keys(&Forgetful, &args).unwrap().ranges;
        assert!(duplicates(&Forgetful, &args, &present).is_err());
        assert!(misses(&Forgetful, &args, &present).is_err());
        assert!(verify(&Forgetful, &args, &present).is_err());
        assert!(hot(&Forgetful, &args).is_err());
        assert!(leases(&Forgetful, &args).is_err());
        for workload in [Workload::MixZipf, Workload::MixRecency] {
            assert!(mix(&Forgetful, &args, workload, &present).is_err());
        }
    }
}

#[test]
fn outcomes_other_than_the_first_one_fail() {
    for batch in ["1", "64"] {
        let args = args(batch);
        let map: Fickle = open(&args);
        let present = new_keys(&map, &args).unwrap().ranges;
        assert!(duplicates(&map, &args, &present).is_err());
        assert!(hot(&map, &args).is_err());
        for workload in [Workload::MixZipf, Workload::MixRecency] {
            assert!(mix(&map, &args, workload, &present).is_err());
        }
    }
}

#[test]
fn growth_tells_of_every_stage_and_how_long_its_calls_took() {
    let args = args("1");
    let map: Map = open(&args);
    let mut stages = Vec::new();
    growth(&map, &args, |stage| {
        stages.push(stage);
        Ok(())
    })
    .unwrap();
    let keys: Vec<u64> = stages.iter().map(|stage| stage.keys).collect();
    assert_eq!(keys, [1_251, 2_502, 5_004, 10_001]);
    let calls = |stage: &Stage| stage.done.times.as_ref().unwrap().histogram.len();
    assert_eq!(stages.iter().map(calls).sum::<u64>(), 10_001);
    assert!(growth(&map, &args, |_| Ok(())).is_err());
}

#[test]
fn latencies_are_of_as_many_calls_as_were_made() {
    for (batch, calls) in [("1", 10_001), ("64", 159)] {
        let mut args = args(batch);
        args.latency = true;
        let map: Map = open(&args);
        let done = new_keys(&map, &args).unwrap();
        assert_eq!(done.times.unwrap().histogram.len(), calls);
        args.latency = false;
        assert!(hot(&map, &args).unwrap().times.is_none());
    }
}
