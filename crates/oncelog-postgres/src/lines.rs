//! A small pool of its own: lines are dialled when they are needed, and again when they are lost.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use oncelog::Result;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::dial::Dial;
use crate::pool::Pool;
use crate::trouble;

/// Connections that are kept from call to call, at most so many. Cheap to clone.
///
/// A line that was lost is dialled anew by the next call that needs one. One whose answer somebody
/// no longer waits for is given up.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dial: Dial,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Arc<Line>>>,
}

#[derive(Debug)]
struct Line {
    client: Client,
    /// Statements by their text: some ten.
    statements: tokio::sync::Mutex<Vec<(&'static str, Statement)>>,
}

/// A line in use. Given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    line: Arc<Line>,
    abandoned: bool,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Lines {
    /// At most so many connections at a time; at least one.
    #[must_use]
    pub fn new(dial: Dial, most: usize) -> Self {
        let free = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { dial, free, idle: Mutex::default() }))
    }
}

impl Shared {
    /// A line that nobody uses and that is not known to be lost.
    fn take_idle(&self) -> Option<Arc<Line>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|line| !line.client.is_closed());
        idle.pop()
    }
}

impl Pool for Lines {
    type Connection = Taken;

    async fn connection(&self) -> Result<Taken> {
        let shared = self.0.clone();
        let permit = shared.free.clone().acquire_owned().await.map_err(trouble::unreachable)?;
        let line = match shared.take_idle() {
            Some(line) => line,
            None => {
                let client = shared.dial.link().await?.client;
                Arc::new(Line { client, statements: tokio::sync::Mutex::default() })
            }
        };
        Ok(Taken { line, abandoned: false, shared, _permit: permit })
    }

    async fn prepared(
        connection: &Taken,
        text: &'static str,
        types: &[Type],
    ) -> std::result::Result<Option<Statement>, tokio_postgres::Error> {
        let mut statements = connection.line.statements.lock().await;
        if let Some((_, statement)) = statements.iter().find(|(known, _)| *known == text) {
            return Ok(Some(statement.clone()));
        }
        let statement = connection.prepare_typed(text, types).await?;
        statements.push((text, statement.clone()));
        Ok(Some(statement))
    }

    fn abandon(mut connection: Taken) {
        connection.abandoned = true;
    }
}

impl Deref for Taken {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.line.client
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.abandoned && !self.line.client.is_closed() {
            let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(self.line.clone());
        }
    }
}
