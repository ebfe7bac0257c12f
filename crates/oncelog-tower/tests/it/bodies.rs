//! Bodies that are slow, cut off, too long, in pieces, or without an end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use oncelog_tower::{Event, FingerprintPolicy, RequestBody, RoutePolicy};
use tower::{Layer, ServiceExt};

use crate::answers::store_key;
use crate::setup::{Calls, In, Place, poll_once, post, run, send};

/// A body of these frames, pending before each of them; an `Err` cuts it off, and after the frames
/// it ends, or goes on for ever with the last one.
#[derive(Clone)]
pub(crate) struct Pieces {
    frames: VecDeque<Result<&'static str, &'static str>>,
    trailers: Option<HeaderMap>,
    endless: bool,
    pending: bool,
    polls: Arc<AtomicUsize>,
}

impl Pieces {
    pub(crate) fn new(frames: &[Result<&'static str, &'static str>]) -> Self {
        let frames = frames.iter().copied().collect();
        let polls = Arc::default();
        Self { frames, trailers: None, endless: false, pending: false, polls }
    }

    fn endless(piece: &'static str) -> Self {
        Self { endless: true, ..Self::new(&[Ok(piece)]) }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        self.pending = !self.pending;
        if self.pending && !self.endless {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = match self.endless {
            true => self.frames.front().copied(),
            false => self.frames.pop_front(),
        };
        let frame =
            next.map(|piece| piece.map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))));
        Poll::Ready(frame.or_else(|| self.trailers.take().map(|map| Ok(Frame::trailers(map)))))
    }
}

fn request(key: &str, body: Pieces) -> Request<Pieces> {
    post(key, "").map(|_| body)
}

/// Answers with what it was sent.
async fn echo<B: Body<Data = Bytes, Error = &'static str>>(
    request: Request<RequestBody<B>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => Bytes::from_static(error.as_bytes()),
    };
    Ok(Response::new(Full::new(body)))
}

#[test]
fn a_body_in_pieces_is_the_same_request_as_one_in_a_single_piece() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(echo::<Pieces>));
        let first = send(&service, request("k", Pieces::new(&[Ok("ab"), Ok(""), Ok("c")]))).await;
        assert_eq!((first.body.as_str(), first.is_replay()), ("abc", false));
        let second = send(&service, request("k", Pieces::new(&[Ok("abc")]))).await;
        assert_eq!((second.body.as_str(), second.is_replay()), ("abc", true));
    });
}

#[test]
fn trailers_of_a_request_reach_the_handler() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(
            |request: Request<RequestBody<Pieces>>| async move {
                let body = request.into_body().collect().await.unwrap();
                let digest = body.trailers().unwrap()["digest"].clone();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(
                    digest.as_bytes().to_vec(),
                ))))
            },
        ));
        let mut body = Pieces::new(&[Ok("a")]);
        body.trailers =
            Some(HeaderMap::from_iter([("digest".parse().unwrap(), "d".parse().unwrap())]));
        assert_eq!(send(&service, request("k", body)).await.body, "d");
    });
}

#[test]
fn a_body_that_is_cut_off_is_not_handled_and_leaves_its_key_free() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(echo::<Pieces>));
        let cut = send(&service, request("k", Pieces::new(&[Ok("a"), Err("reset")]))).await;
        assert_eq!((cut.status, cut.problem()), (400, Some("body-cut")));
        assert!(place.keys.peek(store_key("k")).unwrap().is_none());
        let whole = send(&service, request("k", Pieces::new(&[Ok("a"), Ok("b")]))).await;
        assert_eq!((whole.status, whole.body.as_str()), (200, "ab"));
    });
}

#[test]
fn a_body_over_the_limit_or_without_an_end_is_refused_before_its_key_is_begun() {
    run(async {
        let place = Place::new();
        let policy = RoutePolicy::new().fingerprint(FingerprintPolicy::body(10));
        let service = place.layer().policy(policy).layer(tower::service_fn(echo::<Pieces>));
        let whole = send(&service, request("k", Pieces::new(&[Ok("01234"), Ok("56789")]))).await;
        assert_eq!(whole.status, 200);
        for body in [Pieces::new(&[Ok("01234"), Ok("56789"), Ok("0")]), Pieces::endless("0123")] {
            let polls = body.polls.clone();
            let refused = send(&service, request("l", body)).await;
            assert_eq!((refused.status, refused.problem()), (413, Some("body-too-long")));
            assert!(polls.load(Ordering::SeqCst) < 10);
            assert!(place.keys.peek(store_key("l")).unwrap().is_none());
        }
    });
}

#[test]
fn a_client_that_is_slow_to_send_its_body_holds_no_key() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(echo::<Pieces>));
        let mut slow = Box::pin(service.clone().oneshot(request("k", Pieces::new(&[Ok("a"); 8]))));
        for _ in 0..4 {
            assert!(poll_once(slow.as_mut()).await.is_pending());
        }
        assert!(place.keys.peek(store_key("k")).unwrap().is_none());
        let other = send(&service, request("k", Pieces::new(&[Ok("aaaaaaaa")]))).await;
        assert_eq!(other.status, 200);
        assert!(slow.await.unwrap().headers().contains_key("idempotency-replayed"));
    });
}

#[test]
fn a_body_that_does_not_count_comes_to_the_handler_as_it_comes_in() {
    run(async {
        let place = Place::new();
        let digest =
            FingerprintPolicy::headers_only().with_header("content-digest".parse().unwrap());
        let layer = place.layer().policy(RoutePolicy::new().fingerprint(digest));
        let service = layer.layer(tower::service_fn(echo::<Pieces>));
        let sent = |body, digest: &str| {
            let mut request = request("k", body);
            request.headers_mut().insert("content-digest", digest.parse().unwrap());
            request
        };
        let cut = Pieces::new(&[Ok("a"), Err("reset")]);
        assert_eq!(send(&service, sent(cut, "d")).await.body, "reset");
        let other = Pieces::new(&[Ok("never read")]);
        assert!(send(&service, sent(other.clone(), "d")).await.is_replay());
        assert_eq!(send(&service, sent(other.clone(), "e")).await.status, 422);
        assert_eq!(other.polls.load(Ordering::SeqCst), 0);
    });
}

/// Answers with this body, once.
fn giving(
    body: Pieces,
    kind: &'static str,
    calls: &Calls,
) -> impl tower::Service<
    Request<RequestBody<Full<Bytes>>>,
    Response = Response<Pieces>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let calls = calls.clone();
    tower::service_fn(move |_| {
        calls.add();
        let response = Response::builder().header("content-type", kind).body(body.clone());
        std::future::ready(Ok(response.unwrap()))
    })
}

#[test]
fn an_answer_in_pieces_is_replayed_as_a_whole() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let body = Pieces::new(&[Ok("ab"), Ok("cd"), Ok("ef")]);
        let service = place.layer().layer(giving(body, "text/plain", &calls));
        for replay in [false, true] {
            let answer = send(&service, post("k", "")).await;
            assert_eq!((answer.body.as_str(), answer.is_replay()), ("abcdef", replay));
        }
    });
}

#[test]
fn an_answer_over_the_limit_is_passed_on_whole_and_answered_410_later() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let marked = Calls::default();
        let told = marked.clone();
        let policy = RoutePolicy::new().response_bytes_max(5).on_event(move |event| {
            if matches!(event, Event::Marked { .. }) {
                told.add();
            }
        });
        let layer = place.layer().policy(policy);
        let body = Pieces::new(&[Ok("ab"), Ok("cd"), Ok("ef"), Ok("gh")]);
        let service = layer.layer(giving(body, "text/plain", &calls));
        assert_eq!(send(&service, post("k", "")).await.body, "abcdefgh");
        let later = send(&service, post("k", "")).await;
        assert_eq!((later.status, later.problem()), (410, Some("outcome-gone")));
        assert_eq!((calls.get(), marked.get()), (1, 1));
        let exact = layer.layer(giving(Pieces::new(&[Ok("abcde")]), "text/plain", &calls));
        send(&exact, post("l", "")).await;
        assert_eq!(send(&exact, post("l", "")).await.body, "abcde");
    });
}

#[test]
fn an_answer_without_an_end_is_passed_on_and_its_key_is_not_begun_again() {
    run(async {
        for (key, kind) in [("k", "text/plain"), ("l", "text/event-stream")] {
            let (place, calls) = (Place::new(), Calls::default());
            let body = Pieces::endless("tick ");
            let service = place.layer().layer(giving(body, kind, &calls));
            let response = service.clone().oneshot(post(key, "")).await.unwrap();
            let mut body = response.into_body();
            for _ in 0..1000 {
                assert!(body.frame().await.unwrap().is_ok());
            }
            let later = service.clone().oneshot(post(key, "")).await.unwrap();
            assert_eq!(later.status(), 410, "{kind}");
            assert_eq!(calls.get(), 1);
        }
    });
}

#[test]
fn an_answer_whose_body_fails_reaches_the_client_as_it_is_and_its_key_is_held() {
    run(async {
        let (place, calls) = (Place::new(), Calls::default());
        let body = Pieces::new(&[Ok("ab"), Err("disk failed")]);
        let service = place.layer().layer(giving(body, "text/plain", &calls));
        let mut body = service.clone().oneshot(post("k", "")).await.unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ab");
        assert_eq!(body.frame().await.unwrap().unwrap_err(), "disk failed");
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("in-progress"));
        assert_eq!(calls.get(), 1);
    });
}

/// One piece, and then nothing for ever.
#[derive(Clone)]
struct Stuck(Option<Bytes>);

impl Body for Stuck {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Pending,
        }
    }
}

#[test]
fn the_first_event_of_a_stream_reaches_the_client_before_the_second() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(|_: Request<In>| async {
            let response = Response::builder().header("content-type", "Text/Event-Stream; a=b");
            let body = Stuck(Some(Bytes::from_static(b"data: 1\n\n")));
            Ok::<_, Infallible>(response.body(body).unwrap())
        }));
        let mut request = Box::pin(service.clone().oneshot(post("k", "")));
        let Poll::Ready(response) = poll_once(request.as_mut()).await else { panic!("it waits") };
        let frame = response.unwrap().into_body().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
        assert_eq!(send(&service, post("k", "")).await.problem(), Some("outcome-gone"));
    });
}

#[test]
fn a_body_that_is_always_ready_gives_the_task_back_now_and_then() {
    run(async {
        let place = Place::new();
        let service = place.layer().layer(tower::service_fn(echo::<Pieces>));
        let body = Pieces::endless("");
        let polls = body.polls.clone();
        let mut request = Box::pin(service.clone().oneshot(request("k", body)));
        for round in 1..4 {
            assert!(poll_once(request.as_mut()).await.is_pending());
            assert!(polls.load(Ordering::SeqCst) <= round * 64);
        }
    });
}
