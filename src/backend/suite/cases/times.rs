//! Ends are decided when a key is read, to the millisecond, and by what is stored with it.

use std::time::Duration;

use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Look, Trial, after, lasting};
use crate::backend::{Backend, Begin};
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, Anchor, BeginOptions, Policy};
use crate::record::Record;
use crate::time::Ttl;

const KEY: &[u8] = b"key";

pub(super) async fn the_time_is_the_one_that_keys_are_stamped_with(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    for _ in 0..20 {
        let earlier = space.one.now().await?;
        let stamp = space.now().await?;
        let later = space.two.now().await?;
        ensure!(earlier <= stamp && stamp <= later, "{stamp} is not in {earlier} to {later}");
        trial.harness.pass(Duration::from_millis(3)).await;
    }
    Ok(())
}

pub(super) async fn a_key_is_known_until_its_expiry(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let looks: [(&[u8], Look); 2] = [
        (b"got", |client, key| Box::pin(async move { Ok(client.get(key).await?.is_some()) })),
        (b"peeked", |client, key| Box::pin(async move { Ok(client.peek(key).await?.is_some()) })),
    ];
    for (key, look) in looks {
        let options = CheckOptions::new().retention(3 * trial.unit());
        ensure!(space.one.check_and_set(key, b"x", options).await?.is_new(), "known");
        let record = got!(space.one.get(key).await?, Some(record) => record);
        let end = after(record.created(), 3 * trial.unit());
        ensure_eq!(record.expires(), Some(end), "expiry");
        space.ends_at(key, end, look).await?;
        ensure_eq!(space.begun(key, BeginOptions::new()).await?.attempt, 1, "attempt");
    }
    // A check and a begin decide in the same way.
    for begins in [false, true] {
        let key = [u8::from(begins)];
        let options = CheckOptions::new().retention(3 * trial.unit());
        ensure!(space.one.check_and_set(&key, b"x", options).await?.is_new(), "known");
        let end = space.meta(&key, Status::Completed).await?.expires;
        let look: Look = if begins {
            |client, key| {
                Box::pin(async move {
                    let begun = client.begin(key, BeginOptions::new()).await?;
                    Ok(matches!(begun, Begin::Completed(_)))
                })
            }
        } else {
            |client, key| {
                Box::pin(async move {
                    let checked = client.check_and_set(key, b"y", CheckOptions::new()).await?;
                    // Past the expiry the first look records it, and the next ones find that.
                    Ok(matches!(&checked, Check::Duplicate(old) if old.outcome() == b"x"))
                })
            }
        };
        space.ends_at(&key, end.unwrap_or_default(), look).await?;
    }
    Ok(())
}

pub(super) async fn a_lease_lasts_until_its_deadline(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    for (key, options) in [(&b"reclaimed"[..], BeginOptions::new()), (b"held", hold)] {
        let grant = space.begun(key, options.lease(3 * trial.unit())).await?;
        let look: Look = |client, key| {
            Box::pin(async move {
                let meta = client.peek(key).await?;
                Ok(meta.is_some_and(|meta| meta.status == Status::InProgress))
            })
        };
        space.ends_at(key, grant.deadline, look).await?;
    }
    let grant = space.begun(KEY, BeginOptions::new().lease(3 * trial.unit())).await?;
    let look: Look = |client, key| {
        Box::pin(async move {
            let begun = client.begin(key, BeginOptions::new()).await?;
            // Past the deadline the first look takes it, and the next ones find that.
            Ok(matches!(&begun, Begin::InProgress(meta) if meta.attempts == 1))
        })
    };
    space.ends_at(KEY, grant.deadline, look).await?;
    // A renewal counts from when it is asked for.
    let key = b"renewed";
    let grant = space.begun(key, BeginOptions::new()).await?;
    let deadline = space.two.renew(key, grant.version, 3 * trial.unit()).await?;
    let look: Look = |client, key| {
        Box::pin(async move {
            let checked = client.check_and_set(key, b"x", CheckOptions::new()).await;
            Ok(matches!(checked, Err(crate::error::Error::InProgress { .. })))
        })
    };
    space.ends_at(key, deadline, look).await
}

pub(super) async fn an_outcome_is_replayed_until_its_time_is_over(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let options = CheckOptions::new().outcome_ttl(3 * trial.unit());
    ensure!(space.one.check_and_set(KEY, b"x", options).await?.is_new(), "known");
    let record = got!(space.one.get(KEY).await?, Some(record) => record);
    let end = after(record.created(), 3 * trial.unit());
    let is_there = |record: &Record| record.outcome_gone().is_none();
    ensure!(is_there(&record), "gone at once");
    let look: Look = |client, key| {
        Box::pin(async move {
            let record = client.get(key).await?;
            Ok(record.is_some_and(|record| record.outcome_gone().is_none()))
        })
    };
    space.ends_at(KEY, end, look).await
}

pub(super) async fn retention_counts_from_the_completion(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    trial.harness.pass(trial.unit()).await;
    let meta = space.meta(KEY, Status::InProgress).await?;
    ensure_eq!(meta.expires, Some(after(grant.first_seen, 24 * LONG)), "expiry of the lease");
    space.one.release(KEY, grant.version, None).await?;
    let meta = space.meta(KEY, Status::Released).await?;
    ensure!(meta.updated > grant.first_seen, "no time has passed");
    ensure_eq!(meta.expires, Some(after(meta.updated, 24 * LONG)), "expiry of the release");
    trial.harness.pass(trial.unit()).await;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    trial.harness.pass(trial.unit()).await;
    space.two.complete(KEY, grant.version, b"x").await?;
    let meta = space.meta(KEY, Status::Completed).await?;
    ensure!(meta.updated > meta.first_seen, "{meta:?}");
    ensure_eq!(meta.expires, Some(after(meta.updated, 24 * LONG)), "expiry");
    // Being seen prolongs nothing.
    let checked = space.two.check_and_set(KEY, b"y", CheckOptions::new()).await?;
    ensure!(checked.is_duplicate(), "a completed key is new");
    ensure_eq!(space.meta(KEY, Status::Completed).await?, meta, "after a duplicate");
    Ok(())
}

pub(super) async fn retention_counts_from_first_sight_where_it_says_so(trial: &Trial<'_>) -> Step {
    let space = trial.space(Policy { anchor: Anchor::FirstSeen, ..lasting() }).await?;
    let first = space.begun(KEY, BeginOptions::new()).await?;
    let end = Some(after(first.first_seen, 24 * LONG));
    trial.harness.pass(trial.unit()).await;
    space.one.release(KEY, first.version, None).await?;
    ensure_eq!(space.meta(KEY, Status::Released).await?.expires, end, "released");
    let second = space.begun(KEY, BeginOptions::new()).await?;
    ensure_eq!(space.meta(KEY, Status::InProgress).await?.expires, end, "begun again");
    trial.harness.pass(trial.unit()).await;
    space.two.complete(KEY, second.version, b"x").await?;
    ensure_eq!(space.meta(KEY, Status::Completed).await?.expires, end, "completed");
    // At least until the deadline of its lease.
    let key = b"longer lease";
    let options = BeginOptions::new().retention(LONG).lease(2 * LONG);
    let grant = space.begun(key, options).await?;
    ensure_eq!(
        space.meta(key, Status::InProgress).await?.expires,
        Some(grant.deadline),
        "as long as its lease"
    );
    let deadline = space.one.renew(key, grant.version, 3 * LONG).await?;
    space.one.complete(key, grant.version, b"x").await?;
    let expires = space.meta(key, Status::Completed).await?.expires;
    ensure_eq!(expires, Some(deadline), "no shorter than what it follows");
    // A check is its own first sight.
    ensure!(space.one.check_and_set(b"set", b"x", CheckOptions::new()).await?.is_new(), "known");
    let meta = space.meta(b"set", Status::Completed).await?;
    ensure_eq!(meta.expires, Some(after(meta.first_seen, 24 * LONG)), "expiry");
    Ok(())
}

pub(super) async fn retention_counts_from_last_sight_where_it_says_so(trial: &Trial<'_>) -> Step {
    let retention = 4 * trial.unit();
    let last_seen =
        Policy { anchor: Anchor::LastSeen, retention: Some(Ttl::After(retention)), ..lasting() };
    let space = trial.space(last_seen).await?;
    ensure!(space.one.check_and_set(KEY, b"x", CheckOptions::new()).await?.is_new(), "known");
    let first = space.meta(KEY, Status::Completed).await?;
    let mut expires = first.expires;
    // Seen over and over, it outlives its retention.
    for round in 0..6 {
        let now = space.now().await?;
        let checked = space.two.check_and_set(KEY, b"y", CheckOptions::new()).await?;
        ensure!(checked.is_duplicate(), "forgotten in round {round}, though it was seen");
        let meta = space.meta(KEY, Status::Completed).await?;
        ensure!(meta.expires >= Some(after(now, retention)), "{meta:?} seen at {now}");
        let most = after(space.now().await?, retention + retention / 8);
        ensure!(meta.expires <= Some(most), "{meta:?}, kept beyond {most}");
        ensure!(meta.expires >= expires, "{meta:?}, before {expires:?}");
        ensure!(meta.version >= first.version, "{meta:?} is below {first:?}");
        ensure_eq!(meta.completed_at, first.completed_at, "when it was completed");
        ensure_eq!((meta.updated, meta.first_seen), (first.updated, first.first_seen), "times");
        ensure_eq!((meta.outcome_bytes, meta.attempts), (1, 0), "the rest");
        expires = meta.expires;
        trial.harness.pass(trial.unit()).await;
    }
    ensure!(expires > first.expires, "{expires:?} was not prolonged");
    // Lookups prolong nothing.
    ensure!(space.two.get(KEY).await?.is_some(), "forgotten");
    ensure_eq!(space.meta(KEY, Status::Completed).await?.expires, expires, "after lookups");
    // A begin prolongs as a check does, and what it answers says so.
    let now = space.now().await?;
    let options = BeginOptions::new().retention(LONG);
    let record = got!(space.one.begin(KEY, options).await?, Begin::Completed(record) => record);
    ensure!(record.expires() >= Some(after(now, LONG)), "{record:?} seen at {now}");
    ensure_eq!(record.outcome(), b"x", "outcome");
    ensure_eq!(Some(record.meta()), space.two.peek(KEY).await?, "what begin and peek say");
    Ok(())
}

pub(super) async fn no_record_ends_before_the_one_it_follows(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let short = BeginOptions::new().retention(LONG).lease(LONG / 2);
    let grant = space.begun(KEY, BeginOptions::new().lease(LONG / 2)).await?;
    space.one.release(KEY, grant.version, None).await?;
    let before = space.meta(KEY, Status::Released).await?.expires;
    let grant = space.begun(KEY, short).await?;
    ensure_eq!(space.meta(KEY, Status::InProgress).await?.expires, before, "begun again");
    space.one.complete(KEY, grant.version, b"x").await?;
    ensure_eq!(space.meta(KEY, Status::Completed).await?.expires, before, "completed");
    let key = b"set";
    let grant = space.begun(key, BeginOptions::new()).await?;
    space.one.release(key, grant.version, None).await?;
    let before = space.meta(key, Status::Released).await?.expires;
    let options = CheckOptions::new().retention(LONG);
    ensure!(space.two.check_and_set(key, b"x", options).await?.is_new(), "known");
    ensure_eq!(space.meta(key, Status::Completed).await?.expires, before, "set");
    // Without end stays without end, until it is removed.
    let key = b"for ever";
    let options = CheckOptions::new().retention(Ttl::Never);
    ensure!(space.one.check_and_set(key, b"x", options).await?.is_new(), "known");
    ensure_eq!(space.meta(key, Status::Completed).await?.expires, None, "expiry");
    ensure!(space.two.remove(key, None).await?, "not removed");
    let options = CheckOptions::new().retention(LONG);
    ensure!(space.one.check_and_set(key, b"x", options).await?.is_new(), "known");
    let meta = space.meta(key, Status::Completed).await?;
    ensure_eq!(meta.expires, Some(after(meta.updated, LONG)), "expiry");
    Ok(())
}
