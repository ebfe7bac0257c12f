//! Any bytes as a run, as they are and sealed: no panic, and what is accepted encodes to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run(bytes));

#[cfg(fuzzing)]
fn run(bytes: &[u8]) {
    oncelog::fuzzing::run_decode(bytes);
}

/// A plain build has no entry to the internals.
#[cfg(not(fuzzing))]
fn run(_bytes: &[u8]) {}
