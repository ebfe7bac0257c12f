//! Requests at once: one execution for each key, waiting, and backpressure.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use oncelog::{Durability, Policy, Store};
use oncelog_tower::{IdempotencyLayer, InProgressPolicy, Principal, RoutePolicy};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};

use crate::answers::store_key;
use crate::setup::{Calls, In, Place, answering, post, run, send, shop};

const WAIT: InProgressPolicy = InProgressPolicy::Wait(Duration::from_secs(20));

/// A shop that takes some milliseconds.
fn slow(
    calls: &Calls,
) -> impl Service<Request<In>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let inner = shop(calls);
    tower::service_fn(move |request: Request<In>| {
        let inner = inner.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            inner.oneshot(request).await
        }
    })
}

#[test]
fn of_two_requests_at_once_one_is_handled() {
    run(async {
        for round in 0..50 {
            let (place, calls, refused) = (Place::new(), Calls::default(), Calls::default());
            // Done when the other one is refused, or handled as well.
            let (called, others) = (calls.clone(), refused.clone());
            let handler = tower::service_fn(move |_: Request<In>| {
                let (called, others) = (called.clone(), others.clone());
                async move {
                    called.add();
                    while called.get() + others.get() < 2 {
                        tokio::task::yield_now().await;
                    }
                    let response = Response::builder().status(201).body(Full::<Bytes>::default());
                    Ok::<_, Infallible>(response.unwrap())
                }
            });
            let service = place.layer().layer(handler);
            let barrier = Arc::new(Barrier::new(2));
            let mut tasks = JoinSet::new();
            for _ in 0..2 {
                let (service, barrier) = (service.clone(), barrier.clone());
                let refused = refused.clone();
                tasks.spawn(async move {
                    barrier.wait().await;
                    let answer = send(&service, post("k", "1")).await;
                    if answer.status == 409 {
                        refused.add();
                    }
                    answer
                });
            }
            let mut statuses: Vec<_> = tasks.join_all().await.iter().map(|a| a.status).collect();
            statuses.sort_unstable();
            assert_eq!((statuses, calls.get()), (vec![201, 409], 1), "round {round}");
        }
    });
}

#[test]
fn many_tasks_that_wait_get_one_answer_of_one_execution() {
    let directory = tempfile::tempdir().unwrap();
    for durability in [Durability::Process, Durability::Synced] {
        let path = directory.path().join(format!("{durability:?}"));
        let store = Store::builder().durability(durability).open(path).unwrap();
        let keys = store.namespace("http", Policy::default()).unwrap();
        run(async move {
            let calls = Calls::default();
            let layer = IdempotencyLayer::new(keys, Principal::public());
            let service = layer.policy(RoutePolicy::new().in_progress(WAIT)).layer(slow(&calls));
            let mut tasks = JoinSet::new();
            for task in 0..200 {
                let service = service.clone();
                tasks.spawn(
                    async move { send(&service, post(&format!("k{}", task % 4), "")).await },
                );
            }
            let mut answers = tasks.join_all().await;
            assert!(answers.iter().all(|answer| answer.status == 201));
            assert_eq!(answers.iter().filter(|answer| answer.is_replay()).count(), 196);
            answers.sort_by(|a, b| a.body.cmp(&b.body));
            answers.dedup_by(|a, b| a.body == b.body);
            assert_eq!((answers.len(), calls.get()), (4, 4));
        });
    }
}

#[test]
fn one_who_waits_takes_over_when_the_first_answer_is_not_kept() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let release = Arc::new(Notify::new());
        let (count, released) = (calls.clone(), release.clone());
        let service = place.layer().policy(RoutePolicy::new().in_progress(WAIT)).layer(
            tower::service_fn(move |_: Request<In>| {
                let (call, released) = (count.add(), released.clone());
                async move {
                    if call == 1 {
                        released.notified().await;
                    }
                    let status = if call == 1 { 503 } else { 200 };
                    let response = Response::builder().status(status);
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).unwrap())
                }
            }),
        );
        let first = tokio::spawn({
            let service = service.clone();
            async move { send(&service, post("k", "")).await }
        });
        while calls.get() == 0 {
            tokio::task::yield_now().await;
        }
        let mut second = Box::pin(send(&service, post("k", "")));
        let early = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
        assert!(early.is_err(), "it waits");
        release.notify_one();
        assert_eq!((first.await.unwrap().status, second.await.status), (503, 200));
    });
}

#[test]
fn one_who_waits_too_long_is_answered_409() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let keys = store.namespace("http", Policy::default()).unwrap();
    run(async move {
        let wait = InProgressPolicy::Wait(Duration::from_millis(60));
        let layer = IdempotencyLayer::new(keys, Principal::public());
        let layer = layer.policy(RoutePolicy::new().in_progress(wait));
        let service = layer.layer(tower::service_fn(|_: Request<In>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }));
        let first = tokio::spawn(service.clone().oneshot(post("k", "")));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let second = tokio::time::timeout(Duration::from_secs(10), send(&service, post("k", "")));
        assert_eq!(second.await.unwrap().problem(), Some("in-progress"));
        first.abort();
    });
}

#[test]
fn a_key_that_was_given_back_for_later_is_not_waited_for() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service =
            place.layer().policy(RoutePolicy::new().in_progress(WAIT)).layer(shop(&calls));
        let first = place.layer().layer(answering(500, &calls));
        send(&first, post("k", "")).await;
        let options = oncelog::BeginOptions::new();
        let begun = place.keys.begin_with(store_key("k"), options).unwrap();
        let oncelog::Begin::Started(mut lease) = begun else { panic!("{begun:?}") };
        lease.release(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        place.clock.advance(Duration::from_secs(60));
        assert_eq!(send(&service, post("k", "")).await.status, 201);
    });
}

#[test]
fn a_service_that_is_not_ready_is_not_called_and_a_permit_is_given_back_by_a_replay() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        // Its `call` panics unless `poll_ready` of the same handle took a permit before.
        let limited = tower::limit::ConcurrencyLimit::new(slow(&calls), 1);
        let service = place.layer().layer(limited);
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let service = service.clone();
            tasks
                .spawn(async move { send(&service, post(&format!("k{}", number % 10), "")).await });
        }
        let answers = tasks.join_all().await;
        // One at a time, so that no request meets another with its key: it waits for the permit.
        assert!(answers.iter().all(|answer| answer.status == 201));
        assert_eq!((calls.get(), answers.iter().filter(|a| a.is_replay()).count()), (10, 10));
        let mut busy = service.clone();
        let first = busy.ready().await.unwrap().call(post("x", ""));
        let mut other = service.clone();
        let ready = std::future::poll_fn(|context| Poll::Ready(other.poll_ready(context))).await;
        assert!(ready.is_pending());
        drop(first);
        let ready = std::future::poll_fn(|context| Poll::Ready(other.poll_ready(context))).await;
        assert!(ready.is_ready());
    });
}

#[test]
fn keys_are_no_bottleneck_for_each_other() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = place.layer().layer(slow(&calls));
        let mut tasks = JoinSet::new();
        for number in 0..1000 {
            let service = service.clone();
            tasks.spawn(async move { send(&service, post(&format!("k{number}"), "")).await });
        }
        assert!(tasks.join_all().await.iter().all(|answer| answer.status == 201));
        assert_eq!(calls.get(), 1000);
    });
}
