//! Every short life of a store, cut off at every moment, in every way that a power cut may.
//!
//! A workload is a sequence of steps on a fresh store at one level. While it runs, the disk is
//! looked at before each of its calls, together with what the store had promised by then. From
//! each look images are made of what a power cut may leave; each is opened and held against the
//! promise. Opening is watched in the same way, and so is opening what a cut of that has left.
//!
//! What happens before the last step is tried with the workload that ends there.
//!
//! `ONCELOG_LONG=1` is the long form, of more than a million images: of each look every subset where
//! a cut has up to 10 choices, 1024 of those with more choices, and openings cut short twice after
//! every life of up to two steps. By themselves, `ONCELOG_CUTS=N` tries up to N images of each look,
//! `ONCELOG_STEPS=N` takes workloads of up to N steps, and `ONCELOG_SEED=N` draws others.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE};
use crate::engine::claim::FullKey;
use crate::engine::finish::Ending;
use crate::error::Result;
use crate::meta::Status;
use crate::policy::{BeginOptions, Policy};
use crate::record::Own;
use crate::sys::memory_disk::MemoryDisk;
use crate::sys::power_cut::Snapshot;
use crate::sys::sync::Mutex;
use crate::version::Version;

/// What a workload does, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A short record of key `a`.
    Check,
    /// A record of key `b` that reaches over several pages.
    CheckLong,
    /// One that takes blocks of its own.
    CheckHuge,
    Remove,
    Begin,
    Complete,
    Sync,
    Maintain,
    Reopen,
    CloseAndReopen,
}

const STEPS: [Step; 9] = [
    Step::Check,
    Step::CheckLong,
    Step::Remove,
    Step::Begin,
    Step::Complete,
    Step::Sync,
    Step::Maintain,
    Step::Reopen,
    Step::CloseAndReopen,
];
const LEVELS: [Durability; 3] =
    [Durability::Process, Durability::Interval(Duration::from_millis(20)), Durability::Synced];
const KEYS: [&str; 2] = ["a", "b"];
const UNITS: [usize; 3] = [4096, 512, 8];

/// What is known of a key.
type State = Option<(Status, Vec<u8>)>;

/// What may be found of the keys, and what must not be.
#[derive(Clone, Debug, Hash)]
struct Promise {
    /// Of each key, the states that it had since the last that is certain to be durable.
    states: BTreeMap<&'static str, Vec<State>>,
    /// The highest version that was given out.
    version: Option<Version>,
}

impl Promise {
    fn new() -> Self {
        Self { states: KEYS.into_iter().map(|key| (key, vec![None])).collect(), version: None }
    }

    /// The key is about to get, or has, this state.
    fn expect(&mut self, key: &str, state: State) {
        let states = self.states.get_mut(key).unwrap();
        if states.last() != Some(&state) {
            states.push(state);
        }
    }

    /// What was answered so far is durable.
    fn settle(&mut self) {
        for states in self.states.values_mut() {
            states.drain(..states.len() - 1);
        }
    }

    fn last(&self, key: &str) -> &State {
        self.states[key].last().unwrap()
    }
}

fn long(length: u32) -> Vec<u8> {
    (0..length).map(|i| i.to_le_bytes()[0] | 1).collect()
}

/// A workload under way.
struct Run {
    bench: Bench,
    engine: Engine,
    level: Durability,
    token: Option<Version>,
    promise: Arc<Mutex<Promise>>,
}

impl Run {
    fn full<T>(&self, key: &str, then: impl FnOnce(FullKey<'_>) -> Result<T>) -> T {
        let settled = |full: FullKey<'_>| self.engine.settled(self.level, full.hash, then(full));
        self.engine.with_key(None, key.as_bytes(), settled).unwrap()
    }

    /// Does a step; the promise is made before and, at the level asked for, settled after it.
    fn step(&mut self, step: Step) {
        let now = self.engine.clock.now();
        match step {
            Step::Check => self.check("a", b"short".to_vec()),
            Step::CheckLong => self.check("b", long(9_000)),
            Step::CheckHuge => self.check("b", long(150_000)),
            Step::Remove => {
                self.promise.lock().expect("a", None);
                self.full("a", |full| self.engine.remove(full, None, now));
                self.answered();
            }
            Step::Begin => {
                if self.promise.lock().last("a").is_none() {
                    self.promise.lock().expect("a", Some((Status::InProgress, Vec::new())));
                }
                let terms = Policy::DEFAULT.terms(&BeginOptions::new(), MINUTE * 9).unwrap();
                let begun = self.full("a", |full| self.engine.begin(full, &terms, now));
                if let Begun::Started(grant) = begun {
                    self.token = Some(grant.version);
                    self.promise.lock().version = Some(grant.version);
                }
                self.answered();
            }
            Step::Complete => {
                let Some(token) = self.token.take() else { return };
                if !matches!(self.promise.lock().last("a"), Some((Status::InProgress, _))) {
                    return;
                }
                self.promise.lock().expect("a", Some((Status::Completed, b"done".to_vec())));
                let ending = Ending::Complete(b"done");
                self.full("a", |full| self.engine.finish(full, token, ending, now));
                self.answered();
            }
            Step::Sync => {
                self.engine.sync().unwrap();
                self.promise.lock().settle();
            }
            Step::Maintain => {
                self.bench.advance(30);
                self.engine.maintain(Duration::ZERO).unwrap();
                if self.level != Durability::Process {
                    self.promise.lock().settle();
                }
            }
            Step::Reopen => self.reopen(),
            Step::CloseAndReopen => {
                self.engine.close().unwrap();
                self.promise.lock().settle();
                self.reopen();
            }
        }
    }

    fn check(&mut self, key: &'static str, outcome: Vec<u8>) {
        let known = self.promise.lock().last(key).clone();
        if known.is_none() {
            self.promise.lock().expect(key, Some((Status::Completed, outcome.clone())));
        }
        let lifetime = self.engine.lifetime();
        let checked = self.engine.check_and_set(key.as_bytes(), &outcome, lifetime, &mut Own);
        if matches!(known, Some((Status::InProgress, _))) {
            assert!(checked.is_err());
        }
        self.full(key, |_| Ok(()));
        self.answered();
    }

    fn answered(&self) {
        if self.level == Durability::Synced {
            self.promise.lock().settle();
        }
    }

    /// As after the end of the process: what is served then is durable.
    fn reopen(&mut self) {
        self.engine = self.bench.open();
        self.promise.lock().settle();
    }
}

fn state(engine: &Engine, key: &str) -> State {
    let now = engine.clock.now();
    let meta = engine.with_key(None, key.as_bytes(), |full| engine.peek(full, now)).unwrap()?;
    let found = engine.get(key.as_bytes(), &mut Own).unwrap();
    Some((meta.status, found.map_or(Vec::new(), |record| record.outcome().to_vec())))
}

/// A look at the disk, and what was promised then.
type Look = (Snapshot, Promise);

/// Looks at the disk before each of its calls, with each of the units.
fn watch(disk: &MemoryDisk, promise: &Arc<Mutex<Promise>>) -> Arc<Mutex<Vec<Look>>> {
    let looks: Arc<Mutex<Vec<Look>>> = Arc::default();
    let (kept, promise) = (looks.clone(), promise.clone());
    *disk.watch.lock() = Some(Box::new(move |disk| {
        let promise = promise.lock().clone();
        kept.lock().extend(UNITS.map(|unit| (Snapshot::of(disk, unit), promise.clone())));
    }));
    looks
}

/// Images of one look: in the suite, and in the long form.
const CUTS: usize = 6;
const CUTS_LONG: usize = 1024;

/// Random numbers, and how many images were tried.
struct Trial {
    seed: u64,
    /// Images of one look.
    most: usize,
    images: usize,
    /// Looks of which images were made, and those of which all there are were.
    looks: usize,
    exhausted: usize,
    seen: HashSet<u64>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let most = number("ONCELOG_CUTS").unwrap_or(if is_long() { CUTS_LONG } else { CUTS });
        let other = number("ONCELOG_SEED").unwrap_or(0) as u64;
        let seed = seed ^ other.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { seed, most, images: 0, looks: 0, exhausted: 0, seen: HashSet::new() }
    }

    fn add(mut self, other: &Self) -> Self {
        self.images += other.images;
        self.looks += other.looks;
        self.exhausted += other.exhausted;
        self
    }

    /// What was tried, and what of it is all there is.
    fn said(&self) -> String {
        let Self { images, looks, exhausted, most, .. } = self;
        format!(
            "{images} images of {looks} looks, up to {most} of each, {exhausted} of them tried \
             with every subset, 0 violations"
        )
    }

    /// Tries every image of a look; those of an opening, `depth` times over.
    fn cut(&mut self, bench: &Bench, look: &Look, depth: u32, name: &dyn Fn() -> String) {
        let (snapshot, promise) = look;
        let seed = &mut self.seed;
        let draw = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *seed
        };
        self.looks += 1;
        self.exhausted += usize::from(snapshot.is_exhausted_by(self.most));
        for left in snapshot.cuts(self.most, draw) {
            // One image may be fine at one moment and break a promise made later.
            let mut hasher = DefaultHasher::new();
            (&left, promise, depth).hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.images += 1;
                self.open(bench, left.disk(), promise, depth, name);
            }
        }
    }

    fn open(
        &mut self,
        bench: &Bench,
        disk: MemoryDisk,
        promise: &Promise,
        depth: u32,
        name: &dyn Fn() -> String,
    ) {
        let watched = Arc::new(Mutex::new(promise.clone()));
        let looks = if depth > 0 { watch(&disk, &watched) } else { Arc::default() };
        let opened = Engine::open(Arc::new(disk.clone()), bench.config.clone());
        let engine = opened.unwrap_or_else(|error| panic!("{error} after {}", name()));
        *disk.watch.lock() = None;
        let mut served = promise.clone();
        for (key, allowed) in &promise.states {
            let state = state(&engine, key);
            let is_allowed = allowed.contains(&state);
            assert!(is_allowed, "{key} is {state:?}, not {allowed:?} after {}", name());
            served.states.insert(key, vec![state]);
        }
        if let Some(before) = promise.version {
            let (terms, now) =
                (Policy::DEFAULT.terms(&BeginOptions::new(), MINUTE), engine.clock.now());
            let begin = |full: FullKey<'_>| engine.begin(full, terms.as_ref().unwrap(), now);
            let Begun::Started(grant) = engine.with_key(None, b"new", begin).unwrap() else {
                panic!("a new key is known after {}", name());
            };
            assert!(grant.version > before, "a version is given out twice after {}", name());
        }
        drop(engine);
        if depth > 0 {
            // What was served survives the next cut, whatever else does not.
            let lost = disk.after_power_cut(|| false);
            self.open(bench, lost, &served, 0, name);
            let looks = std::mem::take(&mut *looks.lock());
            for look in &looks {
                self.cut(bench, look, depth - 1, name);
            }
        }
    }
}

/// True for the form that takes a quarter of an hour.
fn is_long() -> bool {
    number("ONCELOG_LONG").is_some_and(|long| long > 0)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn bench(level: Durability) -> Bench {
    let mut bench = Bench::new();
    bench.config.durability = level;
    bench
}

/// Runs a workload and tries what may be left of it.
fn try_workload(trial: &mut Trial, level: Durability, steps: &[Step], depth: u32) {
    let bench = bench(level);
    let promise = Arc::new(Mutex::new(Promise::new()));
    let engine = bench.open();
    let disk = bench.disk.clone();
    let mut run = Run { bench, engine, level, token: None, promise };
    let before = if depth == 0 { steps.len().saturating_sub(1) } else { 0 };
    steps.iter().take(before).for_each(|step| run.step(*step));
    let looks = watch(&disk, &run.promise);
    steps.iter().skip(before).for_each(|step| run.step(*step));
    let last = run.promise.lock().clone();
    *disk.watch.lock() = None;
    let mut looks = std::mem::take(&mut *looks.lock());
    looks.extend(UNITS.map(|unit| (Snapshot::of(&disk, unit), last.clone())));
    let Run { bench, engine, .. } = run;
    drop(engine);
    trial.seen.clear();
    for look in &looks {
        trial.cut(&bench, look, depth, &|| format!("{steps:?} at {level:?}"));
    }
}

/// All sequences of so many steps.
fn workloads(length: usize) -> Vec<Vec<Step>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer = |steps: &Vec<Step>| {
            let steps = steps.clone();
            STEPS.map(move |step| steps.iter().copied().chain([step]).collect())
        };
        shorter.iter().flat_map(longer).collect()
    })
}

#[test]
fn every_short_life_keeps_its_promise_through_every_power_cut() {
    let longest = number("ONCELOG_STEPS").unwrap_or(3);
    let all: Vec<_> = (0..=longest)
        .flat_map(workloads)
        .flat_map(|steps| LEVELS.map(|level| (level, steps.clone())))
        .collect();
    let (count, queue) = (all.len(), Mutex::new(all));
    // Not in the loop's head, where the lock would be held for its whole body.
    let next = || queue.lock().pop();
    let work = || {
        let mut trial = Trial::new(7);
        while let Some((level, steps)) = next() {
            try_workload(&mut trial, level, &steps, 0);
        }
        trial
    };
    let tried = std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        let trials = workers.map(|worker| worker.join().unwrap());
        trials.into_iter().fold(Trial::new(7), |sum, trial| sum.add(&trial))
    });
    report(&format!("all {count} workloads of up to {longest} steps: {}", tried.said()));
}

#[test]
fn recovery_cut_short_twice_keeps_the_promise() {
    let mut trial = Trial::new(11);
    // Openings are many: as many images of each as in the suite.
    trial.most = number("ONCELOG_CUTS").unwrap_or(CUTS);
    let chosen = [
        vec![Step::Check, Step::CheckLong],
        vec![Step::Begin, Step::Complete],
        vec![Step::Check, Step::Remove],
    ];
    let lives = if is_long() { (0..=2).flat_map(workloads).collect() } else { chosen.to_vec() };
    for level in [Durability::Process, Durability::Synced] {
        for steps in &lives {
            try_workload(&mut trial, level, steps, 2);
        }
    }
    report(&format!("openings cut short twice after {} lives: {}", lives.len(), trial.said()));
}

#[test]
fn a_record_over_several_blocks_may_be_torn_anywhere() {
    let mut trial = Trial::new(13);
    trial.most = 200;
    for level in [Durability::Process, Durability::Synced] {
        let lives =
            [&[Step::CheckHuge, Step::Check][..], &[Step::Check, Step::Sync, Step::CheckHuge]];
        for steps in lives {
            try_workload(&mut trial, level, steps, 0);
        }
    }
    assert!(trial.images > 100, "{}", trial.images);
}

#[test]
fn a_store_whose_creation_is_cut_short_opens_and_is_empty() {
    let bench = bench(Durability::Process);
    let promise = Arc::new(Mutex::new(Promise::new()));
    let looks = watch(&bench.disk, &promise);
    drop(bench.open());
    *bench.disk.watch.lock() = None;
    let mut trial = Trial::new(3);
    let looks = std::mem::take(&mut *looks.lock());
    for look in &looks {
        trial.cut(&bench, look, 1, &|| "creation".to_owned());
    }
    assert!(trial.images > 10, "{}", trial.images);
}

/// The bound of what was tried is a result.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "power cuts: {text}");
}
