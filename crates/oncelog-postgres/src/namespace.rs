//! A namespace of a database, behind the contract.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oncelog::backend::{Backend, Begin, Profile};
use oncelog::{BeginOptions, Check, CheckOptions, Meta, Record, Result, Timestamp, Version};
use tokio_postgres::Transaction;

use crate::keys::{Ending, Keys, lease_millis, release_millis};
use crate::lines::Lines;
use crate::pool::Pool;
use crate::postgres::Database;
use crate::wait::until_free;
use crate::within::{Held, Within};

/// The keys of one namespace under one policy. Cheap to clone.
pub struct Namespace<P = Lines> {
    pub(crate) database: Arc<Database<P>>,
    pub(crate) keys: Arc<Keys>,
}

impl<P> Clone for Namespace<P> {
    fn clone(&self) -> Self {
        Self { database: self.database.clone(), keys: self.keys.clone() }
    }
}

impl<P> fmt::Debug for Namespace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<P: Pool> Namespace<P> {
    /// The same verbs within a transaction of the caller's, on the same database: what they change
    /// is committed or rolled back with all else that the transaction does.
    ///
    /// A key that was claimed or ended in a transaction keeps others who come for it waiting until
    /// that ends. Expiry is decided by the time of each call, not by that of the transaction.
    /// Under `REPEATABLE READ` and `SERIALIZABLE` a call may be answered from what was there when
    /// the transaction began; one that would change a key which another transaction has changed
    /// since then fails with [`Aborted`](oncelog::Error::Aborted). After any error of the server's
    /// the transaction can only be rolled back.
    ///
    /// ```no_run
    /// use oncelog::backend::{Backend, Begin};
    /// use oncelog::BeginOptions;
    /// # use oncelog_postgres::Namespace;
    ///
    /// # async fn pay(payments: Namespace, client: &mut tokio_postgres::Client)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// let Begin::Started(grant) = payments.begin(b"pay-7", BeginOptions::new()).await? else {
    ///     return Ok(());
    /// };
    /// let transaction = client.transaction().await?;
    /// transaction.execute("INSERT INTO charges VALUES ('pay-7', 100)", &[]).await?;
    /// payments.within(&transaction).complete(b"pay-7", grant.version, b"charged").await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn within<'t>(&'t self, transaction: &'t Transaction<'t>) -> Within<'t> {
        Within { keys: &self.keys, profile: self.database.profile, transaction: Held(transaction) }
    }

    async fn finish(&self, key: &[u8], version: Version, ending: Ending<'_>) -> Result<Version> {
        let ended = self.keys.finish(&self.database.server, key, version, ending).await?;
        Ok(ended.version)
    }
}

impl<P: Pool> Backend for Namespace<P> {
    fn profile(&self) -> Profile {
        self.database.profile
    }

    async fn now(&self) -> Result<Timestamp> {
        Keys::now(&self.database.server).await
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        self.keys.check(&self.database.server, key, outcome, &options).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        self.keys.check_many(&self.database.server, items, &options).await
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        self.keys.begin(&self.database.server, key, &options).await
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.finish(key, version, Ending::Complete(outcome)).await
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.finish(key, version, Ending::Fail(outcome)).await
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let ending = Ending::Release(release_millis(retry_after)?);
        self.finish(key, version, ending).await.map(|_| ())
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        let ending = Ending::Renew(lease_millis(length)?);
        let ended = self.keys.finish(&self.database.server, key, version, ending).await?;
        Ok(ended.deadline)
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        self.keys.resolve(&self.database.server, key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        self.keys.get(&self.database.server, key).await
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.keys.peek(&self.database.server, key).await
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        self.keys.remove(&self.database.server, key, version).await
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        let listener = self.database.listener.as_ref();
        until_free(&self.keys, &self.database.server, listener, key, timeout).await
    }
}
