//! Payments with axum: a charge is made once for each key, however often it is asked for.
//!
//! The answers look enough like those of Stripe that its SDKs can be pointed here. `GET /` is a
//! page with a form that is sent twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::HeaderName};
use oncelog::{Check, Namespace, Policy, Store};
use oncelog_tower::{Execution, IdempotencyLayer, Principal, RoutePolicy};
use tokio::net::TcpListener;

use crate::Trouble;

/// What stands for the bank: which charges were made, by the key of the request that asked.
struct Bank {
    charges: Namespace,
    /// How long it takes.
    work: Duration,
}

impl Bank {
    /// Makes the effect, and answers its id.
    ///
    /// A process that was killed between the effect and the answer has left the effect behind; the
    /// next attempt finds it by the same key, and does not repeat it.
    async fn pay(&self, execution: &Execution, kind: &str) -> Result<String, oncelog::Error> {
        tokio::time::sleep(self.work).await;
        let id = format!("{kind}_{}", execution.token.as_u64());
        Ok(match self.charges.check_and_set(execution.store_key, &id)? {
            Check::New => id,
            Check::Duplicate(made) => String::from_utf8_lossy(made.outcome()).into_owned(),
        })
    }
}

/// The service, over keys and charges in this store.
///
/// # Errors
/// If the store cannot keep them.
pub fn router(store: &Store, work: Duration, lease: Duration) -> Result<Router, oncelog::Error> {
    let keys = store.namespace("requests", Policy::default())?;
    let charges = Policy { retention: Some(oncelog::Ttl::Never), ..Policy::default() };
    let bank = Arc::new(Bank { charges: store.namespace("charges", charges)?, work });

    // These lines are all that protects the route.
    let idempotency = IdempotencyLayer::new(keys, Principal::header(header::AUTHORIZATION))
        .policy(RoutePolicy::new().required(true).lease(lease))
        .timer(tokio::time::sleep)
        .finish_with(|work| {
            tokio::spawn(work);
        });

    Ok(Router::new()
        .route("/v1/charges", post(charge).layer(idempotency.clone()))
        .route("/api/counterparties", post(counterparty).layer(idempotency))
        .route("/v1/charges", get(count))
        .route("/", get(|| async { Html(include_str!("payments.html")) }))
        .with_state(bank))
}

/// Serves until the process ends.
///
/// # Errors
/// If the store or the network fails.
pub async fn serve(listener: TcpListener, store: Store) -> Result<(), Trouble> {
    let millis = |name: &str, default: u64| {
        let value = std::env::var(name).ok().and_then(|value| value.parse().ok());
        Duration::from_millis(value.unwrap_or(default))
    };
    let router = router(&store, millis("WORK_MS", 200), millis("LEASE_MS", 30_000))?;
    Ok(axum::serve(listener, router).await?)
}

async fn charge(
    State(bank): State<Arc<Bank>>,
    Extension(execution): Extension<Execution>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let Some(amount) = form.get("amount").and_then(|amount| amount.parse::<u64>().ok()) else {
        let error = "{\"error\":{\"message\":\"amount is a whole number\"}}";
        return (StatusCode::BAD_REQUEST, json(error.to_owned())).into_response();
    };
    let id = match bank.pay(&execution, "ch").await {
        Ok(id) => id,
        Err(error) => {
            let error = format!("{{\"error\":{{\"message\":\"{error}\"}}}}");
            return (StatusCode::SERVICE_UNAVAILABLE, json(error)).into_response();
        }
    };
    let attempt = execution.attempt;
    let charge = format!(
        "{{\"id\":\"{id}\",\"object\":\"charge\",\"amount\":{amount},\"attempt\":{attempt}}}"
    );
    let location = HeaderValue::from_str(&format!("/v1/charges/{id}"));
    let mut response = json(charge).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// As SDKs that Stainless generates ask for it, in JSON. What is in it makes no difference here.
async fn counterparty(
    State(bank): State<Arc<Bank>>,
    Extension(execution): Extension<Execution>,
) -> Response {
    match bank.pay(&execution, "cp").await {
        Ok(id) => json(format!("{{\"id\":\"{id}\",\"object\":\"counterparty\"}}")).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, json(format!("{{\"error\":\"{error}\"}}")))
            .into_response(),
    }
}

/// How many charges were made.
async fn count(State(bank): State<Arc<Bank>>) -> impl IntoResponse {
    json(format!("{{\"charges\":{}}}", bank.charges.stats().keys))
}

fn json(body: String) -> impl IntoResponse {
    let kind: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");
    ([kind], body)
}
