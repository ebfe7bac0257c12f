//! What holds for a route: which requests have keys, what is kept of their answers, and for how
//! long.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, StatusCode};
use oncelog::{AbandonPolicy, BeginOptions, LEASE_DEFAULT, Timestamp, Ttl};

use crate::event::Event;
use crate::fingerprint::FingerprintPolicy;
use crate::key::IdempotencyKey;

/// The longest answer that is kept unless the policy says otherwise: 256 KiB.
pub const RESPONSE_BYTES_MAX_DEFAULT: usize = 256 << 10;

/// Headers of answers that are kept unless the policy says otherwise. Trailers of gRPC are among
/// them, since they are its status.
pub const HEADERS_KEPT: [HeaderName; 13] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LOCATION,
    header::LOCATION,
    header::LINK,
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-encoding"),
];

/// Headers that are never kept: they let somebody in, or belong to one connection.
const HEADERS_REFUSED: [HeaderName; 13] = [
    header::SET_COOKIE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    header::PROXY_AUTHENTICATE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("keep-alive"),
];

/// What a policy cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// This header is never kept.
    HeaderRefused(HeaderName),
    /// The text is no JSON pointer to a member.
    Pointer,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderRefused(name) => {
                write!(f, "the header {name} is never kept with an answer; leave it out")
            }
            Self::Pointer => f.write_str(
                "the text is no JSON pointer; start it with a slash, and write a tilde as ~0",
            ),
        }
    }
}

impl std::error::Error for PolicyError {}

/// What becomes of a key when its handler has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The answer is stored, and replayed from now on.
    Store,
    /// The key is given back: the next request with it is handled.
    Release,
    /// Neither: the key stays in progress until its lease runs out, and what follows then is as
    /// the [`AbandonPolicy`] says. For answers that leave open whether there was an effect.
    Hold,
}

/// What a request gets whose key is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InProgressPolicy {
    /// 409 at once, with `Retry-After`.
    Conflict,
    /// The answer, if it is there within this time; 409 otherwise.
    Wait(Duration),
}

/// What a request gets when the store cannot begin its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// 503: nothing is executed that could have been executed before.
    Closed,
    /// It is handled without protection, perhaps for the second time.
    Open,
}

/// An answer, for deciding what becomes of its key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The trailers, for answers in gRPC; none for others.
    pub trailers: Option<&'a HeaderMap>,
}

impl Answered<'_> {
    /// The status of gRPC, where the answer is in it: of its trailers, or of its headers if there
    /// is nothing else.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        let value = self.trailers.and_then(|trailers| trailers.get("grpc-status"));
        let value = value.or_else(|| self.headers.get("grpc-status"))?;
        value.to_str().ok()?.parse().ok()
    }
}

type Decide = dyn Fn(&Answered<'_>) -> Ending + Send + Sync;
type Watch = dyn Fn(&Event<'_>) + Send + Sync;
type Date = dyn Fn(&Parts, &IdempotencyKey) -> Option<Timestamp> + Send + Sync;

/// What holds for the requests of a route.
///
/// ```
/// use oncelog_tower::{InProgressPolicy, RoutePolicy};
/// use std::time::Duration;
///
/// let payments = RoutePolicy::new()
///     .required(true)
///     .lease(Duration::from_secs(60))
///     .in_progress(InProgressPolicy::Wait(Duration::from_secs(5)));
/// # let _ = payments;
/// ```
#[derive(Clone)]
#[must_use = "a policy does nothing until a layer has it"]
pub struct RoutePolicy {
    pub(crate) methods: Vec<Method>,
    pub(crate) required: bool,
    pub(crate) operation: Vec<u8>,
    pub(crate) key_header: HeaderName,
    pub(crate) replayed_header: HeaderName,
    pub(crate) fingerprint: FingerprintPolicy,
    pub(crate) lease: Duration,
    pub(crate) retention: Option<Ttl>,
    pub(crate) on_abandon: Option<AbandonPolicy>,
    pub(crate) attempts_max: Option<u32>,
    pub(crate) in_progress: InProgressPolicy,
    pub(crate) retry_after: Duration,
    pub(crate) server_errors: Ending,
    pub(crate) inner_errors: Ending,
    pub(crate) response_bytes_max: usize,
    pub(crate) headers_kept: Vec<HeaderName>,
    pub(crate) on_store_failure: FailurePolicy,
    decide: Option<Arc<Decide>>,
    sent_at: Option<Arc<Date>>,
    watch: Option<Arc<Watch>>,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl RoutePolicy {
    /// POST and PATCH, keys optional, everything else as the methods below say.
    pub fn new() -> Self {
        Self {
            methods: vec![Method::POST, Method::PATCH],
            required: false,
            operation: Vec::new(),
            key_header: HeaderName::from_static("idempotency-key"),
            replayed_header: HeaderName::from_static("idempotency-replayed"),
            fingerprint: FingerprintPolicy::default(),
            lease: LEASE_DEFAULT,
            retention: None,
            on_abandon: None,
            attempts_max: None,
            in_progress: InProgressPolicy::Conflict,
            retry_after: Duration::from_secs(1),
            server_errors: Ending::Release,
            inner_errors: Ending::Hold,
            response_bytes_max: RESPONSE_BYTES_MAX_DEFAULT,
            headers_kept: HEADERS_KEPT.to_vec(),
            on_store_failure: FailurePolicy::Closed,
            decide: None,
            sent_at: None,
            watch: None,
        }
    }

    /// No request has a key: all go to the handler as they are.
    pub fn off() -> Self {
        Self::new().methods([])
    }

    /// The methods whose requests have keys (POST and PATCH). Others go to the handler as they
    /// are, with or without the header.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// True refuses requests without a key (400); false lets them through without protection.
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// A name that becomes part of the scope, for routes whose paths do not tell them apart: a
    /// router that is nested in another may see its paths without the prefix.
    pub fn operation(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.operation = name.into();
        self
    }

    /// The header that holds the key (`Idempotency-Key`).
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.key_header = name;
        self
    }

    /// The header that marks a replay with `true` (`Idempotency-Replayed`).
    pub fn replayed_header(mut self, name: HeaderName) -> Self {
        self.replayed_header = name;
        self
    }

    /// What of a request counts when its key is used again (the body up to 1 MiB, and
    /// `Content-Type`).
    pub fn fingerprint(mut self, policy: FingerprintPolicy) -> Self {
        self.fingerprint = policy;
        self
    }

    /// How long the lease lasts from its beginning and from each renewal (30 s): for so long a key
    /// stays in progress when the process ends in the middle. It is renewed while the handler
    /// works, after a third of it; see
    /// [`IdempotencyLayer::timer`](crate::IdempotencyLayer::timer).
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = length;
        self
    }

    /// How long a key is remembered; as the policy of the backend's keys if this is not called.
    pub fn retention(mut self, retention: impl Into<Ttl>) -> Self {
        self.retention = Some(retention.into());
        self
    }

    /// What follows when a lease runs out; as the policy of the backend's keys if this is not
    /// called. With [`AbandonPolicy::Hold`] requests are answered 409 until the key is
    /// [resolved](oncelog::backend::Backend::resolve); with [`AbandonPolicy::Reclaim`] the next
    /// one is handled, and can see in its [`Execution`](crate::Execution) that it is not the first.
    pub fn on_abandon(mut self, policy: AbandonPolicy) -> Self {
        self.on_abandon = Some(policy);
        self
    }

    /// How many attempts a key has at most.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// What a request gets whose key is being worked on (409 at once).
    pub fn in_progress(mut self, policy: InProgressPolicy) -> Self {
        self.in_progress = policy;
        self
    }

    /// What `Retry-After` says to a request whose key is being worked on (1 s). Whole seconds,
    /// rounded up. When the lease ends says little about when the work does.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// What becomes of the key when the handler answers with 5xx (it is released). `Store` replays
    /// the error, with headers that tell SDKs not to repeat the request; `Hold` is for handlers
    /// whose errors leave open whether there was an effect.
    pub fn server_errors(mut self, ending: Ending) -> Self {
        self.server_errors = ending;
        self
    }

    /// What becomes of the key when the service fails with an error in place of an answer (it is
    /// held). [`Ending::Store`] is taken as `Hold`, since there is no answer.
    pub fn inner_errors(mut self, ending: Ending) -> Self {
        self.inner_errors = ending;
        self
    }

    /// Decides what becomes of a key by its answer, in place of the rule.
    ///
    /// The rule: 2xx, 3xx and 4xx are stored but for 401, 403, 408, 409, 425 and 429, which are
    /// released, and 5xx go by [`server_errors`](RoutePolicy::server_errors). Answers in gRPC go by
    /// their status: `OK` and those that do not change when the call is repeated are stored
    /// (`INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `FAILED_PRECONDITION`, `OUT_OF_RANGE`,
    /// `UNIMPLEMENTED`), `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS`
    /// go by `server_errors`, others are released.
    pub fn decide(
        mut self,
        decide: impl Fn(&Answered<'_>) -> Ending + Send + Sync + 'static,
    ) -> Self {
        self.decide = Some(Arc::new(decide));
        self
    }

    /// The longest body of an answer that is kept (256 KiB), trailers not counted. A longer one is
    /// passed on as it comes, and only that the request was handled is kept: later requests with
    /// the key are answered 410. So are streams of events (`text/event-stream`), however short.
    pub fn response_bytes_max(mut self, bytes: usize) -> Self {
        self.response_bytes_max = bytes;
        self
    }

    /// The headers of answers that are kept ([`HEADERS_KEPT`]). Trailers are kept by the same list.
    ///
    /// # Errors
    /// [`PolicyError::HeaderRefused`] for those that let somebody in, such as `Set-Cookie`, or
    /// belong to one connection.
    pub fn headers_kept(
        mut self,
        names: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, PolicyError> {
        self.headers_kept = names.into_iter().collect();
        match self.headers_kept.iter().find(|name| HEADERS_REFUSED.contains(name)) {
            Some(name) => Err(PolicyError::HeaderRefused(name.clone())),
            None => Ok(self),
        }
    }

    /// What a request gets when the store cannot begin its key (503).
    pub fn on_store_failure(mut self, policy: FailurePolicy) -> Self {
        self.on_store_failure = policy;
        self
    }

    /// When a request was first sent, as far as it says so: one that is not known and older than
    /// what is remembered is refused (412), and not handled for what may be the second time.
    ///
    /// Clients whose clocks are wrong by more than the retention are then refused for good.
    pub fn sent_at(
        mut self,
        date: impl Fn(&Parts, &IdempotencyKey) -> Option<Timestamp> + Send + Sync + 'static,
    ) -> Self {
        self.sent_at = Some(Arc::new(date));
        self
    }

    /// As [`sent_at`](RoutePolicy::sent_at), by the time in keys that are UUIDs of version 7 or
    /// ULIDs.
    pub fn sent_at_of_key(self) -> Self {
        self.sent_at(|_, key| {
            let key = key.as_str();
            Timestamp::of_uuid_v7(key).or_else(|| Timestamp::of_ulid(key))
        })
    }

    /// Tells what happens to requests with keys. Called while they are handled: it should be quick.
    pub fn on_event(mut self, watch: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }
}

impl RoutePolicy {
    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(watch) = &self.watch {
            watch(event);
        }
    }

    /// What a `begin` of this request asks for, but for its fingerprint.
    pub(crate) fn options(&self, parts: &Parts, key: &IdempotencyKey) -> BeginOptions {
        let mut options = BeginOptions::new().lease(self.lease);
        if let Some(retention) = self.retention {
            options = options.retention(retention);
        }
        if let Some(policy) = self.on_abandon {
            options = options.on_abandon(policy);
        }
        if let Some(attempts) = self.attempts_max {
            options = options.attempts_max(attempts);
        }
        if let Some(sent) = self.sent_at.as_ref().and_then(|date| date(parts, key)) {
            options = options.sent_at(sent);
        }
        options
    }

    /// What becomes of the key.
    pub(crate) fn ending(&self, answer: &Answered<'_>) -> Ending {
        if let Some(decide) = &self.decide {
            return decide(answer);
        }
        if is_grpc(answer.headers) {
            return match answer.grpc_status() {
                Some(0 | 3 | 5 | 6 | 9 | 11 | 12) => Ending::Store,
                None | Some(2 | 4 | 13 | 14 | 15) => self.server_errors,
                Some(_) => Ending::Release,
            };
        }
        match answer.status.as_u16() {
            401 | 403 | 408 | 409 | 425 | 429 => Ending::Release,
            200..=499 => Ending::Store,
            _ => self.server_errors,
        }
    }

    /// Those of the headers that are kept, repeated ones in their order.
    pub(crate) fn kept(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in &self.headers_kept {
            for value in headers.get_all(name) {
                kept.append(name.clone(), value.clone());
            }
        }
        kept
    }
}

/// True for messages of gRPC, whose status is in the trailers.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    content_type_starts(headers, b"application/grpc")
}

/// True for answers that have no end as long as somebody listens.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    content_type_starts(headers, b"text/event-stream")
}

fn content_type_starts(headers: &HeaderMap, start: &[u8]) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let start_of = |value: &[u8]| value.get(..start.len()).map(<[u8]>::to_ascii_lowercase);
    value.and_then(start_of).is_some_and(|found| found == start)
}

/// Functions cannot be shown; all that is set is.
impl fmt::Debug for RoutePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutePolicy")
            .field("methods", &self.methods)
            .field("required", &self.required)
            .field("key_header", &self.key_header)
            .field("fingerprint", &self.fingerprint)
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("on_abandon", &self.on_abandon)
            .field("attempts_max", &self.attempts_max)
            .field("in_progress", &self.in_progress)
            .field("server_errors", &self.server_errors)
            .field("inner_errors", &self.inner_errors)
            .field("response_bytes_max", &self.response_bytes_max)
            .field("headers_kept", &self.headers_kept)
            .field("on_store_failure", &self.on_store_failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Answered, Ending, PolicyError, RoutePolicy};
    use http::StatusCode;
    use http::header::{self, HeaderMap, HeaderValue};

    fn ending(policy: &RoutePolicy, status: u16, headers: &HeaderMap) -> Ending {
        let status = StatusCode::from_u16(status).unwrap();
        policy.ending(&Answered { status, headers, trailers: None })
    }

    #[test]
    fn answers_that_stay_the_same_are_stored_and_those_that_may_change_are_released() {
        let (policy, none) = (RoutePolicy::new(), HeaderMap::new());
        for status in [200, 201, 204, 303, 400, 404, 410, 422] {
            assert_eq!(ending(&policy, status, &none), Ending::Store, "{status}");
        }
        for status in [401, 403, 408, 409, 425, 429, 500, 502, 503] {
            assert_eq!(ending(&policy, status, &none), Ending::Release, "{status}");
        }
        let policy = policy.server_errors(Ending::Store);
        assert_eq!(ending(&policy, 500, &none), Ending::Store);
        assert_eq!(ending(&policy, 429, &none), Ending::Release);
        let policy = policy.decide(|answer| match answer.status.is_success() {
            true => Ending::Store,
            false => Ending::Hold,
        });
        assert_eq!(ending(&policy, 404, &none), Ending::Hold);
    }

    #[test]
    fn answers_in_grpc_go_by_their_own_status() {
        let policy = RoutePolicy::new().server_errors(Ending::Hold);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("Application/grpc+proto"));
        assert_eq!(ending(&policy, 200, &headers), Ending::Hold, "no status at all");
        for (code, expected) in [
            ("0", Ending::Store),
            ("3", Ending::Store),
            ("10", Ending::Release),
            ("14", Ending::Hold),
            ("16", Ending::Release),
        ] {
            headers.insert("grpc-status", HeaderValue::from_static(code));
            assert_eq!(ending(&policy, 200, &headers), expected, "{code}");
        }
    }

    #[test]
    fn cookies_and_credentials_cannot_be_kept() {
        for name in [header::SET_COOKIE, header::AUTHORIZATION, header::WWW_AUTHENTICATE] {
            let refused =
                RoutePolicy::new().headers_kept([header::ETAG, name.clone()]).unwrap_err();
            assert_eq!(refused, PolicyError::HeaderRefused(name));
        }
        assert!(RoutePolicy::new().headers_kept([header::ETAG]).is_ok());
    }
}
