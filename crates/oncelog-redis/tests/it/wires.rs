//! Connections with a quirk, over a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oncelog_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use oncelog_redis::redis::{Cmd, Pipeline, RedisFuture, Value};

/// Sends each call twice, as a client does that has lost the first answer.
#[derive(Clone)]
pub(crate) struct Twice<C>(pub(crate) C);

impl<C: ConnectionLike + Send> ConnectionLike for Twice<C> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let _ = self.0.req_packed_command(command).await;
            self.0.req_packed_command(command).await
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let _ = self.0.req_packed_commands(pipeline, offset, count).await;
            self.0.req_packed_commands(pipeline, offset, count).await
        })
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

/// Counts the ways to the server and back.
#[derive(Clone)]
pub(crate) struct Counted {
    connection: MultiplexedConnection,
    pub(crate) trips: Arc<AtomicU64>,
}

impl Counted {
    pub(crate) fn new(connection: MultiplexedConnection) -> Self {
        Self { connection, trips: Arc::default() }
    }

    /// How many there were since this was asked last.
    pub(crate) fn taken(&self) -> u64 {
        self.trips.swap(0, Ordering::Relaxed)
    }
}

impl ConnectionLike for Counted {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.connection.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
