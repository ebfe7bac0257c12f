//! The layer: where keys are kept, who sends them, and what holds for which route.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use oncelog::backend::Backend;
use tower_layer::Layer;

use crate::finish::FinishLayer;
use crate::policy::RoutePolicy;
use crate::problem::PROBLEM_TYPES;
use crate::scope::Principal;
use crate::service::Idempotency;

type Select = dyn Fn(&Parts) -> Option<Arc<RoutePolicy>> + Send + Sync;
type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;
type Timer = dyn Fn(Duration) -> Sleep + Send + Sync;

/// Gives services the Idempotency-Key header: a request is handled once, and whoever repeats it
/// gets the same answer.
///
/// Keys are kept in any [`Backend`]: a [`Namespace`](oncelog::Namespace) of an embedded store, or a
/// server. The layer is cheap to clone, and its clones share the backend.
///
/// ```
/// use oncelog::{Policy, Store};
/// use oncelog_tower::{IdempotencyLayer, Principal, RoutePolicy};
/// use http::header::HeaderName;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let principal = Principal::header(HeaderName::from_static("x-api-key"));
/// let layer = IdempotencyLayer::new(store.namespace("http", Policy::default())?, principal)
///     .policy(RoutePolicy::new().required(true));
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a layer does nothing until it is put around a service"]
pub struct IdempotencyLayer<B> {
    backend: Arc<B>,
    setup: Arc<Setup>,
}

/// What the layer was told, shared by all of its services.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) principal: Principal,
    /// In front of the names of problems, as it stands in JSON.
    pub(crate) problem_types: Arc<str>,
    pub(crate) timer: Option<Arc<Timer>>,
    policy: Arc<RoutePolicy>,
    select: Option<Arc<Select>>,
    pub(crate) outcome_bytes_max: usize,
}

impl Setup {
    /// What holds for this request.
    pub(crate) fn policy(&self, parts: &Parts) -> Arc<RoutePolicy> {
        let selected = self.select.as_ref().and_then(|select| select(parts));
        selected.unwrap_or_else(|| self.policy.clone())
    }
}

impl<B: Backend> IdempotencyLayer<B> {
    /// Keeps keys in this backend, told apart by who sends them.
    pub fn new(backend: B, principal: Principal) -> Self {
        let setup = Setup {
            principal,
            problem_types: PROBLEM_TYPES.into(),
            timer: None,
            policy: Arc::new(RoutePolicy::new()),
            select: None,
            outcome_bytes_max: backend.profile().outcome_bytes_max,
        };
        Self { backend: Arc::new(backend), setup: Arc::new(setup) }
    }
}

impl<B> IdempotencyLayer<B> {
    fn set(mut self, set: impl FnOnce(&mut Setup)) -> Self {
        set(Arc::make_mut(&mut self.setup));
        self
    }

    /// What holds for requests that [`policy_for`](IdempotencyLayer::policy_for) says nothing
    /// about, which are all if it is not called.
    pub fn policy(self, policy: RoutePolicy) -> Self {
        self.set(|setup| setup.policy = Arc::new(policy))
    }

    /// What holds for a request, by its head; `None` for the [`policy`](IdempotencyLayer::policy)
    /// of all others. Where a router takes a layer for each route, that does as well.
    ///
    /// ```
    /// # use oncelog::{Policy, Store};
    /// # use oncelog_tower::{IdempotencyLayer, Principal, RoutePolicy};
    /// # use std::sync::Arc;
    /// # let directory = tempfile::tempdir()?;
    /// # let keys = Store::open(directory.path())?.namespace("http", Policy::default())?;
    /// let refunds = Arc::new(RoutePolicy::new().required(true));
    /// let layer = IdempotencyLayer::new(keys, Principal::public()).policy_for(move |parts| {
    ///     parts.uri.path().starts_with("/refunds").then(|| refunds.clone())
    /// });
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy_for(
        self,
        select: impl Fn(&Parts) -> Option<Arc<RoutePolicy>> + Send + Sync + 'static,
    ) -> Self {
        self.set(|setup| setup.select = Some(Arc::new(select)))
    }

    /// Sleeps, so that leases are renewed in time: `tokio::time::sleep`, or that of any runtime.
    ///
    /// Without it the layer takes [`Backend::wait`] for a timer, which every backend has. The
    /// embedded store wakes it at its maintenance, which its own thread does by default; a server
    /// may be asked once more for each request that takes longer than a moment, and is spared that
    /// by a timer.
    ///
    /// ```
    /// # use oncelog::{Policy, Store};
    /// # use oncelog_tower::{IdempotencyLayer, Principal};
    /// # let directory = tempfile::tempdir()?;
    /// # let keys = Store::open(directory.path())?.namespace("http", Policy::default())?;
    /// let layer = IdempotencyLayer::new(keys, Principal::public()).timer(tokio::time::sleep);
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timer<F>(self, sleep: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.set(|setup| {
            setup.timer = Some(Arc::new(move |length| -> Sleep { Box::pin(sleep(length)) }));
        })
    }

    /// What the types of problems begin with, in place of [`PROBLEM_TYPES`]; the address of their
    /// description, for example.
    pub fn problem_types(self, start: &str) -> Self {
        let escaped = start.chars().filter(|c| !c.is_control()).flat_map(|c| {
            let escape = matches!(c, '"' | '\\').then_some('\\');
            escape.into_iter().chain([c])
        });
        let escaped: String = escaped.collect();
        self.set(|setup| setup.problem_types = escaped.into())
    }

    /// Goes on with requests whose client has gone: what the runtime drops before the answer is
    /// stored is handed to `execute`, which has to poll it to its end.
    ///
    /// Without it a key whose request is dropped stays in progress until its lease runs out.
    /// Handed over are requests whose key is begun or being begun, not those that wait for another
    /// one or still send their body, and none whose handler has panicked. `execute` is called by
    /// whoever drops the request, also while a runtime ends; it must not panic.
    ///
    /// ```
    /// # use oncelog::{Policy, Store};
    /// # use oncelog_tower::{IdempotencyLayer, Principal};
    /// # let directory = tempfile::tempdir()?;
    /// # let keys = Store::open(directory.path())?.namespace("http", Policy::default())?;
    /// let layer = IdempotencyLayer::new(keys, Principal::public()).finish_with(|work| {
    ///     tokio::spawn(work);
    /// });
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish_with(
        self,
        execute: impl Fn(Unfinished) + Send + Sync + 'static,
    ) -> FinishLayer<B> {
        FinishLayer::new(self, Arc::new(execute))
    }
}

/// A request that goes on without its client.
pub type Unfinished = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<B> Clone for IdempotencyLayer<B> {
    fn clone(&self) -> Self {
        Self { backend: self.backend.clone(), setup: self.setup.clone() }
    }
}

impl<S, B> Layer<S> for IdempotencyLayer<B> {
    type Service = Idempotency<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency::new(inner, self.backend.clone(), self.setup.clone())
    }
}

impl<B> fmt::Debug for IdempotencyLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("principal", &self.principal)
            .field("problem_types", &self.problem_types)
            .field("timer", &self.timer.is_some())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
