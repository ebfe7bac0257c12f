//! What the tests share: stores, requests, services that count, and a backend that can fail.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use oncelog::{Maintenance, ManualClock, Namespace, Policy, Store, Timestamp};
use oncelog_tower::{Idempotency, IdempotencyLayer, Principal, RequestBody};
use tempfile::TempDir;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};

pub(crate) type In = RequestBody<Full<Bytes>>;

/// A store in a directory of its own, under a clock that is moved by hand.
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) keys: Namespace,
    pub(crate) clock: Arc<ManualClock>,
    _directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    pub(crate) fn with(policy: Policy) -> Self {
        // In memory where the system has such a place: some tests open thousands of stores.
        let memory = tempfile::tempdir_in("/dev/shm");
        let directory = memory.or_else(|_| tempfile::tempdir()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let builder = Store::builder().stripes(16).lanes(2).maintenance(Maintenance::Manual);
        let store = builder.clock(clock.clone()).open(directory.path()).unwrap();
        let keys = store.namespace("http", policy).unwrap();
        Self { store, keys, clock, _directory: directory }
    }

    pub(crate) fn layer(&self) -> IdempotencyLayer<Namespace> {
        IdempotencyLayer::new(self.keys.clone(), Principal::public())
    }
}

/// Runs a test in a runtime with two threads.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_time().build().unwrap().block_on(test)
}

pub(crate) fn post(key: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post("/payments").header("content-type", "application/json");
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request.header("idempotency-key", key).body(body).unwrap()
}

/// What a client got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// The end of the type of a problem.
    pub(crate) fn problem(&self) -> Option<&str> {
        (self.header("content-type")? == "application/problem+json").then_some(())?;
        let (_, rest) = self.body.split_once("\"type\":\"urn:oncelog:problem:")?;
        Some(rest.split_once('"')?.0)
    }
}

/// Sends a request as a client does, and reads the whole answer.
pub(crate) async fn send<S, Q, R>(service: &S, request: Request<Q>) -> Answer
where
    S: Service<Request<Q>, Response = Response<R>> + Clone,
    S::Error: Debug,
    R: Body,
    R::Error: Debug,
{
    let response = service.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body, trailers }
}

/// Counts how often a handler was called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<AtomicUsize>);

impl Calls {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A service of whatever type.
pub(crate) type Shop<E = Infallible> = BoxCloneSyncService<Request<In>, Response<Full<Bytes>>, E>;

/// A handler that answers 201 with the number of the call and what it was sent.
pub(crate) fn shop(calls: &Calls) -> Shop {
    let calls = calls.clone();
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<In>| {
        let calls = calls.clone();
        async move {
            let call = calls.add();
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            let body = format!("charge {call} of {}", String::from_utf8_lossy(&sent));
            let response = Response::builder().status(StatusCode::CREATED);
            let response = response.header("location", format!("/charges/{call}"));
            Ok(response.body(Full::new(Bytes::from(body))).unwrap())
        }
    }))
}

/// The shop behind the layer.
pub(crate) fn guarded(
    layer: &IdempotencyLayer<Namespace>,
    calls: &Calls,
) -> Idempotency<Shop, Namespace> {
    layer.layer(shop(calls))
}

/// A handler that is never done.
pub(crate) fn never() -> Shop {
    BoxCloneSyncService::new(tower::service_fn(|_| std::future::pending()))
}

/// A handler that answers with this status.
pub(crate) fn answering(status: u16, calls: &Calls) -> Shop {
    let calls = calls.clone();
    BoxCloneSyncService::new(tower::service_fn(move |_| {
        let body = format!("answer {}", calls.add());
        let response = Response::builder().status(status).header("content-type", "text/plain");
        std::future::ready(Ok(response.body(Full::new(Bytes::from(body))).unwrap()))
    }))
}

/// Polls once, without being woken again.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Pending once, and woken at once.
pub(crate) async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
