//! What a request does at each step, and which step comes next.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use oncelog::backend::{Backend, Begin};
use tower_service::Service;

use super::{Answer, FRAMES_A_POLL, Gathering, State, Stepped, Turn, Unread, Work};
use crate::body::{Gathered, RequestBody, ResponseBody, Rest, Step, poll_gather};
use crate::claim::{Begun, Claim, Close};
use crate::event::Event;
use crate::layer::Setup;
use crate::policy::{Answered, Ending, is_grpc, is_stream};
use crate::problem::Problem;
use crate::renew::Lease;
use crate::replay;
use crate::stored::StoredResponse;

pub(super) fn refusal<R: Body>(
    problem: &Problem,
    setup: &Setup,
    grpc: bool,
) -> Response<ResponseBody<R>> {
    let response = match grpc {
        true => problem.grpc_response(&setup.problem_types),
        false => problem.response(&setup.problem_types),
    };
    response.map(|body| ResponseBody::whole(body, None))
}

impl<B: Backend + 'static> Claim<B> {
    pub(super) fn refuse<S, Q, R: Body, F, E>(&self, problem: &Problem) -> Turn<S, Q, R, F, E> {
        self.policy.tell(&Event::Refused(problem));
        Turn::Ready(Ok(refusal(problem, &self.setup, self.grpc)))
    }

    pub(super) fn poll_reading<S, Q: Body, R: Body, F, E>(
        &mut self,
        mut body: Pin<&mut Q>,
        gathered: &mut Gathered,
        unread: &mut Option<Unread<S>>,
        context: &mut Context<'_>,
    ) -> Stepped<S, Q, R, F, E> {
        let bytes_max = self.policy.fingerprint.body_bytes_max.unwrap_or(usize::MAX);
        for _ in 0..FRAMES_A_POLL {
            match ready!(poll_gather(body.as_mut(), gathered, bytes_max, context)) {
                Step::Data => {}
                Step::Over => return Poll::Ready(Some(self.refuse(&Problem::BodyTooLong))),
                Step::Failed(_) => return Poll::Ready(Some(self.refuse(&Problem::BodyCut))),
                Step::End => {
                    let Some(read) = unread.take() else { return Poll::Ready(None) };
                    let data = gathered.take();
                    let fingerprint = self.policy.fingerprint.of(&read.parts, &data);
                    self.options = self.options.fingerprint(fingerprint);
                    let body = RequestBody::read(data, gathered.trailers.take());
                    let request = Request::from_parts(read.parts, body);
                    let work = Some(Work { service: read.service, request });
                    let next = State::Beginning { call: self.begin(), work };
                    return Poll::Ready(Some(Turn::Next(next)));
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes on as the answer of `begin` says.
    pub(super) fn go_on<S, Q: Body, R: Body>(
        &mut self,
        answer: oncelog::Result<Begin>,
        mut work: Work<S, Q>,
    ) -> Turn<S, Q, R, S::Future, S::Error>
    where
        S: Service<Request<RequestBody<Q>>>,
    {
        match self.begun(answer) {
            Begun::Work(version, execution) => {
                work.request.extensions_mut().insert(execution);
                let future = work.service.call(work.request);
                Turn::Next(State::Working { future, lease: Lease::new(version) })
            }
            Begun::WorkUnprotected => {
                Turn::Next(State::Passing { future: work.service.call(work.request) })
            }
            Begun::Wait(length) => {
                Turn::Next(State::Waiting { call: self.wait(length), work: Some(work) })
            }
            Begun::Replay(response, trailers) => {
                Turn::Ready(Ok(response.map(|body| ResponseBody::whole(body, trailers))))
            }
            Begun::Refuse(problem) => self.refuse(&problem),
        }
    }

    /// Decides what becomes of the handler's answer by its head.
    pub(super) fn answered<S, Q, R: Body, F, E>(
        &self,
        answer: Result<Response<R>, E>,
        lease: Lease,
    ) -> Turn<S, Q, R, F, E> {
        let (head, body) = match answer {
            Ok(response) => response.into_parts(),
            Err(error) => {
                let ending = self.policy.inner_errors;
                return match ending {
                    Ending::Release => self.close_with(lease, Close::Release, Err(error)),
                    Ending::Hold | Ending::Store => self.hold(Err(error)),
                };
            }
        };
        let answer = Answered { status: head.status, headers: &head.headers, trailers: None };
        let pass = |head, body| Ok(Response::from_parts(head, ResponseBody::passing(body)));
        // The status of gRPC may come in the trailers, after the body.
        if !is_grpc(&head.headers) {
            match self.policy.ending(&answer) {
                Ending::Store => {}
                Ending::Release => return self.close_with(lease, Close::Release, pass(head, body)),
                Ending::Hold => return self.hold(pass(head, body)),
            }
        }
        let bytes_min = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if is_stream(&head.headers) || bytes_min > self.response_bytes_max() {
            let mark = Close::with(&StoredResponse::mark(head.status));
            return self.close_with(lease, mark, pass(head, body));
        }
        let gathering = Gathering { head, body: Box::pin(body), gathered: Gathered::default() };
        Turn::Next(State::Gathering { gathering: Some(gathering), lease })
    }

    pub(super) fn response_bytes_max(&self) -> usize {
        self.policy.response_bytes_max.min(self.setup.outcome_bytes_max)
    }

    pub(super) fn poll_gathering<S, Q, R: Body, F, E>(
        &self,
        gathering: &mut Option<Gathering<R>>,
        lease: &mut Lease,
        context: &mut Context<'_>,
    ) -> Stepped<S, Q, R, F, E> {
        for _ in 0..FRAMES_A_POLL {
            let Some(Gathering { body, gathered, .. }) = gathering else {
                return Poll::Ready(None);
            };
            let bytes_max = self.response_bytes_max();
            let Poll::Ready(step) = poll_gather(body.as_mut(), gathered, bytes_max, context) else {
                lease.poll(self, context);
                return Poll::Pending;
            };
            if matches!(step, Step::Data) {
                continue;
            }
            let Some(gathering) = gathering.take() else { return Poll::Ready(None) };
            let lease = mem::replace(lease, Lease::new(lease.version));
            return Poll::Ready(Some(self.gathered(gathering, step, lease)));
        }
        context.waker().wake_by_ref();
        lease.poll(self, context);
        Poll::Pending
    }

    /// Decides what becomes of an answer that is gathered as far as it will be.
    pub(super) fn gathered<S, Q, R: Body, F, E>(
        &self,
        gathering: Gathering<R>,
        step: Step<R::Error>,
        lease: Lease,
    ) -> Turn<S, Q, R, F, E> {
        let Gathering { head, body, mut gathered } = gathering;
        let trailers = gathered.trailers.as_ref();
        let answer = Answered { status: head.status, headers: &head.headers, trailers };
        let ending = match is_grpc(&head.headers) {
            true => self.policy.ending(&answer),
            false => Ending::Store,
        };
        let rest = match step {
            Step::Failed(error) => {
                let body = ResponseBody::rest(gathered, Rest::Failure(Some(error)));
                return self.hold(Ok(Response::from_parts(head, body)));
            }
            Step::Over => Some(Rest::Body(body)),
            Step::End | Step::Data => None,
        };
        if let Some(rest) = rest {
            // Its status is still to come: that of a message that is so long is taken for good.
            let mark = Close::with(&StoredResponse::mark(head.status));
            let body = ResponseBody::rest(gathered, rest);
            return self.close_with(lease, mark, Ok(Response::from_parts(head, body)));
        }
        let (data, trailers) = (gathered.take(), gathered.trailers.take());
        let close = match ending {
            Ending::Hold => None,
            Ending::Release => Some(Close::Release),
            Ending::Store => {
                let bytes_max = self.setup.outcome_bytes_max;
                let trailers = trailers.as_ref();
                let stored = replay::stored(&head, &data, trailers, &self.policy, bytes_max);
                Some(Close::with(&stored))
            }
        };
        let answer = Ok(Response::from_parts(head, ResponseBody::whole(data, trailers)));
        match close {
            Some(close) => self.close_with(lease, close, answer),
            None => self.hold(answer),
        }
    }

    pub(super) fn close_with<S, Q, R: Body, F, E>(
        &self,
        lease: Lease,
        mut close: Close,
        answer: Answer<R, E>,
    ) -> Turn<S, Q, R, F, E> {
        let call = self.close(lease.version, &mut close);
        Turn::Next(State::Closing { call, close, answer: Some(answer) })
    }

    pub(super) fn hold<S, Q, R: Body, F, E>(&self, answer: Answer<R, E>) -> Turn<S, Q, R, F, E> {
        self.policy.tell(&Event::Held { key: self.store_key });
        Turn::Ready(answer)
    }
}
