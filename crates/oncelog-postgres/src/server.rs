//! Asking over a connection of the pool, with a limit on the time that it may take.

use std::time::Duration;

use oncelog::Result;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::pool::Pool;
use crate::trouble;
use crate::verbs::{Ask, Values, Verb};

/// How often a call that was overtaken is made at most.
const ATTEMPTS_MAX: u32 = 100;

/// A database that is asked over connections of a pool.
#[derive(Debug)]
pub(crate) struct Server<P> {
    pub(crate) pool: P,
    pub(crate) prepared: bool,
    /// How long a connection, and then an answer, is waited for.
    pub(crate) timeout: Duration,
}

/// A connection that is given up unless its answer comes, also if the call is dropped.
struct Held<P: Pool>(Option<P::Connection>);

impl<P: Pool> Drop for Held<P> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            P::abandon(connection);
        }
    }
}

impl<P: Pool> Server<P> {
    /// Waits for a connection.
    pub(crate) async fn connection(&self) -> Result<P::Connection> {
        let waited = tokio::time::timeout(self.timeout, self.pool.connection()).await;
        waited.unwrap_or_else(|_| {
            Err(trouble::unreachable(format!("no connection within {:?}", self.timeout)))
        })
    }
}

impl<P: Pool> Server<P> {
    async fn ask_once(&self, verb: &'static Verb, values: &Values<'_>) -> Asked {
        let mut held = Held::<P>(Some(self.connection().await?));
        let Some(connection) = &held.0 else { return Ok(Ok(Vec::new())) };
        let asked = async {
            let statement = if self.prepared {
                P::prepared(connection, verb.text, &verb.types).await?
            } else {
                None
            };
            match statement {
                Some(statement) => connection.query(&statement, values).await,
                None => connection.query_typed(verb.text, &typed(verb, values)).await,
            }
        };
        let answer = tokio::time::timeout(self.timeout, asked)
            .await
            .map_err(|_| trouble::unanswered(format!("no answer within {:?}", self.timeout)))?;
        drop(held.0.take());
        Ok(answer)
    }
}

/// The server's answer, if one came.
type Asked = Result<std::result::Result<Vec<Row>, tokio_postgres::Error>>;

impl<P: Pool> Ask for Server<P> {
    async fn ask(&self, verb: &'static Verb, values: &Values<'_>) -> Result<Vec<Row>> {
        let mut attempts = 1;
        loop {
            match self.ask_once(verb, values).await? {
                Ok(rows) => return Ok(rows),
                // Where sessions are set to REPEATABLE READ or SERIALIZABLE, a call that another
                // one overtakes is rolled back: nothing was changed, and somebody got on.
                Err(error) if trouble::is_overtaken(&error) && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                }
                Err(error) => return Err(trouble::failed(&error, false)),
            }
        }
    }
}

/// The values with their types, for a statement that is not prepared.
pub(crate) fn typed<'a>(verb: &Verb, values: &Values<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values.iter().copied().zip(verb.types.iter().cloned()).collect()
}
