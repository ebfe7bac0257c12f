//! Leases while a handler works: renewed, lost, and finished when the client has gone.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use oncelog::{Policy, Store};
use oncelog_tower::{Event, IdempotencyLayer, Principal, RequestBody, RoutePolicy, Unfinished};
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceExt};

use crate::answers::store_key;
use crate::backend::{Bumpy, unreachable};
use crate::bodies::Pieces;
use crate::setup::{Calls, In, Place, pause, poll_once, post, run, send};

/// A shop that works until it is told to be done.
fn told(
    done: &Arc<Notify>,
    calls: &Calls,
) -> impl Service<
    Request<In>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let (done, calls) = (done.clone(), calls.clone());
    tower::service_fn(move |_: Request<In>| {
        let (done, calls) = (done.clone(), calls.clone());
        async move {
            done.notified().await;
            let body = format!("charge {}", calls.add());
            Ok(Response::new(Full::new(Bytes::from(body))))
        }
    })
}

#[test]
fn a_lease_is_renewed_while_its_handler_works_by_a_timer() {
    run(async {
        let (place, done, calls) = (Place::new(), Arc::new(Notify::new()), Calls::default());
        let backend = Bumpy::new(&place.keys, 0);
        let lengths = Arc::new(Mutex::new(Vec::new()));
        let asked = lengths.clone();
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public());
        let layer = layer.timer(move |length| {
            asked.lock().unwrap().push(length);
            pause()
        });
        let service = layer.layer(told(&done, &calls));
        let mut first = Box::pin(send(&service, post("k", "")));
        for _ in 0..20 {
            assert!(poll_once(first.as_mut()).await.is_pending());
            place.clock.advance(Duration::from_secs(10));
        }
        // Long after the first lease nobody else gets the key.
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        assert_eq!(backend.renewals.load(Ordering::SeqCst), 19);
        assert!(lengths.lock().unwrap().iter().all(|length| length.as_secs() == 10));
        done.notify_one();
        assert_eq!(first.await.status, 200);
        assert!(send(&service, post("k", "")).await.is_replay());
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_lease_is_renewed_while_its_handler_works_by_the_store_where_there_is_no_timer() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let keys = store.namespace("http", Policy::default()).unwrap();
    run(async move {
        let backend = Bumpy::new(&keys, 1);
        let (done, calls) = (Arc::new(Notify::new()), Calls::default());
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public());
        let layer = layer.policy(RoutePolicy::new().lease(Duration::from_secs(3)));
        let service = layer.layer(told(&done, &calls));
        let first = tokio::spawn(service.clone().oneshot(post("k", "")));
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        assert!(backend.renewals.load(Ordering::SeqCst) >= 2);
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        done.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_renewal_that_fails_is_tried_again_by_a_timer() {
    run(async move {
        let (place, done, calls) = (Place::new(), Arc::new(Notify::new()), Calls::default());
        let backend = Bumpy::new(&place.keys, 0);
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public());
        let service = layer.timer(|_| pause()).layer(told(&done, &calls));
        backend.fail("renew", 2, unreachable);
        let mut first = Box::pin(send(&service, post("k", "")));
        for renewals in [0, 0, 0, 1, 2] {
            assert!(poll_once(first.as_mut()).await.is_pending());
            assert_eq!(backend.renewals.load(Ordering::SeqCst), renewals);
        }
    });
}

#[test]
fn a_request_whose_lease_was_lost_gets_its_answer_and_changes_nothing() {
    run(async {
        let (place, calls, done) = (Place::new(), Calls::default(), Arc::new(Notify::new()));
        let lost = Calls::default();
        let count = lost.clone();
        let policy = RoutePolicy::new().on_event(move |event| {
            if matches!(event, Event::LeaseLost { .. }) {
                count.add();
            }
        });
        let service = place.layer().policy(policy).layer(told(&done, &calls));
        let first = tokio::spawn(service.clone().oneshot(post("k", "")));
        while place.keys.peek(store_key("k")).unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        place.clock.advance(Duration::from_secs(30));
        let second = tokio::spawn({
            let service = service.clone();
            async move { send(&service, post("k", "")).await }
        });
        let attempts = || place.keys.peek(store_key("k")).unwrap().unwrap().attempts;
        while attempts() < 2 {
            tokio::task::yield_now().await;
        }
        done.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert_eq!(lost.get(), 1);
        done.notify_one();
        assert_eq!(second.await.unwrap().body, "charge 2");
        let replay = send(&service, post("k", "")).await;
        assert_eq!((replay.is_replay(), replay.body.as_str()), (true, "charge 2"));
    });
}

/// Takes what it is to execute, for the test to poll.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Unfinished>>>);

impl Later {
    fn take(&self) -> Vec<Unfinished> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn a_request_whose_client_has_gone_is_finished_by_the_executor() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let later = Later::default();
        let queue = later.clone();
        let backend = Bumpy::new(&place.keys, 1);
        let layer = IdempotencyLayer::new(backend, Principal::public());
        let layer = layer.finish_with(move |work| queue.0.lock().unwrap().push(work));
        let count = calls.clone();
        let service = layer.layer(tower::service_fn(move |_: Request<In>| {
            let count = count.clone();
            async move {
                pause().await;
                let body = format!("charge {}", count.add());
                pause().await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
            }
        }));
        let mut handed_over = 0;
        for polls in 0.. {
            let key = format!("k{polls}");
            let mut request = Box::pin(service.clone().oneshot(post(&key, "")));
            let mut ready = false;
            for _ in 0..polls {
                ready = ready || poll_once(request.as_mut()).await.is_ready();
            }
            drop(request);
            if ready {
                break;
            }
            let known = place.keys.peek(store_key(&key)).unwrap().is_some();
            let begun = later.take();
            assert!(!known || begun.len() == 1, "after {polls} polls a begun key is left alone");
            let before = calls.get();
            handed_over += begun.len();
            for work in begun {
                work.await;
                let replay = send(&service, post(&key, "")).await;
                assert!(replay.is_replay(), "after {polls} polls");
                assert!(calls.get() - before <= 1);
            }
        }
        assert!(handed_over >= 5, "{handed_over}");
        assert!(later.take().is_empty(), "what is done is not handed over");
    });
}

#[test]
fn one_that_has_panicked_is_not_finished() {
    run(async {
        let place = Place::new();
        let later = Later::default();
        let queue = later.clone();
        let layer = place.layer().finish_with(move |work| queue.0.lock().unwrap().push(work));
        let service = layer.layer(tower::service_fn(|_: Request<In>| async {
            pause().await;
            let answer = None::<Response<Full<Bytes>>>.ok_or("the handler panics");
            Ok::<_, Infallible>(answer.unwrap())
        }));
        let task = tokio::spawn(service.clone().oneshot(post("k", "")));
        assert!(task.await.unwrap_err().is_panic());
        assert!(later.take().is_empty());
        let held = send(&service, post("k", "")).await;
        assert_eq!(held.problem(), Some("in-progress"));
    });
}

#[test]
fn one_whose_body_is_not_read_yet_is_not_finished() {
    run(async {
        let (place, later) = (Place::new(), Later::default());
        let queue = later.clone();
        let layer = place.layer().finish_with(move |work| queue.0.lock().unwrap().push(work));
        let service = layer.layer(tower::service_fn(|_: Request<RequestBody<Pieces>>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        let request = post("k", "").map(|_| Pieces::new(&[Ok("a"), Ok("b")]));
        let mut request = Box::pin(service.clone().oneshot(request));
        assert!(poll_once(request.as_mut()).await.is_pending());
        drop(request);
        assert!(later.take().is_empty());
    });
}

#[test]
fn a_lease_is_renewed_while_the_answer_comes_slowly() {
    run(async move {
        let place = Place::new();
        let backend = Bumpy::new(&place.keys, 0);
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public());
        let service = layer.timer(|_| pause()).layer(tower::service_fn(|_: Request<In>| async {
            Ok::<_, Infallible>(Response::new(Pieces::new(&[Ok("x"); 10])))
        }));
        let mut request = Box::pin(send(&service, post("k", "")));
        for _ in 0..10 {
            assert!(poll_once(request.as_mut()).await.is_pending());
            place.clock.advance(Duration::from_secs(10));
        }
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        assert_eq!(request.await.body, "xxxxxxxxxx");
        assert!(backend.renewals.load(Ordering::SeqCst) >= 5);
    });
}
