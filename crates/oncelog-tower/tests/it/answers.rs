//! Each row of the table of answers in docs/http.md.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Method, Request, Response};
use http_body_util::Full;
use oncelog::backend::Backend;
use oncelog::{AbandonPolicy, Policy, Status, Timestamp};
use oncelog_tower::{
    Ending, Execution, IdempotencyKey, IdempotencyLayer, Principal, RoutePolicy, Scope, StoreKey,
    StoredResponse,
};
use tower::Layer;

use crate::setup::{
    Answer, Calls, In, Place, answering, guarded, never, pause, poll_once, post, run, send,
};

/// The key of the store for requests of [`post`].
pub(crate) fn store_key(key: &str) -> StoreKey {
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap();
    let (method, path) = ("POST", "/payments");
    Scope { principal: None, operation: b"", method, path, query: None, key: &key }.store_key()
}

fn assert_problem(answer: &Answer, status: u16, name: &str) {
    assert_eq!((answer.status, answer.problem()), (status, Some(name)), "{answer:?}");
    assert!(!answer.is_replay());
}

#[test]
fn the_first_request_is_handled_and_the_second_gets_its_answer() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        let first = send(&service, post("\"k\"", "{}")).await;
        assert_eq!((first.status, first.body.as_str()), (201, "charge 1 of {}"));
        assert!(!first.headers.contains_key("idempotency-replayed"));
        for key in ["\"k\"", "k"] {
            let second = send(&service, post(key, "{}")).await;
            assert!(second.is_replay());
            assert_eq!((second.status, &second.body), (201, &first.body));
            assert_eq!(second.header("location"), Some("/charges/1"));
        }
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_request_without_a_key_is_refused_where_one_is_required_and_passes_where_it_is_not() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let bare = || Request::post("/payments").body(Full::new(Bytes::new())).unwrap();
        let service = guarded(&place.layer(), &calls);
        for call in 1..=2 {
            assert_eq!(send(&service, bare()).await.body, format!("charge {call} of "));
        }
        let layer = place.layer().policy(RoutePolicy::new().required(true));
        let required = guarded(&layer, &calls);
        assert_problem(&send(&required, bare()).await, 400, "key-missing");
        assert_eq!(calls.get(), 2);
    });
}

#[test]
fn a_key_that_is_malformed_is_refused_even_where_none_is_required() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        let long = "k".repeat(256);
        for key in ["", "\"\"", "a, b", "\"a\", \"b\"", "\"a", "\"a\";x", "a b", &long] {
            assert_problem(&send(&service, post(key, "")).await, 400, "key-malformed");
        }
        assert_eq!(calls.get(), 0);
    });
}

#[test]
fn a_key_sent_with_another_body_is_refused_whether_the_first_is_done_or_not() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        send(&service, post("k", "{\"amount\":1}")).await;
        assert_problem(&send(&service, post("k", "{\"amount\":2}")).await, 422, "key-reused");
        let slow = place.layer().layer(never());
        let mut first = Box::pin(send(&slow, post("l", "1")));
        assert!(poll_once(first.as_mut()).await.is_pending());
        assert_problem(&send(&service, post("l", "2")).await, 422, "key-reused");
    });
}

#[test]
fn a_request_in_progress_is_answered_409_with_retry_after() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let slow = place.layer().layer(never());
        let mut first = Box::pin(send(&slow, post("k", "")));
        assert!(poll_once(first.as_mut()).await.is_pending());
        let second = send(&guarded(&place.layer(), &calls), post("k", "")).await;
        assert_problem(&second, 409, "in-progress");
        assert_eq!(second.header("retry-after"), Some("1"));
        assert!(!second.headers.contains_key("x-should-retry"));
        let policy = RoutePolicy::new().retry_after(Duration::from_secs(7));
        let other = send(&guarded(&place.layer().policy(policy), &calls), post("k", "")).await;
        assert_eq!(other.header("retry-after"), Some("7"));
        assert_eq!(calls.get(), 0);
    });
}

#[test]
fn an_answer_that_is_not_kept_any_more_is_answered_410() {
    run(async {
        let hour = Duration::from_secs(3600);
        let policy = Policy { outcome_ttl: Some(hour), ..Policy::default() };
        let (place, calls) = (Place::with(policy), Calls::default());
        let service = guarded(&place.layer(), &calls);
        send(&service, post("k", "")).await;
        place.clock.advance(hour / 2);
        assert!(send(&service, post("k", "")).await.is_replay());
        place.clock.advance(hour / 2);
        assert_problem(&send(&service, post("k", "")).await, 410, "outcome-gone");
        assert_eq!(calls.get(), 1);
    });
}

#[test]
fn a_request_older_than_the_memory_is_answered_412() {
    run(async {
        let policy =
            Policy { retention: Some(Duration::from_secs(3600).into()), ..Policy::default() };
        let (place, calls) = (Place::with(policy), Calls::default());
        let layer = place.layer().policy(RoutePolicy::new().sent_at_of_key());
        let service = guarded(&layer, &calls);
        // A UUID of version 7 from January 2021, long before the clock of the store.
        let old = "01770000-0000-7000-8000-000000000000";
        assert!(Timestamp::of_uuid_v7(old).is_some());
        assert_problem(&send(&service, post(old, "")).await, 412, "too-old");
        assert_eq!(send(&service, post("k", "")).await.status, 201);
        // Without being asked, the layer does not read times out of keys.
        assert_eq!(send(&guarded(&place.layer(), &calls), post(old, "")).await.status, 201);
    });
}

#[test]
fn an_unknown_outcome_is_answered_409_of_its_own_type_until_somebody_resolves_it() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let layer = place.layer().policy(RoutePolicy::new().on_abandon(AbandonPolicy::Hold));
        let lost = layer.layer(never());
        let mut first = Box::pin(send(&lost, post("k", "")));
        assert!(poll_once(first.as_mut()).await.is_pending());
        drop(first);
        place.clock.advance(Duration::from_secs(31));
        let service = guarded(&layer, &calls);
        let unknown = send(&service, post("k", "")).await;
        assert_problem(&unknown, 409, "outcome-unknown");
        assert!(!unknown.headers.contains_key("retry-after"));
        // SDKs repeat every conflict; this one stays.
        assert_eq!(unknown.header("stripe-should-retry"), Some("false"));
        assert_eq!(unknown.header("x-should-retry"), Some("false"));
        let found = StoredResponse::new(http::StatusCode::CREATED, "charge 7, found by hand");
        let resolved = place.keys.resolve(store_key("k"), found.encode()).unwrap();
        assert!(resolved);
        let replay = send(&service, post("k", "")).await;
        assert_eq!((replay.status, replay.body.as_str()), (201, "charge 7, found by hand"));
        assert_eq!(calls.get(), 0);
    });
}

#[test]
fn attempts_that_are_used_up_are_answered_409_of_their_own_type() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let layer = place.layer().policy(RoutePolicy::new().attempts_max(2));
        let service = layer.layer(answering(503, &calls));
        for _ in 0..2 {
            assert_eq!(send(&service, post("k", "")).await.status, 503);
        }
        let refused = send(&service, post("k", "")).await;
        assert_problem(&refused, 409, "attempts-exhausted");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert_eq!(calls.get(), 2);
    });
}

#[test]
fn a_request_whose_sender_is_not_known_is_refused_unless_keys_are_public() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let principal = Principal::header(HeaderName::from_static("x-api-key"));
        let service = guarded(&IdempotencyLayer::new(place.keys.clone(), principal), &calls);
        assert_problem(&send(&service, post("k", "")).await, 401, "principal-missing");
        for (call, account) in [(1, "a"), (2, "b"), (1, "a"), (2, "b")] {
            let mut request = post("k", "");
            request.headers_mut().insert("x-api-key", account.parse().unwrap());
            assert_eq!(send(&service, request).await.body, format!("charge {call} of "));
        }
    });
}

#[test]
fn a_server_error_is_released_or_stored_as_the_policy_says() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = place.layer().layer(answering(500, &calls));
        for call in 1..=2 {
            let answer = send(&service, post("k", "")).await;
            assert_eq!((answer.body, answer.status), (format!("answer {call}"), 500));
        }
        assert_eq!(place.keys.peek(store_key("k")).unwrap().unwrap().status, Status::Released);
        let store = place.layer().policy(RoutePolicy::new().server_errors(Ending::Store));
        let service = store.layer(answering(500, &calls));
        let first = send(&service, post("l", "")).await;
        let second = send(&service, post("l", "")).await;
        assert_eq!((first.status, first.header("x-should-retry")), (500, None));
        assert_eq!((second.status, &second.body), (500, &first.body));
        assert_eq!(second.header("stripe-should-retry"), Some("false"));
        assert_eq!(second.header("x-should-retry"), Some("false"));
        assert_eq!(place.keys.peek(store_key("l")).unwrap().unwrap().status, Status::Failed);
        let hold = place.layer().policy(RoutePolicy::new().server_errors(Ending::Hold));
        let service = hold.layer(answering(500, &calls));
        assert_eq!(send(&service, post("m", "")).await.status, 500);
        assert_problem(&send(&service, post("m", "")).await, 409, "in-progress");
    });
}

#[test]
fn every_status_is_kept_or_given_back_as_documented() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        for status in 200..=599 {
            let service = place.layer().layer(answering(status, &calls));
            let key = format!("k{status}");
            let first = send(&service, post(&key, "")).await;
            let second = send(&service, post(&key, "")).await;
            let released = matches!(status, 401 | 403 | 408 | 409 | 425 | 429 | 500..);
            assert_eq!((first.status, second.status), (status, status));
            assert_eq!(second.is_replay(), !released, "{status}");
            assert_eq!(first.body == second.body, !released, "{status}");
        }
    });
}

#[test]
fn other_methods_pass_with_or_without_a_key() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let mut request = post("not, a key", "");
            *request.method_mut() = method;
            assert_eq!(send(&service, request).await.status, 201);
        }
        assert_eq!(calls.get(), 4);
        let layer = place.layer().policy(RoutePolicy::new().methods([Method::PUT]));
        let service = guarded(&layer, &calls);
        let put = || {
            let mut request = post("k", "");
            *request.method_mut() = Method::PUT;
            request
        };
        send(&service, put()).await;
        assert!(send(&service, put()).await.is_replay());
    });
}

#[test]
fn one_key_is_another_for_each_path_query_method_and_operation() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = guarded(&place.layer(), &calls);
        let mut expected = 0;
        for method in [Method::POST, Method::PATCH] {
            for uri in ["/a", "/a/", "/a?", "/a?b=1", "/a?b=2"] {
                expected += 1;
                for replay in [false, true] {
                    let mut request = post("k", "");
                    *request.method_mut() = method.clone();
                    *request.uri_mut() = uri.parse().unwrap();
                    assert_eq!(send(&service, request).await.is_replay(), replay, "{uri}");
                }
            }
        }
        assert_eq!(calls.get(), expected);
        let named = place.layer().policy(RoutePolicy::new().operation("refunds"));
        assert!(!send(&guarded(&named, &calls), post("k", "")).await.is_replay());
        assert!(!send(&service, post("k", "")).await.is_replay());
    });
}

#[test]
fn the_policy_of_a_route_is_chosen_by_its_request() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let strict = std::sync::Arc::new(RoutePolicy::new().required(true));
        let layer = place
            .layer()
            .policy_for(move |parts| (parts.uri.path() == "/refunds").then(|| strict.clone()));
        let service = guarded(&layer.problem_types("https://example.com/p#"), &calls);
        let bare = |uri: &str| Request::post(uri).body(Full::new(Bytes::new())).unwrap();
        assert_eq!(send(&service, bare("/payments")).await.status, 201);
        let refused = send(&service, bare("/refunds")).await;
        assert_eq!(refused.status, 400);
        assert!(refused.body.starts_with("{\"type\":\"https://example.com/p#key-missing\","));
        let off = guarded(&place.layer().policy(RoutePolicy::off()), &calls);
        for _ in 0..2 {
            assert!(!send(&off, post("k", "")).await.is_replay());
        }
    });
}

#[test]
fn the_handler_sees_which_attempt_it_is() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(|request: Request<In>| async move {
            pause().await;
            let execution = request.extensions().get::<Execution>().unwrap();
            assert_eq!((execution.key.as_str(), execution.store_key), ("k", store_key("k")));
            let body = format!("{} {}", execution.attempt, execution.token.as_u64());
            let response = Response::builder().status(500).body(Full::new(Bytes::from(body)));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }));
        let mut last = 0;
        for attempt in 1..=3 {
            let answer = send(&service, post("k", "")).await;
            let (number, token) = answer.body.split_once(' ').unwrap();
            assert_eq!(number, attempt.to_string());
            assert!(token.parse::<u64>().unwrap() > std::mem::replace(&mut last, 0));
            last = token.parse().unwrap();
        }
    });
}

#[test]
fn a_retention_lease_or_policy_of_the_route_goes_before_that_of_the_namespace() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let minute = Duration::from_secs(60);
        let policy = RoutePolicy::new().retention(minute).lease(Duration::from_secs(5));
        let service = guarded(&place.layer().policy(policy.clone()), &calls);
        send(&service, post("k", "")).await;
        place.clock.advance(minute - Duration::from_millis(1));
        assert!(send(&service, post("k", "")).await.is_replay());
        place.clock.advance(Duration::from_millis(1));
        assert!(!send(&service, post("k", "")).await.is_replay());
        let slow = place.layer().policy(policy).layer(never());
        let mut first = Box::pin(send(&slow, post("l", "")));
        assert!(poll_once(first.as_mut()).await.is_pending());
        let meta = Backend::peek(&place.keys, store_key("l").as_ref()).await.unwrap().unwrap();
        let begun = meta.first_seen.as_millis();
        assert_eq!(meta.deadline.unwrap().as_millis() - begun, 5_000);
    });
}

#[test]
fn only_allowed_headers_are_kept_and_the_first_client_gets_all() {
    run(async {
        let place = Place::new();
        let service = tower::service_fn(|_: Request<In>| async {
            let response = Response::builder()
                .header("set-cookie", "session=secret")
                .header("set-cookie", "other=secret")
                .header("link", "</a>; rel=next")
                .header("link", "</b>; rel=prev")
                .header("x-balance", "7")
                .header(header::LOCATION, http::HeaderValue::from_bytes(b"/caf\xe9").unwrap());
            let response = response.body(Full::new(Bytes::from_static(b"ok"))).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        });
        let layered = place.layer().layer(service);
        let first = send(&layered, post("k", "")).await;
        assert_eq!(first.headers.get_all("set-cookie").iter().count(), 2);
        let second = send(&layered, post("k", "")).await;
        let links: Vec<_> = second.headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>; rel=next", "</b>; rel=prev"]);
        assert_eq!(second.headers["location"].as_bytes(), b"/caf\xe9");
        assert!(!second.headers.contains_key("set-cookie"));
        assert!(!second.headers.contains_key("x-balance"));
        let names = [HeaderName::from_static("x-balance")];
        let policy = RoutePolicy::new().headers_kept(names).unwrap();
        let layered = place.layer().policy(policy).layer(service);
        send(&layered, post("l", "")).await;
        let kept = send(&layered, post("l", "")).await;
        assert_eq!((kept.header("x-balance"), kept.headers.len()), (Some("7"), 2));
    });
}
