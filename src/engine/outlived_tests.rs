//! After a power cut took a removal, what was removed does not come back.
//!
//! It could once a record has ended that was kept although the removal before it was lost. Every
//! short life of a key with three lifetimes is cut off before each call of the disk, and so is the
//! opening of what is left. The first opening that is not cut off decides which of its states the
//! key has: from then on it is what that state becomes in time, through maintenance, compaction,
//! other ends of the process and other power cuts.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, get, maintain};
use crate::engine::claim::FullKey;
use crate::engine::compact_tests::{compact, insert, remove, seal};
use crate::options::{CheckOptions, Kept};
use crate::policy::Policy;
use crate::record::Ignore;
use crate::sys::memory_disk::{Call, Fault, MemoryDisk};
use crate::sys::power_cut::{Left, Snapshot};
use crate::sys::sync::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A record for so many minutes; none if the key is known.
    Check(u64),
    Remove,
    Sync,
    /// All segments are full, and on stable storage from then on.
    Seal,
}

const STEPS: [Step; 6] =
    [Step::Check(600), Step::Check(30), Step::Check(2), Step::Remove, Step::Sync, Step::Seal];

/// An outcome, and when it ends.
type State = Option<(Vec<u8>, u64)>;

/// What the state has become by a moment.
fn found_at(state: &State, now: u64) -> Option<Vec<u8>> {
    state.as_ref().filter(|(_, ends)| now < *ends).map(|(outcome, _)| outcome.clone())
}

fn now(engine: &Engine) -> u64 {
    engine.clock.now().as_millis()
}

/// The states of the key since the last that is certain to be durable.
type States = Arc<Mutex<Vec<State>>>;

fn step(engine: &Engine, states: &States, number: usize, step: Step) {
    let known = states.lock().last().cloned().flatten();
    match step {
        Step::Check(minutes) => {
            let outcome = format!("outcome of step {number}").into_bytes();
            if known.is_none() {
                let ends = now(engine) + minutes * MINUTE;
                states.lock().push(Some((outcome.clone(), ends)));
            }
            assert_eq!(insert(engine, "a", &outcome, minutes * MINUTE), known.is_none());
        }
        Step::Remove => {
            states.lock().push(None);
            assert_eq!(remove(engine, "a"), known.is_some());
        }
        Step::Sync => {
            engine.sync().unwrap();
            states.lock().drain(..).next_back().into_iter().for_each(drop);
            states.lock().push(known);
        }
        Step::Seal => seal(engine),
    }
}

/// Looks at the disk before each of its calls, and at the end, while `work` is done.
fn watched(disk: &MemoryDisk, states: &States, work: impl FnOnce()) -> Vec<(Snapshot, Vec<State>)> {
    let looks: Arc<Mutex<Vec<_>>> = Arc::default();
    let (kept, promised) = (looks.clone(), states.clone());
    let look = move |disk: &MemoryDisk| {
        let promised = promised.lock().clone();
        kept.lock().push((Snapshot::of(disk, 4096), promised));
    };
    let watch = look.clone();
    *disk.watch.lock() = Some(Box::new(look));
    work();
    *disk.watch.lock() = None;
    watch(disk);
    std::mem::take(&mut *looks.lock())
}

/// What was tried.
#[derive(Default)]
struct Trial {
    seen: HashSet<u64>,
    seed: u64,
    images: usize,
    /// Openings that made a lost removal anew.
    removed_anew: u64,
}

impl Trial {
    fn try_life(&mut self, steps: &[Step], most: usize) {
        let bench = Bench::with(|config| config.lanes = 1);
        let states: States = Arc::new(Mutex::new(vec![None]));
        let engine = bench.open();
        // Its segment is not given up for being empty.
        insert(&engine, "another", &[7; 3_000], 600 * MINUTE);
        let before = steps.len() - 1;
        (0..before).for_each(|number| step(&engine, &states, number, steps[number]));
        let looks = watched(&bench.disk, &states, || {
            step(&engine, &states, before, steps[before]);
        });
        self.seen.clear();
        self.cut(&looks, most, 1, &format!("{steps:?}"));
    }

    fn cut(&mut self, looks: &[(Snapshot, Vec<State>)], most: usize, depth: u32, name: &str) {
        for (look, states) in looks {
            let seed = &mut self.seed;
            let draw = || {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *seed
            };
            for left in look.cuts(most, draw) {
                let mut hasher = DefaultHasher::new();
                (&left, states, depth).hash(&mut hasher);
                if self.seen.insert(hasher.finish()) {
                    self.images += 1;
                    self.follow(left, states, most, depth, name);
                }
            }
        }
    }

    /// Opens what a cut has left, and follows the key through time.
    fn follow(&mut self, left: Left, states: &[State], most: usize, depth: u32, name: &str) {
        let bench = Bench::with(|config| config.lanes = 1);
        let mut disk = Arc::new(left.disk());
        let mut engine = None;
        let allowed: States = Arc::new(Mutex::new(states.to_vec()));
        let looks = watched(&disk, &allowed, || engine = Some(bench.open_on(disk.clone())));
        let mut engine = engine.unwrap();
        self.removed_anew += engine.recovery.removals_renewed;
        let found = get(&engine, "a");
        let state = states.iter().find(|state| found_at(state, now(&engine)) == found);
        let Some(state) = state else { panic!("{found:?} is none of {states:?} after {name}") };
        let check = |engine: &Engine, what: &str| {
            let (found, expected) = (get(engine, "a"), found_at(state, now(engine)));
            assert_eq!(found, expected, "{what} at {} after {name}", now(engine));
        };
        for minutes in [0, 3, 60] {
            bench.advance(minutes * MINUTE);
            check(&engine, "as time passes");
            disk = Arc::new(disk.after_power_cut(|| false));
            engine = bench.open_on(disk.clone());
            check(&engine, "after another power cut");
            assert_eq!(engine.recovery.removals_renewed, 0, "again, after {name}");
            maintain(&engine);
            check(&engine, "after maintenance");
            // Of what counts no more, all may be gone by then, some, or nothing.
            if !self.images.is_multiple_of(3) {
                seal(&engine);
                compact(&engine, |number| self.images % 3 == 1 || number % 2 == 0);
                engine.log.end_copies();
            }
            engine = bench.open_on(disk.clone());
            check(&engine, "after compaction and the end of the process");
        }
        drop(engine);
        if depth > 0 {
            self.cut(&looks, most, depth - 1, name);
        }
    }
}

#[test]
fn what_is_found_of_a_key_after_a_power_cut_stays_so_whatever_ends_first() {
    let mut trial = Trial { seed: 5, ..Trial::default() };
    let begins = [Step::Check(600), Step::Sync, Step::Remove];
    for fourth in STEPS {
        for fifth in STEPS {
            let steps = begins.iter().copied().chain([fourth, fifth]);
            trial.try_life(&steps.collect::<Vec<_>>(), 4);
        }
    }
    // Two removals, of which either may be lost.
    for seals in [false, true] {
        let more = [Step::Check(30), Step::Remove, Step::Check(2), Step::Seal];
        let steps = begins.iter().chain(&more[..if seals { 4 } else { 3 }]).copied();
        trial.try_life(&steps.collect::<Vec<_>>(), 12);
    }
    assert!(trial.images > 1_000, "{} images", trial.images);
    assert!(trial.removed_anew > 100, "{} of {} images", trial.removed_anew, trial.images);
}

fn kept(lifetime: u64) -> Kept {
    Policy::DEFAULT.kept(&CheckOptions::new(), lifetime).unwrap()
}

/// What a power cut has left of a store whose key `a`, for ten hours, was removed and recorded for
/// two minutes, without the removal. `before` is on stable storage.
fn without_the_removal(bench: &Bench, before: impl Fn(&Engine)) -> Left {
    let engine = bench.open();
    insert(&engine, "a", b"long", 600 * MINUTE);
    insert(&engine, "another", &[7; 3_000], 600 * MINUTE);
    before(&engine);
    engine.sync().unwrap();
    remove(&engine, "a");
    insert(&engine, "a", b"short", 2 * MINUTE);
    let snapshot = Snapshot::of(&bench.disk, 4096);
    let mut seed = 3_u64;
    let draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed
    };
    let is_without = |left: &Left| {
        let engine = bench.open_on(Arc::new(left.clone().disk()));
        engine.recovery.removals_renewed == 1
    };
    snapshot.cuts(64, draw).into_iter().find(is_without).unwrap()
}

#[test]
fn a_removal_that_a_full_disk_has_no_room_for_at_open_is_made_anew_by_maintenance() {
    for listed in [true, false] {
        let bench = Bench::with(|config| config.lanes = 1);
        let left = without_the_removal(&bench, |_| ());
        let plain = Arc::new(left.clone().disk());
        drop(bench.open_on(plain.clone()));
        let manifest = plain.calls.lock().iter().position(|call| *call == Call::Create);
        let disk = Arc::new(left.disk());
        *disk.room.lock() = Some(0);
        if !listed {
            // Not even the manifest of the opening.
            let (at, kind) = (manifest.unwrap() as u64, std::io::ErrorKind::StorageFull);
            *disk.fault.lock() = Some(Fault { at, from_then_on: false, kind });
        }
        let engine = bench.open_on(disk.clone());
        assert_eq!(engine.recovery.removals_renewed, 0);
        maintain(&engine);
        assert_eq!(get(&engine, "a").as_deref(), Some(&b"short"[..]));
        (*disk.room.lock(), *disk.fault.lock()) = (None, None);
        maintain(&engine);
        bench.advance(10 * MINUTE);
        maintain(&engine);
        drop(engine);
        let engine = bench.open_on(Arc::new(disk.after_power_cut(|| false)));
        assert_eq!((get(&engine, "a"), engine.recovery.removals_renewed), (None, 0));
    }
}

#[test]
fn a_removal_made_anew_is_of_its_key_alone_and_not_of_one_with_the_same_hash_or_bytes() {
    for constant_hash in [false, true] {
        let mut bench = Bench::with(|config| config.lanes = 1);
        bench.constant_hash = constant_hash;
        let lookup = |engine: &Engine, space| {
            let now = engine.clock.now();
            let peek = |full: FullKey<'_>| engine.peek(full, now);
            engine.with_key(space, b"a", peek).unwrap().is_some()
        };
        let left = without_the_removal(&bench, |engine| {
            let space = engine.space_number("space").unwrap();
            let (kept, now) = (kept(600 * MINUTE), engine.clock.now());
            let check = |full: FullKey<'_>| engine.check_full(full, b"", kept, now, &mut Ignore);
            assert!(!engine.with_key(Some(space), b"a", check).unwrap());
            assert!(insert(engine, "b", b"long", 600 * MINUTE));
        });
        let disk = Arc::new(left.disk());
        for _ in 0..3 {
            let engine = bench.open_on(disk.clone());
            let space = engine.space_number("space").unwrap();
            assert!(lookup(&engine, Some(space)) && get(&engine, "b").is_some());
            bench.advance(2 * MINUTE);
            maintain(&engine);
            assert!(!lookup(&engine, None));
        }
    }
}

#[test]
fn a_removal_that_is_there_is_not_made_anew() {
    let bench = Bench::with(|_| ());
    for closes in [false, true] {
        let engine = bench.open();
        assert_eq!(engine.recovery.removals_renewed, 0);
        for number in 0..100 {
            let key = format!("key {number} {closes}");
            assert!(insert(&engine, &key, b"long", 600 * MINUTE) && remove(&engine, &key));
            assert!(insert(&engine, &key, b"short", 2 * MINUTE));
        }
        if closes {
            engine.close().unwrap();
        }
    }
    assert_eq!(bench.open().recovery.removals_renewed, 0);
}
