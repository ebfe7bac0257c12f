//! What a case works with: namespaces of its own, two clients of each, and the time.

use std::time::Duration;

use super::failure::{Step, Stop, ensure, got};
use super::harness::{Able, Clients, Harness, Skew, Task, Time};
use super::{random, tasks};
use crate::answers::Check;
use crate::backend::{AnyBackend, Backend, Begin, Grant};
use crate::error::Result;
use crate::meta::{Meta, Status};
use crate::options::CheckOptions;
use crate::policy::{BeginOptions, Policy};
use crate::record::Record;
use crate::sys::clock;
use crate::sys::sync::atomic::{AtomicU64, Ordering};
use crate::time::{Timestamp, Ttl};

/// Nothing that lasts as long as this ends during a run.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// One case's run.
pub(super) struct Trial<'h> {
    pub(super) harness: &'h dyn Harness,
    /// What names of namespaces begin with.
    prefix: String,
    spaces: AtomicU64,
}

/// One namespace, and two clients of it that know nothing of each other.
pub(super) struct Space<'h> {
    trial: &'h Trial<'h>,
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) one: AnyBackend,
    pub(super) two: AnyBackend,
    probes: AtomicU64,
}

/// Asks a client something about a key; true if it is as it was before some end.
pub(super) type Look = for<'c> fn(&'c AnyBackend, &'c [u8]) -> Task<'c, Result<bool>>;

/// A policy under which nothing ends during a run.
pub(super) fn lasting() -> Policy {
    Policy { retention: Some(Ttl::After(24 * LONG)), lease: LONG, ..Policy::default() }
}

impl<'h> Trial<'h> {
    pub(super) fn new(harness: &'h dyn Harness) -> Self {
        let prefix = format!("suite-{:016x}", random::any());
        Self { harness, prefix, spaces: AtomicU64::new(0) }
    }

    pub(super) fn unit(&self) -> Duration {
        self.harness.unit()
    }

    /// A namespace that nobody used before.
    pub(super) async fn space(&'h self, policy: Policy) -> Step<Space<'h>> {
        let number = self.spaces.fetch_add(1, Ordering::Relaxed);
        self.space_named(&format!("{}-{number}", self.prefix), policy).await
    }

    /// A namespace of this name; with `Space::name` of another before it, nobody used it before.
    pub(super) async fn space_named(&'h self, name: &str, policy: Policy) -> Step<Space<'h>> {
        let one = self.harness.client(name, policy).await?;
        let two = self.harness.client(name, policy).await?;
        let probes = AtomicU64::new(0);
        Ok(Space { trial: self, name: name.into(), policy, one, two, probes })
    }

    /// Kills the server and starts it again.
    pub(super) async fn restart(&self) -> Step<Clients> {
        match self.harness.restart().await {
            Able::Done(clients) => Ok(clients),
            Able::Cannot(reason) => Err(Stop::LeftOut(reason)),
        }
    }

    /// Starts all of them at once, and waits until each is over.
    pub(super) async fn all<T: Send + 'static>(
        &self,
        tasks: impl IntoIterator<Item = impl Future<Output = Step<T>> + Send + 'static>,
    ) -> Step<Vec<T>> {
        tasks::all(self.harness, tasks).await
    }

    /// Starts a task.
    pub(super) fn start<T: Send + 'static>(
        &self,
        task: impl Future<Output = Step<T>> + Send + 'static,
    ) -> tasks::Running<Step<T>> {
        tasks::start(self.harness, task)
    }
}

impl<'h> Space<'h> {
    /// One client more.
    pub(super) async fn client(&self) -> Step<AnyBackend> {
        Ok(self.trial.harness.client(&self.name, self.policy).await?)
    }

    /// A client of the same keys under another policy.
    pub(super) async fn under(&self, policy: Policy) -> Step<AnyBackend> {
        Ok(self.trial.harness.client(&self.name, policy).await?)
    }

    /// A client whose clock is wrong.
    pub(super) async fn skewed(&self, skew: Skew) -> Step<AnyBackend> {
        match self.trial.harness.skewed_client(&self.name, self.policy, skew).await {
            Able::Done(client) => Ok(client?),
            Able::Cannot(reason) => Err(Stop::LeftOut(reason)),
        }
    }

    /// The time of the backend, as it stamps a key with it.
    pub(super) async fn now(&self) -> Step<Timestamp> {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        let key = format!("the time, {number}");
        let options = CheckOptions::new().retention(24 * LONG);
        got!(self.one.check_and_set(key.as_bytes(), b"", options).await?, Check::New => ());
        let record = got!(self.one.get(key.as_bytes()).await?, Some(record) => record);
        Ok(record.created())
    }

    /// Lets time pass until the backend's is `end`, or as little later as can be.
    pub(super) async fn until(&self, end: Timestamp) -> Step<()> {
        loop {
            let now = self.now().await?;
            if now >= end {
                return Ok(());
            }
            self.trial.harness.pass(before(now, end)).await;
        }
    }

    /// Looks at the key around the moment `end`: the look has to be true at every moment before it,
    /// and false from then on.
    ///
    /// Each look lies between two readings of the backend's time. Where that stands still, one look
    /// is made in the last millisecond before the end, and one in the first after it.
    pub(super) async fn ends_at(&self, key: &[u8], end: Timestamp, look: Look) -> Step {
        let harness = self.trial.harness;
        let early = match harness.time() {
            Time::StandsStill => 1,
            // Looks are made all the time from then on.
            Time::Runs => 20,
        };
        self.until(Timestamp::from_millis(end.as_millis().saturating_sub(early))).await?;
        let mut earlier = self.now().await?;
        loop {
            let is_before = look(&self.two, key).await?;
            let later = self.now().await?;
            if is_before {
                ensure!(earlier < end, "what ended at {end} is still there at {earlier}");
            } else {
                ensure!(later >= end, "what ends at {end} was over at {later}");
            }
            if earlier >= end {
                return Ok(());
            }
            earlier = later;
            if harness.time() == Time::StandsStill {
                harness.pass(before(later, end)).await;
                earlier = self.now().await?;
            }
        }
    }

    /// Begins a key that is to be had.
    pub(super) async fn begun(&self, key: &[u8], options: BeginOptions) -> Step<Grant> {
        started(&self.one, key, options).await
    }

    /// A key whose only lease is over.
    pub(super) async fn overdue(&self, key: &[u8], options: BeginOptions) -> Step<Grant> {
        let grant = self.begun(key, options.lease(Duration::from_millis(1))).await?;
        self.until(grant.deadline).await?;
        Ok(grant)
    }

    /// A key that is done.
    pub(super) async fn done(&self, key: &[u8], outcome: &[u8]) -> Step<Record> {
        let grant = self.begun(key, BeginOptions::new()).await?;
        self.one.complete(key, grant.version, outcome).await?;
        Ok(got!(self.one.get(key).await?, Some(record) => record))
    }

    /// What is known of a key, which has to be in this state.
    pub(super) async fn meta(&self, key: &[u8], status: Status) -> Step<Meta> {
        let meta = got!(self.two.peek(key).await?, Some(meta) => meta);
        ensure!(meta.status == status, "{meta:?} in place of {status:?}");
        Ok(meta)
    }
}

/// Begins a key that is to be had.
pub(super) async fn started(client: &AnyBackend, key: &[u8], options: BeginOptions) -> Step<Grant> {
    Ok(got!(client.begin(key, options).await?, Begin::Started(grant) => grant))
}

/// How long it is from one moment to another, at least a millisecond.
pub(super) fn before(now: Timestamp, end: Timestamp) -> Duration {
    Duration::from_millis(end.as_millis().saturating_sub(now.as_millis()).max(1))
}

/// The moment so much later.
pub(super) fn after(start: Timestamp, time: Duration) -> Timestamp {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(start.as_millis().saturating_add(millis))
}

/// Real time since some moment.
pub(super) fn elapsed_since(start: Duration) -> Duration {
    real_now().saturating_sub(start)
}

/// Real time, of which only differences say something.
pub(super) fn real_now() -> Duration {
    Duration::from_millis(clock::monotonic_millis())
}
