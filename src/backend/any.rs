//! A backend that is chosen when the program runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::answers::Begin;
use super::contract::Backend;
use super::profile::Profile;
use crate::answers::Check;
use crate::error::Result;
use crate::meta::Meta;
use crate::options::CheckOptions;
use crate::policy::BeginOptions;
use crate::record::Record;
use crate::time::Timestamp;
use crate::version::Version;

/// Any backend behind one type. Cheap to clone; each call costs an allocation more.
#[derive(Clone)]
pub struct AnyBackend(Arc<dyn Boxed>);

impl AnyBackend {
    /// Takes a backend of whatever type.
    #[must_use]
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self(Arc::new(backend))
    }
}

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.0.profile().name).finish()
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Writes the contract down as a trait whose futures are boxed, which every backend has.
macro_rules! boxed {
    ($($verb:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        trait Boxed: Send + Sync {
            fn profile(&self) -> Profile;
            $(fn $verb<'a>(&'a self, $($name: $type),*) -> Answer<'a, $answer>;)*
        }

        impl<B: Backend> Boxed for B {
            fn profile(&self) -> Profile {
                Backend::profile(self)
            }

            $(fn $verb<'a>(&'a self, $($name: $type),*) -> Answer<'a, $answer> {
                Box::pin(Backend::$verb(self, $($name),*))
            })*
        }
    };
}

boxed! {
    now() -> Timestamp;
    check_and_set(key: &'a [u8], outcome: &'a [u8], options: CheckOptions) -> Check;
    check_and_set_many(items: &'a [(&'a [u8], &'a [u8])], options: CheckOptions)
        -> Vec<Result<Check>>;
    begin(key: &'a [u8], options: BeginOptions) -> Begin;
    complete(key: &'a [u8], version: Version, outcome: &'a [u8]) -> Version;
    fail(key: &'a [u8], version: Version, outcome: &'a [u8]) -> Version;
    release(key: &'a [u8], version: Version, retry_after: Option<Duration>) -> ();
    renew(key: &'a [u8], version: Version, length: Duration) -> Timestamp;
    resolve(key: &'a [u8], outcome: &'a [u8]) -> bool;
    get(key: &'a [u8]) -> Option<Record>;
    peek(key: &'a [u8]) -> Option<Meta>;
    remove(key: &'a [u8], version: Option<Version>) -> bool;
    wait(key: &'a [u8], timeout: Duration) -> Option<Meta>;
}

impl Backend for AnyBackend {
    fn profile(&self) -> Profile {
        self.0.profile()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.0.now().await
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        self.0.check_and_set(key, outcome, options).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        self.0.check_and_set_many(items, options).await
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        self.0.begin(key, options).await
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.0.complete(key, version, outcome).await
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.0.fail(key, version, outcome).await
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        self.0.release(key, version, retry_after).await
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        self.0.renew(key, version, length).await
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        self.0.resolve(key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        self.0.get(key).await
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.0.peek(key).await
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        self.0.remove(key, version).await
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        self.0.wait(key, timeout).await
    }
}
