//! Where connections come from: the user's own, or a pool.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, ready};

use oncelog::Result;
use redis::aio::ConnectionLike;

use crate::trouble;

/// Where a connection for one call comes from.
///
/// Implemented for every asynchronous connection of the `redis` crate that can be cloned, which
/// stands for the same connection then: one to a server, one that is made anew when it breaks, and
/// one to a cluster. [`Pooled`] makes one of a closure; a pool's own type can implement it too.
pub trait Connect: Send + Sync + 'static {
    /// A connection to the server or the cluster that holds the keys.
    type Connection: ConnectionLike + Send;

    /// A connection for one call.
    ///
    /// # Errors
    /// Why there is none; nothing was asked of a server then.
    fn connection(&self) -> impl Future<Output = Result<Self::Connection>> + Send;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Connect for C {
    type Connection = C;

    fn connection(&self) -> impl Future<Output = Result<C>> + Send {
        ready(Ok(self.clone()))
    }
}

/// Connections that a closure takes from a pool.
///
/// ```
/// use oncelog_redis::Pooled;
///
/// # fn example(pool: deadpool_redis::Pool) {
/// let connections = Pooled::new(move || {
///     let pool = pool.clone();
///     async move { pool.get().await }
/// });
/// # let _ = connections;
/// # }
/// ```
#[derive(Clone)]
pub struct Pooled<F>(F);

impl<F, A, C, E> Pooled<F>
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = std::result::Result<C, E>> + Send,
    C: ConnectionLike + Send,
    E: StdError + 'static,
{
    /// Takes a connection from `get` for each call, and gives it back by dropping it.
    #[must_use]
    pub fn new(get: F) -> Self {
        Self(get)
    }
}

impl<F, A, C, E> Connect for Pooled<F>
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = std::result::Result<C, E>> + Send,
    C: ConnectionLike + Send,
    E: StdError + 'static,
{
    type Connection = C;

    async fn connection(&self) -> Result<C> {
        (self.0)().await.map_err(|error| trouble::of_pool(&error))
    }
}

impl<F> fmt::Debug for Pooled<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled")
    }
}
