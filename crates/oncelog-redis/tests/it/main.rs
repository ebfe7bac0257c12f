//! The backend against real servers, which each test starts on free ports in a folder of its own.
//!
//! `ONCELOG_REDIS_SERVER` names another server program than the `redis-server` of the path.

#![cfg(feature = "cluster")]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod cluster;
mod killed;
mod protocol;
mod races;
mod replicas;
mod servers;
mod suite;
mod trouble;
mod waiting;
mod wires;
