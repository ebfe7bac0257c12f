//! How leases end: completed, failed, renewed, resolved; and with whose version they do not.

use std::time::Duration;

use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Space, Trial, after, lasting};
use crate::backend::{Backend, Begin};
use crate::error::Error;
use crate::meta::{Meta, Status};
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions, LEASE_MAX};
use crate::version::Version;

const KEY: &[u8] = b"key";

pub(super) async fn a_completed_key_is_replayed(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let from = space.now().await?;
    // By whichever client: the version is all that counts.
    let version = space.two.complete(KEY, grant.version, b"receipt").await?;
    ensure!(version > grant.version, "{version:?} is not above {:?}", grant.version);
    replayed(&space, Status::Completed, version, b"receipt").await?;
    let record = got!(space.one.get(KEY).await?, Some(record) => record);
    ensure!(record.created() >= from, "recorded at {}, before {from}", record.created());
    ensure!(record.created() <= space.now().await?, "recorded in the future");
    ensure_eq!(record.meta().first_seen, grant.first_seen, "first seen");
    Ok(())
}

pub(super) async fn a_failed_key_is_replayed_as_failed(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let version = space.two.fail(KEY, grant.version, b"no such account").await?;
    ensure!(version > grant.version, "{version:?} is not above {:?}", grant.version);
    replayed(&space, Status::Failed, version, b"no such account").await
}

/// Every way to ask for a key with an outcome answers the same record.
async fn replayed(space: &Space<'_>, status: Status, version: Version, outcome: &[u8]) -> Step {
    let meta = space.meta(KEY, status).await?;
    ensure_eq!((meta.version, meta.attempts), (version, 1), "version and attempts");
    ensure_eq!(meta.completed_at, Some(meta.updated), "when it was completed");
    ensure_eq!(meta.deadline, None, "deadline");
    ensure_eq!(meta.expires, Some(after(meta.updated, 24 * LONG)), "expiry");
    ensure_eq!(meta.outcome_bytes, outcome.len(), "bytes of the outcome");
    for client in [&space.one, &space.two] {
        let begun = client.begin(KEY, BeginOptions::new()).await?;
        let checked = client.check_and_set(KEY, b"another", CheckOptions::new()).await?;
        let records = [
            got!(begun, Begin::Completed(record) => record),
            got!(checked, Check::Duplicate(record) => record),
            got!(client.get(KEY).await?, Some(record) => record),
        ];
        for record in records {
            ensure_eq!(record.outcome(), outcome, "outcome");
            ensure_eq!(record.is_failure(), status == Status::Failed, "failure");
            ensure!(record.outcome_gone().is_none(), "the outcome is gone");
            ensure_eq!((record.version(), record.expires()), (version, meta.expires), "record");
            ensure_eq!(record.meta(), meta, "what record and peek say");
        }
    }
    Ok(())
}

/// Tries to end the lease in every way; all have to be answered with `LeaseLost`.
pub(super) async fn every_ending_is_lost(space: &Space<'_>, key: &[u8], version: Version) -> Step {
    for client in [&space.one, &space.two] {
        got!(client.complete(key, version, b"late").await, Err(Error::LeaseLost) => ());
        got!(client.fail(key, version, b"late").await, Err(Error::LeaseLost) => ());
        got!(client.release(key, version, None).await, Err(Error::LeaseLost) => ());
        got!(client.release(key, version, Some(LONG)).await, Err(Error::LeaseLost) => ());
        got!(client.renew(key, version, LONG).await, Err(Error::LeaseLost) => ());
    }
    Ok(())
}

pub(super) async fn another_version_ends_nothing(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let before = space.meta(KEY, Status::InProgress).await?;
    let right = grant.version.as_u64();
    for wrong in [0, 1, right - 1, right + 1, right ^ (1 << 32), u64::MAX >> 1, u64::MAX] {
        every_ending_is_lost(&space, KEY, Version::from_u64(wrong)).await?;
        ensure_eq!(space.meta(KEY, Status::InProgress).await?, before, "after version {wrong}");
    }
    space.one.complete(KEY, grant.version, b"x").await?;
    Ok(())
}

pub(super) async fn what_has_no_lease_cannot_be_ended(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    every_ending_is_lost(&space, b"nobody's", Version::from_u64(1)).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let done = space.one.complete(KEY, grant.version, b"x").await?;
    let meta = space.meta(KEY, Status::Completed).await?;
    for version in [grant.version, done] {
        every_ending_is_lost(&space, KEY, version).await?;
    }
    ensure_eq!(space.meta(KEY, Status::Completed).await?, meta, "after late endings");
    let key = b"released";
    let grant = space.begun(key, BeginOptions::new()).await?;
    space.one.release(key, grant.version, None).await?;
    let meta = space.meta(key, Status::Released).await?;
    for version in [grant.version, meta.version] {
        every_ending_is_lost(&space, key, version).await?;
    }
    ensure_eq!(space.meta(key, Status::Released).await?, meta, "after late endings");
    ensure!(space.one.check_and_set(b"set", b"x", CheckOptions::new()).await?.is_new(), "known");
    let version = space.meta(b"set", Status::Completed).await?.version;
    every_ending_is_lost(&space, b"set", version).await
}

pub(super) async fn a_renewal_moves_the_end_and_keeps_the_version(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    for length in [2 * LONG, LONG / 2, 30 * LONG] {
        let deadline = space.two.renew(KEY, grant.version, length).await?;
        let meta = space.meta(KEY, Status::InProgress).await?;
        ensure_eq!((meta.deadline, meta.version), (Some(deadline), grant.version), "renewed");
        ensure_eq!(deadline, after(meta.updated, length), "deadline");
        ensure!(meta.expires >= Some(deadline), "forgotten before its lease ends: {meta:?}");
        ensure_eq!((meta.attempts, meta.first_seen), (1, grant.first_seen), "the rest");
    }
    for length in [Duration::ZERO, LEASE_MAX + Duration::from_millis(1)] {
        let refused = space.one.renew(KEY, grant.version, length).await;
        got!(refused, Err(Error::InvalidLease { .. }) => ());
    }
    let too_late = Some(Duration::from_secs(1_001 * 366 * 24 * 3600));
    let refused = space.one.release(KEY, grant.version, too_late).await;
    got!(refused, Err(Error::InvalidTtl { .. }) => ());
    let version = space.one.complete(KEY, grant.version, b"x").await?;
    ensure!(version > grant.version, "{version:?} is not above {:?}", grant.version);
    Ok(())
}

pub(super) async fn an_overdue_holder_whom_nobody_replaced_goes_on(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.overdue(KEY, BeginOptions::new()).await?;
    space.one.complete(KEY, grant.version, b"late, but the only one").await?;
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    for (key, options) in [(b"overdue", BeginOptions::new()), (b"unknown", hold)] {
        let grant = space.overdue(key, options).await?;
        let deadline = space.two.renew(key, grant.version, LONG).await?;
        let meta: Meta = space.meta(key, Status::InProgress).await?;
        ensure_eq!((meta.deadline, meta.attempts), (Some(deadline), 1), "renewed");
        got!(space.two.begin(key, options).await?, Begin::InProgress(_) => ());
        space.one.fail(key, grant.version, b"x").await?;
    }
    let grant = space.overdue(b"given back", hold).await?;
    space.one.release(b"given back", grant.version, None).await?;
    ensure_eq!(space.begun(b"given back", hold).await?.attempt, 2, "attempt");
    Ok(())
}

pub(super) async fn only_what_nobody_holds_can_be_resolved(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    ensure!(!space.one.resolve(KEY, b"x").await?, "resolved a key that nobody used");
    ensure_eq!(space.two.peek(KEY).await?, None, "a key that nobody used");
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    got!(space.two.resolve(KEY, b"x").await, Err(Error::InProgress { .. }) => ());
    space.one.release(KEY, grant.version, Some(LONG)).await?;
    ensure!(space.two.resolve(KEY, b"resolved").await?, "a released key was not resolved");
    ensure!(!space.two.resolve(KEY, b"again").await?, "resolved a completed key");
    let record = got!(space.one.get(KEY).await?, Some(record) => record);
    ensure_eq!(record.outcome(), b"resolved", "outcome");
    ensure!(record.version() > grant.version, "{:?} is not above", record.version());
    ensure_eq!(record.expires(), Some(after(record.created(), 24 * LONG)), "expiry");
    space.overdue(b"overdue", BeginOptions::new()).await?;
    ensure!(space.two.resolve(b"overdue", b"x").await?, "an overdue key was not resolved");
    let grant = space.begun(b"failed", BeginOptions::new()).await?;
    space.one.fail(b"failed", grant.version, b"x").await?;
    ensure!(!space.two.resolve(b"failed", b"y").await?, "resolved a failed key");
    Ok(())
}
