//! What other layers for the header get wrong, each as a test; docs/http.md has the table.

use http::Request;
use http_body_util::Full;
use oncelog_tower::RoutePolicy;
use tower::Layer;

use crate::backend::{Bumpy, unreachable};
use crate::setup::{Calls, Place, guarded, post, run, send, shop};

#[test]
fn a_key_says_nothing_about_another_route() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        send(&service, post("k", "")).await;
        let mut other = post("k", "");
        *other.uri_mut() = "/refunds".parse().unwrap();
        assert!(!send(&service, other).await.is_replay());
    });
}

#[test]
fn no_session_and_no_cookie_is_needed() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        let bare = || {
            let request = Request::post("/").header("Idempotency-Key", "k");
            request.body(Full::<bytes::Bytes>::default()).unwrap()
        };
        let first = send(&service, bare()).await;
        assert!(!first.headers.contains_key("set-cookie"));
        assert!(send(&service, bare()).await.is_replay());
    });
}

#[test]
fn a_lost_race_is_a_conflict_and_never_a_server_error() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move { send(&service, post("k", "")).await.status })
            })
            .collect();
        for task in tasks {
            assert!(matches!(task.await.unwrap(), 201 | 409));
        }
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn an_error_of_the_store_executes_nothing() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let backend = Bumpy::new(&place.keys, 0);
        backend.fail("begin", 1, unreachable);
        let principal = oncelog_tower::Principal::public();
        let layer = oncelog_tower::IdempotencyLayer::new(backend, principal);
        let service = layer.policy(RoutePolicy::new()).layer(shop(&calls));
        assert_eq!((send(&service, post("k", "")).await.status, calls.get()), (503, 0));
    });
}
