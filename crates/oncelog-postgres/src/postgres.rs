//! A database with the schema in it, how it is asked, and its namespaces.

use std::sync::Arc;
use std::time::Duration;

use oncelog::backend::{BeginTerms, CheckTerms, Profile};
use oncelog::{
    BeginOptions, CheckOptions, Error, KEY_BYTES_MAX_DEFAULT, OUTCOME_BYTES_MAX,
    OUTCOME_BYTES_MAX_DEFAULT, Policy, Result, TTL_DEFAULT, Ttl,
};

use crate::answer::column;
use crate::dial::Dial;
use crate::keys::Keys;
use crate::lines::Lines;
use crate::listen::Listener;
use crate::namespace::Namespace;
use crate::pool::Pool;
use crate::schema;
use crate::server::Server;
use crate::settings;
use crate::trouble::{self, strange};
use crate::verbs::{self, Ask};

/// The longest key that can be allowed, in bytes: an entry of an index takes no more than 2704.
pub const KEY_BYTES_MAX: usize = 2048;
/// How many connections [`Builder::url`] makes at most.
pub const LINES_DEFAULT: usize = 8;
/// How long a connection or an answer is waited for unless the builder says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// A namespace's name has at most so many bytes.
const NAME_BYTES_MAX: usize = 255;

/// How a database is asked.
///
/// ```no_run
/// use oncelog::backend::Backend;
/// use oncelog::{CheckOptions, Policy};
///
/// # async fn run() -> oncelog::Result<()> {
/// let builder = oncelog_postgres::Builder::url("postgres://app@localhost/app")?;
/// builder.migrate().await?;
/// let orders = builder.open().await?.namespace("orders", Policy::default()).await?;
/// assert!(orders.check_and_set(b"42", b"accepted", CheckOptions::new()).await?.is_new());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder<P> {
    pool: P,
    dial: Option<Dial>,
    prepared: bool,
    timeout: Duration,
    ttl: Ttl,
    key_bytes_max: usize,
    outcome_bytes_max: usize,
}

impl Builder<Lines> {
    /// Up to [`LINES_DEFAULT`] connections to the database that the URL names, and one more that
    /// listens once somebody waits; without TLS.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig) for a URL that is none. Nothing is connected yet.
    pub fn url(url: &str) -> Result<Self> {
        Ok(Self::dial(Dial::url(url)?, LINES_DEFAULT))
    }

    /// Up to so many connections, and one more that listens once somebody waits.
    pub fn dial(dial: Dial, most: usize) -> Self {
        Self::new(Lines::new(dial.clone(), most)).listening(dial)
    }
}

impl<P: Pool> Builder<P> {
    /// Asks over connections of the pool.
    pub fn new(pool: P) -> Self {
        Self {
            pool,
            dial: None,
            prepared: true,
            timeout: TIMEOUT_DEFAULT,
            ttl: Ttl::After(TTL_DEFAULT),
            key_bytes_max: KEY_BYTES_MAX_DEFAULT,
            outcome_bytes_max: OUTCOME_BYTES_MAX_DEFAULT,
        }
    }

    /// Makes one connection more, once somebody waits, for the server to tell of keys that become
    /// free. It must lead to the server itself: what hands sessions out by transaction cannot pass
    /// on what is told. Without it, those who wait look again after pauses of 10 to 400 ms.
    pub fn listening(mut self, dial: Dial) -> Self {
        self.dial = Some(dial);
        self
    }

    /// False for connections that lead through something that gives each transaction another
    /// session, as PgBouncer does when it pools by transaction. On by default; without, a call
    /// costs the server some 20 us more, and no round trip.
    pub fn prepared(mut self, prepared: bool) -> Self {
        self.prepared = prepared;
        self
    }

    /// How long a connection, and then an answer, is waited for: [`TIMEOUT_DEFAULT`] unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long keys are remembered where neither call nor policy says: [`TTL_DEFAULT`] unless set.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// The longest key, in bytes: [`KEY_BYTES_MAX_DEFAULT`] unless set, at most [`KEY_BYTES_MAX`].
    pub fn key_bytes_max(mut self, bytes: usize) -> Self {
        self.key_bytes_max = bytes;
        self
    }

    /// The longest outcome, in bytes: [`OUTCOME_BYTES_MAX_DEFAULT`] unless set, at most
    /// [`OUTCOME_BYTES_MAX`].
    pub fn outcome_bytes_max(mut self, bytes: usize) -> Self {
        self.outcome_bytes_max = bytes;
        self
    }

    fn validate(&self) -> Result<()> {
        let refuse = |what: &str, given: usize, max: usize| {
            let reason = format!("{what} is {given}; it must be between 1 and {max}");
            Err(Error::InvalidConfig { reason })
        };
        if !(1..=KEY_BYTES_MAX).contains(&self.key_bytes_max) {
            return refuse("key_bytes_max", self.key_bytes_max, KEY_BYTES_MAX);
        }
        if !(1..=OUTCOME_BYTES_MAX).contains(&self.outcome_bytes_max) {
            return refuse("outcome_bytes_max", self.outcome_bytes_max, OUTCOME_BYTES_MAX);
        }
        CheckTerms::new(&Policy::default(), &CheckOptions::new(), self.ttl).map(|_| ())
    }

    /// Creates or updates the schema; true if there was something to do. Needs the right to create
    /// in the database, the first time.
    ///
    /// May be called by any number of processes as they start: one of them does it, and the others
    /// wait. All in one transaction, so that an error leaves nothing behind.
    ///
    /// # Errors
    /// [`Unprepared`](Error::Unprepared) where the schema is newer than this crate; trouble.
    pub async fn migrate(&self) -> Result<bool> {
        schema::migrate(&*self.pool.connection().await?).await
    }

    /// Connects, and looks whether the schema is the one of this crate.
    ///
    /// # Errors
    /// [`Unprepared`](Error::Unprepared) where it is not; [`InvalidConfig`](Error::InvalidConfig);
    /// trouble.
    pub async fn open(self) -> Result<Postgres<P>> {
        self.validate()?;
        let Self { pool, prepared, timeout, .. } = self;
        let server = Server { pool, prepared, timeout };
        let connection = server.connection().await?;
        let limits = (self.key_bytes_max, self.outcome_bytes_max);
        let looks = async {
            schema::check(&connection).await?;
            settings::profile(&connection, limits.0, limits.1).await
        };
        let looked = tokio::time::timeout(timeout, looks).await;
        let Ok(profile) = looked else {
            P::abandon(connection);
            return Err(trouble::unreachable(format!("no answer within {timeout:?}")));
        };
        drop(connection);
        let profile = profile?;
        let listener = self.dial.map(Listener::new);
        Ok(Postgres(Arc::new(Database { server, listener, profile, ttl: self.ttl })))
    }
}

/// A database with the schema in it. Cheap to clone.
#[derive(Debug)]
pub struct Postgres<P = Lines>(pub(crate) Arc<Database<P>>);

#[derive(Debug)]
pub(crate) struct Database<P> {
    pub(crate) server: Server<P>,
    pub(crate) listener: Option<Listener>,
    pub(crate) profile: Profile,
    ttl: Ttl,
}

impl<P> Clone for Postgres<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Pool> Postgres<P> {
    /// The keys of a namespace under a policy; it is made where there is none with this name yet.
    /// Keys of different namespaces never meet.
    ///
    /// # Errors
    /// [`InvalidNamespace`](Error::InvalidNamespace) for a name that is empty or longer than 255
    /// bytes; [`InvalidConfig`](Error::InvalidConfig) for a policy that limits keys or bytes, which
    /// this backend does not keep; what a call under the policy would be refused with; trouble.
    pub async fn namespace(&self, name: &str, policy: Policy) -> Result<Namespace<P>> {
        validate(name, &policy, self.0.ttl)?;
        let rows = self.0.server.ask(&verbs::NAMESPACE, &[&name.as_bytes()]).await?;
        let row = rows.first().ok_or_else(|| strange("a namespace has no number"))?;
        let Profile { key_bytes_max, outcome_bytes_max, .. } = self.0.profile;
        let (space, born) = (column(row, 0)?, column(row, 1)?);
        let ttl = self.0.ttl;
        let keys = Keys { space, born, policy, ttl, key_bytes_max, outcome_bytes_max };
        Ok(Namespace { database: self.0.clone(), keys: Arc::new(keys) })
    }

    /// Removes up to so many records, of all namespaces, whose time was over a minute ago; how many
    /// there were. Fewer than `limit` means that there are no more.
    ///
    /// That records are forgotten does not depend on it; it gives their room back. One statement
    /// for each call, which waits for nobody and keeps a key that is claimed meanwhile waiting for
    /// no longer than it lasts: for a limit of 1000 some 10 ms.
    ///
    /// # Errors
    /// Trouble.
    pub async fn sweep(&self, limit: u32) -> Result<u64> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows = self.0.server.ask(&verbs::SWEEP, &[&limit]).await?;
        let row = rows.first().ok_or_else(|| strange("a sweep answered nothing"))?;
        u64::try_from(column::<i64>(row, 0)?).map_err(|_| strange("a sweep removed less than none"))
    }

    /// Sweeps for as long as it is polled, up to so many records at a time: after each full sweep
    /// at once, after any other when the pause is over. Errors are left to the next attempt. To be
    /// spawned by whoever wants it; one process of many is enough.
    pub async fn sweep_for_ever(&self, limit: u32, pause: Duration) {
        loop {
            let swept = self.sweep(limit).await;
            if swept.is_ok_and(|swept| swept > 0 && swept >= u64::from(limit)) {
                // Whoever waits for a record that this sweep held goes first.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// What the server's settings promised when it was opened.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.0.profile
    }
}

fn validate(name: &str, policy: &Policy, ttl: Ttl) -> Result<()> {
    if name.is_empty() {
        return Err(Error::InvalidNamespace { reason: "its name is empty" });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::InvalidNamespace { reason: "its name has more than 255 bytes" });
    }
    if policy.max_keys.is_some() || policy.max_bytes.is_some() {
        let reason =
            "max_keys and max_bytes of the policy are not kept by postgres; leave them out";
        return Err(Error::InvalidConfig { reason: reason.into() });
    }
    let checked = Policy { require_fingerprint: false, ..*policy };
    BeginTerms::new(&checked, &BeginOptions::new(), ttl).map(|_| ())
}
