//! The least that axum can do, with the layer and without: `load FOLDER`, and `load plain`.
//!
//! For measuring what the layer takes; `scripts/http.sh` does.

use axum::Router;
use axum::routing::post;
use oncelog::{Policy, Store};
use oncelog_tower::{IdempotencyLayer, Principal};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), oncelog_http::Trouble> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder, or `plain`")?;
    let mut router = Router::new().route("/", post(|body: String| async move { body }));
    if folder != "plain" {
        let keys = Store::open(folder)?.namespace("requests", Policy::default())?;
        router = router.layer(IdempotencyLayer::new(keys, Principal::public()));
    }
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
