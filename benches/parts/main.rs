//! What the parts of a call cost, each alone: for regressions, and for the budget of a call.
//!
//! The parts have no public interface. So the layers from the engine's mechanisms down are compiled
//! once more, as modules of this program: they need nothing of the layers above.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

mod append;
mod checksum;
mod codec;
mod filters;
mod lines;
mod wheels;

/// The engine without its public handles.
///
/// Benchmarks are built as tests are, so that what is measured has a branch more where keys are
/// hashed (`KeyHasher::constant`), and all of the units' tests are in it and never run.
#[path = "../../src"]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "what the handles above use, and tests"
)]
#[expect(clippy::wrong_self_convention, reason = "not seen to be public here")]
mod layers {
    pub(crate) mod answers;
    pub(crate) mod config;
    pub(crate) mod engine;
    pub(crate) mod error;
    pub(crate) mod filter;
    pub(crate) mod fingerprint;
    pub(crate) mod format;
    pub(crate) mod index;
    pub(crate) mod key;
    pub(crate) mod log;
    pub(crate) mod meta;
    pub(crate) mod options;
    pub(crate) mod outcome;
    pub(crate) mod policy;
    pub(crate) mod record;
    pub(crate) mod stats;
    #[expect(unsafe_code, reason = "the one place where memory and system calls are wrapped")]
    pub(crate) mod sys;
    pub(crate) mod time;
    pub(crate) mod version;
    pub(crate) mod wheel;
}

use std::time::Duration;

use criterion::Criterion;

// Their sources name each other from the root of the crate.
use layers::{
    answers, config, engine, error, filter, fingerprint, format, index, key, log, meta, options,
    outcome, policy, record, stats, sys, time, version, wheel,
};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    checksum::benches(&mut criterion);
    codec::benches(&mut criterion);
    lines::benches(&mut criterion);
    append::benches(&mut criterion);
    wheels::benches(&mut criterion);
    filters::benches(&mut criterion);
    criterion.final_summary();
}

/// The finalizer of SplitMix64: a bijection, so that no two indexes make the same number.
fn mix(index: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
