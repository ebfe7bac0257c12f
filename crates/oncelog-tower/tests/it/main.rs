//! The layer as its users see it: services behind it, over an embedded store.
#![expect(clippy::unwrap_used, reason = "a test fails where its setup does")]

mod answers;
mod backend;
mod bodies;
mod concurrency;
mod dropped;
mod grpc;
mod input;
mod leases;
mod model;
mod peers;
mod setup;
mod trouble;
