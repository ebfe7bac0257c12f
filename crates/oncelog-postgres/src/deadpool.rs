//! Connections of a pool of deadpool-postgres.

use std::ops::Deref;

use deadpool_postgres::{Object, PoolError};
use oncelog::Result;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::pool::Pool;
use crate::trouble;

/// A connection of the pool in use.
#[derive(Debug)]
pub struct Borrowed(Object);

impl Pool for deadpool_postgres::Pool {
    type Connection = Borrowed;

    async fn connection(&self) -> Result<Borrowed> {
        match self.get().await {
            Ok(object) => Ok(Borrowed(object)),
            Err(PoolError::Backend(error)) => Err(trouble::refused(&error)),
            Err(error) => Err(trouble::unreachable(error)),
        }
    }

    async fn prepared(
        connection: &Borrowed,
        text: &'static str,
        types: &[Type],
    ) -> std::result::Result<Option<Statement>, tokio_postgres::Error> {
        connection.0.prepare_typed_cached(text, types).await.map(Some)
    }

    fn abandon(connection: Borrowed) {
        drop(Object::take(connection.0));
    }
}

impl Deref for Borrowed {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}
