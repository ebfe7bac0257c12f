//! Where connections come from: the seam for pools of others.

use std::future::Future;
use std::ops::Deref;

use oncelog::Result;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

/// Gives out connections to one database.
///
/// [`Lines`](crate::Lines) is the one that comes with this crate, and with the feature `deadpool`
/// its pools are some too; [`Shared`](crate::Shared) is one client for all. For another one:
///
/// ```
/// # use std::future::Future;
/// use bb8_postgres::PostgresConnectionManager;
/// use bb8_postgres::tokio_postgres::{Client, NoTls};
/// use oncelog_postgres::{Pool, refused, unreachable};
/// # use std::ops::Deref;
///
/// struct Bb8(bb8::Pool<PostgresConnectionManager<NoTls>>);
///
/// struct Taken(bb8::PooledConnection<'static, PostgresConnectionManager<NoTls>>);
///
/// impl Deref for Taken {
///     type Target = Client;
///
///     fn deref(&self) -> &Client {
///         &self.0
///     }
/// }
///
/// impl Pool for Bb8 {
///     type Connection = Taken;
///
///     async fn connection(&self) -> oncelog::Result<Taken> {
///         match self.0.get_owned().await {
///             Ok(connection) => Ok(Taken(connection)),
///             Err(bb8::RunError::User(error)) => Err(refused(&error)),
///             Err(bb8::RunError::TimedOut) => Err(unreachable("no connection became free")),
///         }
///     }
/// }
/// ```
pub trait Pool: Send + Sync + 'static {
    /// A connection that is the caller's until it is dropped.
    type Connection: Deref<Target = Client> + Send + Sync;

    /// Waits for a connection.
    ///
    /// # Errors
    /// [`unreachable`](crate::unreachable) if there is none to be had, and
    /// [`refused`](crate::refused) for what connecting failed with.
    fn connection(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// The statement as prepared earlier on this connection, or prepared now, to be used again.
    /// `None`, as it is by default, if the connection keeps no statements: then each call sends its
    /// text along, which costs no round trip and some 20 us of the server.
    ///
    /// # Errors
    /// What the client says.
    fn prepared(
        connection: &Self::Connection,
        text: &'static str,
        types: &[Type],
    ) -> impl Future<Output = std::result::Result<Option<Statement>, tokio_postgres::Error>> + Send
    {
        let _ = (connection, text, types);
        async { Ok(None) }
    }

    /// Takes a connection back whose answer nobody waits for any more: time ran out, or the call
    /// was dropped. It should be closed, as whoever asks over it next has to wait for that answer;
    /// by default it is merely dropped.
    fn abandon(connection: Self::Connection) {
        drop(connection);
    }
}
