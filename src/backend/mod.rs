//! One contract for the embedded engine and for engines elsewhere.
//!
//! A service that outgrows one machine keeps its code and changes the backend.
//! [`Backend`] has the verbs of a [`Namespace`](crate::Namespace) as asynchronous calls, with the
//! same answers. Each is one atomic step and required, so that no backend is put together of a
//! lookup and a write after it. What backends may differ in is what [`Profile`] says, and no more.
//! The embedded engine implements it; crates for servers do, each with the client library that
//! it needs; [`AnyBackend`] is for a program that chooses when it starts.

mod answers;
mod any;
mod contract;
mod embedded;
mod lease;
mod profile;
mod run;
#[cfg(feature = "test-util")]
pub mod suite;
mod terms;
mod tiered;

pub use answers::{Begin, Grant};
pub use any::AnyBackend;
pub use contract::Backend;
pub use lease::Lease;
pub use profile::{Clocked, Fenced, Profile, Survives};
pub use run::{Run, run};
pub use terms::{BeginTerms, CheckTerms};
pub use tiered::{Tiered, TieredStats};
