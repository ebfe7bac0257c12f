//! Any bytes as STORE, MANIFEST or a lease's state: what is accepted encodes to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run(bytes));

#[cfg(fuzzing)]
fn run(bytes: &[u8]) {
    oncelog::fuzzing::metadata_decode(bytes);
}

/// A plain build has no entry to the internals.
#[cfg(not(fuzzing))]
fn run(_bytes: &[u8]) {}
