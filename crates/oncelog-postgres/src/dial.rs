//! Making connections: how to, given once, for lines and for the one that listens.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use oncelog::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};

use crate::trouble;

type Dialled =
    Pin<Box<dyn Future<Output = std::result::Result<Link, tokio_postgres::Error>> + Send>>;

/// How to connect to the database. Cheap to clone.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Dialled + Send + Sync>);

/// A connection that was made, and what the server says on it unasked.
#[derive(Debug)]
pub struct Link {
    pub(crate) client: Client,
    pub(crate) notices: mpsc::UnboundedReceiver<String>,
}

impl Link {
    /// Takes what connecting has given, and drives the connection in a task of its own, which ends
    /// with the connection.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    #[must_use]
    pub fn new<S, T>(client: Client, mut connection: Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // The end of the connection is seen by whoever asks over it.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(notice) = message {
                    // Nobody listens on most connections.
                    let _ = send.send(notice.payload().to_owned());
                }
            }
        });
        Self { client, notices }
    }
}

impl Dial {
    /// Connects as the URL, or string of `key=value` pairs, says, without TLS.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig) for what is none.
    pub fn url(url: &str) -> Result<Self> {
        let config = Config::from_str(url).map_err(|error| {
            // The URL itself is left out, as it may hold a password.
            let reason = trouble::with_source(&error);
            Error::InvalidConfig { reason: format!("the URL of the database: {reason}") }
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::InvalidConfig {
                reason: "the URL of the database has no host".into(),
            });
        }
        Ok(Self::new(config, NoTls))
    }

    /// Connects as the settings say. Times without an answer are noticed by what they say too: see
    /// [`Config::connect_timeout`], [`Config::keepalives`] and [`Config::tcp_user_timeout`].
    pub fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self::by(move || {
            let (config, tls) = (config.clone(), tls.clone());
            async move {
                let (client, connection) = config.connect(tls).await?;
                Ok(Link::new(client, connection))
            }
        })
    }

    /// Connects in a way of the caller's own.
    pub fn by<F, A>(connect: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = std::result::Result<Link, tokio_postgres::Error>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(connect())))
    }

    pub(crate) async fn link(&self) -> Result<Link> {
        (self.0)().await.map_err(|error| trouble::refused(&error))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
