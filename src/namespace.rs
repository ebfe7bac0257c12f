//! Keys under a name and a policy of their own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::answers::{Answers, Check, CheckAll, Checked};
use crate::begin::Begin;
use crate::calls::Claims;
use crate::config::Durability;
use crate::engine::finish::Ending;
use crate::error::Result;
use crate::lease::{Lease, release_millis};
use crate::meta::Meta;
use crate::options::CheckOptions;
use crate::policy::{BeginOptions, Policy, lease_millis};
use crate::record::{Ignore, Own, Record};
use crate::run::{Run, RunError};
use crate::scan::{Scan, Scanned};
use crate::stats::NamespaceStats;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// Keys under a name and a policy of their own, in the same store.
///
/// Keys of different namespaces never meet, and neither do they meet keys outside of any. Cheap to
/// clone. The calls are those of [`Store`] of the same names.
///
/// ```
/// use oncelog::{AbandonPolicy, Policy, Store};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let policy = Policy { on_abandon: AbandonPolicy::Hold, ..Policy::default() };
/// let payments = store.namespace("payments", policy)?;
/// let mails = store.namespace("mails", Policy::default())?;
/// assert!(payments.insert("order-42")?);
/// assert!(mails.insert("order-42")?);
/// assert!(!payments.insert("order-42")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Namespace {
    store: Store,
    name: Arc<str>,
    number: u32,
    policy: Policy,
}

impl Store {
    /// The namespace with this name, which is made where there is none yet: 1 to 255 bytes, at
    /// most 4096 of them in a store. A new name costs a write of the manifest, with its syncs.
    ///
    /// The name is stored, the policy is not: it holds for what is done through this handle.
    ///
    /// # Errors
    /// [`InvalidNamespace`](crate::Error::InvalidNamespace) for a name that cannot be used;
    /// [`InvalidLease`](crate::Error::InvalidLease), [`InvalidTtl`](crate::Error::InvalidTtl) or
    /// [`InvalidConfig`](crate::Error::InvalidConfig) for a policy that cannot work;
    /// [`Full`](crate::Error::Full) or [`Io`](crate::Error::Io) if the name cannot be stored.
    pub fn namespace(&self, name: &str, policy: Policy) -> Result<Namespace> {
        let engine = self.engine();
        let checked = Policy { require_fingerprint: false, ..policy };
        checked.terms(&BeginOptions::new(), engine.lifetime())?;
        let number = engine.space_number(name)?;
        Ok(Namespace { store: self.clone(), name: name.into(), number, policy })
    }
}

impl Namespace {
    pub(crate) fn claims(&self) -> Claims<'_> {
        let (engine, durability) = (self.store.engine(), self.store.durability());
        Claims { engine, space: Some(self.number), policy: &self.policy, durability }
    }

    /// As [`Store::with_durability`].
    ///
    /// # Errors
    /// As there.
    pub fn with_durability(&self, durability: Durability) -> Result<Self> {
        Ok(Self { store: self.store.with_durability(durability)?, ..self.clone() })
    }

    /// The same keys, under another policy.
    #[cfg(feature = "backend")]
    pub(crate) fn under(&self, policy: Policy) -> Self {
        Self { policy, ..self.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policy that this handle was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What was done to its keys since the store was opened.
    #[must_use]
    pub fn stats(&self) -> NamespaceStats {
        self.store.engine().space_stats(self.number)
    }

    /// As [`Store::check_and_set`], for the retention of the policy.
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set(&self, key: impl AsRef<[u8]>, outcome: impl AsRef<[u8]>) -> Result<Check> {
        let options = CheckOptions::new();
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// As [`Store::check_and_set_for`].
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set_for(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> Result<Check> {
        let options = CheckOptions::new().retention(ttl);
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// As [`Store::check_and_set_sent`], for the retention of the policy; the horizon is the later
    /// of the namespace's creation and now minus that retention.
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set_sent(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        sent: Timestamp,
    ) -> Result<Check> {
        let options = CheckOptions::new().sent_at(sent);
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// As [`Store::check_and_set_with`]; what the options leave open is as the policy says.
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set_with(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        options: CheckOptions,
    ) -> Result<Check> {
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// As [`Store::check_and_set_many`], for the retention of the policy. Memory is not fetched
    /// ahead: as fast as single calls.
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set_many<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        answers: &mut Answers,
    ) -> Result<()> {
        self.claims().check_many(items, answers)
    }

    /// As [`Store::check_and_set_all`], for the retention of the policy.
    ///
    /// # Errors
    /// As there; where the namespace has no room for all keys, none is recorded.
    pub fn check_and_set_all<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
    ) -> Result<CheckAll> {
        self.claims().check_all(items, &CheckOptions::new())
    }

    /// As [`Store::check_and_set_all_with`]; what the options leave open is as the policy says.
    ///
    /// # Errors
    /// As there.
    pub fn check_and_set_all_with<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        options: CheckOptions,
    ) -> Result<CheckAll> {
        self.claims().check_all(items, &options)
    }

    /// As [`Store::insert`], for the retention of the policy.
    ///
    /// # Errors
    /// As there.
    pub fn insert(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(!self.claims().check(key.as_ref(), &[], &CheckOptions::new(), &mut Ignore)?)
    }

    /// As [`Store::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>> {
        self.claims().get(key.as_ref(), &mut Own)
    }

    /// As [`Store::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.claims().get(key.as_ref(), &mut Ignore)
    }

    /// As [`Store::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.claims().remove(key.as_ref(), None)
    }

    /// As [`Store::remove_if`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_if(&self, key: impl AsRef<[u8]>, version: Version) -> Result<bool> {
        self.claims().remove(key.as_ref(), Some(version))
    }

    /// As [`Store::set_if`]; a new key has the retention of the policy where no `ttl` is given.
    ///
    /// # Errors
    /// As there.
    pub fn set_if(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<Version>,
        outcome: impl AsRef<[u8]>,
        ttl: Option<Ttl>,
    ) -> Result<Option<Version>> {
        self.claims().set_if(key.as_ref(), expected, outcome.as_ref(), ttl)
    }

    /// As [`Store::now`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// As [`Store::begin`], under the policy.
    ///
    /// # Errors
    /// As there, and [`FingerprintRequired`](crate::Error::FingerprintRequired) where the policy
    /// wants one.
    pub fn begin(&self, key: impl AsRef<[u8]>) -> Result<Begin> {
        self.begin_with(key, BeginOptions::new())
    }

    /// As [`Store::begin_with`]; what the options leave open is as the policy says.
    ///
    /// # Errors
    /// As [`Namespace::begin`].
    pub fn begin_with(&self, key: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        self.claims().begin(key.as_ref(), &options)
    }

    /// As [`Store::begin_many`].
    ///
    /// # Errors
    /// As [`Namespace::begin`], for the first key that fails.
    pub fn begin_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        options: BeginOptions,
        answers: &mut Vec<Begin>,
    ) -> Result<()> {
        self.claims().begin_many(keys, &options, answers)
    }

    /// As [`Store::complete_by`].
    ///
    /// # Errors
    /// As there.
    pub fn complete_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        outcome: impl AsRef<[u8]>,
    ) -> Result<Version> {
        let ending = Ending::Complete(outcome.as_ref());
        Ok(self.claims().finish(key.as_ref(), version, ending)?.meta.version)
    }

    /// As [`Store::fail_by`].
    ///
    /// # Errors
    /// As there.
    pub fn fail_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        outcome: impl AsRef<[u8]>,
    ) -> Result<Version> {
        let ending = Ending::Fail(outcome.as_ref());
        Ok(self.claims().finish(key.as_ref(), version, ending)?.meta.version)
    }

    /// As [`Store::release_by`].
    ///
    /// # Errors
    /// As there.
    pub fn release_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let ending = Ending::Release(release_millis(retry_after)?);
        self.claims().finish(key.as_ref(), version, ending).map(|_| ())
    }

    /// As [`Store::renew_by`].
    ///
    /// # Errors
    /// As there.
    pub fn renew_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        length: Duration,
    ) -> Result<()> {
        let ending = Ending::Renew(lease_millis(length)?);
        self.claims().finish(key.as_ref(), version, ending).map(|_| ())
    }

    /// As [`Store::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, key: impl AsRef<[u8]>, outcome: impl AsRef<[u8]>) -> Result<bool> {
        self.claims().resolve(key.as_ref(), Ending::Complete(outcome.as_ref()))
    }

    /// As [`Store::peek`].
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Meta>> {
        self.claims().peek(key.as_ref())
    }

    /// As [`Store::scan`], over the keys of this namespace.
    pub fn scan(&self, scan: Scan) -> Scanned {
        let (engine, durability) = (self.store.engine(), self.store.durability());
        Scanned::new(engine, durability, Some(self.number), scan)
    }

    /// As [`Store::run`].
    ///
    /// # Errors
    /// As there.
    pub fn run<O: AsRef<[u8]>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl FnOnce(&mut Lease) -> std::result::Result<O, E>,
    ) -> std::result::Result<Run, RunError<E>> {
        self.claims().run(key.as_ref(), &options, work)
    }

    /// As [`Store::run_async`].
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "async")]
    pub async fn run_async<O: AsRef<[u8]>, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: BeginOptions,
        work: impl AsyncFnOnce(&mut Lease) -> std::result::Result<O, E>,
    ) -> std::result::Result<Run, RunError<E>> {
        self.claims().run_async(key.as_ref(), &options, work).await
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
