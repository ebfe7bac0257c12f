//! Who gets a key: new, in progress, done, released, overdue, unknown, used up.

use std::time::Duration;

use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Space, Trial, after, lasting, started};
use crate::backend::{Backend, Begin};
use crate::error::Error;
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions, LEASE_MAX, Policy};
use crate::time::Ttl;

const KEY: &[u8] = b"key";

pub(super) async fn a_new_key_is_begun(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    ensure_eq!(space.two.peek(KEY).await?, None, "a key that nobody used");
    ensure!(space.two.get(KEY).await?.is_none(), "a key that nobody used has a record");
    let from = space.now().await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    ensure_eq!(grant.attempt, 1, "attempt");
    ensure!(grant.first_seen >= from, "first seen at {}, before {from}", grant.first_seen);
    ensure!(grant.first_seen <= space.now().await?, "first seen in the future");
    ensure_eq!(grant.deadline, after(grant.first_seen, LONG), "deadline");
    let meta = space.meta(KEY, Status::InProgress).await?;
    ensure_eq!((meta.version, meta.attempts), (grant.version, 1), "version and attempts");
    ensure_eq!((meta.first_seen, meta.updated), (grant.first_seen, grant.first_seen), "times");
    ensure_eq!((meta.deadline, meta.completed_at), (Some(grant.deadline), None), "ends");
    ensure_eq!(meta.expires, Some(after(grant.first_seen, 24 * LONG)), "expiry");
    ensure!(!meta.has_fingerprint && !meta.outcome_gone, "{meta:?}");
    ensure_eq!(meta.outcome_bytes, 0, "bytes of an outcome");
    ensure!(space.two.get(KEY).await?.is_none(), "a key in progress has a record");
    Ok(())
}

pub(super) async fn a_key_in_progress_is_answered_as_such(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    for client in [&space.one, &space.two] {
        let answer = client.begin(KEY, BeginOptions::new()).await?;
        let meta = got!(answer, Begin::InProgress(meta) => meta);
        ensure_eq!(meta, space.meta(KEY, Status::InProgress).await?, "what begin and peek say");
        ensure_eq!(meta.version, grant.version, "version");
        let checked = client.check_and_set(KEY, b"x", CheckOptions::new()).await;
        let deadline = got!(checked, Err(Error::InProgress { deadline_ms }) => deadline_ms);
        ensure_eq!(deadline, grant.deadline.as_millis(), "deadline");
        let resolved = client.resolve(KEY, b"x").await;
        let deadline = got!(resolved, Err(Error::InProgress { deadline_ms }) => deadline_ms);
        ensure_eq!(deadline, grant.deadline.as_millis(), "deadline");
    }
    space.one.complete(KEY, grant.version, b"x").await?;
    Ok(())
}

pub(super) async fn a_released_key_can_be_begun_again(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let first = space.begun(KEY, BeginOptions::new()).await?;
    space.one.release(KEY, first.version, None).await?;
    let meta = space.meta(KEY, Status::Released).await?;
    ensure_eq!((meta.attempts, meta.first_seen), (1, first.first_seen), "attempts, first seen");
    ensure!(meta.version > first.version, "{:?} is not above {:?}", meta.version, first.version);
    ensure!(space.two.get(KEY).await?.is_none(), "a released key has a record");
    let second = started(&space.two, KEY, BeginOptions::new()).await?;
    ensure_eq!((second.attempt, second.first_seen), (2, first.first_seen), "attempt, first seen");
    ensure!(second.version > meta.version, "{second:?} is not above {:?}", meta.version);
    // Zero is at once.
    space.two.release(KEY, second.version, Some(Duration::ZERO)).await?;
    ensure_eq!(space.begun(KEY, BeginOptions::new()).await?.attempt, 3, "attempt");
    Ok(())
}

pub(super) async fn a_key_released_for_later_is_held_until_then(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    space.one.release(KEY, grant.version, Some(LONG)).await?;
    let meta = space.meta(KEY, Status::Released).await?;
    ensure_eq!(meta.deadline, Some(after(meta.updated, LONG)), "from when on it can be begun");
    let answer = space.two.begin(KEY, BeginOptions::new()).await?;
    ensure_eq!(got!(answer, Begin::InProgress(meta) => meta), meta, "what begin and peek say");
    // It has no holder, so it can be recorded.
    ensure!(space.two.check_and_set(KEY, b"x", CheckOptions::new()).await?.is_new(), "known");
    let later = b"later";
    let grant = space.begun(later, BeginOptions::new()).await?;
    space.one.release(later, grant.version, Some(trial.unit())).await?;
    let end = space.meta(later, Status::Released).await?.deadline;
    let look: super::Look = |client, key| {
        Box::pin(async move {
            let answer = client.begin(key, BeginOptions::new().attempts_max(2)).await?;
            Ok(matches!(&answer, Begin::InProgress(meta) if meta.status == Status::Released))
        })
    };
    space.ends_at(later, end.unwrap_or_default(), look).await?;
    ensure_eq!(space.meta(later, Status::InProgress).await?.attempts, 2, "attempts");
    Ok(())
}

pub(super) async fn attempts_are_counted_and_end(trial: &Trial<'_>) -> Step {
    let space = trial.space(Policy { attempts_max: Some(2), ..lasting() }).await?;
    for attempt in 1..=2 {
        let grant = space.begun(KEY, BeginOptions::new()).await?;
        ensure_eq!(grant.attempt, attempt, "attempt");
        space.one.release(KEY, grant.version, Some(LONG).filter(|_| attempt == 2)).await?;
    }
    // Whenever it could be begun, it cannot.
    let answer = space.two.begin(KEY, BeginOptions::new()).await?;
    let meta = got!(answer, Begin::Exhausted(meta) => meta);
    ensure_eq!((meta.attempts, meta.status), (2, Status::Released), "attempts and status");
    ensure_eq!(meta, space.meta(KEY, Status::Released).await?, "what begin and peek say");
    // The call goes before the policy.
    let more = BeginOptions::new().attempts_max(3);
    got!(space.two.begin(KEY, more).await?, Begin::InProgress(_) => ());
    let overdue = space.overdue(b"overdue", BeginOptions::new().attempts_max(1)).await?;
    let one = BeginOptions::new().attempts_max(1);
    let meta = got!(space.two.begin(b"overdue", one).await?, Begin::Exhausted(meta) => meta);
    ensure_eq!((meta.status, meta.version), (Status::Overdue, overdue.version), "overdue");
    ensure!(space.one.resolve(b"overdue", b"x").await?, "not resolved");
    Ok(())
}

pub(super) async fn an_overdue_key_goes_to_the_next(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let first = space.overdue(KEY, BeginOptions::new()).await?;
    let meta = space.meta(KEY, Status::Overdue).await?;
    ensure_eq!((meta.version, meta.deadline), (first.version, Some(first.deadline)), "before");
    ensure!(space.two.get(KEY).await?.is_none(), "an overdue key has a record");
    let second = started(&space.two, KEY, BeginOptions::new()).await?;
    ensure_eq!((second.attempt, second.first_seen), (2, first.first_seen), "attempt, first seen");
    ensure!(second.version > first.version, "{second:?} is not above {first:?}");
    ensure_eq!(space.meta(KEY, Status::InProgress).await?.attempts, 2, "attempts");
    // A check takes an overdue key as well.
    space.overdue(b"other", BeginOptions::new()).await?;
    let checked = space.two.check_and_set(b"other", b"x", CheckOptions::new()).await?;
    ensure!(checked.is_new(), "{checked:?} for an overdue key");
    Ok(())
}

pub(super) async fn an_overdue_key_is_held_where_the_policy_says_so(trial: &Trial<'_>) -> Step {
    let hold = Policy { on_abandon: AbandonPolicy::Hold, ..lasting() };
    let space = trial.space(hold).await?;
    let grant = space.overdue(KEY, BeginOptions::new()).await?;
    held_until_resolved(&space, KEY).await?;
    let record = got!(space.two.get(KEY).await?, Some(record) => record);
    ensure_eq!(record.outcome(), b"what came of it", "outcome");
    ensure!(record.version() > grant.version, "{:?} is not above", record.version());
    ensure_eq!(record.meta().attempts, 1, "attempts");
    // What the begin said counts, not who asks later under what policy.
    let reclaim = BeginOptions::new().on_abandon(AbandonPolicy::Reclaim);
    space.overdue(b"reclaim", reclaim).await?;
    ensure_eq!(space.begun(b"reclaim", BeginOptions::new()).await?.attempt, 2, "attempt");
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold).attempts_max(1);
    space.overdue(b"hold", hold).await?;
    let answer = space.two.begin(b"hold", reclaim.attempts_max(1)).await?;
    got!(answer, Begin::Unknown(_) => ());
    // Removing is a way out as well.
    ensure!(space.two.remove(b"hold", None).await?, "not removed");
    ensure_eq!(space.begun(b"hold", BeginOptions::new()).await?.attempt, 1, "attempt");
    Ok(())
}

async fn held_until_resolved(space: &Space<'_>, key: &[u8]) -> Step {
    let meta = space.meta(key, Status::Unknown).await?;
    let answer = space.two.begin(key, BeginOptions::new()).await?;
    ensure_eq!(got!(answer, Begin::Unknown(meta) => meta), meta, "what begin and peek say");
    let checked = space.two.check_and_set(key, b"x", CheckOptions::new()).await;
    got!(checked, Err(Error::Unresolved) => ());
    ensure_eq!(space.meta(key, Status::Unknown).await?, meta, "after asking");
    ensure!(space.two.resolve(key, b"what came of it").await?, "not resolved");
    ensure!(!space.one.resolve(key, b"again").await?, "resolved twice");
    let answer = space.one.begin(key, BeginOptions::new()).await?;
    got!(answer, Begin::Completed(_) => ());
    Ok(())
}

pub(super) async fn what_a_call_asks_for_goes_before_the_policy(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let options = BeginOptions::new().lease(2 * LONG).retention(48 * LONG);
    let grant = space.begun(KEY, options).await?;
    ensure_eq!(grant.deadline, after(grant.first_seen, 2 * LONG), "deadline");
    let meta = space.meta(KEY, Status::InProgress).await?;
    ensure_eq!(meta.expires, Some(after(meta.updated, 48 * LONG)), "expiry");
    // And is kept until the key is completed, by whomever.
    space.two.complete(KEY, grant.version, b"x").await?;
    let meta = space.meta(KEY, Status::Completed).await?;
    ensure_eq!(meta.expires, Some(after(meta.updated, 48 * LONG)), "expiry");
    // A fraction of a millisecond counts as a whole one.
    let tiny = BeginOptions::new().lease(Duration::from_micros(1_001));
    let grant = space.begun(b"tiny", tiny).await?;
    let two = Duration::from_millis(2);
    ensure_eq!(grant.deadline, after(grant.first_seen, two), "deadline");
    Ok(())
}

pub(super) async fn what_cannot_work_is_refused_and_nothing_recorded(trial: &Trial<'_>) -> Step {
    let space = trial.space(Policy { require_fingerprint: true, ..lasting() }).await?;
    let refused = space.one.begin(KEY, BeginOptions::new()).await;
    got!(refused, Err(Error::FingerprintRequired) => ());
    let client = space.under(lasting()).await?;
    for length in [Duration::ZERO, LEASE_MAX + Duration::from_millis(1)] {
        let refused = client.begin(KEY, BeginOptions::new().lease(length)).await;
        got!(refused, Err(Error::InvalidLease { .. }) => ());
    }
    let refused = client.begin(KEY, BeginOptions::new().attempts_max(0)).await;
    got!(refused, Err(Error::InvalidConfig { .. }) => ());
    let centuries = Duration::from_secs(1_001 * 366 * 24 * 3600);
    for retention in [Duration::ZERO, centuries] {
        let refused = client.begin(KEY, BeginOptions::new().retention(retention)).await;
        got!(refused, Err(Error::InvalidTtl { .. }) => ());
        let refused =
            client.check_and_set(KEY, b"x", CheckOptions::new().retention(retention)).await;
        got!(refused, Err(Error::InvalidTtl { .. }) => ());
    }
    // An outcome does not outlast its key.
    let refused = client.begin(KEY, BeginOptions::new().outcome_ttl(25 * LONG)).await;
    got!(refused, Err(Error::InvalidTtl { .. }) => ());
    let refused = client.check_and_set(KEY, b"x", CheckOptions::new().outcome_ttl(25 * LONG)).await;
    got!(refused, Err(Error::InvalidTtl { .. }) => ());
    ensure_eq!(client.peek(KEY).await?, None, "a key that was refused");
    let longest = BeginOptions::new().lease(LEASE_MAX).retention(Ttl::Never);
    let grant = started(&client, KEY, longest).await?;
    ensure_eq!(grant.deadline, after(grant.first_seen, LEASE_MAX), "deadline");
    ensure_eq!(space.meta(KEY, Status::InProgress).await?.expires, None, "expiry");
    Ok(())
}
