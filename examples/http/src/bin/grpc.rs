//! Serves `oncelog_http::greeter`: `grpc FOLDER`; and calls it: `grpc ADDRESS KEY NAME`.

use oncelog_http::greeter::{greet, serve};
use tonic::transport::Endpoint;

#[tokio::main]
async fn main() -> Result<(), oncelog_http::Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key, name] = &arguments[..] else {
        return oncelog_http::start(serve).await;
    };
    let channel = Endpoint::from_shared(address.clone())?.connect().await?;
    let reply = greet(channel, key, name).await?;
    let replayed = reply.metadata().get("idempotency-replayed").is_some();
    println!("{} (replayed: {replayed})", reply.get_ref().message);
    Ok(())
}
