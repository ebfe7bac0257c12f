//! A small pool of its own: lines are dialled when they are needed, and again when they are lost.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use oncelog::Result;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use crate::dial::Dial;
use crate::line::Line;
use crate::pool::Pool;
use crate::trouble;

/// Connections that are kept from call to call, at most so many. Cheap to clone.
///
/// A line that was lost is dialled anew by the next call that needs one. One whose answer somebody
/// no longer waits for is given up.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dial: Dial,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Arc<Line>>>,
}

/// A line in use. Given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    line: Arc<Line>,
    abandoned: bool,
    inner: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Lines {
    /// At most so many connections at a time; at least one.
    #[must_use]
    pub fn new(dial: Dial, most: usize) -> Self {
        let free = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner { dial, free, idle: Mutex::default() }))
    }
}

impl Inner {
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
        let inner = self.0.clone();
        let permit = inner.free.clone().acquire_owned().await.map_err(trouble::unreachable)?;
        let line = match inner.take_idle() {
            Some(line) => line,
            None => Arc::new(Line::new(inner.dial.link().await?.client)),
        };
        Ok(Taken { line, abandoned: false, inner, _permit: permit })
    }

    async fn prepared(
        connection: &Taken,
        text: &'static str,
        types: &[Type],
    ) -> std::result::Result<Option<Statement>, tokio_postgres::Error> {
        connection.line.prepared(text, types).await.map(Some)
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
            let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(self.line.clone());
        }
    }
}
