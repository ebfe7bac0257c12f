//! Settings, and what is asked of a server before it is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oncelog::backend::BeginTerms;
use oncelog::{
    BeginOptions, Error, KEY_BYTES_MAX_DEFAULT, OUTCOME_BYTES_MAX_DEFAULT, Policy, Result,
    TTL_DEFAULT, Ttl,
};
use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::runtime::Handle;

use crate::backend::{RedisBackend, Shared};
use crate::call::{Caller, Replicas};
use crate::connect::Connect;
use crate::names::{Names, check_outcome_limit};
use crate::server::Server;
use crate::trouble::{self, Reach};
use crate::wake::{Board, Listener};

/// How long an answer may take unless the builder says otherwise: 2 seconds.
pub const ANSWER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// How far the clocks of servers that follow one another may differ unless the builder says
/// otherwise: 10 seconds.
pub const CLOCK_SKEW_DEFAULT: Duration = Duration::from_secs(10);
/// The most that the clocks may be said to differ: a day.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(24 * 3600);

/// Settings of a [`RedisBackend`].
///
/// ```no_run
/// use oncelog::{AbandonPolicy, Policy};
/// use oncelog_redis::RedisBackend;
/// use std::time::Duration;
///
/// # async fn example() -> oncelog::Result<()> {
/// let payments = RedisBackend::builder("payments")
///     .policy(Policy { on_abandon: AbandonPolicy::Hold, ..Policy::default() })
///     .ttl(Duration::from_secs(7 * 24 * 3600))
///     .open("redis://127.0.0.1/")
///     .await?;
/// # let _ = payments;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until a backend is made with them"]
pub struct Builder {
    namespace: String,
    prefix: String,
    policy: Policy,
    ttl: Ttl,
    key_bytes_max: usize,
    outcome_bytes_max: usize,
    answer_timeout: Duration,
    clock_skew: Duration,
    replicas: Option<Replicas>,
    may_forget: bool,
    listen: Vec<Client>,
}

impl Builder {
    pub(crate) fn new(namespace: String) -> Self {
        Self {
            namespace,
            prefix: "oncelog".to_owned(),
            policy: Policy::default(),
            ttl: Ttl::After(TTL_DEFAULT),
            key_bytes_max: KEY_BYTES_MAX_DEFAULT,
            outcome_bytes_max: OUTCOME_BYTES_MAX_DEFAULT,
            answer_timeout: ANSWER_TIMEOUT_DEFAULT,
            clock_skew: CLOCK_SKEW_DEFAULT,
            replicas: None,
            may_forget: false,
            listen: Vec::new(),
        }
    }

    /// What the names of all keys begin with: 1 to 64 letters, digits, `.`, `-`, `_` or `/`.
    /// Default: `oncelog`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How the keys of the namespace behave. `max_keys` and `max_bytes` are not kept here, and a
    /// policy that has them is refused.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How long keys are remembered where neither policy nor call says. Default:
    /// [`TTL_DEFAULT`].
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// The longest key, in bytes: up to [`KEY_BYTES_MAX`](oncelog::KEY_BYTES_MAX). Default:
    /// [`KEY_BYTES_MAX_DEFAULT`].
    pub fn key_bytes_max(mut self, bytes: usize) -> Self {
        self.key_bytes_max = bytes;
        self
    }

    /// The longest outcome, in bytes: up to [`OUTCOME_BYTES_MAX`](oncelog::OUTCOME_BYTES_MAX).
    /// Default: [`OUTCOME_BYTES_MAX_DEFAULT`].
    pub fn outcome_bytes_max(mut self, bytes: usize) -> Self {
        self.outcome_bytes_max = bytes;
        self
    }

    /// How long an answer may take before the call is [given up](Error::Unanswered), and a
    /// connection before the server counts as [unreachable](Error::Unreachable). More than zero.
    /// Default: [`ANSWER_TIMEOUT_DEFAULT`].
    ///
    /// Connections of the `redis` crate have a limit of their own, half a second unless it was set;
    /// the shorter one holds.
    pub fn answer_timeout(mut self, time: Duration) -> Self {
        self.answer_timeout = time;
        self
    }

    /// How far the clocks of servers that follow one another, after a fail-over or a step of the
    /// clock, may differ: at most [`CLOCK_SKEW_MAX`]. Default: [`CLOCK_SKEW_DEFAULT`].
    ///
    /// So long is a key's last version kept, counted from when it was given, also if the key was
    /// removed or has come to its end before: the next one is greater on any such clock.
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.clock_skew = skew;
        self
    }

    /// Has each call that writes wait until so many replicas have acknowledged it, with `WAIT`, at
    /// most for `timeout`; one that waited in vain is [indeterminate](Error::is_indeterminate).
    ///
    /// A fail-over to a replica that has acknowledged forgets nothing; Redis does not promise that
    /// it is to one of those. `WAIT` stops the connection for other calls meanwhile. On a cluster
    /// each primary is asked, so each of them needs so many replicas.
    pub fn replicas(mut self, count: u32, timeout: Duration) -> Self {
        self.replicas = Some(Replicas { count, timeout });
        self
    }

    /// True takes a server that may throw keys away before their end, because its
    /// `maxmemory-policy` says so or it does not say. Such a key is answered as *new* again.
    /// Default: false, and such a server is refused.
    pub fn may_forget(mut self, may: bool) -> Self {
        self.may_forget = may;
        self
    }

    /// Has [`wait`](oncelog::backend::Backend::wait) be woken by messages of this server, over a
    /// connection of its own that is made anew when it breaks. Without, or while there is none, a
    /// key is looked at every 10 ms at first and every 250 ms later.
    ///
    /// Of a cluster, any node will do; more than one call names more than one node, and the next
    /// one is tried where one does not answer.
    pub fn listen(mut self, client: Client) -> Self {
        self.listen.push(client);
        self
    }

    /// A backend over the user's own connection, or whatever else gives connections.
    ///
    /// Costs three round trips: for what the server says of itself (`INFO`, `CONFIG GET`; what the
    /// user may not ask counts as the worst), and for when the namespace was first used.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig), [`InvalidNamespace`](Error::InvalidNamespace),
    /// [`InvalidTtl`](Error::InvalidTtl) or [`InvalidLease`](Error::InvalidLease) for settings that
    /// cannot work; [`Unprepared`](Error::Unprepared) for a server that is too old, may forget or
    /// holds something else under the names; [`Denied`](Error::Denied) or
    /// [`Unreachable`](Error::Unreachable).
    pub async fn connect<S: Connect>(self, source: S) -> Result<RedisBackend<S>> {
        self.connect_to(source, true).await
    }

    /// As [`connect`](Builder::connect), to clients for clusters of which it is known whether they
    /// send calls again.
    async fn connect_to<S: Connect>(self, source: S, resends: bool) -> Result<RedisBackend<S>> {
        let names = Names::new(&self.prefix, &self.namespace, self.key_bytes_max)?;
        self.check()?;
        let (timeout, replicas) = (self.answer_timeout, self.replicas);
        let mut caller = Caller { source, timeout, replicas, clustered: false, resends };
        let server = Server::look(&caller).await?;
        if let Some(why) = server.forgets.filter(|_| !self.may_forget) {
            return Err(trouble::unprepared(format!(
                "it may throw keys away before their end ({why}); set maxmemory-policy to \
                 noeviction, or say Builder::may_forget(true)"
            )));
        }
        caller.clustered = server.clustered;
        let board = (!self.listen.is_empty()).then(Arc::<Board>::default);
        let listener = board
            .clone()
            .map(|board| Listener::start(self.listen.clone(), names.space().to_vec(), board));
        let shared = Shared {
            caller,
            names,
            policy: self.policy,
            ttl: self.ttl,
            outcome_bytes_max: self.outcome_bytes_max,
            skew_ms: u64::try_from(self.clock_skew.as_millis()).unwrap_or(u64::MAX),
            survives: server.survives,
            calls: std::hash::RandomState::new(),
            calls_made: std::sync::atomic::AtomicU64::new(0),
            board,
            _listener: listener,
        };
        let backend = RedisBackend { shared: Arc::new(shared) };
        backend.born().await.map_err(before)?;
        Ok(backend)
    }

    /// A backend over a connection to the server at `url`, one that is made anew when it breaks,
    /// and a second one that [listens](Builder::listen).
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig) for a wrong URL; as [`connect`](Builder::connect).
    pub async fn open(self, url: &str) -> Result<RedisBackend<ConnectionManager>> {
        let client = Client::open(url).map_err(|error| trouble::of(&error, Reach::Before))?;
        // Whoever calls again has it try again; the answer's limit is the backend's own.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.answer_timeout))
            .set_response_timeout(None);
        let made = ConnectionManager::new_with_config(client.clone(), config).await;
        let connection = made.map_err(|error| trouble::of(&error, Reach::Before))?;
        self.listen(client).connect(connection).await
    }

    /// A backend over connections to the nodes of the cluster that these are some of, and one that
    /// [listens](Builder::listen).
    ///
    /// No call is ever sent again that a node may have taken. What a node has refused, because a
    /// key has moved or a primary is gone, is sent again until the answer's time is over; so a call
    /// takes twice that time at most.
    ///
    /// # Errors
    /// As [`open`](Builder::open).
    #[cfg(feature = "cluster")]
    pub async fn open_cluster(
        mut self,
        urls: &[&str],
    ) -> Result<RedisBackend<redis::cluster_async::ClusterConnection>> {
        let before = |error| trouble::of(&error, Reach::Before);
        for url in urls {
            self = self.listen(Client::open(*url).map_err(before)?);
        }
        let client = redis::cluster::ClusterClient::builder(urls.to_vec())
            .connection_timeout(self.answer_timeout)
            .response_timeout(self.answer_timeout)
            // It would also send again what a node may have done before it broke.
            .retries(0)
            .build()
            .map_err(before)?;
        let connection = client.get_async_connection().await.map_err(before)?;
        self.connect_to(connection, false).await
    }

    fn check(&self) -> Result<()> {
        let invalid = |reason: &str| Err(Error::InvalidConfig { reason: reason.to_owned() });
        let policy = Policy { require_fingerprint: false, ..self.policy };
        BeginTerms::new(&policy, &BeginOptions::new(), self.ttl)?;
        check_outcome_limit(self.outcome_bytes_max)?;
        if policy.max_keys.is_some() || policy.max_bytes.is_some() {
            return invalid("max_keys and max_bytes of the policy are not kept by redis");
        }
        if self.answer_timeout.is_zero() {
            return invalid("answer_timeout is zero; give at least a millisecond");
        }
        if self.clock_skew > CLOCK_SKEW_MAX {
            return invalid("clock_skew is over a day");
        }
        if self.replicas.is_some_and(|replicas| replicas.count == 0) {
            return invalid("replicas is called with none; leave it out");
        }
        if Handle::try_current().is_err() {
            return invalid("there is no Tokio runtime here, which connections and time come from");
        }
        Ok(())
    }
}

/// Nothing of the caller's was asked yet, so nothing is open.
fn before(error: Error) -> Error {
    match error {
        Error::Unanswered { reason, .. } => trouble::unreachable(reason),
        error => error,
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("namespace", &self.namespace)
            .field("prefix", &self.prefix)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
