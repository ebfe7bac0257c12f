//! Locks and atomics of the engine, in one place so that a model checker's can stand in for them.
//!
//! Only types named here are used between threads; no lock type appears in the public interface.
//! In a plain build the names below are those of `parking_lot` and of the standard library. Under
//! `--cfg oncelog_shuttle` the unit tests take them from [`sync_model`](crate::sys::sync_model),
//! where each use is a moment at which another thread may go on.

#[cfg(not(all(test, oncelog_shuttle)))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    #[cfg(feature = "ballot")]
    pub(crate) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use std::thread_local;

    /// Atomic integers and fences.
    pub(crate) mod atomic {
        pub(crate) use std::sync::atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        };
    }

    /// How many threads are worth starting for one piece of work.
    pub(crate) fn processors() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

#[cfg(not(all(test, oncelog_shuttle)))]
pub(crate) use real::*;

#[cfg(all(test, oncelog_shuttle))]
pub(crate) use crate::sys::sync_model::{
    Condvar, Mutex, MutexGuard, atomic, processors, thread_local,
};
// No model goes that far up.
#[cfg(all(test, oncelog_shuttle, feature = "ballot"))]
pub(crate) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
