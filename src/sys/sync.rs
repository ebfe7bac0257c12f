//! The locks of the engine, in one place so that a model checker's can stand in for them.
//!
//! Only types named here are used for locking between threads; no lock type appears in the public
//! interface.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
