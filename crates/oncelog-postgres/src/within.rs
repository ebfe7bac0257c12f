//! The verbs within a transaction of the caller's.

use std::fmt;
use std::time::Duration;

use oncelog::backend::{Backend, Begin, Profile};
use oncelog::{BeginOptions, Check, CheckOptions, Meta, Record, Result, Timestamp, Version};
use tokio_postgres::{Row, Transaction};

use crate::keys::{Ending, Keys, lease_millis, release_millis};
use crate::server::typed;
use crate::trouble;
use crate::verbs::{Ask, Values, Verb};
use crate::wait::until_free;

/// A namespace as a transaction of the caller's sees it: see
/// [`Namespace::within`](crate::Namespace::within).
pub struct Within<'t> {
    pub(crate) keys: &'t Keys,
    pub(crate) profile: Profile,
    pub(crate) transaction: Held<'t>,
}

/// The caller's transaction.
pub(crate) struct Held<'t>(pub(crate) &'t Transaction<'t>);

impl Ask for Held<'_> {
    async fn ask(&self, verb: &'static Verb, values: &Values<'_>) -> Result<Vec<Row>> {
        let rows = self.0.query_typed(verb.text, &typed(verb, values)).await;
        rows.map_err(|error| trouble::failed(&error, true))
    }
}

impl fmt::Debug for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("keys", self.keys).finish_non_exhaustive()
    }
}

impl Backend for Within<'_> {
    fn profile(&self) -> Profile {
        self.profile
    }

    async fn now(&self) -> Result<Timestamp> {
        Keys::now(&self.transaction).await
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        self.keys.check(&self.transaction, key, outcome, &options).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        self.keys.check_many(&self.transaction, items, &options).await
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        self.keys.begin(&self.transaction, key, &options).await
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let ending = Ending::Complete(outcome);
        Ok(self.keys.finish(&self.transaction, key, version, ending).await?.version)
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let ending = Ending::Fail(outcome);
        Ok(self.keys.finish(&self.transaction, key, version, ending).await?.version)
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let ending = Ending::Release(release_millis(retry_after)?);
        self.keys.finish(&self.transaction, key, version, ending).await.map(|_| ())
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        let ending = Ending::Renew(lease_millis(length)?);
        Ok(self.keys.finish(&self.transaction, key, version, ending).await?.deadline)
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        self.keys.resolve(&self.transaction, key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        self.keys.get(&self.transaction, key).await
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.keys.peek(&self.transaction, key).await
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        self.keys.remove(&self.transaction, key, version).await
    }

    /// Looks again and again. Under `REPEATABLE READ` what others do is not seen, so that it ends
    /// with the lease or with the time.
    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        until_free(self.keys, &self.transaction, None, key, timeout).await
    }
}
