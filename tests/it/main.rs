//! The store through its public interface alone, on real files.
//!
//! One binary, so that it links once. Each module states its goal and its method; directories are
//! temporary, randomness comes from fixed seeds, and time from a clock moved by hand wherever a
//! test depends on it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod clocks;
mod concurrency;
mod damage;
mod durable;
mod expiry;
mod filter;
mod full_disk;
#[cfg(feature = "async")]
mod futures;
mod history;
mod hostile;
mod input;
mod killed;
mod lease;
mod lifetimes;
mod namespaces;
mod pairs;
mod places;
mod points;
mod private;
mod protocol;
mod quotas;
mod race;
mod recipes;
mod refused;
mod regressions;
mod regressions_trust;
mod retention;
mod salvage;
mod seen;
mod semantics;
mod set_if;
mod setup;
mod system_calls;
mod together;
mod wait;
mod wreck;
