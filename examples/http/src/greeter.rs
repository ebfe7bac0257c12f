//! A unary call of gRPC behind the layer, with tonic; the client sends its key as metadata.
//!
//! The service is written out as a generator would write it, so that no compiler of protocol files
//! is needed.

use std::convert::Infallible;
use std::future::Ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use oncelog::{Policy, Store};
use oncelog_tower::{IdempotencyLayer, Principal, RoutePolicy};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::Trouble;

/// Whom to greet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloRequest {
    /// The name; an empty one is refused for good, and `later` for now.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// The greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    /// How often anybody was greeted, and the greeting.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// Greets, and counts how often it did.
#[derive(Clone, Default)]
pub struct Greeter(Arc<AtomicU64>);

impl UnaryService<HelloRequest> for Greeter {
    type Response = HelloReply;
    type Future = Ready<Result<tonic::Response<HelloReply>, Status>>;

    fn call(&mut self, request: tonic::Request<HelloRequest>) -> Self::Future {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let name = request.into_inner().name;
        std::future::ready(match name.as_str() {
            "" => Err(Status::new(Code::InvalidArgument, format!("call {number} has no name"))),
            "later" => {
                Err(Status::new(Code::Unavailable, format!("call {number} comes too early")))
            }
            name => {
                let message = format!("hello {name}, greeting {number}");
                Ok(tonic::Response::new(HelloReply { message }))
            }
        })
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "hello.Greeter";
}

impl<B> Service<Request<B>> for Greeter
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let greeter = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<HelloReply, HelloRequest>::default());
            Ok(grpc.unary(greeter, request).await)
        })
    }
}

/// Serves until the process ends.
///
/// # Errors
/// If the store or the network fails.
pub async fn serve(listener: TcpListener, store: Store) -> Result<(), Trouble> {
    let keys = store.namespace("calls", Policy::default())?;
    let layer = IdempotencyLayer::new(keys, Principal::public())
        .policy(RoutePolicy::new())
        .timer(tokio::time::sleep);
    let server = Server::builder().layer(layer).add_service(Greeter::default());
    Ok(server.serve_with_incoming(TcpIncoming::from(listener)).await?)
}

/// Asks for a greeting under this key.
///
/// # Errors
/// What the server answers in place of a greeting.
pub async fn greet(
    channel: Channel,
    key: &str,
    name: &str,
) -> Result<tonic::Response<HelloReply>, Status> {
    let mut client = Client::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    let mut request = tonic::Request::new(HelloRequest { name: name.to_owned() });
    let key = key.parse().map_err(|_| Status::new(Code::InvalidArgument, "the key is no text"))?;
    request.metadata_mut().insert("idempotency-key", key);
    let codec = ProstCodec::<HelloRequest, HelloReply>::default();
    let path = http::uri::PathAndQuery::from_static("/hello.Greeter/SayHello");
    client.unary(request, path, codec).await
}
