//! What is asked of the operating system and the processor; the only unsafe code.
//!
//! Three seams are here, so that tests can replace what lies below them: [`disk`] for files,
//! [`clock`] below [`crate::time`] for time, [`sync`] for locks.
//!
//! Shared memory is only ever seen as atomic integers ([`words`]). That makes every access sound
//! whatever other threads or processes do to the same bytes, and costs nothing: a relaxed load or
//! store of eight aligned bytes is a plain move.

pub(crate) mod arena;
pub(crate) mod aside;
pub(crate) mod clock;
pub(crate) mod compare;
pub(crate) mod copy;
pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod load;
pub(crate) mod memory_disk;
#[cfg(all(test, oncelog_shuttle))]
pub(crate) mod order_model;
pub(crate) mod power_cut;
pub(crate) mod prefetch;
pub(crate) mod random;
pub(crate) mod ring;
pub(crate) mod space;
pub(crate) mod sync;
#[cfg(all(test, oncelog_shuttle))]
pub(crate) mod sync_model;
pub(crate) mod words;
