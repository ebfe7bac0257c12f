//! HTTP services that handle each request once: what the programs in `src/bin` serve.

pub mod bare;
pub mod greeter;
pub mod payments;
pub mod webhook;

use std::error::Error;
use std::future::Future;

use oncelog::Store;
use tokio::net::TcpListener;

/// The error of every program here.
pub type Trouble = Box<dyn Error + Send + Sync>;

/// Opens the store in the folder that the first argument names, listens at the address in `ADDRESS`
/// (a free port of this machine if there is none), says where, and serves.
pub async fn start<F: Future<Output = Result<(), Trouble>>>(
    serve: impl FnOnce(TcpListener, Store) -> F,
) -> Result<(), Trouble> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder for the store")?;
    let store = Store::open(folder)?;
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    serve(listener, store).await
}
