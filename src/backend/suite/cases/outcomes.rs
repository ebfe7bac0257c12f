//! Outcomes that are not replayed any more, and those that are too long.

use std::time::Duration;

use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Space, Trial, after, lasting};
use crate::backend::{Backend, Begin};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::{Anchor, BeginOptions, LongOutcomePolicy, Policy};
use crate::record::Record;
use crate::time::Ttl;

const KEY: &[u8] = b"key";

/// Every verb answers the key with what is known of its outcome.
async fn is_gone(space: &Space<'_>, key: &[u8], outcome: &[u8]) -> Step<Record> {
    let meta = got!(space.two.peek(key).await?, Some(meta) => meta);
    ensure!(meta.outcome_gone && meta.status.is_final(), "{meta:?}");
    ensure_eq!(meta.outcome_bytes, outcome.len(), "bytes that it had");
    let begun = space.two.begin(key, BeginOptions::new()).await?;
    let checked = space.one.check_and_set(key, b"another", CheckOptions::new()).await?;
    let records = [
        got!(begun, Begin::Completed(record) => record),
        got!(checked, Check::Duplicate(record) => record),
        got!(space.two.get(key).await?, Some(record) => record),
    ];
    for record in &records {
        let gone = got!(record.outcome_gone(), Some(gone) => gone);
        ensure_eq!(gone.bytes, outcome.len() as u64, "bytes that it had");
        ensure_eq!(gone.digest, Fingerprint::of(outcome), "digest");
        ensure_eq!(record.outcome(), b"", "outcome");
        ensure_eq!(record.is_failure(), meta.status == Status::Failed, "failure");
        ensure_eq!(record.meta().outcome_bytes, outcome.len(), "bytes that it had");
    }
    let [record, ..] = records;
    Ok(record)
}

pub(super) async fn keys_outlast_their_outcomes(trial: &Trial<'_>) -> Step {
    let tiny = Duration::from_millis(1);
    let space = trial.space(Policy { outcome_ttl: Some(tiny), ..lasting() }).await?;
    let set = space.one.check_and_set(b"set", b"outcome", CheckOptions::new()).await?;
    ensure!(set.is_new(), "known");
    let grant = space.begun(b"completed", BeginOptions::new()).await?;
    space.one.complete(b"completed", grant.version, b"").await?;
    let grant = space.begun(b"failed", BeginOptions::new()).await?;
    space.one.fail(b"failed", grant.version, b"no such account").await?;
    space.overdue(b"resolved", BeginOptions::new()).await?;
    ensure!(space.one.resolve(b"resolved", b"found out").await?, "not resolved");
    // The call goes before the policy.
    let options = BeginOptions::new().outcome_ttl(LONG);
    let grant = space.begun(b"there", options).await?;
    space.one.complete(b"there", grant.version, b"there").await?;
    space.until(after(space.now().await?, tiny)).await?;
    is_gone(&space, b"set", b"outcome").await?;
    is_gone(&space, b"completed", b"").await?;
    is_gone(&space, b"failed", b"no such account").await?;
    let record = is_gone(&space, b"resolved", b"found out").await?;
    ensure_eq!(record.expires(), Some(after(record.created(), 24 * LONG)), "expiry");
    let record = got!(space.two.get(b"there").await?, Some(record) => record);
    ensure_eq!(record.outcome(), b"there", "outcome");
    // It can be removed as any other.
    ensure!(
        space
            .two
            .remove(b"set", Some(space.meta(b"set", Status::Completed).await?.version))
            .await?,
        "not removed"
    );
    ensure!(space.two.peek(b"set").await?.is_none(), "a removed key is known");
    Ok(())
}

pub(super) async fn being_seen_does_not_prolong_an_outcome(trial: &Trial<'_>) -> Step {
    let tiny = Duration::from_millis(1);
    let retention = Duration::from_millis(100);
    let policy = Policy {
        anchor: Anchor::LastSeen,
        outcome_ttl: Some(tiny),
        retention: Some(Ttl::After(retention)),
        ..lasting()
    };
    let space = trial.space(policy).await?;
    let set = space.one.check_and_set(KEY, b"outcome", CheckOptions::new()).await?;
    ensure!(set.is_new(), "known");
    let created = space.meta(KEY, Status::Completed).await?.completed_at;
    space.until(after(space.now().await?, tiny)).await?;
    for _ in 0..3 {
        let options = CheckOptions::new().retention(24 * LONG).outcome_ttl(LONG);
        let checked = space.two.check_and_set(KEY, b"outcome", options).await?;
        ensure!(checked.is_duplicate(), "a known key is new");
        let record = is_gone(&space, KEY, b"outcome").await?;
        ensure_eq!(Some(record.created()), created, "when it was recorded");
    }
    Ok(())
}

pub(super) async fn an_outcome_that_is_too_long_is_refused(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let max = space.one.profile().outcome_bytes_max;
    if max > super::OUTCOME_BYTES_TRIED {
        return Err(super::UNTRIED);
    }
    let long = vec![0xff; max + 1];
    let checked = space.one.check_and_set(KEY, &long, CheckOptions::new()).await;
    let lengths = got!(checked, Err(Error::OutcomeTooLong { len, max }) => (len, max));
    ensure_eq!(lengths, (max + 1, max), "lengths");
    ensure_eq!(space.two.peek(KEY).await?, None, "after the refusal");
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let meta = space.meta(KEY, Status::InProgress).await?;
    let completed = space.one.complete(KEY, grant.version, &long).await;
    got!(completed, Err(Error::OutcomeTooLong { .. }) => ());
    let failed = space.two.fail(KEY, grant.version, &long).await;
    got!(failed, Err(Error::OutcomeTooLong { .. }) => ());
    ensure_eq!(space.meta(KEY, Status::InProgress).await?, meta, "after the refusal");
    space.one.release(KEY, grant.version, None).await?;
    got!(space.one.resolve(KEY, &long).await, Err(Error::OutcomeTooLong { .. }) => ());
    space.meta(KEY, Status::Released).await?;
    // A shorter one is taken afterwards.
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    space.one.complete(KEY, grant.version, &long[1..]).await?;
    Ok(())
}

pub(super) async fn an_outcome_that_is_too_long_leaves_a_mark_where_asked(
    trial: &Trial<'_>,
) -> Step {
    let keep_mark = Policy { on_long_outcome: LongOutcomePolicy::KeepMark, ..lasting() };
    let space = trial.space(keep_mark).await?;
    let max = space.one.profile().outcome_bytes_max;
    if max > super::OUTCOME_BYTES_TRIED {
        return Err(super::UNTRIED);
    }
    let long = vec![7; max + 1];
    ensure!(space.one.check_and_set(b"set", &long, CheckOptions::new()).await?.is_new(), "known");
    is_gone(&space, b"set", &long).await?;
    let grant = space.begun(b"completed", BeginOptions::new()).await?;
    space.one.complete(b"completed", grant.version, &long).await?;
    is_gone(&space, b"completed", &long).await?;
    let grant = space.begun(b"failed", BeginOptions::new()).await?;
    space.one.fail(b"failed", grant.version, &long).await?;
    is_gone(&space, b"failed", &long).await?;
    space.overdue(b"resolved", BeginOptions::new()).await?;
    ensure!(space.one.resolve(b"resolved", &long).await?, "not resolved");
    is_gone(&space, b"resolved", &long).await?;
    // One of the longest that is taken is replayed.
    let fits = &long[1..];
    ensure!(space.one.check_and_set(KEY, fits, CheckOptions::new()).await?.is_new(), "known");
    let record = got!(space.two.get(KEY).await?, Some(record) => record);
    ensure!(record.outcome() == fits && record.outcome_gone().is_none(), "{record:?}");
    // It is the begin that says what is done about it.
    let refuse = BeginOptions::new().on_long_outcome(LongOutcomePolicy::Refuse);
    let grant = space.begun(b"refused", refuse).await?;
    let refused = space.one.complete(b"refused", grant.version, &long).await;
    got!(refused, Err(Error::OutcomeTooLong { .. }) => ());
    Ok(())
}
