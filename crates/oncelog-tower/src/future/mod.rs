//! What a request goes through, from its head to the answer that is given to the client.
//!
//! Its body is read, its key begun, its handler called, the answer gathered and stored.
//! Nothing of the answer leaves before it is stored, so that no client has seen an answer that is
//! not replayed to it. The body is read before the key is begun, so that a client that is slow to
//! send it, or never ends, holds no key.

mod steps;

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::response::Parts as Head;
use http::{Request, Response, StatusCode};
use http_body::Body;
use oncelog::Meta;
use oncelog::backend::{Backend, Begin};
use pin_project_lite::pin_project;
use tower_service::Service;

use self::steps::refusal;
use crate::body::{Gathered, RequestBody, ResponseBody};
use crate::claim::{Call, Claim, Close};
use crate::finish::Keyed;
use crate::layer::Setup;
use crate::problem::Problem;
use crate::renew::Lease;

/// A body that is always ready gives the task back after so many frames.
const FRAMES_A_POLL: u32 = 64;

pin_project! {
    /// The future of [`Idempotency`](crate::Idempotency).
    ///
    /// Dropped before its handler is called, it leaves no trace, but for a key whose `begin` was
    /// under way: that one, and that of a handler at work, stays in progress until its lease runs
    /// out. It can be sent to another thread if the inner service, its future and the bodies can.
    pub struct ResponseFuture<S, B, Q, R>
    where
        S: Service<Request<RequestBody<Q>>>,
        Q: Body,
        R: Body,
    {
        #[pin]
        state: State<S, Q, R, S::Future, S::Error>,
        // There is one unless the request passes or is refused by its head.
        claim: Option<Claim<B>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Q, R, F, E>
    where
        R: Body,
    {
        Passing { #[pin] future: F },
        Refused { response: Option<Response<ResponseBody<R>>> },
        Reading { #[pin] body: Q, gathered: Gathered, unread: Option<Unread<S>> },
        Beginning { call: Call<Begin>, work: Option<Work<S, Q>> },
        Waiting { call: Call<Option<Meta>>, work: Option<Work<S, Q>> },
        Working { #[pin] future: F, lease: Lease },
        Gathering { gathering: Option<Gathering<R>>, lease: Lease },
        Closing { call: Call<()>, close: Close, answer: Option<Answer<R, E>> },
        Done,
    }
}

/// What the handler answered, or how the service failed.
type Answer<R, E> = Result<Response<ResponseBody<R>>, E>;

/// A request whose body is being read.
struct Unread<S> {
    service: S,
    parts: Parts,
}

/// A request that is ready to be handled.
struct Work<S, Q> {
    service: S,
    request: Request<RequestBody<Q>>,
}

/// An answer whose body is being gathered.
struct Gathering<R> {
    head: Head,
    body: Pin<Box<R>>,
    gathered: Gathered,
}

enum Turn<S, Q, R, F, E>
where
    R: Body,
{
    Next(State<S, Q, R, F, E>),
    Ready(Answer<R, E>),
}

/// What came of a step; `None` of one after the last.
type Stepped<S, Q, R, F, E> = Poll<Option<Turn<S, Q, R, F, E>>>;

impl<S, B, Q, R> ResponseFuture<S, B, Q, R>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<R>>,
    B: Backend + 'static,
    Q: Body,
    R: Body,
{
    pub(crate) fn passing(future: S::Future) -> Self {
        Self { state: State::Passing { future }, claim: None }
    }

    pub(crate) fn refused(problem: &Problem, setup: &Setup, grpc: bool) -> Self {
        let response = Some(refusal(problem, setup, grpc));
        Self { state: State::Refused { response }, claim: None }
    }

    pub(crate) fn keyed(claim: Claim<B>, service: S, parts: Parts, body: Q) -> Self {
        let fingerprint = &claim.policy.fingerprint;
        if fingerprint.body_bytes_max.is_some() {
            let unread = Some(Unread { service, parts });
            let gathered = Gathered::default();
            return Self { state: State::Reading { body, gathered, unread }, claim: Some(claim) };
        }
        let mut claim = claim;
        let fingerprint = claim.policy.fingerprint.of(&parts, b"");
        claim.options = claim.options.fingerprint(fingerprint);
        let request = Request::from_parts(parts, RequestBody::passing(body));
        let work = Some(Work { service, request });
        Self { state: State::Beginning { call: claim.begin(), work }, claim: Some(claim) }
    }
}

impl<S, B, Q, R> Future for ResponseFuture<S, B, Q, R>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<R>>,
    B: Backend + 'static,
    Q: Body,
    R: Body,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let Some(turn) = ready!(self.as_mut().poll_turn(context)) else {
                panic!("polled again after it was ready");
            };
            let mut state = self.as_mut().project().state;
            match turn {
                Turn::Next(next) => state.set(next),
                Turn::Ready(answer) => {
                    state.set(State::Done);
                    return Poll::Ready(answer);
                }
            }
        }
    }
}

impl<S, B, Q, R> ResponseFuture<S, B, Q, R>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<R>>,
    B: Backend + 'static,
    Q: Body,
    R: Body,
{
    fn poll_turn(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Stepped<S, Q, R, S::Future, S::Error> {
        let this = self.project();
        let state = match this.state.project() {
            StateProjection::Done => return Poll::Ready(None),
            StateProjection::Refused { response } => {
                return Poll::Ready(response.take().map(|response| Turn::Ready(Ok(response))));
            }
            StateProjection::Passing { future } => {
                let answer = ready!(future.poll(context));
                let answer = answer.map(|response| response.map(ResponseBody::passing));
                return Poll::Ready(Some(Turn::Ready(answer)));
            }
            state => state,
        };
        let Some(claim) = this.claim.as_mut() else { return Poll::Ready(None) };
        match state {
            StateProjection::Reading { body, gathered, unread } => {
                claim.poll_reading(body, gathered, unread, context)
            }
            StateProjection::Beginning { call, work } => {
                let answer = ready!(call.as_mut().poll(context));
                Poll::Ready(work.take().map(|work| claim.go_on(answer, work)))
            }
            StateProjection::Waiting { call, work } => {
                Poll::Ready(match ready!(call.as_mut().poll(context)) {
                    Ok(_) => {
                        let (call, work) = (claim.begin(), work.take());
                        Some(Turn::Next(State::Beginning { call, work }))
                    }
                    Err(error) => Some(claim.refuse(&claim.wait_failed(&error))),
                })
            }
            StateProjection::Working { future, lease } => {
                let Poll::Ready(answer) = future.poll(context) else {
                    lease.poll(claim, context);
                    return Poll::Pending;
                };
                let lease = mem::replace(lease, Lease::new(lease.version));
                Poll::Ready(Some(claim.answered(answer, lease)))
            }
            StateProjection::Gathering { gathering, lease } => {
                claim.poll_gathering(gathering, lease, context)
            }
            StateProjection::Closing { call, close, answer } => {
                let ended = ready!(call.as_mut().poll(context));
                let status = match answer {
                    Some(Ok(response)) => response.status(),
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                claim.closed(close, status, ended);
                Poll::Ready(answer.take().map(Turn::Ready))
            }
            _ => Poll::Ready(None),
        }
    }
}

impl<S, B, Q, R> Keyed for ResponseFuture<S, B, Q, R>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<R>>,
    B: Backend + 'static,
    Q: Body,
    R: Body,
{
    fn is_begun(&self) -> bool {
        matches!(
            self.state,
            State::Beginning { .. }
                | State::Working { .. }
                | State::Gathering { .. }
                | State::Closing { .. }
        )
    }
}

impl<S, B, Q, R> fmt::Debug for ResponseFuture<S, B, Q, R>
where
    S: Service<Request<RequestBody<Q>>>,
    Q: Body,
    R: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Passing { .. } => "passing",
            State::Refused { .. } => "refused",
            State::Reading { .. } => "reading",
            State::Beginning { .. } => "beginning",
            State::Waiting { .. } => "waiting",
            State::Working { .. } => "working",
            State::Gathering { .. } => "gathering",
            State::Closing { .. } => "closing",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
