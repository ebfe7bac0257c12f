//! The backend over servers that the tests start: the suite of the contract, and what is its own.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod batches;
mod contract;
mod pools;
mod processes;
mod schema;
mod server;
mod sweep;
mod transaction;
mod trouble;
mod versions;
mod waiting;

use std::future::Future;

use oncelog::Policy;
use oncelog_postgres::{Builder, Lines, Namespace, Postgres};

use server::Server;

/// Runs a test on the shared server, in a new database; left out where no server is installed.
fn on_server<F: Future<Output = ()>>(test: impl FnOnce(&'static Server, String) -> F) {
    if server::is_installed() {
        server::runtime().block_on(async {
            let server = server::shared();
            let database = server.database().await;
            test(server, database).await;
        });
    }
}

/// The database with the schema in it.
async fn open(server: &Server, database: &str) -> Postgres<Lines> {
    let builder = Builder::url(&server.url(database)).unwrap();
    builder.migrate().await.unwrap();
    builder.open().await.unwrap()
}

/// A namespace of a new database.
async fn namespace(server: &Server, database: &str) -> Namespace<Lines> {
    open(server, database).await.namespace("orders", Policy::default()).await.unwrap()
}
