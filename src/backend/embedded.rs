//! The engine of this crate behind the contract.
//!
//! No call blocks for stable storage: at [`Synced`](Durability::Synced) the answer is made at once,
//! and handed over when a ticket taken after it is settled.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::answers::{Begin, Grant};
use super::contract::Backend;
use super::profile::{Clocked, Fenced, Profile, Survives};
use crate::answers::{Check, Checked};
use crate::calls::Claims;
use crate::config::Durability;
use crate::engine::begin::Begun;
use crate::engine::commit::is_answer;
use crate::engine::finish::{Ending, Written};
use crate::engine::waiters::Registration;
use crate::error::Result;
use crate::lease::release_millis;
use crate::meta::{Meta, Status};
use crate::namespace::Namespace;
use crate::options::CheckOptions;
use crate::policy::{BeginOptions, lease_millis};
use crate::record::{Own, Record};
use crate::sys::clock;
use crate::ticket::Ticket;
use crate::time::Timestamp;
use crate::version::Version;

impl Namespace {
    /// Its calls, of which none waits for stable storage.
    fn unsettled(&self) -> Claims<'_> {
        Claims { durability: Durability::Process, ..self.claims() }
    }

    /// Hands an answer over once what it rests on is as durable as asked for.
    async fn settle<T>(&self, answer: Result<T>) -> Result<T> {
        let claims = self.claims();
        if claims.durability.is_synced() && is_answer(&answer) {
            let ticket = Ticket::new(claims.engine.clone());
            ticket.await?;
        }
        answer
    }

    async fn finish(&self, key: &[u8], version: Version, ending: Ending<'_>) -> Result<Written> {
        let written = self.unsettled().finish(key, version, ending);
        self.settle(written).await
    }

    /// Looks at the key, for one who waits until it is not in progress.
    fn poll_wait(
        &self,
        key: &[u8],
        end: Duration,
        registration: &Registration,
        context: &Context<'_>,
    ) -> Poll<Result<Option<Meta>>> {
        // Armed and with no end expected, it is woken by every step of maintenance too: that is
        // where the end of the lease and that of the waiting are noticed.
        registration.arm_with(context.waker());
        let meta = self.unsettled().peek(key)?;
        let in_progress = meta.is_some_and(|meta| meta.status == Status::InProgress);
        let in_time = Duration::from_millis(clock::monotonic_millis()) < end;
        if in_progress && in_time { Poll::Pending } else { Poll::Ready(Ok(meta)) }
    }
}

impl From<Begun> for Begin {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::Started(grant) => Self::Started(Grant {
                version: grant.version,
                attempt: grant.attempt,
                first_seen: grant.first_seen,
                deadline: grant.deadline,
            }),
            Begun::InProgress(meta) => Self::InProgress(meta),
            Begun::Completed(record) => Self::Completed(record),
            Begun::Mismatch(meta) => Self::Mismatch(meta),
            Begun::Unknown(meta) => Self::Unknown(meta),
            Begun::Exhausted(meta) => Self::Exhausted(meta),
        }
    }
}

impl Backend for Namespace {
    fn profile(&self) -> Profile {
        let claims = self.claims();
        let limits = &claims.engine.config.limits;
        Profile {
            name: "embedded",
            survives: match claims.durability {
                Durability::Process => Survives::ProcessCrash,
                Durability::Interval(time) => Survives::PowerLossAfter(time),
                Durability::Synced => Survives::PowerLoss,
            },
            fenced: Fenced::Process,
            clocked: Clocked::Process,
            key_bytes_max: limits.key_bytes_max,
            outcome_bytes_max: limits.outcome_bytes_max,
            limits_room: true,
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(Self::now(self))
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        let check = self.unsettled().check(key, outcome, &options, &mut Checked);
        self.settle(check).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        let check = |(key, outcome): &(&[u8], &[u8])| {
            self.unsettled().check(key, outcome, &options, &mut Checked)
        };
        let checks: Vec<_> = items.iter().map(check).collect();
        if checks.iter().any(is_answer) { self.settle(Ok(checks)).await } else { Ok(checks) }
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        let begun = self.unsettled().begun(key, &options);
        self.settle(begun).await.map(Begin::from)
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let written = self.finish(key, version, Ending::Complete(outcome)).await?;
        Ok(written.meta.version)
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let written = self.finish(key, version, Ending::Fail(outcome)).await?;
        Ok(written.meta.version)
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
        let written = self.finish(key, version, Ending::Renew(lease_millis(length)?)).await?;
        Ok(written.deadline)
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        let resolved = self.unsettled().resolve(key, Ending::Complete(outcome));
        self.settle(resolved).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        let found = self.unsettled().get(key, &mut Own);
        self.settle(found).await
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        let found = self.unsettled().peek(key);
        self.settle(found).await
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        let removed = self.unsettled().remove(key, version);
        self.settle(removed).await
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        let now = Duration::from_millis(clock::monotonic_millis());
        let end = now.saturating_add(timeout);
        let registration = self.unsettled().register(key)?;
        let found = poll_fn(|context| self.poll_wait(key, end, &registration, context)).await;
        self.settle(found).await
    }
}
