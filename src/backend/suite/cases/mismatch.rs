//! Keys that are used again for another request.

use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Space, Trial, lasting, started};
use crate::backend::{Backend, Begin};
use crate::fingerprint::Fingerprint;
use crate::meta::{Meta, Status};
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions};

fn asks(payload: &[u8]) -> BeginOptions {
    BeginOptions::new().fingerprint(Fingerprint::of(payload))
}

/// A `begin` for another request has to be refused by both clients, whatever else it asks for.
async fn is_refused(space: &Space<'_>, key: &[u8], status: Status) -> Step<Meta> {
    let meta = space.meta(key, status).await?;
    ensure!(meta.has_fingerprint, "{meta:?}");
    for client in [&space.one, &space.two] {
        for options in [asks(b"another"), asks(b"another").attempts_max(1), asks(b"")] {
            let found = got!(client.begin(key, options).await?, Begin::Mismatch(meta) => meta);
            ensure_eq!(found, meta, "what begin and peek say");
        }
    }
    ensure_eq!(space.meta(key, status).await?, meta, "after another request");
    Ok(meta)
}

pub(super) async fn another_request_is_refused_before_the_status_counts(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let same = asks(b"same");
    let grant = space.begun(b"key", same).await?;
    is_refused(&space, b"key", Status::InProgress).await?;
    space.one.release(b"key", grant.version, None).await?;
    is_refused(&space, b"key", Status::Released).await?;
    let grant = started(&space.two, b"key", same).await?;
    ensure_eq!(grant.attempt, 2, "attempt");
    space.one.release(b"key", grant.version, Some(LONG)).await?;
    is_refused(&space, b"key", Status::Released).await?;
    space.overdue(b"overdue", same).await?;
    is_refused(&space, b"overdue", Status::Overdue).await?;
    space.overdue(b"unknown", same.on_abandon(AbandonPolicy::Hold)).await?;
    is_refused(&space, b"unknown", Status::Unknown).await?;
    got!(space.two.begin(b"unknown", same).await?, Begin::Unknown(_) => ());
    Ok(())
}

pub(super) async fn another_request_is_never_shown_an_outcome(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let same = asks(b"same");
    let grant = space.begun(b"done", same).await?;
    space.one.complete(b"done", grant.version, b"secret").await?;
    is_refused(&space, b"done", Status::Completed).await?;
    let grant = space.begun(b"failed", same).await?;
    space.one.fail(b"failed", grant.version, b"secret").await?;
    is_refused(&space, b"failed", Status::Failed).await?;
    space.overdue(b"resolved", same).await?;
    ensure!(space.one.resolve(b"resolved", b"secret").await?, "not resolved");
    is_refused(&space, b"resolved", Status::Completed).await?;
    for key in [&b"done"[..], b"failed", b"resolved"] {
        let record = got!(space.two.begin(key, same).await?, Begin::Completed(record) => record);
        ensure_eq!(record.outcome(), b"secret", "outcome");
        // Whoever says nothing of the request is not refused, and a check cannot say.
        let record = got!(
            space.two.begin(key, BeginOptions::new()).await?,
            Begin::Completed(record) => record
        );
        ensure_eq!(record.outcome(), b"secret", "outcome");
        let checked = space.two.check_and_set(key, b"x", CheckOptions::new()).await?;
        ensure!(checked.is_duplicate(), "a known key is new");
    }
    Ok(())
}

pub(super) async fn the_first_request_of_a_key_is_the_one_that_counts(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let key = b"key";
    // One that is not known yet comes with the first attempt that says so.
    let grant = space.begun(key, BeginOptions::new()).await?;
    got!(space.two.begin(key, asks(b"first")).await?, Begin::InProgress(_) => ());
    ensure!(!space.meta(key, Status::InProgress).await?.has_fingerprint, "recorded by a refusal");
    space.one.release(key, grant.version, None).await?;
    let grant = space.begun(key, asks(b"first")).await?;
    is_refused(&space, key, Status::InProgress).await?;
    space.one.release(key, grant.version, None).await?;
    // And it stays, whether or not later attempts say it again.
    let grant = space.begun(key, BeginOptions::new()).await?;
    is_refused(&space, key, Status::InProgress).await?;
    space.one.complete(key, grant.version, b"x").await?;
    is_refused(&space, key, Status::Completed).await?;
    ensure!(space.two.remove(key, None).await?, "not removed");
    space.begun(key, asks(b"another")).await?;
    // Digests that differ in one bit anywhere are not the same.
    for bit in [0, 7, 64, 100, 127] {
        let mut bytes = *Fingerprint::of(b"same").as_bytes();
        let key = [bit];
        let grant = space.begun(&key, asks(b"same")).await?;
        space.one.complete(&key, grant.version, b"x").await?;
        if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
            *byte ^= 1 << (bit % 8);
        }
        let other = BeginOptions::new().fingerprint(Fingerprint::from_bytes(bytes));
        got!(space.two.begin(&key, other).await?, Begin::Mismatch(_) => ());
    }
    Ok(())
}
