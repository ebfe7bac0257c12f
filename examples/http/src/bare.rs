//! The layer around a plain function, served by hyper without a framework.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use oncelog::{Policy, Store};
use oncelog_tower::{IdempotencyLayer, Principal, RequestBody};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};

use crate::Trouble;

async fn handle(
    request: Request<RequestBody<Incoming>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let mut response = Response::default();
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            return Ok(response);
        }
    };
    let answer = format!("handled {path}, {} bytes\n", body.len());
    Ok(Response::new(Full::new(Bytes::from(answer))))
}

/// Serves until the process ends.
///
/// # Errors
/// If the store or the network fails.
pub async fn serve(listener: TcpListener, store: Store) -> Result<(), Trouble> {
    let keys = store.namespace("requests", Policy::default())?;
    let service = IdempotencyLayer::new(keys, Principal::public()).layer(service_fn(handle));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            // A connection that fails concerns its client alone.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
