//! Any bytes as a segment: the scan ends, and what it reports agrees with itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run(bytes));

#[cfg(fuzzing)]
fn run(bytes: &[u8]) {
    oncelog::fuzzing::segment_scan(bytes);
}

/// A plain build has no entry to the internals.
#[cfg(not(fuzzing))]
fn run(_bytes: &[u8]) {}
