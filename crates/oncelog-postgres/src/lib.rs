//! PostgreSQL behind the contract of `oncelog`.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answer;
mod batch;
#[cfg(feature = "deadpool")]
mod deadpool;
mod dial;
mod keys;
mod line;
mod lines;
mod listen;
mod namespace;
mod pool;
mod postgres;
mod schema;
mod server;
mod settings;
mod shared;
mod trouble;
mod verbs;
mod wait;
mod within;

pub use dial::{Dial, Link};
pub use lines::{Lines, Taken};
pub use namespace::Namespace;
pub use pool::Pool;
pub use postgres::{Builder, KEY_BYTES_MAX, LINES_DEFAULT, Postgres, TIMEOUT_DEFAULT};
pub use schema::{MIGRATIONS, Migration};
pub use shared::Shared;
pub use trouble::{refused, unreachable};
pub use within::Within;
