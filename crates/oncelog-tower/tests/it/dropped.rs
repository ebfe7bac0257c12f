//! Futures that are dropped at every point where they wait.
//!
//! A request is polled n times and dropped, for every n up to its end. Afterwards its key is as the
//! documents say: not known, in progress until its lease runs out, or ended; and never begun anew
//! while it may still have its effect.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use oncelog::{AbandonPolicy, Status};
use oncelog_tower::{IdempotencyLayer, Principal, RequestBody, RoutePolicy};
use tower::{Layer, Service, ServiceExt};

use crate::answers::store_key;
use crate::backend::Bumpy;
use crate::bodies::Pieces;
use crate::setup::{Calls, Place, pause, poll_once, post, run, send};

type Asked = Request<RequestBody<Pieces>>;

/// A handler that waits before and after its effect.
fn handler(
    status: u16,
    effects: &Calls,
) -> impl Service<Asked, Response = Response<Pieces>, Error = Infallible> + Clone {
    let effects = effects.clone();
    tower::service_fn(move |_| {
        let effects = effects.clone();
        async move {
            pause().await;
            effects.add();
            pause().await;
            let body = Pieces::new(&[Ok("charged "), Ok("1")]);
            Ok(Response::builder().status(status).body(body).unwrap())
        }
    })
}

fn request() -> Request<Pieces> {
    post("k", "").map(|_| Pieces::new(&[Ok("a"), Ok("b")]))
}

/// Polls so often; true if it was ready then.
async fn polled<F: Future>(mut future: Pin<&mut F>, times: usize) -> bool {
    for _ in 0..times {
        if poll_once(future.as_mut()).await.is_ready() {
            return true;
        }
    }
    false
}

#[test]
fn a_dropped_request_leaves_its_key_unknown_in_progress_or_ended() {
    run(async {
        for (status, end) in
            [(200, Status::Completed), (404, Status::Failed), (500, Status::Released)]
        {
            let mut seen = Vec::new();
            for polls in 0.. {
                let (place, effects) = (Place::new(), Calls::default());
                let backend = Bumpy::new(&place.keys, 2);
                let layer = IdempotencyLayer::new(backend, Principal::public());
                let service = layer.layer(handler(status, &effects));
                let mut first = Box::pin(service.clone().oneshot(request()));
                let ready = polled(first.as_mut(), polls).await;
                drop(first);
                let meta = place.keys.peek(store_key("k")).unwrap();
                let state = (meta.map(|meta| meta.status), effects.get());
                if seen.last() != Some(&state) {
                    seen.push(state);
                }
                let dropped_effects = effects.get();
                let second = send(&service, request()).await;
                match meta.map(|meta| meta.status) {
                    // Not begun: as if it had never come.
                    None => assert_eq!((second.status, effects.get()), (status, 1)),
                    Some(Status::InProgress) => {
                        assert_eq!(second.problem(), Some("in-progress"), "after {polls} polls");
                        assert_eq!(effects.get(), dropped_effects);
                        place.clock.advance(Duration::from_secs(30));
                        assert_eq!(send(&service, request()).await.status, status);
                    }
                    Some(Status::Released) => assert_eq!(effects.get(), 2),
                    Some(found) => {
                        assert_eq!((found, second.status), (end, status));
                        assert!(second.is_replay());
                        assert_eq!((second.body.as_str(), effects.get()), ("charged 1", 1));
                    }
                }
                if ready {
                    assert_eq!(meta.map(|meta| meta.status), Some(end));
                    break;
                }
            }
            // Every state was met, in this order and no other.
            let in_progress = Some(Status::InProgress);
            let expected = [(None, 0), (in_progress, 0), (in_progress, 1), (Some(end), 1)];
            assert_eq!(seen, expected, "{status}");
        }
    });
}

#[test]
fn a_dropped_request_with_an_unknown_outcome_is_not_repeated() {
    run(async {
        let mut unknown = 0;
        for polls in 0.. {
            let (place, effects) = (Place::new(), Calls::default());
            let backend = Bumpy::new(&place.keys, 1);
            let policy = RoutePolicy::new().on_abandon(AbandonPolicy::Hold);
            let layer = IdempotencyLayer::new(backend, Principal::public()).policy(policy);
            let service = layer.layer(handler(200, &effects));
            let mut first = Box::pin(service.clone().oneshot(request()));
            let ready = polled(first.as_mut(), polls).await;
            drop(first);
            place.clock.advance(Duration::from_secs(30));
            let second = send(&service, request()).await;
            if second.problem() == Some("outcome-unknown") {
                unknown += 1;
            } else {
                assert_eq!(second.status, 200);
            }
            // Whatever was dropped where: no effect happens twice.
            assert!(effects.get() <= 1, "after {polls} polls");
            if ready {
                break;
            }
        }
        assert!(unknown > 5, "{unknown}");
    });
}

#[test]
fn one_that_waits_for_another_can_be_dropped_without_a_trace() {
    run(async {
        for polls in 0..12 {
            let (place, effects) = (Place::new(), Calls::default());
            let backend = Bumpy::new(&place.keys, 1);
            let wait = oncelog_tower::InProgressPolicy::Wait(Duration::from_secs(60));
            let policy = RoutePolicy::new().in_progress(wait);
            let layer = IdempotencyLayer::new(backend, Principal::public()).policy(policy);
            let service = layer.layer(handler(200, &effects));
            let mut first = Box::pin(send(&service, request()));
            assert!(!polled(first.as_mut(), 8).await);
            let mut waiting = Box::pin(service.clone().oneshot(request()));
            assert!(!polled(waiting.as_mut(), polls).await);
            drop(waiting);
            assert_eq!(first.await.body, "charged 1");
            assert!(send(&service, request()).await.is_replay());
            assert_eq!(effects.get(), 1);
        }
    });
}

#[test]
fn a_passing_request_can_be_dropped_at_any_point() {
    run(async {
        for polls in 0..3 {
            let (place, effects) = (Place::new(), Calls::default());
            let layer = place.layer().policy(RoutePolicy::off());
            let service = layer.layer(handler(200, &effects));
            let mut first = Box::pin(service.clone().oneshot(request()));
            polled(first.as_mut(), polls).await;
            drop(first);
            assert!(place.keys.peek(store_key("k")).unwrap().is_none());
        }
    });
}
