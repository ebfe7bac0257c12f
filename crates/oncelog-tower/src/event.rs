//! What the layer tells whoever watches it.

use http::StatusCode;

use crate::problem::Problem;
use crate::scope::StoreKey;

/// Something that happened to a request with a key.
///
/// Told to [`RoutePolicy::on_event`](crate::RoutePolicy::on_event), for logs and counters.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The handler is called.
    Started {
        /// Under which the store keeps the request.
        key: StoreKey,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
    /// The handler's answer is stored, and replayed from now on.
    Stored {
        /// Its status.
        status: StatusCode,
    },
    /// The handler's answer is longer than is kept: that the request was handled is.
    Marked {
        /// Its status.
        status: StatusCode,
    },
    /// The handler's answer is not one to be kept: the next request with the key is handled.
    Released {
        /// Its status.
        status: StatusCode,
    },
    /// The key stays in progress until its lease runs out: the policy says so of the answer, the
    /// service failed, or the body of its answer did.
    Held {
        /// Under which the store keeps the request.
        key: StoreKey,
    },
    /// The request gets the answer of an earlier one.
    Replayed {
        /// Its status.
        status: StatusCode,
    },
    /// The request is not handled.
    Refused(&'a Problem),
    /// The lease ran out and somebody else got the key, while the handler worked or before its
    /// answer was stored. The client gets the answer all the same, since it was worked for.
    LeaseLost {
        /// Under which the store keeps the request.
        key: StoreKey,
    },
    /// The store could not begin, renew or store: what followed is as the policy says.
    StoreFailed {
        /// What was attempted: "begin", "wait", "renew", "complete" or "release".
        call: &'static str,
        /// Why it failed.
        error: &'a oncelog::Error,
    },
    /// The handler is called without a key being kept, since the store failed and the policy is
    /// [open](crate::FailurePolicy::Open).
    Unprotected,
}
