//! A receiver of webhooks with axum: signatures are checked first, and each event is handled once.
//!
//! The headers are those of Standard Webhooks: the id of the event is its key, and the signature
//! covers it, so that nobody sends an old event under a new id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use oncelog::{Namespace, Policy, Store};
use oncelog_tower::{IdempotencyLayer, Principal, RoutePolicy};
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::Trouble;

/// Events are taken up to so long after they were sent, and remembered for longer.
const TOLERANCE: Duration = Duration::from_secs(300);
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
const BODY_BYTES_MAX: usize = 256 << 10;

#[derive(Clone)]
struct Receiver {
    secret: Arc<[u8]>,
    /// Has the clock that the store goes by.
    events: Namespace,
    handled: Arc<AtomicU64>,
}

/// The signature of an event, as the sender makes it.
#[must_use]
pub fn signature(secret: &[u8], id: &str, sent: u64, body: &[u8]) -> String {
    let code = mac(secret, id, &sent.to_string(), body);
    let code = code.map(|mac| BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    format!("v1,{}", code.unwrap_or_default())
}

fn mac(secret: &[u8], id: &str, sent: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for part in [id.as_bytes(), b".", sent.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac)
}

/// The service, over events in this store.
///
/// # Errors
/// If the store cannot keep them.
pub fn router(store: &Store, secret: &[u8]) -> Result<Router, oncelog::Error> {
    let policy = Policy { retention: Some(REMEMBERED.into()), ..Policy::default() };
    let events = store.namespace("events", policy)?;
    let handled = Arc::default();
    let receiver = Receiver { secret: secret.into(), events: events.clone(), handled };
    // One sender, whose events are all signed: its ids need no principal.
    let idempotency = IdempotencyLayer::new(events, Principal::public())
        .policy(RoutePolicy::new().required(true).key_header(HeaderName::from_static("webhook-id")))
        .timer(tokio::time::sleep);
    // The layer that is added last is asked first: nothing that is forged reaches the store.
    Ok(Router::new()
        .route("/webhook", post(handle))
        .layer(idempotency)
        .layer(from_fn_with_state(receiver.clone(), check))
        .with_state(receiver))
}

/// Serves until the process ends.
///
/// # Errors
/// If there is no secret, or the store or the network fails.
pub async fn serve(listener: TcpListener, store: Store) -> Result<(), Trouble> {
    let secret = std::env::var("SECRET").map_err(|_| "set SECRET to the key of the signatures")?;
    Ok(axum::serve(listener, router(&store, secret.as_bytes())?).await?)
}

/// Lets only those through that the sender has signed, and lately.
async fn check(State(receiver): State<Receiver>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let now = receiver.events.now().as_millis() / 1000;
    if !is_signed(&receiver.secret, now, &parts.headers, &body) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn is_signed(secret: &[u8], now: u64, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(sent), Some(codes)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return false;
    };
    let lately = sent.parse::<u64>().is_ok_and(|at| now.abs_diff(at) <= TOLERANCE.as_secs());
    // A sender that changes its secret signs with both.
    let codes = codes.split(' ').filter_map(|code| code.strip_prefix("v1,"));
    let mut codes = codes.filter_map(|code| BASE64_STANDARD.decode(code).ok());
    lately
        && codes.any(|code| {
            mac(secret, id, sent, body).is_some_and(|mac| mac.verify_slice(&code).is_ok())
        })
}

/// Handles an event. An answer of 5xx gives it back, and the sender sends it again.
async fn handle(State(receiver): State<Receiver>, body: Bytes) -> impl IntoResponse {
    if body.starts_with(b"fail") {
        return (StatusCode::SERVICE_UNAVAILABLE, "not now\n".to_owned());
    }
    let number = receiver.handled.fetch_add(1, Ordering::SeqCst) + 1;
    (StatusCode::OK, format!("event {number} is handled\n"))
}
