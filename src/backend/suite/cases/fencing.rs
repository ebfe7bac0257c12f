//! Late holders, removal, and versions that only rise.

use std::time::Duration;

use super::endings::every_ending_is_lost;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Trial, after, lasting, started};
use crate::backend::{Backend, Begin};
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::BeginOptions;
use crate::version::Version;

const KEY: &[u8] = b"key";

pub(super) async fn a_late_holder_changes_nothing(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let late = space.overdue(KEY, BeginOptions::new()).await?;
    let holder = started(&space.two, KEY, BeginOptions::new()).await?;
    let meta = space.meta(KEY, Status::InProgress).await?;
    every_ending_is_lost(&space, KEY, late.version).await?;
    ensure_eq!(space.meta(KEY, Status::InProgress).await?, meta, "after a late holder");
    space.two.complete(KEY, holder.version, b"the holder's").await?;
    every_ending_is_lost(&space, KEY, late.version).await?;
    let record = got!(space.one.get(KEY).await?, Some(record) => record);
    ensure_eq!(record.outcome(), b"the holder's", "outcome");
    Ok(())
}

pub(super) async fn a_lease_is_lost_with_its_key(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let first = space.begun(KEY, BeginOptions::new()).await?;
    ensure!(space.two.remove(KEY, None).await?, "not removed");
    ensure_eq!(space.one.peek(KEY).await?, None, "a removed key");
    every_ending_is_lost(&space, KEY, first.version).await?;
    ensure_eq!(space.one.peek(KEY).await?, None, "a removed key");
    let second = space.begun(KEY, BeginOptions::new()).await?;
    ensure_eq!(second.attempt, 1, "attempts are forgotten with the key");
    ensure!(second.first_seen >= first.first_seen, "first seen before it was removed");
    ensure!(second.version > first.version, "{second:?} is not above {first:?}");
    every_ending_is_lost(&space, KEY, first.version).await?;
    space.one.complete(KEY, second.version, b"x").await?;
    Ok(())
}

pub(super) async fn a_lease_is_lost_when_its_key_is_forgotten(trial: &Trial<'_>) -> Step {
    let tiny = Duration::from_millis(1);
    let options = BeginOptions::new().retention(tiny).lease(tiny);
    let space = trial.space(lasting()).await?;
    let first = space.begun(KEY, options).await?;
    space.until(first.deadline).await?;
    ensure_eq!(space.two.peek(KEY).await?, None, "a key past its retention");
    every_ending_is_lost(&space, KEY, first.version).await?;
    let second = space.begun(KEY, BeginOptions::new()).await?;
    ensure_eq!(second.attempt, 1, "attempts are forgotten with the key");
    ensure!(second.version > first.version, "{second:?} is not above {first:?}");
    every_ending_is_lost(&space, KEY, first.version).await
}

/// The versions that a key has had.
struct Seen(Version);

impl Seen {
    fn rise(&mut self, what: &str, version: Version) -> Step {
        ensure!(version > self.0, "{what}: {version:?} is not above {:?}", self.0);
        self.0 = version;
        Ok(())
    }
}

pub(super) async fn versions_rise_whatever_becomes_of_the_key(trial: &Trial<'_>) -> Step {
    let tiny = Duration::from_millis(1);
    let space = trial.space(lasting()).await?;
    let mut seen = Seen(Version::from_u64(0));
    for round in 0..3 {
        let grant = space.begun(KEY, BeginOptions::new()).await?;
        seen.rise("begin", grant.version)?;
        space.one.release(KEY, grant.version, None).await?;
        seen.rise("release", space.meta(KEY, Status::Released).await?.version)?;
        let grant = started(&space.two, KEY, BeginOptions::new().lease(tiny)).await?;
        seen.rise("begin after release", grant.version)?;
        space.until(grant.deadline).await?;
        let options = BeginOptions::new().retention(tiny);
        let grant = space.begun(KEY, options).await?;
        seen.rise("begin of an overdue key", grant.version)?;
        seen.rise("complete", space.one.complete(KEY, grant.version, b"x").await?)?;
        ensure!(space.two.remove(KEY, None).await?, "not removed");
        let options = CheckOptions::new().retention(tiny);
        ensure!(space.two.check_and_set(KEY, b"y", options).await?.is_new(), "known");
        // Read before or after it is over: it is unseen, or above.
        if let Some(meta) = space.one.peek(KEY).await? {
            seen.rise("check after removal", meta.version)?;
        }
        let now = space.now().await?;
        space.until(after(now, tiny)).await?;
        ensure_eq!(space.two.peek(KEY).await?, None, "an expired key");
        let options = CheckOptions::new();
        ensure!(space.one.check_and_set(KEY, b"z", options).await?.is_new(), "round {round}");
        seen.rise("check after expiry", space.meta(KEY, Status::Completed).await?.version)?;
        ensure!(space.two.remove(KEY, None).await?, "not removed");
    }
    Ok(())
}

pub(super) async fn a_removal_is_of_the_version_it_names(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    ensure!(!space.one.remove(KEY, None).await?, "removed a key that nobody used");
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let wrong = [grant.version.as_u64() - 1, grant.version.as_u64() + 1, 0, u64::MAX];
    for version in wrong.map(Version::from_u64) {
        ensure!(!space.two.remove(KEY, Some(version)).await?, "removed {version:?}");
    }
    let version = space.one.complete(KEY, grant.version, b"x").await?;
    ensure!(!space.two.remove(KEY, Some(grant.version)).await?, "removed by its lease's version");
    got!(space.two.begin(KEY, BeginOptions::new()).await?, Begin::Completed(_) => ());
    ensure!(space.two.remove(KEY, Some(version)).await?, "not removed");
    ensure!(!space.two.remove(KEY, Some(version)).await?, "removed twice");
    ensure!(!space.two.remove(KEY, None).await?, "removed twice");
    ensure!(space.one.get(KEY).await?.is_none(), "a removed key has a record");
    ensure!(space.one.check_and_set(KEY, b"y", CheckOptions::new()).await?.is_new(), "known");
    ensure!(!space.two.remove(KEY, Some(version)).await?, "removed by an earlier version");
    // While it is in progress the version is the lease's, renewed or not.
    let grant = space.begun(b"held", BeginOptions::new()).await?;
    space.one.renew(b"held", grant.version, LONG).await?;
    ensure!(space.two.remove(b"held", Some(grant.version)).await?, "not removed");
    let grant = space.begun(b"held", BeginOptions::new()).await?;
    space.one.release(b"held", grant.version, None).await?;
    ensure!(!space.two.remove(b"held", Some(grant.version)).await?, "removed by a lost lease");
    let released = space.meta(b"held", Status::Released).await?;
    ensure!(space.two.remove(b"held", Some(released.version)).await?, "not removed");
    Ok(())
}

pub(super) async fn a_removal_is_seen_by_all_clients(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    for (remover, key) in [(&space.one, b"one"), (&space.two, b"two")] {
        let record = space.done(key, b"x").await?;
        for client in [&space.one, &space.two] {
            // Each has seen what is removed then.
            got!(client.begin(key, BeginOptions::new()).await?, Begin::Completed(_) => ());
            let checked = client.check_and_set(key, b"y", CheckOptions::new()).await?;
            ensure!(checked.is_duplicate(), "a completed key is new");
            ensure!(client.get(key).await?.is_some(), "a completed key has no record");
        }
        ensure!(remover.remove(key, Some(record.version())).await?, "not removed");
        for client in [&space.one, &space.two] {
            ensure!(client.get(key).await?.is_none(), "a removed key has a record");
            ensure_eq!(client.peek(key).await?, None, "a removed key");
            ensure_eq!(client.wait(key, LONG).await?, None, "a removed key");
        }
        for client in [&space.one, &space.two] {
            let grant = started(client, key, BeginOptions::new()).await?;
            ensure!(client.remove(key, Some(grant.version)).await?, "not removed");
        }
    }
    Ok(())
}

pub(super) async fn a_key_that_is_forgotten_is_new_to_every_verb(trial: &Trial<'_>) -> Step {
    let tiny = Duration::from_millis(1);
    let space = trial.space(lasting()).await?;
    for verb in 0..7_u8 {
        let key = [b'k', verb];
        let options = CheckOptions::new().retention(tiny);
        ensure!(space.one.check_and_set(&key, b"x", options).await?.is_new(), "known");
        space.until(after(space.now().await?, tiny)).await?;
        match verb {
            0 => ensure_eq!(space.two.peek(&key).await?, None, "peek"),
            1 => ensure!(space.two.get(&key).await?.is_none(), "get"),
            2 => ensure!(!space.two.remove(&key, None).await?, "remove"),
            3 => ensure!(!space.two.resolve(&key, b"y").await?, "resolve"),
            4 => ensure_eq!(space.begun(&key, BeginOptions::new()).await?.attempt, 1, "begin"),
            5 => ensure_eq!(space.two.wait(&key, LONG).await?, None, "wait"),
            _ => {
                let check = space.two.check_and_set(&key, b"y", CheckOptions::new()).await?;
                ensure!(check.is_new(), "check_and_set");
            }
        }
    }
    Ok(())
}
