//! A store that cannot be asked, is full, or holds what nobody can read; handlers that fail.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use oncelog::backend::AnyBackend;
use oncelog::{Error, Policy, Status};
use oncelog_tower::{
    Ending, Event, FailurePolicy, IdempotencyLayer, Principal, RoutePolicy, StoredResponse,
};
use tower::{Layer, ServiceExt};

use crate::answers::store_key;
use crate::backend::{Bumpy, unreachable};
use crate::setup::{Calls, In, Place, post, run, send, shop};

/// What was told to the policy, by the names of the events.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn policy(&self) -> RoutePolicy {
        let told = self.0.clone();
        RoutePolicy::new().on_event(move |event| {
            let mut name = format!("{event:?}");
            if let Event::StoreFailed { call, .. } = event {
                name = format!("StoreFailed {call}");
            }
            let end = name.find([' ', '(']).filter(|_| !name.starts_with("StoreFailed"));
            told.lock().unwrap().push(name[..end.unwrap_or(name.len())].to_owned());
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn a_store_that_cannot_be_asked_lets_nothing_through() {
    run(async {
        let (place, calls, told) = (Place::new(), Calls::default(), Told::default());
        let backend = Bumpy::new(&place.keys, 1);
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public());
        let service = layer.policy(told.policy()).layer(shop(&calls));
        backend.fail("begin", 1, unreachable);
        let refused = send(&service, post("k", "")).await;
        assert_eq!((refused.status, refused.problem()), (503, Some("store-unavailable")));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(told.take(), ["StoreFailed begin", "Refused"]);
        assert_eq!(calls.get(), 0);
        assert_eq!(send(&service, post("k", "")).await.status, 201);
        assert_eq!(told.take(), ["Started", "Stored"]);
    });
}

#[test]
fn a_policy_that_is_open_lets_requests_through_unprotected_and_says_so() {
    run(async {
        let (place, calls, told) = (Place::new(), Calls::default(), Told::default());
        let backend = Bumpy::new(&place.keys, 0);
        let policy = told.policy().on_store_failure(FailurePolicy::Open);
        let layer = IdempotencyLayer::new(backend.clone(), Principal::public()).policy(policy);
        let service = layer.layer(shop(&calls));
        backend.fail("begin", 2, unreachable);
        for call in 1..=2 {
            assert_eq!(send(&service, post("k", "")).await.body, format!("charge {call} of "));
        }
        assert_eq!(told.take(), ["StoreFailed begin", "Unprotected"].repeat(2));
        // Settings that can never work are no trouble that passes.
        backend.fail("begin", 1, || Error::FingerprintRequired);
        assert_eq!(send(&service, post("k", "")).await.status, 503);
        assert_eq!(calls.get(), 2);
    });
}

#[test]
fn a_closed_store_is_answered_503_and_finished_work_reaches_its_client() {
    run(async {
        let (place, told) = (Place::new(), Told::default());
        let layer = place.layer().policy(told.policy());
        let store = Mutex::new(Some(place.store));
        let store = Arc::new(store);
        let service = layer.layer(tower::service_fn(move |_: Request<In>| {
            if let Some(store) = store.lock().unwrap().take() {
                store.close().unwrap();
            }
            let response = Response::new(Full::new(Bytes::from_static(b"charged")));
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let answer = send(&service, post("k", "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "charged"));
        assert_eq!(told.take(), ["Started", "StoreFailed complete"]);
        assert_eq!(send(&service, post("l", "")).await.problem(), Some("store-unavailable"));
    });
}

#[test]
fn an_outcome_that_could_not_be_stored_is_given_to_its_client_and_its_key_is_held() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let backend = Bumpy::new(&place.keys, 0);
        let layer = IdempotencyLayer::new(AnyBackend::new(backend.clone()), Principal::public());
        let service = layer.layer(shop(&calls));
        backend.fail("complete", 1, unreachable);
        assert_eq!(send(&service, post("k", "")).await.status, 201);
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_thousand_keys_of_one_client_stop_at_its_quota_and_old_keys_are_still_answered() {
    run(async {
        let policy = Policy { max_keys: Some(100), ..Policy::default() };
        let (place, calls) = (Place::with(policy), Calls::default());
        let service = place.layer().layer(shop(&calls));
        let mut refused = 0;
        for number in 0..1000 {
            let answer = send(&service, post(&format!("k{number}"), "")).await;
            if answer.status != 201 {
                assert_eq!((answer.status, answer.problem()), (503, Some("store-full")));
                refused += 1;
            }
        }
        assert_eq!((calls.get(), refused), (100, 900));
        assert!(send(&service, post("k7", "")).await.is_replay());
    });
}

#[test]
fn what_another_version_has_stored_is_not_handled_again() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = place.layer().layer(shop(&calls));
        let mut newer = StoredResponse::new(http::StatusCode::OK, "").encode();
        newer[0] = 2;
        for (key, outcome) in [("k", &newer[..]), ("l", b""), ("m", b"\x01\x00")] {
            assert!(place.keys.check_and_set(store_key(key), outcome).unwrap().is_new());
            let answer = send(&service, post(key, "")).await;
            // A record without a fingerprint of the layer is another request's, or unreadable.
            assert!(matches!(answer.problem(), Some("outcome-unreadable" | "key-reused")));
        }
        assert_eq!(calls.get(), 0);
    });
}

#[test]
fn an_error_of_the_service_stays_what_it_is_and_holds_its_key() {
    run(async {
        #[derive(Debug, PartialEq)]
        struct Broken;
        let (place, told) = (Place::new(), Told::default());
        let failing =
            tower::service_fn(|_: Request<In>| async { Err::<Response<Full<Bytes>>, _>(Broken) });
        let service = place.layer().policy(told.policy()).layer(failing);
        assert_eq!(service.clone().oneshot(post("k", "")).await.unwrap_err(), Broken);
        assert_eq!(told.take(), ["Started", "Held"]);
        assert_eq!(place.keys.peek(store_key("k")).unwrap().unwrap().status, Status::InProgress);
        let policy = told.policy().inner_errors(Ending::Release);
        let service = place.layer().policy(policy).layer(failing);
        for _ in 0..2 {
            assert_eq!(service.clone().oneshot(post("l", "")).await.unwrap_err(), Broken);
        }
        assert_eq!(told.take(), ["Started", "Released"].repeat(2));
    });
}

#[test]
fn a_handler_that_panics_holds_its_key_until_the_lease_runs_out() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let count = calls.clone();
        let service = place.layer().layer(tower::service_fn(move |_: Request<In>| {
            let call = count.add();
            async move {
                crate::setup::pause().await;
                assert!(call > 1, "the first call panics");
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            }
        }));
        let panicking = tokio::spawn(service.clone().oneshot(post("k", "")));
        assert!(panicking.await.unwrap_err().is_panic());
        let held = send(&service, post("k", "")).await;
        assert_eq!(held.problem(), Some("in-progress"));
        place.clock.advance(Duration::from_secs(30));
        assert_eq!(send(&service, post("k", "")).await.body, "ok");
        assert_eq!(calls.get(), 2);
    });
}
