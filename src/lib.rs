//! An embeddable store that remembers which keys were already handled and what came of them.
//!
//! [`Store::check_and_set`] answers *new* or *duplicate, and here is the outcome*, atomically, in
//! well under a microsecond, and what it has answered survives the end of the process.
//!
//! ```
//! use oncelog::{Check, Store};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("payments");
//! let store = Store::open(path)?;
//! match store.check_and_set("order-42", "charged, receipt 1001")? {
//!     Check::New => println!("first time: go on"),
//!     Check::Duplicate(record) => println!("seen at {}", record.created()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Work that is yet to be done is claimed with [`Store::begin`]: one caller at a time gets a
//! [`Lease`], the others wait, and all get the outcome that it completes with. [`Store::run`] does
//! the whole of it. [`Namespace`]s give keys a policy of their own. The feature `async` adds
//! futures, for any runtime.
//!
//! Start with [`Store`] and [`Builder`]; [`docs`] has the specification of the files, the promises
//! of each call, the architecture, the reasons, and the measurements.

#[cfg(not(unix))]
compile_error!("oncelog runs on Unix systems: it needs mmap, flock and directory descriptors");

mod answers;
mod begin;
mod builder;
mod calls;
mod config;
mod engine;
mod error;
mod filter;
mod fingerprint;
mod format;
mod index;
mod key;
mod lease;
mod log;
mod maintainer;
mod meta;
mod namespace;
mod options;
mod outcome;
mod policy;
mod record;
mod run;
mod scan;
mod scope;
mod stats;
mod store;
#[expect(unsafe_code, reason = "the one place where memory and system calls are wrapped")]
mod sys;
mod ticket;
mod time;
mod version;
mod wheel;

#[cfg(feature = "backend")]
pub mod backend;
pub mod docs;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
pub mod recipes;
pub mod salvage;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

pub use crate::answers::{Answer, Answers, Check, CheckAll, Lookups};
#[cfg(feature = "async")]
pub use crate::begin::Wait;
pub use crate::begin::{Begin, InProgress};
pub use crate::builder::Builder;
pub use crate::config::{
    Durability, LANES_MAX, Maintenance, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MAX_DEFAULT,
    SEGMENT_BYTES_MIN, STRIPES_DEFAULT, STRIPES_MAX, TTL_DEFAULT,
};
pub use crate::error::{Error, Result};
pub use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint, FingerprintBuilder};
pub use crate::key::{
    BUNDLE_BYTES_MAX, BUNDLE_KEYS_MAX, KEY_BYTES_MAX, KEY_BYTES_MAX_DEFAULT, OUTCOME_BYTES_MAX,
    OUTCOME_BYTES_MAX_DEFAULT,
};
pub use crate::lease::Lease;
pub use crate::meta::{Meta, Status};
pub use crate::namespace::Namespace;
pub use crate::options::CheckOptions;
pub use crate::policy::{
    AbandonPolicy, Anchor, BeginOptions, DropPolicy, LEASE_DEFAULT, LEASE_MAX, LongOutcomePolicy,
    OUTCOME_BYTES_RESERVED, Policy,
};
pub use crate::record::{OutcomeGone, Record, RecordRef};
pub use crate::run::{Run, RunError};
pub use crate::scan::{Scan, Scanned};
pub use crate::scope::Scope;
pub use crate::stats::{FilterStats, Maintained, NamespaceStats, RecoveryReport, Stats};
pub use crate::store::Store;
pub use crate::ticket::Ticket;
pub use crate::time::{Clock, JumpPolicy, ManualClock, SystemClock, Timestamp, Ttl};
pub use crate::version::Version;
