//! Every call of the lease protocol beside every other one, on a key in every state.
//!
//! What the threads are answered, and what is left, must be what some order of the same calls one
//! after another gives, and that order must keep to the time: a call that had returned before
//! another began comes first. The orders one after another are tried on the engine itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE};
use crate::engine::finish::Ending;
use crate::engine::models::{bench, part, together};
use crate::error::Result;
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions, Policy};
use crate::record::{Own, Record};
use crate::sys::sync_model::check;
use crate::version::Version;

const KEY: &[u8] = b"key";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Begin,
    Complete,
    Fail,
    Release,
    Renew,
    Resolve,
    Remove,
    RemoveIf,
    Check,
    Get,
    Peek,
}

use Call::{Begin, Check, Complete, Fail, Get, Peek, Release, Remove, RemoveIf, Renew, Resolve};

const CALLS: [Call; 11] =
    [Begin, Complete, Fail, Release, Renew, Resolve, Remove, RemoveIf, Check, Get, Peek];

/// The key before the threads come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Held,
    Overdue,
    /// Overdue, and not to be begun before it is resolved.
    Unknown,
    Released,
    Completed,
}

const STATES: [State; 6] =
    [State::New, State::Held, State::Overdue, State::Unknown, State::Released, State::Completed];

/// What a thread does, call by call.
type Program = &'static [Call];

/// One call's answer, and when the call was made and returned.
#[derive(Clone, Debug)]
struct Answered {
    call: Call,
    answer: String,
    /// That of the lease begun, or of the lease that was to be ended.
    token: Version,
    from: u64,
    to: u64,
}

/// A key in one state, and what the threads share.
struct Scene {
    bench: Bench,
    engine: Arc<Engine>,
    /// The token of the lease that the state began with.
    token: Version,
    time: AtomicU64,
}

impl Scene {
    fn new(state: State) -> Self {
        let bench = bench();
        let engine = Arc::new(bench.open());
        let (token, time) = (Version::from_u64(0), AtomicU64::new(0));
        let mut scene = Self { bench, engine, token, time };
        if state == State::New {
            return scene;
        }
        let on_abandon =
            if state == State::Unknown { AbandonPolicy::Hold } else { AbandonPolicy::Reclaim };
        scene.token = scene.begin(on_abandon).1.unwrap();
        match state {
            State::New | State::Held => {}
            State::Overdue | State::Unknown => scene.bench.advance(MINUTE),
            State::Released => drop(scene.call(Release, scene.token, "")),
            State::Completed => drop(scene.call(Complete, scene.token, "first")),
        }
        scene
    }

    /// The answer in words, and the token if there is one.
    fn begin(&self, on_abandon: AbandonPolicy) -> (String, Option<Version>) {
        let policy = Policy { on_abandon, ..Policy::default() };
        let terms = policy.terms(&BeginOptions::new(), 10 * MINUTE).unwrap();
        let engine = &self.engine;
        let now = engine.clock.now();
        match engine.with_key(None, KEY, |full| engine.begin(full, &terms, now)).unwrap() {
            Begun::Started(grant) => (format!("started {}", grant.attempt), Some(grant.version)),
            Begun::Completed(record) => (format!("done {:?}", record.outcome()), None),
            Begun::InProgress(meta) => (format!("in progress {}", meta.attempts), None),
            Begun::Unknown(meta) => (format!("unknown {}", meta.attempts), None),
            other => (format!("{other:?}"), None),
        }
    }

    fn finish(&self, token: Version, ending: Ending<'_>) -> String {
        let engine = &self.engine;
        let now = engine.clock.now();
        let done = engine.with_key(None, KEY, |full| engine.finish(full, token, ending, now));
        answer(&done.map(|_| ()))
    }

    /// The call's answer; `who` is its outcome.
    fn call(&self, call: Call, token: Version, who: &str) -> String {
        let engine = &self.engine;
        let (now, outcome) = (engine.clock.now(), who.as_bytes());
        match call {
            Begin => self.begin(AbandonPolicy::Reclaim).0,
            Complete => self.finish(token, Ending::Complete(outcome)),
            Fail => self.finish(token, Ending::Fail(outcome)),
            Release => self.finish(token, Ending::Release(0)),
            Renew => self.finish(token, Ending::Renew(MINUTE)),
            Resolve => {
                answer(&engine.with_key(None, KEY, |full| {
                    engine.resolve(full, Ending::Complete(outcome), now)
                }))
            }
            Remove => answer(&engine.with_key(None, KEY, |full| engine.remove(full, None, now))),
            RemoveIf => {
                answer(&engine.with_key(None, KEY, |full| engine.remove(full, Some(token), now)))
            }
            Check => {
                let kept = Policy::DEFAULT.kept(&CheckOptions::new(), 10 * MINUTE).unwrap();
                told(engine.with_key(None, KEY, |full| {
                    engine.check_full(full, outcome, kept, now, &mut Own)
                }))
            }
            Get => told(engine.get(KEY, &mut Own)),
            Peek => {
                let meta = engine.with_key(None, KEY, |full| engine.peek(full, now)).unwrap();
                let told = meta.map(|meta| (meta.status, meta.attempts, meta.outcome_bytes));
                format!("{told:?}")
            }
        }
    }

    /// Makes the calls that are left of a program, with the token that it has.
    fn step(&self, call: Call, token: &mut Version, who: usize) -> Answered {
        let from = self.time.fetch_add(1, Ordering::SeqCst);
        let answer = if call == Begin {
            let (answer, begun) = self.begin(AbandonPolicy::Reclaim);
            if let Some(begun) = begun {
                assert!(begun > self.token, "a token of an earlier lease was given out again");
                *token = begun;
            }
            answer
        } else {
            self.call(call, *token, &format!("thread {who}"))
        };
        let to = self.time.fetch_add(1, Ordering::SeqCst);
        Answered { call, answer, token: *token, from, to }
    }

    /// What is left at the end; the next process finds the same.
    fn left(&self) -> String {
        let left = || self.call(Peek, self.token, "") + &self.call(Get, self.token, "");
        let left = left();
        let again = Arc::new(self.bench.open());
        let engine = &again;
        let now = engine.clock.now();
        let meta = engine.with_key(None, KEY, |full| engine.peek(full, now)).unwrap();
        let told = meta.map(|meta| (meta.status, meta.attempts, meta.outcome_bytes));
        assert!(left.starts_with(&format!("{told:?}")), "{left}, and reopened {told:?}");
        left
    }
}

/// The record that was found, or that there was none.
fn told(found: Result<Option<Record>>) -> String {
    answer(&found.map(|record| record.map(|record| record.outcome().to_vec())))
}

/// Without times and tokens, which differ from order to order.
fn answer(answer: &Result<impl std::fmt::Debug>) -> String {
    let words = format!("{answer:?}");
    words.split(" {").next().unwrap_or_default().to_owned()
}

/// Every order of the programs' calls, as the numbers of the threads.
fn orders(left: &mut [usize], order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    if left.iter().all(|calls| *calls == 0) {
        all.push(order.clone());
    }
    for thread in 0..left.len() {
        if left[thread] > 0 {
            left[thread] -= 1;
            order.push(thread);
            orders(left, order, all);
            order.pop();
            left[thread] += 1;
        }
    }
}

/// What one order of calls one after another gives: the answers by thread, and what is left.
struct Serial {
    order: Vec<usize>,
    answers: Vec<Vec<String>>,
    left: String,
}

fn serial(state: State, programs: &[Program]) -> Vec<Serial> {
    let mut all = Vec::new();
    let mut left: Vec<usize> = programs.iter().map(|program| program.len()).collect();
    orders(&mut left, &mut Vec::new(), &mut all);
    let run = |order: Vec<usize>| {
        let scene = Scene::new(state);
        let mut tokens = vec![scene.token; programs.len()];
        let mut answers = vec![Vec::new(); programs.len()];
        for thread in &order {
            let call = programs[*thread][answers[*thread].len()];
            answers[*thread].push(scene.step(call, &mut tokens[*thread], *thread).answer);
        }
        Serial { order, answers, left: scene.left() }
    };
    all.into_iter().map(run).collect()
}

impl Serial {
    /// True when the order gives these answers and keeps to the time.
    fn explains(&self, answered: &[Vec<Answered>], left: &str) -> bool {
        let same =
            self.left == left
                && self.answers.iter().zip(answered).all(|(own, other)| {
                    own.iter().zip(other).all(|(own, other)| *own == other.answer)
                });
        let mut next = vec![0; answered.len()];
        let mut latest_from = 0;
        same && self.order.iter().all(|thread| {
            let call = &answered[*thread][next[*thread]];
            next[*thread] += 1;
            latest_from = latest_from.max(call.from);
            // None that comes before it began after it had returned.
            latest_from <= call.to
        })
    }
}

impl Answered {
    /// It has given the key its outcome.
    fn concludes(&self) -> bool {
        match self.call {
            Complete | Fail => self.answer == "Ok(())",
            Resolve => self.answer == "Ok(true)",
            Check => self.answer.starts_with("Ok(true)"),
            _ => false,
        }
    }

    /// It came with a token, and was let do what it wanted.
    fn ends_lease(&self) -> bool {
        matches!(self.call, Complete | Fail | Release | Renew) && self.answer == "Ok(())"
    }
}

/// What no order of calls explains away: one outcome is recorded, and only the latest lease counts.
fn assert_fenced(state: State, answered: &[Vec<Answered>]) {
    let all: Vec<&Answered> = answered.iter().flatten().collect();
    let removed = all.iter().any(|call| matches!(call.call, Remove | RemoveIf));
    let before = usize::from(state == State::Completed);
    let outcomes = before + all.iter().filter(|call| call.concludes()).count();
    assert!(removed || outcomes <= 1, "{state:?}: two outcomes in {answered:?}");
    for begun in all.iter().filter(|call| call.answer.starts_with("started")) {
        let late = |call: &&&Answered| {
            call.ends_lease() && call.token < begun.token && call.from > begun.to
        };
        let late = all.iter().find(late);
        assert!(late.is_none(), "{state:?}: {late:?} came after {begun:?}");
        let twice = all
            .iter()
            .filter(|other| other.answer.starts_with("started") && other.token == begun.token);
        assert_eq!(twice.count(), 1, "{state:?}: a token given out twice");
    }
}

fn model(state: State, programs: &'static [Program], tried: usize) {
    // In the model's threads, as the engine's locks are the model's.
    let explained = Arc::new(std::sync::OnceLock::new());
    check(tried, move || {
        let explained = explained.clone();
        let serial = explained.get_or_init(|| serial(state, programs));
        let scene = Arc::new(Scene::new(state));
        let parts = programs.iter().enumerate().map(|(thread, program)| {
            let own = scene.clone();
            part(&scene.engine, move |_| {
                let mut token = own.token;
                program.iter().map(|call| own.step(*call, &mut token, thread)).collect()
            })
        });
        let answered: Vec<Vec<Answered>> = together(parts.collect());
        let left = scene.left();
        assert_fenced(state, &answered);
        assert!(
            serial.iter().any(|order| order.explains(&answered, &left)),
            "{state:?}: {programs:?} were answered {answered:?} and left {left}"
        );
    });
}

/// All pairs of calls; leaked, as a program lives for as long as the tests do.
fn pairs() -> BTreeSet<(Call, Call)> {
    CALLS.iter().flat_map(|one| CALLS.iter().map(|two| (*one.min(two), *one.max(two)))).collect()
}

fn all_pairs_on(states: &[State]) {
    for (one, two) in pairs() {
        let program = |call: Call| -> Program { Box::leak(Box::new([call])) };
        let programs: &'static [Program] = Box::leak(Box::new([program(one), program(two)]));
        for state in states {
            model(*state, programs, 4);
        }
    }
}

#[test]
fn any_two_calls_on_a_new_or_held_key_are_as_if_one_after_the_other() {
    all_pairs_on(&[State::New, State::Held]);
}

#[test]
fn any_two_calls_on_a_key_whose_lease_ran_out_are_as_if_one_after_the_other() {
    all_pairs_on(&[State::Overdue, State::Unknown]);
}

#[test]
fn any_two_calls_on_a_released_or_completed_key_are_as_if_one_after_the_other() {
    all_pairs_on(&[State::Released, State::Completed]);
}

#[test]
fn longer_programs_of_two_and_three_threads_are_as_if_one_call_after_the_other() {
    const PROGRAMS: &[&[Program]] = &[
        &[&[Begin, Complete], &[Begin, Complete], &[Begin, Complete]],
        &[&[Begin, Release], &[Begin, Complete], &[Get]],
        &[&[Renew, Complete], &[Begin, Complete]],
        &[&[Complete, Get], &[Remove, Begin]],
        &[&[Begin, Fail], &[Remove, Check]],
        &[&[Check, Get], &[Begin, Renew], &[RemoveIf]],
    ];
    for state in STATES {
        for programs in PROGRAMS {
            model(state, programs, 20);
        }
    }
}
