//! A tower layer for the Idempotency-Key header.
#![forbid(unsafe_code)]

mod body;
mod claim;
mod event;
mod fingerprint;
mod finish;
mod future;
mod json;
mod key;
mod layer;
mod policy;
mod problem;
mod renew;
mod replay;
mod scope;
mod service;
mod stored;

pub use body::{RequestBody, ResponseBody};
pub use claim::Execution;
pub use event::Event;
pub use fingerprint::{BODY_BYTES_MAX_DEFAULT, FingerprintPolicy};
pub use finish::{Finish, FinishFuture, FinishLayer};
pub use future::ResponseFuture;
pub use key::{IdempotencyKey, KEY_BYTES_MAX, KeyError};
pub use layer::{IdempotencyLayer, Unfinished};
pub use policy::{
    Answered, Ending, FailurePolicy, HEADERS_KEPT, InProgressPolicy, PolicyError,
    RESPONSE_BYTES_MAX_DEFAULT, RoutePolicy,
};
pub use problem::{PROBLEM_TYPES, Problem};
pub use scope::{Principal, STORE_KEY_BYTES, Scope, StoreKey};
pub use service::Idempotency;
pub use stored::{StoredError, StoredResponse};
