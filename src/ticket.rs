//! Waiting for stable storage: one ticket covers everything recorded before it was taken.

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
#[cfg(feature = "async")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::{Context, Poll};

use crate::engine::Engine;
use crate::error::Result;

/// The promise that everything recorded before it was taken will be on stable storage.
///
/// Cheap: a lock and a number. Any number of tickets may be in flight, and one sync serves all
/// that were taken before it began. Wait for it with a thread, by [`Ticket::wait`], or await it
/// where the feature `async` is on, in any runtime: a future does not sync by itself, so that it
/// does not block, but has maintenance do it. With
/// [`Maintenance::Manual`](crate::Maintenance::Manual) that is for the caller's own
/// [`maintain`](crate::Store::maintain). Dropping a ticket changes nothing.
///
/// ```
/// use oncelog::Store;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let mut tickets = Vec::new();
/// for order in 0..100 {
///     store.check_and_set(format!("order-{order}"), "accepted")?;
///     tickets.push((order, store.ticket()?));
/// }
/// for (order, ticket) in tickets {
///     ticket.wait()?;
///     println!("order {order} survives a power loss");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a ticket says nothing until it was waited for"]
pub struct Ticket {
    engine: Arc<Engine>,
    number: u64,
}

impl Ticket {
    /// A ticket for everything recorded before the call.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { number: engine.commit.ticket(), engine }
    }

    /// Returns once everything that the ticket covers is on stable storage.
    ///
    /// # Errors
    /// [`Indeterminate`](crate::Error::Indeterminate) if a sync has failed: what the ticket covers
    /// may be found after reopening, or not.
    pub fn wait(self) -> Result<()> {
        self.engine.await_ticket(self.number)
    }

    /// True when everything that it covers is on stable storage already; does not sync.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.engine.commit.settled(self.number), Some(Ok(())))
    }
}

#[cfg(feature = "async")]
impl Future for Ticket {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { engine, number } = &*self;
        let answer = engine.commit.poll(*number, context.waker());
        if answer.is_pending() {
            if engine.health_check().is_err() {
                // Nobody maintains a store that is closed; nothing of it is left to be synced.
                return Poll::Ready(engine.await_ticket(*number));
            }
            engine.wake.ring();
        }
        answer
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}
