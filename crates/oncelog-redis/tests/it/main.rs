//! The backend against real servers, which each test starts on free ports in a folder of its own.
//!
//! `ONCELOG_REDIS_SERVER` names another server program than the `redis-server` of the path.

mod protocol;
mod servers;
mod wires;
