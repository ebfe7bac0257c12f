//! The recipes: each one's known failure, between threads, over crashes, and against a model.

mod apart;
mod audit;
#[cfg(feature = "ballot")]
mod ballot;
#[cfg(feature = "ballot")]
mod ballot_chain;
mod budget;
mod checkpoint;
mod consumer;
mod debounce;
#[cfg(feature = "digest")]
mod digest;
mod fence;
mod killed;
mod killed_changes;
mod nonce;
mod outbox;
mod schedule;
mod sequence;
mod state;
mod synced;
mod token;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The answers of four threads that ask at one moment.
pub(crate) fn at_once<T: Send>(ask: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(4);
    let asking = |thread| {
        barrier.wait();
        ask(thread)
    };
    let asking = &asking;
    thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|thread| scope.spawn(move || asking(thread))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// How many of the answers are as wanted.
pub(crate) fn count<T>(answers: &[T], wanted: impl Fn(&T) -> bool) -> usize {
    answers.iter().filter(|answer| wanted(answer)).count()
}
