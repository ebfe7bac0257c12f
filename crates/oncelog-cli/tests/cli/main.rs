//! Runs the real binary as people and scripts would, and compares what it prints.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod crash;
mod damage;
mod errors;
mod exec;
mod fields;
mod inspect;
mod lines;
mod long;
mod outputs;
mod reports;
mod store;
mod support;
mod two_phase;
