//! A tower layer for the Idempotency-Key header: one execution for each key, and its answer again.
//!
//! [`IdempotencyLayer`] goes around any service on http 1.x and keeps keys in any
//! [`Backend`](oncelog::backend::Backend). [`Principal`] tells whose key it is, [`RoutePolicy`]
//! what holds for a route; [`Execution`] is what a handler can know of its request, [`Problem`] why
//! one was not handled, and [`StoredResponse`] what is kept of an answer.
//!
//! ```
//! use oncelog::{Policy, Store};
//! use oncelog_tower::{IdempotencyLayer, Principal};
//! use tower::{Layer, service_fn};
//!
//! # let folder = tempfile::tempdir()?;
//! # let service = service_fn(|_: http::Request<oncelog_tower::RequestBody<String>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(String::from("paid")))
//! # });
//! let keys = Store::open(folder.path())?.namespace("http", Policy::default())?;
//! let layer = IdempotencyLayer::new(keys, Principal::header(http::header::AUTHORIZATION));
//! let service = layer.layer(service);
//! # let _ = service.oneshot(http::Request::new(String::new()));
//! # use tower::ServiceExt;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A request goes through these steps: its head is read ([`Idempotency`]), its body is read and
//! compared ([`FingerprintPolicy`]), its key is begun, its handler is called while the lease is
//! renewed, and its answer is gathered and stored before the client gets it.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

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
