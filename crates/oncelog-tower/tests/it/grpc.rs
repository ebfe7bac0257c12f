//! Unary calls of gRPC: their status comes after the body, and so do refusals.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::Full;
use oncelog_tower::RoutePolicy;
use tower::{Layer, Service};

use crate::setup::{Calls, In, Place, post, run, send};

type Frames = std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>;

struct Iter(Frames);

impl http_body::Body for Iter {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

/// Answers with a message and this status in the trailers.
fn method(
    code: &'static str,
    calls: &Calls,
) -> impl Service<Request<In>, Response = Response<Iter>, Error = Infallible, Future: Send> + Clone
{
    let calls = calls.clone();
    tower::service_fn(move |_: Request<In>| {
        let message = Bytes::from(format!("message {}", calls.add()));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("x-secret", HeaderValue::from_static("7"));
        let frames = vec![Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
        let response = Response::builder().header("content-type", "application/grpc");
        std::future::ready(Ok(response.body(Iter(frames.into_iter())).unwrap()))
    })
}

fn call(key: &str, message: &str) -> Request<Full<Bytes>> {
    let mut request = post(key, message);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request
}

#[test]
fn a_call_is_replayed_with_its_trailers() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = place.layer().layer(method("0", &calls));
        let first = send(&service, call("k", "m")).await;
        assert_eq!(first.trailers.unwrap().len(), 2);
        let second = send(&service, call("k", "m")).await;
        assert!(second.is_replay());
        assert_eq!((second.status, second.body.as_str()), (200, "message 1"));
        let trailers = second.trailers.unwrap();
        assert_eq!((trailers["grpc-status"].as_bytes(), trailers.len()), (&b"0"[..], 1));
    });
}

#[test]
fn a_call_goes_by_its_own_status_and_not_by_that_of_http() {
    run(async {
        for (code, replayed) in
            [("3", true), ("14", false), ("13", false), ("8", false), ("6", true)]
        {
            let (place, calls) = (Place::new(), Calls::default());
            let service = place.layer().layer(method(code, &calls));
            send(&service, call("k", "m")).await;
            let second = send(&service, call("k", "m")).await;
            assert_eq!((second.is_replay(), calls.get()), (replayed, 2 - usize::from(replayed)));
        }
    });
}

#[test]
fn a_call_that_is_refused_gets_a_status_of_grpc() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let service = place.layer().layer(method("0", &calls));
        send(&service, call("k", "m")).await;
        let refused = send(&service, call("k", "n")).await;
        assert_eq!((refused.status, refused.header("grpc-status")), (200, Some("9")));
        assert!(refused.header("grpc-message").unwrap().contains("key-reused"));
        let layer = place.layer().policy(RoutePolicy::new().required(true));
        let mut bare = call("k", "m");
        bare.headers_mut().remove("idempotency-key");
        let refused = send(&layer.layer(method("0", &calls)), bare).await;
        assert_eq!(refused.header("grpc-status"), Some("3"));
    });
}
