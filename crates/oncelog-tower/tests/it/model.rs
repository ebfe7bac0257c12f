//! The service against a model of the draft's rules.
//!
//! The model says what each request of a history must be answered, and whether it is handled.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Request, Response};
use http_body_util::Full;
use oncelog::{AbandonPolicy, Policy};
use oncelog_tower::{Ending, IdempotencyLayer, Principal, RoutePolicy};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use tower::{Layer, ServiceExt};

use crate::setup::{Answer, Calls, In, Place, post, run, send};

const LEASE_MS: u64 = 30_000;
const RETENTION_MS: u64 = 100_000;

/// What a handler does when it is called.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Answer(u16),
    /// Its client goes before it has answered.
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send { account: u8, key: u8, path: bool, amount: u8, deed: Deed },
    Pass { millis: u64 },
}

/// What the model knows of a key.
#[derive(Clone, Debug)]
struct Known {
    amount: u8,
    begun: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    InProgress,
    Released,
    Done { status: u16, body: String, at: u64 },
}

/// What a request must be answered.
#[derive(Debug, PartialEq)]
enum Expected {
    Handled,
    Replayed(u16, String),
    Problem(u16, &'static str),
}

#[derive(Default)]
struct Model {
    keys: HashMap<(u8, u8, bool), Known>,
    now: u64,
    hold: bool,
}

impl Model {
    fn expect(&mut self, key: (u8, u8, bool), amount: u8) -> Expected {
        let (now, hold) = (self.now, self.hold);
        let known = self.keys.get(&key).filter(|known| {
            let since = match known.state {
                State::Done { at, .. } => at,
                _ => known.begun,
            };
            now < since + RETENTION_MS
        });
        match known {
            Some(known) if known.amount != amount => Expected::Problem(422, "key-reused"),
            Some(Known { state: State::Done { status, body, .. }, .. }) => {
                Expected::Replayed(*status, body.clone())
            }
            Some(Known { state: State::InProgress, begun, .. }) if now < begun + LEASE_MS => {
                Expected::Problem(409, "in-progress")
            }
            Some(Known { state: State::InProgress, .. }) if hold => {
                Expected::Problem(409, "outcome-unknown")
            }
            _ => Expected::Handled,
        }
    }

    fn handled(&mut self, key: (u8, u8, bool), amount: u8, deed: Deed, body: String) {
        let state = match deed {
            Deed::Never => State::InProgress,
            Deed::Answer(500) => State::Released,
            Deed::Answer(status) => State::Done { status, body, at: self.now },
        };
        self.keys.insert(key, Known { amount, begun: self.now, state });
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let deed = prop_oneof![
        4 => prop_oneof![Just(200), Just(404), Just(500)].prop_map(Deed::Answer),
        1 => Just(Deed::Never),
    ];
    let send = (0..2_u8, 0..2_u8, any::<bool>(), 0..2_u8, deed).prop_map(
        |(account, key, path, amount, deed)| Step::Send { account, key, path, amount, deed },
    );
    let time = prop_oneof![
        Just(1),
        Just(LEASE_MS - 1),
        Just(LEASE_MS),
        Just(RETENTION_MS - LEASE_MS),
        Just(RETENTION_MS),
    ];
    let pass = time.prop_map(|millis| Step::Pass { millis });
    vec(prop_oneof![4 => send, 1 => pass], 1..40)
}

fn request(account: u8, key: u8, path: bool, amount: u8) -> Request<Full<Bytes>> {
    let mut request = post(&format!("\"key-{key}\""), &format!("{{\"amount\":{amount}}}"));
    let account = account.to_string().parse().unwrap();
    request.headers_mut().insert("x-api-key", account);
    if path {
        *request.uri_mut() = "/refunds".parse().unwrap();
    }
    request
}

async fn check(steps: Vec<Step>, hold: bool) {
    let retention = Some(Duration::from_millis(RETENTION_MS).into());
    let place = Place::with(Policy { retention, ..Policy::default() });
    let abandon = if hold { AbandonPolicy::Hold } else { AbandonPolicy::Reclaim };
    let principal = Principal::header(HeaderName::from_static("x-api-key"));
    let policy = RoutePolicy::new().on_abandon(abandon).server_errors(Ending::Release);
    let layer = IdempotencyLayer::new(place.keys.clone(), principal).policy(policy);
    let deed = Arc::new(Mutex::new(Deed::Never));
    let (calls, next) = (Calls::default(), deed.clone());
    let count = calls.clone();
    let service = layer.layer(tower::service_fn(move |_: Request<In>| {
        let (call, deed) = (count.add(), *next.lock().unwrap());
        async move {
            let Deed::Answer(status) = deed else { return std::future::pending().await };
            let body = Full::new(Bytes::from(format!("answer {call}")));
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    }));
    let mut model = Model { hold, ..Model::default() };
    for step in steps {
        let Step::Send { account, key, path, amount, deed: does } = step else {
            let Step::Pass { millis } = step else { unreachable!() };
            model.now += millis;
            place.clock.advance(Duration::from_millis(millis));
            continue;
        };
        *deed.lock().unwrap() = does;
        let before = calls.get();
        let expected = model.expect((account, key, path), amount);
        let handled = expected == Expected::Handled;
        let sent = request(account, key, path, amount);
        if handled && matches!(does, Deed::Never) {
            let mut future = Box::pin(service.clone().oneshot(sent));
            let poll = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
            assert!(poll.await.is_pending());
        } else {
            let answer = send(&service, sent).await;
            assert_eq!(found(&answer), expected, "{step:?}");
            if let (true, Deed::Answer(status)) = (handled, does) {
                assert_eq!(answer.status, status);
            }
        }
        assert_eq!(calls.get() - before, usize::from(handled));
        if handled {
            let body = format!("answer {}", calls.get());
            model.handled((account, key, path), amount, does, body);
        }
    }
}

fn found(answer: &Answer) -> Expected {
    match answer.problem() {
        Some("key-reused") => Expected::Problem(answer.status, "key-reused"),
        Some("in-progress") => Expected::Problem(answer.status, "in-progress"),
        Some("outcome-unknown") => Expected::Problem(answer.status, "outcome-unknown"),
        Some(other) => panic!("{other} is none of the model's problems"),
        None if answer.is_replay() => Expected::Replayed(answer.status, answer.body.clone()),
        None => Expected::Handled,
    }
}

proptest! {
    #[test]
    fn every_history_is_answered_as_the_draft_says(steps in steps(), hold in any::<bool>()) {
        run(check(steps, hold));
    }
}
