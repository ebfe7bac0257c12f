//! What the layer takes around a handler that does nothing: first requests, replays, without it.
//!
//! `cost [REQUESTS [plain|first|replay]]` (100000, all). Times mean little on a busy machine;
//! `valgrind --tool=callgrind` counts instructions, of two lengths of which the difference counts.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use oncelog::{Clock, Policy, Store, SystemClock};
use oncelog_tower::{IdempotencyLayer, Principal};
use tower::{Layer, Service, ServiceExt, service_fn};

type Trouble = Box<dyn Error + Send + Sync>;

fn request(number: u64) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::post("/payments?dry=1")
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc")
        .header("idempotency-key", format!("8e03978e-40d5-43e8-bc93-{number:012}"))
        .body(Full::new(Bytes::from_static(
            b"{\"amount\":100,\"currency\":\"eur\",\"for\":\"order-42\"}",
        )))
}

/// Asks so often, with keys that are new or all the same, and says how long one took.
async fn measure<S, B>(name: &str, service: &S, requests: u64, keys: u64) -> Result<(), Trouble>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data = Bytes, Error: Into<Trouble>>,
{
    let clock = SystemClock::default();
    let begun = clock.now().as_millis();
    for number in 0..requests {
        let response = service.clone().oneshot(request(number % keys)?).await?;
        let body = response.into_body().collect().await.map_err(Into::into)?;
        assert_eq!(body.to_bytes().len(), 48);
    }
    let millis = clock.now().as_millis() - begun;
    println!("{name}: {} ns", millis * 1_000_000 / requests.max(1));
    Ok(())
}

async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Data = Bytes>,
{
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    let response = Response::builder().header("content-type", "application/json");
    let response = response.header("location", "/payments/1001");
    Ok(response.body(Full::new(body.unwrap_or_default())).unwrap_or_default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Trouble> {
    let mut arguments = std::env::args().skip(1);
    let requests = arguments.next().map_or(Ok(100_000), |number| number.parse())?;
    let only = arguments.next();
    let wants = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let folder = tempfile::tempdir()?;
    let keys = Store::open(folder.path())?.namespace("http", Policy::default())?;
    let principal = Principal::header(http::header::AUTHORIZATION);
    let service = IdempotencyLayer::new(keys, principal).layer(service_fn(echo));
    if wants("plain") {
        measure("without the layer", &service_fn(echo), requests, u64::MAX).await?;
    }
    if wants("first") {
        measure("first request", &service, requests, u64::MAX).await?;
    }
    if wants("replay") {
        measure("replay", &service, requests, 1).await?;
    }
    Ok(())
}
