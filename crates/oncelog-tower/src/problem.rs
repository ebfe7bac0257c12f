//! Why a request was not handled, as a body of `application/problem+json` (RFC 9457).
//!
//! The types are stable: programs tell problems apart by them, and not by their texts.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::key::KeyError;

/// What a problem's type begins with unless the layer is told another place.
pub const PROBLEM_TYPES: &str = "urn:oncelog:problem:";

/// Read by SDKs of Stripe and by those that Stainless generates: whether to send it again.
pub(crate) const SHOULD_RETRY: [HeaderName; 2] =
    [HeaderName::from_static("stripe-should-retry"), HeaderName::from_static("x-should-retry")];

/// Why a request was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The policy requires a key, and none was sent: 400.
    KeyMissing,
    /// The header with the key cannot be read in one way: 400.
    KeyMalformed(KeyError),
    /// The request ended before its body did: 400.
    BodyCut,
    /// It is not known who sends the request: 401.
    PrincipalMissing,
    /// The body is longer than the policy takes a fingerprint of: 413.
    BodyTooLong,
    /// The key was used for another request: 422.
    Mismatch,
    /// The request is being handled: 409, with `Retry-After`.
    InProgress(Duration),
    /// What came of an earlier attempt is not known: 409, not to be sent again.
    Unknown,
    /// Attempts at the request are used up: 409, not to be sent again.
    Exhausted,
    /// The request was handled, and its answer is not kept any more: 410.
    OutcomeGone,
    /// The request was first sent so long ago that it may have been handled and forgotten: 412.
    Stale,
    /// The store takes no new keys: 503.
    StoreFull,
    /// The store could not be asked: 503.
    StoreUnavailable,
    /// The store holds what this version of the layer cannot read: 503.
    Unreadable,
}

impl Problem {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyMalformed(_) | Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::PrincipalMissing => StatusCode::UNAUTHORIZED,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Mismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InProgress(_) | Self::Unknown | Self::Exhausted => StatusCode::CONFLICT,
            Self::OutcomeGone => StatusCode::GONE,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::StoreFull | Self::StoreUnavailable | Self::Unreadable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The end of its type, after [`PROBLEM_TYPES`] or what the layer was told.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyMalformed(_) => "key-malformed",
            Self::BodyCut => "body-cut",
            Self::PrincipalMissing => "principal-missing",
            Self::BodyTooLong => "body-too-long",
            Self::Mismatch => "key-reused",
            Self::InProgress(_) => "in-progress",
            Self::Unknown => "outcome-unknown",
            Self::Exhausted => "attempts-exhausted",
            Self::OutcomeGone => "outcome-gone",
            Self::Stale => "too-old",
            Self::StoreFull => "store-full",
            Self::StoreUnavailable => "store-unavailable",
            Self::Unreadable => "outcome-unreadable",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency key is missing",
            Self::KeyMalformed(_) => "Idempotency key is malformed",
            Self::BodyCut => "Request body ended early",
            Self::PrincipalMissing => "Sender is not known",
            Self::BodyTooLong => "Request body is too long",
            Self::Mismatch => "Idempotency key was used for another request",
            Self::InProgress(_) => "Request is being handled",
            Self::Unknown => "Outcome is not known",
            Self::Exhausted => "Attempts are used up",
            Self::OutcomeGone => "Outcome is not kept any more",
            Self::Stale => "Request is too old",
            Self::StoreFull => "No room for new keys",
            Self::StoreUnavailable => "Store cannot be asked",
            Self::Unreadable => "Outcome cannot be read",
        }
    }

    fn detail(&self) -> String {
        let detail = match self {
            Self::KeyMissing => "this operation requires an idempotency key; send one",
            Self::KeyMalformed(error) => return error.to_string(),
            Self::BodyCut => "the request was not handled; send it again, with the same key",
            Self::PrincipalMissing => {
                "keys are told apart by who sends them, and this request does not say it"
            }
            Self::BodyTooLong => "the request was not handled; its body is over the limit",
            Self::Mismatch => {
                "the key was first sent with another body; choose a new key for a new request"
            }
            Self::InProgress(_) => {
                "a request with this key is being handled; send it again later, with the same key"
            }
            Self::Unknown => {
                "an earlier attempt ended without an answer, and may have had its effect; ask \
                 what came of it before anything is repeated"
            }
            Self::Exhausted => {
                "every attempt at this request ended without an answer; no further one is made"
            }
            Self::OutcomeGone => {
                "the request was handled, and its answer is not kept any more; look up what it \
                 made"
            }
            Self::Stale => {
                "the request was first sent before anything that is remembered; it may have been \
                 handled then"
            }
            Self::StoreFull => "the request was not handled; there is no room for new keys",
            Self::StoreUnavailable => {
                "the request was not handled, since whether it was before cannot be found out"
            }
            Self::Unreadable => {
                "the request was handled by another version of this service; ask that one"
            }
        };
        detail.to_owned()
    }

    /// In how long sending it again may help, in whole seconds.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::InProgress(after) => Some(after.as_millis().div_ceil(1000).max(1) as u64),
            Self::StoreFull | Self::StoreUnavailable => Some(1),
            _ => None,
        }
    }

    /// True for a conflict that SDKs send again although it stays.
    fn stays(&self) -> bool {
        matches!(self, Self::Unknown | Self::Exhausted | Self::Unreadable)
    }

    /// Headers that tell the client whether to send the request again.
    fn advise(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.stays() {
            forbid_retry(headers);
        }
    }

    /// The answer, with a body of `application/problem+json`.
    pub(crate) fn response(&self, types: &str) -> Response<Bytes> {
        let body = format!(
            "{{\"type\":\"{}{}\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\"}}",
            types,
            self.name(),
            self.title(),
            self.status().as_u16(),
            self.detail(),
        );
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        self.advise(response.headers_mut());
        response
    }

    /// The answer in gRPC, whose clients read a status of its own in place of that of HTTP.
    pub(crate) fn grpc_response(&self, types: &str) -> Response<Bytes> {
        let code: u16 = match self {
            Self::KeyMissing | Self::KeyMalformed(_) | Self::BodyCut => 3,
            Self::Mismatch | Self::Unknown | Self::Exhausted => 9,
            Self::OutcomeGone | Self::Stale | Self::Unreadable => 9,
            Self::InProgress(_) => 10,
            Self::BodyTooLong | Self::StoreFull => 8,
            Self::StoreUnavailable => 14,
            Self::PrincipalMissing => 16,
        };
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        let message = format!("{types}{}: {}", self.name(), self.detail());
        if let Ok(message) = HeaderValue::from_str(&message.replace('%', "%25")) {
            headers.insert("grpc-message", message);
        }
        if let Self::InProgress(after) = self {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert("grpc-retry-pushback-ms", HeaderValue::from(millis));
        }
        self.advise(headers);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.detail())
    }
}

/// Tells SDKs not to send the request again, whatever its status makes them do.
pub(crate) fn forbid_retry(headers: &mut HeaderMap) {
    for name in SHOULD_RETRY {
        headers.insert(name, HeaderValue::from_static("false"));
    }
}

#[cfg(test)]
mod tests {
    use super::{PROBLEM_TYPES, Problem};
    use crate::key::KeyError;
    use std::time::Duration;

    const ALL: [(Problem, u16, &str); 14] = [
        (Problem::KeyMissing, 400, "key-missing"),
        (Problem::KeyMalformed(KeyError::List), 400, "key-malformed"),
        (Problem::BodyCut, 400, "body-cut"),
        (Problem::PrincipalMissing, 401, "principal-missing"),
        (Problem::BodyTooLong, 413, "body-too-long"),
        (Problem::Mismatch, 422, "key-reused"),
        (Problem::InProgress(Duration::from_millis(1)), 409, "in-progress"),
        (Problem::Unknown, 409, "outcome-unknown"),
        (Problem::Exhausted, 409, "attempts-exhausted"),
        (Problem::OutcomeGone, 410, "outcome-gone"),
        (Problem::Stale, 412, "too-old"),
        (Problem::StoreFull, 503, "store-full"),
        (Problem::StoreUnavailable, 503, "store-unavailable"),
        (Problem::Unreadable, 503, "outcome-unreadable"),
    ];

    #[test]
    fn every_problem_has_its_status_and_a_type_of_its_own() {
        for (problem, status, name) in ALL {
            let response = problem.response(PROBLEM_TYPES);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let body = String::from_utf8(response.body().to_vec()).unwrap();
            let start = format!("{{\"type\":\"urn:oncelog:problem:{name}\",\"title\":\"");
            assert!(body.starts_with(&start), "{body}");
            assert!(body.contains(&format!("\",\"status\":{status},\"detail\":\"")), "{body}");
            assert!(body.ends_with("\"}") && !body.contains('\\'), "{body}");
        }
    }

    #[test]
    fn only_what_passes_is_to_be_sent_again() {
        for (problem, status, name) in ALL {
            let response = problem.response(PROBLEM_TYPES);
            let again = ["in-progress", "store-full", "store-unavailable"].contains(&name);
            assert_eq!(response.headers().contains_key("retry-after"), again, "{name}");
            let conflict = !again && (status == 409 || status >= 500);
            for header in ["x-should-retry", "stripe-should-retry"] {
                let value = response.headers().get(header).map(|value| value.as_bytes());
                assert_eq!(value, conflict.then_some(&b"false"[..]), "{name}");
            }
        }
        let after = Problem::InProgress(Duration::from_millis(1500)).response("");
        assert_eq!(after.headers()["retry-after"], "2");
    }

    #[test]
    fn clients_of_grpc_get_a_status_that_they_read() {
        for (problem, _, name) in ALL {
            let response = problem.grpc_response(PROBLEM_TYPES);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert_ne!(response.headers()["grpc-status"], "0", "{name}");
            let message = response.headers()["grpc-message"].to_str().unwrap();
            assert!(message.contains(name), "{message}");
        }
    }
}
