//! One client for all callers: calls follow each other over it without waiting for answers.

use std::ops::Deref;
use std::sync::Arc;

use oncelog::Result;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::line::Line;
use crate::pool::Pool;
use crate::trouble;

/// A pool of one connection, which any number of calls use at a time. Cheap to clone.
///
/// The server answers them one after another: one that has to wait for a transaction keeps those
/// after it waiting, and each commit is a sync of its own. For many small calls where commits are
/// not waited for (`synchronous_commit=off`). Nothing connects it again once it is lost.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Line>);

impl Shared {
    /// Takes a client whose connection somebody drives.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Line::new(client)))
    }
}

impl Deref for Shared {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.client
    }
}

impl Pool for Shared {
    type Connection = Self;

    async fn connection(&self) -> Result<Self> {
        if self.is_closed() {
            return Err(trouble::unreachable("the connection is closed"));
        }
        Ok(self.clone())
    }

    async fn prepared(
        connection: &Self,
        text: &'static str,
        types: &[Type],
    ) -> std::result::Result<Option<Statement>, tokio_postgres::Error> {
        connection.0.prepared(text, types).await.map(Some)
    }
}
