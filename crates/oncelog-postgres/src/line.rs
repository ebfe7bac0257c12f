//! A connection that keeps its prepared statements.

use std::sync::{Mutex, PoisonError};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Statement};

/// A client, and the statements that were prepared on it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) client: Client,
    /// By their text: some ten.
    statements: Mutex<Vec<(&'static str, Statement)>>,
}

impl Line {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, statements: Mutex::default() }
    }

    fn known(&self, text: &'static str) -> Option<Statement> {
        let statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let found = statements.iter().find(|(known, _)| *known == text);
        found.map(|(_, statement)| statement.clone())
    }

    /// The statement, prepared now or earlier. Two who prepare it at a time both do.
    pub(crate) async fn prepared(
        &self,
        text: &'static str,
        types: &[Type],
    ) -> Result<Statement, Error> {
        if let Some(statement) = self.known(text) {
            return Ok(statement);
        }
        let statement = self.client.prepare_typed(text, types).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.push((text, statement.clone()));
        Ok(statement)
    }
}
