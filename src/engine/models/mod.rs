//! Models: small programs of several threads over the real engine, in many orders of their steps.
//!
//! Run by `scripts/models.sh`. The files are in memory, the clock stands still unless it is moved,
//! and the locks and atomics are the model checker's (see `sys/sync_model.rs`).

mod bundle;
mod calls;
mod compaction;
mod log;
mod protocol;
mod reclaim;
mod unseen;
mod waiters;
mod waiting;

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::bench::Bench;
use crate::record::Ignore;

/// One stripe, so that all keys meet in it; two lanes.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.config.stripes = 1;
    bench
}

/// Runs each part in a thread of its own; returns what they return, in their order.
fn together<T: Send + 'static>(parts: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let threads: Vec<_> = parts.into_iter().map(shuttle::thread::spawn).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// A part for [`together`] that uses the engine.
fn part<T>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Arc<Engine>) -> T + Send + 'static,
) -> Box<dyn FnOnce() -> T + Send> {
    let engine = engine.clone();
    Box::new(move || work(&engine))
}

/// True when the key was new.
fn check_and_set(engine: &Engine, key: &str, outcome: &[u8]) -> bool {
    let lifetime = engine.lifetime();
    !engine.check_and_set(key.as_bytes(), outcome, lifetime, &mut Ignore).unwrap()
}
