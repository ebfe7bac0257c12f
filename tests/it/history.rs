//! Histories of concurrent calls on one key, checked for linearizability by a checker from outside.
//!
//! Threads make random calls; each call's begin and end is written down in one order. The checker
//! then looks for an order of the calls, each within its time, in which a specification with one
//! thread gives the same answers. Tokens stand in a history by their rank: the n-th smallest of a
//! key is the one that its n-th lease must have had.

use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};

use oncelog::{Begin, Check, Error, Status, Store, Version};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::setup::{Random, directory, small};

const THREADS: u64 = 3;
const CALLS: u64 = 6;
const HISTORIES: u64 = 400;

/// A call; `T` stands for a lease: its version as it is recorded, its rank when it is checked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call<T> {
    Begin,
    Complete(T, u64),
    Fail(T, u64),
    Release(T),
    Check(u64),
    Get,
    Peek,
    Remove,
    RemoveIf(T),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer<T> {
    Started(T, u32),
    InProgress(T),
    Outcome(Option<u64>),
    New,
    Refused,
    Done,
    Lost,
    Status(Option<Status>),
    Removed(bool),
}

impl<T> Call<T> {
    fn map<U>(self, rank: impl Fn(T) -> U) -> Call<U> {
        match self {
            Self::Begin => Call::Begin,
            Self::Complete(token, value) => Call::Complete(rank(token), value),
            Self::Fail(token, value) => Call::Fail(rank(token), value),
            Self::Release(token) => Call::Release(rank(token)),
            Self::Check(value) => Call::Check(value),
            Self::Get => Call::Get,
            Self::Peek => Call::Peek,
            Self::Remove => Call::Remove,
            Self::RemoveIf(token) => Call::RemoveIf(rank(token)),
        }
    }
}

impl<T> Answer<T> {
    fn map<U>(self, rank: impl Fn(T) -> U) -> Answer<U> {
        match self {
            Self::Started(token, attempt) => Answer::Started(rank(token), attempt),
            Self::InProgress(token) => Answer::InProgress(rank(token)),
            Self::Outcome(value) => Answer::Outcome(value),
            Self::New => Answer::New,
            Self::Refused => Answer::Refused,
            Self::Done => Answer::Done,
            Self::Lost => Answer::Lost,
            Self::Status(status) => Answer::Status(status),
            Self::Removed(removed) => Answer::Removed(removed),
        }
    }
}

/// What one thread alone would be answered.
#[derive(Clone, Debug, Default)]
struct Specification {
    leases: usize,
    attempts: u32,
    status: Option<Status>,
    value: u64,
}

impl Specification {
    /// Ends the lease if it is the current one.
    fn end(&mut self, token: usize, status: Status, value: u64) -> Answer<usize> {
        if self.status != Some(Status::InProgress) || token != self.leases {
            return Answer::Lost;
        }
        (self.status, self.value) = (Some(status), value);
        Answer::Done
    }

    fn outcome(&self) -> Option<u64> {
        self.status.filter(|status| status.is_final()).map(|_| self.value)
    }

    fn remove(&mut self, wanted: bool) -> Answer<usize> {
        let removed = wanted && self.status.is_some();
        if removed {
            (self.status, self.attempts) = (None, 0);
        }
        Answer::Removed(removed)
    }
}

impl SequentialSpec for Specification {
    type Op = Call<usize>;
    type Ret = Answer<usize>;

    fn invoke(&mut self, call: &Self::Op) -> Self::Ret {
        match *call {
            Call::Begin => match self.status {
                Some(Status::InProgress) => Answer::InProgress(self.leases),
                None | Some(Status::Released) => {
                    (self.leases, self.attempts) = (self.leases + 1, self.attempts + 1);
                    self.status = Some(Status::InProgress);
                    Answer::Started(self.leases, self.attempts)
                }
                Some(_) => Answer::Outcome(self.outcome()),
            },
            Call::Complete(token, value) => self.end(token, Status::Completed, value),
            Call::Fail(token, value) => self.end(token, Status::Failed, value),
            Call::Release(token) => self.end(token, Status::Released, 0),
            Call::Check(value) => match self.status {
                Some(Status::InProgress) => Answer::Refused,
                None | Some(Status::Released) => {
                    (self.status, self.value) = (Some(Status::Completed), value);
                    self.attempts = 0;
                    Answer::New
                }
                Some(_) => Answer::Outcome(self.outcome()),
            },
            Call::Get => Answer::Outcome(self.outcome()),
            Call::Peek => Answer::Status(self.status),
            Call::Remove => self.remove(true),
            Call::RemoveIf(token) => {
                let current = self.status == Some(Status::InProgress) && token == self.leases;
                self.remove(current)
            }
        }
    }
}

fn value_of(outcome: &[u8]) -> Option<u64> {
    outcome.try_into().ok().map(u64::from_le_bytes)
}

fn ended<T>(result: Result<T, Error>) -> Answer<Version> {
    match result {
        Ok(_) => Answer::Done,
        Err(Error::LeaseLost) => Answer::Lost,
        Err(error) => panic!("{error}"),
    }
}

fn make(store: &Store, key: u64, call: Call<Version>) -> Answer<Version> {
    let key = key.to_le_bytes();
    match call {
        Call::Begin => match store.begin(key).unwrap() {
            Begin::Started(lease) => Answer::Started(lease.version(), lease.attempt()),
            Begin::InProgress(other) => Answer::InProgress(other.meta().version),
            Begin::Completed(record) => Answer::Outcome(value_of(record.outcome())),
            other => panic!("{other:?}"),
        },
        Call::Complete(token, value) => ended(store.complete_by(key, token, value.to_le_bytes())),
        Call::Fail(token, value) => ended(store.fail_by(key, token, value.to_le_bytes())),
        Call::Release(token) => ended(store.release_by(key, token, None)),
        Call::Check(value) => match store.check_and_set(key, value.to_le_bytes()) {
            Ok(Check::New) => Answer::New,
            Ok(Check::Duplicate(record)) => Answer::Outcome(value_of(record.outcome())),
            Err(Error::InProgress { .. }) => Answer::Refused,
            Err(error) => panic!("{error}"),
        },
        Call::Get => {
            let found = store.get(key).unwrap();
            Answer::Outcome(found.and_then(|record| value_of(record.outcome())))
        }
        Call::Peek => Answer::Status(store.peek(key).unwrap().map(|meta| meta.status)),
        Call::Remove => Answer::Removed(store.remove(key).unwrap()),
        Call::RemoveIf(token) => Answer::Removed(store.remove_if(key, token).unwrap()),
    }
}

/// The begin of a call, or its end.
type Event = (u64, Result<Call<Version>, Answer<Version>>);

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    tokens: Vec<Version>,
}

fn choose(random: &mut Random, record: &Record, value: u64) -> Call<Version> {
    let late = random.below(4) == 0;
    let token = if late { record.tokens.first() } else { record.tokens.last() };
    let Some(token) = token.copied() else { return Call::Begin };
    match random.below(12) {
        0..4 => Call::Begin,
        4 | 5 => Call::Complete(token, value),
        6 => Call::Fail(token, value),
        7 => Call::Release(token),
        8 => Call::Check(value),
        9 => Call::Get,
        10 => Call::Peek,
        _ if random.below(2) == 0 => Call::Remove,
        _ => Call::RemoveIf(token),
    }
}

/// Lets the threads make their calls on one key, and writes down what was called and answered.
fn record(store: &Store, key: u64, seed: u64) -> Vec<Event> {
    let (record, barrier) = (Mutex::new(Record::default()), Barrier::new(THREADS as usize));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (record, barrier) = (&record, &barrier);
            scope.spawn(move || {
                let mut random = Random::new(seed * THREADS + thread);
                barrier.wait();
                for number in 0..CALLS {
                    let call = {
                        let mut record = record.lock().unwrap();
                        let call = choose(&mut random, &record, thread * CALLS + number);
                        record.events.push((thread, Ok(call)));
                        call
                    };
                    let answer = make(store, key, call);
                    let mut record = record.lock().unwrap();
                    if let Answer::Started(token, _) = answer {
                        record.tokens.push(token);
                    }
                    record.events.push((thread, Err(answer)));
                }
            });
        }
    });
    record.into_inner().unwrap().events
}

/// The history with ranks for tokens, as the checker takes it.
fn is_linearizable(events: &[Event]) -> bool {
    let started = events.iter().filter_map(|(_, event)| match event {
        Err(Answer::Started(token, _)) => Some(*token),
        _ => None,
    });
    let tokens: BTreeSet<Version> = started.collect();
    let rank = |token: Version| tokens.range(..=token).count();
    let mut tester = LinearizabilityTester::new(Specification::default());
    for (thread, event) in events {
        let fed = match event.clone() {
            Ok(call) => tester.on_invoke(*thread, call.map(rank)).map(drop),
            Err(answer) => tester.on_return(*thread, answer.map(rank)).map(drop),
        };
        fed.unwrap();
    }
    tester.is_consistent()
}

#[test]
fn every_recorded_history_of_a_key_is_linearizable() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for seed in 0..HISTORIES {
        let events = record(&store, seed, seed);
        assert!(is_linearizable(&events), "history {seed}: {events:#?}");
    }
}

#[test]
fn the_checker_refuses_a_history_in_which_two_hold_one_lease() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let mut events = Vec::new();
    for (thread, key) in [(0, 1), (1, 2)] {
        events.push((thread, Ok(Call::Begin)));
        events.push((thread, Err(make(&store, key, Call::Begin))));
    }
    assert!(!is_linearizable(&events), "two keys taken for one: both were begun");
}
