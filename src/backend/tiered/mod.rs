//! The embedded engine before a far backend, for outcomes that can no longer change.
//!
//! A finished record is a fact: as long as the far side knows it, it says the same. So a copy of it
//! may answer, and nothing else may: whatever is undecided is asked of the far side, every time.
//! A copy ends before the far record does, and before its outcome may be gone; and it answers for
//! a bounded time only, since what another process removes is not heard of here.

mod copy;
mod near;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::copy::NearCopy;
use self::near::Near;
use super::answers::Begin;
use super::contract::Backend;
use super::profile::Profile;
use super::terms::{BeginTerms, CheckTerms};
use crate::answers::Check;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::meta::Meta;
use crate::namespace::Namespace;
use crate::options::CheckOptions;
use crate::policy::{Anchor, BeginOptions, LongOutcomePolicy, Policy};
use crate::record::Record;
use crate::sys::sync::atomic::Ordering;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// A far backend, with copies of finished outcomes near by. Cheap to clone; clones share them.
///
/// Answered near by are `begin`, `check_and_set`, `get`, `peek` and `wait` of a key whose outcome
/// was seen before, by this tier and not longer ago than the *staleness*. Everything else goes to
/// the far side. What is different from asking it alone:
///
/// - A key that another process, or another tier, removes is answered with its old outcome for the
///   staleness at most, and so is one of which another process has prolonged the life: with the
///   times and the version it had. Removed through this tier or a clone of it, it is gone when the
///   call returns.
/// - An outcome is not replayed longer than the policy says. If another process asks for a shorter
///   [`outcome_ttl`](BeginOptions::outcome_ttl) in a call of its own, its outcome may be replayed
///   for the staleness at most.
/// - Both clocks are compared every ten seconds. A far clock that is set ahead in between counts
///   for what is copied after that; what was copied before may be answered past its end, for the
///   staleness at most.
///
/// Another request under the same key is always asked of the far side, as is whatever it refuses,
/// and duplicates under [`Anchor::LastSeen`], which prolong what they find.
///
/// ```
/// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}, thread};
/// use std::time::Duration;
///
/// use oncelog::backend::{Backend, Tiered};
/// use oncelog::{CheckOptions, Policy, Result, Store};
///
/// async fn first_of_two(orders: &impl Backend) -> Result<[bool; 2]> {
///     let first = orders.check_and_set(b"order-42", b"accepted", CheckOptions::new()).await?;
///     let second = orders.check_and_set(b"order-42", b"", CheckOptions::new()).await?;
///     Ok([first.is_new(), second.is_new()])
/// }
///
/// # struct Unpark(thread::Thread);
/// # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let waker = Waker::from(Arc::new(Unpark(thread::current())));
/// #     let mut future = pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
/// #             Poll::Ready(output) => return output,
/// #             Poll::Pending => thread::park(),
/// #         }
/// #     }
/// # }
/// # let directory = tempfile::tempdir()?;
/// let day = Duration::from_secs(86_400);
/// let policy = Policy { retention: Some(day.into()), ..Policy::default() };
/// let store = Store::open(directory.path())?;
/// // Any backend; here the same engine in another namespace, for an example that needs no server.
/// let far = store.namespace("orders", policy)?;
/// let near = store.namespace("orders near by", policy)?;
/// let orders = Tiered::new(near, far, Duration::from_secs(30))?;
/// assert_eq!(block_on(first_of_two(&orders))?, [true, false]);
/// assert_eq!(block_on(first_of_two(&orders))?, [false, false]);
/// assert_eq!((orders.stats().answered_near, orders.stats().kept), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tiered<B> {
    inner: Arc<Inner<B>>,
}

struct Inner<B> {
    near: Near,
    far: B,
    policy: Policy,
}

/// What a [`Tiered`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TieredStats {
    /// Keys that were answered near by.
    pub answered_near: u64,
    /// Keys that the far side was asked about, other than to change them.
    pub asked_far: u64,
    /// Records that were copied.
    pub kept: u64,
}

impl<B> Clone for Tiered<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<B: Backend> fmt::Debug for Tiered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let far = self.inner.far.profile().name;
        f.debug_struct("Tiered").field("far", &far).finish_non_exhaustive()
    }
}

/// Who asks for a key.
#[derive(Clone, Copy)]
enum Asks {
    /// Nothing that depends on how the key is kept.
    Look,
    /// A request with this fingerprint.
    Request(Option<Fingerprint>),
    /// The far side has to be asked.
    Far,
}

impl<B: Backend> Tiered<B> {
    /// Puts `near` before `far`.
    ///
    /// `near` is a namespace that is used for nothing else, with the policy that the far side has;
    /// its `max_keys` and `max_bytes` limit the copies. Copies need no durability, and are written
    /// without. They answer at most for `staleness`, from when the far side was asked; zero keeps
    /// none. A minute is plenty where keys are removed by hand, if ever.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for a policy that cannot work.
    pub fn new(near: Namespace, far: B, staleness: Duration) -> Result<Self> {
        let policy = *near.policy();
        let copies =
            Policy { max_keys: policy.max_keys, max_bytes: policy.max_bytes, ..Policy::default() };
        let copies = near.with_durability(Durability::Process)?.under(copies);
        let outcome_ms = policy.outcome_ttl.map(|ttl| Ttl::After(ttl).millis()).transpose()?;
        let near = Near::new(copies, staleness, outcome_ms.unwrap_or(u64::MAX));
        Ok(Self { inner: Arc::new(Inner { near, far, policy }) })
    }

    /// The far side, for what is to be asked of it alone.
    #[must_use]
    pub fn far(&self) -> &B {
        &self.inner.far
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> TieredStats {
        let counters = &self.inner.near.counters;
        TieredStats {
            answered_near: counters.answered.load(Ordering::Relaxed),
            asked_far: counters.asked.load(Ordering::Relaxed),
            kept: counters.kept.load(Ordering::Relaxed),
        }
    }

    /// The record of a key, if it is known here and may answer.
    fn near(&self, key: &[u8], asks: Asks) -> Option<Record> {
        let fingerprint = match asks {
            Asks::Look => None,
            Asks::Request(fingerprint) => fingerprint,
            Asks::Far => return None,
        };
        let NearCopy { record, .. } =
            self.inner.near.copy(key).filter(|copy| copy.is_of(fingerprint))?;
        self.inner.near.counters.answered.fetch_add(1, Ordering::Relaxed);
        Some(record)
    }

    /// What a `begin` asks; it cannot be answered near by if it cannot work, or prolongs the key.
    fn begins(&self, options: &BeginOptions) -> Asks {
        // How long the far side keeps keys of which nobody says it does not matter here.
        let Ok(terms) = BeginTerms::new(&self.inner.policy, options, Ttl::Never) else {
            return Asks::Far;
        };
        self.inner.near.expect_gone_after(terms.kept.outcome_ms);
        match terms.kept.anchor {
            Anchor::LastSeen => Asks::Far,
            _ => Asks::Request(terms.fingerprint),
        }
    }

    /// The same of a check, which may also be refused for the length of the outcome.
    fn checks(&self, options: &CheckOptions) -> (Asks, usize) {
        let Ok(terms) = CheckTerms::new(&self.inner.policy, options, Ttl::Never) else {
            return (Asks::Far, 0);
        };
        self.inner.near.expect_gone_after(terms.outcome_ms);
        let most = match terms.on_long_outcome {
            LongOutcomePolicy::Refuse => self.inner.far.profile().outcome_bytes_max,
            LongOutcomePolicy::KeepMark => usize::MAX,
        };
        match terms.anchor {
            Anchor::LastSeen => (Asks::Far, most),
            _ => (Asks::Request(None), most),
        }
    }

    /// Takes in the state that the far side told of a key.
    fn seen(&self, key: &[u8], meta: Option<&Meta>) {
        if !meta.is_some_and(|meta| meta.status.is_final()) {
            self.inner.near.forget(key);
        }
    }

    /// Takes in what the far side said of a key that was checked.
    async fn learn(&self, key: &[u8], check: &Result<Check>, asking: Option<near::Asking>) {
        let Inner { near, far, .. } = &*self.inner;
        match check {
            Ok(Check::Duplicate(record)) => near.keep(far, key, record, None, asking).await,
            Ok(Check::New) | Err(Error::InProgress { .. } | Error::Unresolved) => near.forget(key),
            Err(_) => {}
        }
    }
}

impl<B: Backend> Backend for Tiered<B> {
    fn profile(&self) -> Profile {
        Profile { name: "tiered", ..self.inner.far.profile() }
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.far.now().await
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        let (asks, most) = self.checks(&options);
        let asks = if outcome.len() > most { Asks::Far } else { asks };
        if let Some(record) = self.near(key, asks) {
            return Ok(Check::Duplicate(record));
        }
        let asking = self.inner.near.asking(key);
        let check = self.inner.far.check_and_set(key, outcome, options).await;
        self.learn(key, &check, asking).await;
        check
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        let (asks, most) = self.checks(&options);
        let near = |(key, outcome): &(&[u8], &[u8])| {
            self.near(key, if outcome.len() > most { Asks::Far } else { asks })
        };
        let known: Vec<Option<Record>> = items.iter().map(near).collect();
        let open = || items.iter().zip(&known).filter(|(_, known)| known.is_none());
        let asked: Vec<(&[u8], &[u8])> = open().map(|(item, _)| *item).collect();
        let asking: Vec<_> = asked.iter().map(|(key, _)| self.inner.near.asking(key)).collect();
        let mut checks = Vec::new();
        if !asked.is_empty() {
            checks = self.inner.far.check_and_set_many(&asked, options).await?;
        }
        for (((key, _), check), asking) in asked.iter().zip(&checks).zip(asking) {
            self.learn(key, check, asking).await;
        }
        let mut checks = checks.into_iter();
        let unanswered = || Error::Unanswered {
            backend: "tiered",
            reason: "the far side has answered fewer items than it was asked".into(),
        };
        let answers = known.into_iter().map(|known| match known {
            Some(record) => Ok(Ok(Check::Duplicate(record))),
            None => checks.next().ok_or_else(unanswered),
        });
        answers.collect()
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        let asks = self.begins(&options);
        if let Some(record) = self.near(key, asks) {
            return Ok(Begin::Completed(record));
        }
        let Inner { near, far, .. } = &*self.inner;
        let asking = near.asking(key);
        let begun = far.begin(key, options).await?;
        match &begun {
            // With another fingerprint than the key's it would have been a mismatch.
            Begin::Completed(record) => {
                near.keep(far, key, record, options.requested(), asking).await;
            }
            _ => near.forget(key),
        }
        Ok(begun)
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let _changing = self.inner.near.changing(key);
        self.inner.far.complete(key, version, outcome).await
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let _changing = self.inner.near.changing(key);
        self.inner.far.fail(key, version, outcome).await
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let _changing = self.inner.near.changing(key);
        self.inner.far.release(key, version, retry_after).await
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        let _changing = self.inner.near.changing(key);
        self.inner.far.renew(key, version, length).await
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        let _changing = self.inner.near.changing(key);
        self.inner.far.resolve(key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        if let Some(record) = self.near(key, Asks::Look) {
            return Ok(Some(record));
        }
        let Inner { near, far, .. } = &*self.inner;
        let asking = near.asking(key);
        let found = far.get(key).await?;
        match &found {
            Some(record) => near.keep(far, key, record, None, asking).await,
            None => near.forget(key),
        }
        Ok(found)
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        if let Some(record) = self.near(key, Asks::Look) {
            return Ok(Some(record.meta()));
        }
        let found = self.inner.far.peek(key).await?;
        self.seen(key, found.as_ref());
        Ok(found)
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        // Nothing is kept from before the far side removes it until after; when it answers, or
        // this future is dropped, nothing from before can come any more.
        let _changing = self.inner.near.changing(key);
        self.inner.far.remove(key, version).await
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        if let Some(record) = self.near(key, Asks::Look) {
            return Ok(Some(record.meta()));
        }
        let found = self.inner.far.wait(key, timeout).await?;
        self.seen(key, found.as_ref());
        Ok(found)
    }
}
