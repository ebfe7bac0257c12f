//! The contract of `oncelog` over Redis and Redis Cluster.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answer;
mod backend;
mod batch;
mod builder;
mod call;
mod connect;
mod layout;
mod names;
mod script;
mod server;
mod trouble;
mod wait;
mod wake;

pub use crate::backend::RedisBackend;
pub use crate::builder::{ANSWER_TIMEOUT_DEFAULT, Builder, CLOCK_SKEW_DEFAULT, CLOCK_SKEW_MAX};
pub use crate::connect::{Connect, Pooled};
/// The client that connections are of, so that versions agree.
pub use redis;
