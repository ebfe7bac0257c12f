//! Backends: the suite over the embedded engine, and that it notices backends that are wrong.
//!
//! Tasks are threads and timers are one thread, so nothing here needs a runtime. Time is the
//! system's, or a clock moved by hand.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod embedded;
mod faults;
mod run;
mod sides;
mod threads;
mod tiered;
mod tiered_ends;
mod tiers;
mod wrong;
