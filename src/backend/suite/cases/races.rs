//! Many callers at once, through two clients: one of them gets the key.

use std::time::Duration;

use super::checks::record_of;
use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::random::Random;
use crate::backend::suite::trial::{LONG, Space, Trial, lasting};
use crate::backend::suite::{Time, random};
use crate::backend::{AnyBackend, Backend, Begin};
use crate::error::Error;
use crate::options::CheckOptions;
use crate::policy::BeginOptions;
use crate::version::Version;

const KEY: &[u8] = b"key";
/// Callers with one key.
const CALLERS: usize = 64;

/// Callers by turns through one client and the other.
fn callers(space: &Space<'_>) -> impl Iterator<Item = (usize, AnyBackend)> {
    let clients = [space.one.clone(), space.two.clone()];
    (0..CALLERS).zip(clients.into_iter().cycle())
}

pub(super) async fn of_many_who_begin_one_gets_the_key(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    for round in 0..3 {
        let key = [round];
        let begin = |(_, client): (usize, AnyBackend)| async move {
            Ok(client.begin(&[round], BeginOptions::new()).await?)
        };
        let mut started = Vec::new();
        let mut others = Vec::new();
        for begun in trial.all(callers(&space).map(begin)).await? {
            match begun {
                Begin::Started(grant) => started.push(grant),
                other => others.push(got!(other, Begin::InProgress(meta) => meta)),
            }
        }
        let grants: [_; 1] = got!(started.try_into(), Ok(grants) => grants);
        let [grant] = grants;
        for meta in others {
            ensure_eq!((meta.version, meta.attempts), (grant.version, 1), "what others saw");
        }
        space.two.complete(&key, grant.version, b"x").await?;
        for begun in trial.all(callers(&space).map(begin)).await? {
            got!(begun, Begin::Completed(_) => ());
        }
    }
    Ok(())
}

pub(super) async fn of_many_who_take_over_one_gets_the_key(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let late = space.overdue(KEY, BeginOptions::new()).await?;
    let begin = |(n, client): (usize, AnyBackend)| async move {
        // Some complete the lease that is over in place of beginning.
        if n % 8 == 0 {
            return match client.complete(KEY, late.version, b"late").await {
                Ok(_) => Ok(Some(0)),
                Err(Error::LeaseLost) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Ok(match client.begin(KEY, BeginOptions::new()).await? {
            Begin::Started(grant) => Some(grant.attempt),
            Begin::Completed(record) => {
                ensure_eq!(record.outcome(), b"late", "outcome");
                None
            }
            other => got!(other, Begin::InProgress(_) => None),
        })
    };
    let won: Vec<u32> =
        trial.all(callers(&space).map(begin)).await?.into_iter().flatten().collect();
    ensure!(won == [0] || won == [2], "attempts that got the key: {won:?}");
    Ok(())
}

pub(super) async fn of_many_who_check_one_is_new(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let check = |(n, client): (usize, AnyBackend)| async move {
        let outcome = n.to_string().into_bytes();
        let check = client.check_and_set(KEY, &outcome, CheckOptions::new()).await?;
        Ok(match check {
            Check::New => (outcome, true),
            Check::Duplicate(record) => (record.outcome().to_vec(), false),
        })
    };
    let answers = trial.all(callers(&space).map(check)).await?;
    let new: Vec<_> = answers.iter().filter(|(_, new)| *new).collect();
    ensure_eq!(new.len(), 1, "callers to whom the key was new");
    let recorded = record_of(&space.two, KEY).await?;
    for (outcome, _) in &answers {
        ensure_eq!(outcome, recorded.outcome(), "outcome");
    }
    Ok(())
}

pub(super) async fn batches_with_the_same_keys_agree_in_whatever_order(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let check = |(n, client): (usize, AnyBackend)| async move {
        let mut keys: Vec<Vec<u8>> = (0..50_u8).map(|key| vec![b'k', key]).collect();
        // Half of them come from the other end.
        if n % 2 == 0 {
            keys.reverse();
        }
        let outcome = [u8::try_from(n).unwrap_or(0)];
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &outcome[..])).collect();
        let checks = client.check_and_set_many(&items, CheckOptions::new()).await?;
        let mut new = Vec::new();
        for (key, check) in keys.iter().zip(checks) {
            if check?.is_new() {
                new.push((key.clone(), outcome));
            }
        }
        Ok(new)
    };
    // Fewer of them, as each has many keys.
    let batches = callers(&space).take(16).map(|(n, client)| check((n / 2, client)));
    let mut new: Vec<_> = trial.all(batches).await?.into_iter().flatten().collect();
    new.sort_unstable();
    ensure_eq!(new.len(), 50, "keys that were new to somebody");
    for (key, outcome) in new {
        ensure_eq!(record_of(&space.one, &key).await?.outcome(), outcome, "outcome");
    }
    Ok(())
}

/// Works on the key until it has an outcome; true if it was this caller who gave it one.
async fn work(client: AnyBackend, stalls: bool, mut random: Random, mine: Vec<u8>) -> Step<bool> {
    let lease = Duration::from_millis(5);
    loop {
        match client.begin(KEY, BeginOptions::new().lease(lease)).await? {
            Begin::Started(grant) => {
                if stalls && !random.once_in(4) {
                    // Another caller takes over, or the lease is renewed or completed past its end.
                    client.wait(KEY, Duration::from_millis(3 + random.below(10))).await?;
                }
                if random.once_in(3) {
                    match client.renew(KEY, grant.version, lease).await {
                        Ok(_) | Err(Error::LeaseLost) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                match client.complete(KEY, grant.version, &mine).await {
                    Ok(_) => return Ok(true),
                    Err(Error::LeaseLost) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Begin::InProgress(_) => drop(client.wait(KEY, LONG).await?),
            other => return Ok(got!(other, Begin::Completed(_) => false)),
        }
    }
}

pub(super) async fn holders_that_stall_past_their_lease_do_no_harm(trial: &Trial<'_>) -> Step {
    let stalls = trial.harness.time() == Time::Runs;
    for round in 0..5_u8 {
        let space = trial.space(lasting()).await?;
        let seed = random::seed();
        let tasks = callers(&space).take(8).map(|(n, client)| {
            let random = Random::new(seed ^ n as u64);
            let mine = vec![round, u8::try_from(n).unwrap_or(0)];
            async move { Ok((work(client, stalls, random, mine.clone()).await?, mine)) }
        });
        let answers = trial.all(tasks).await?;
        let won: Vec<_> = answers.iter().filter(|(won, _)| *won).map(|(_, mine)| mine).collect();
        ensure_eq!(won.len(), 1, "holders who completed the key, with seed {seed}");
        let record = record_of(&space.two, KEY).await?;
        ensure!(won.iter().all(|mine| mine[..] == *record.outcome()), "another's outcome");
    }
    Ok(())
}

pub(super) async fn a_takeover_and_a_late_completion_exclude_each_other(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    for round in 0..20_u8 {
        let key = [round];
        let late = space.overdue(&key, BeginOptions::new()).await?;
        let (one, two) = (space.one.clone(), space.two.clone());
        let completes = trial.start(async move {
            match one.complete(&[round], late.version, b"late").await {
                Ok(_) => Ok(true),
                Err(Error::LeaseLost) => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        let begins = trial.start(async move {
            Ok(match two.begin(&[round], BeginOptions::new()).await? {
                Begin::Started(_) => true,
                other => got!(other, Begin::Completed(_) => false),
            })
        });
        let (completed, began) = (completes.join().await?, begins.join().await?);
        ensure!(completed != began, "completed: {completed}, taken over: {began}");
        ensure_eq!(space.two.get(&key).await?.is_some(), completed, "that it has an outcome");
    }
    Ok(())
}

pub(super) async fn removals_and_completions_exclude_each_other(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    for round in 0..20_u8 {
        let key = [round];
        let grant = space.begun(&key, BeginOptions::new()).await?;
        let version: Version = grant.version;
        let (one, two) = (space.one.clone(), space.two.clone());
        let completes = trial.start(async move {
            match one.complete(&[round], version, b"x").await {
                Ok(_) => Ok(true),
                Err(Error::LeaseLost) => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        let removes = trial.start(async move { Ok(two.remove(&[round], Some(version)).await?) });
        let (completed, removed) = (completes.join().await?, removes.join().await?);
        ensure!(completed != removed, "completed: {completed}, removed: {removed}");
        ensure_eq!(space.two.get(&key).await?.is_some(), completed, "that it has an outcome");
    }
    Ok(())
}
