//! Servers that are killed and started again: what was answered stands, and versions go on.

use std::time::Duration;

use super::checks::record_of;
use crate::backend::suite::failure::{Step, Stop, ensure, ensure_eq, got};
use crate::backend::suite::harness::Clients;
use crate::backend::suite::trial::{LONG, Space, Trial, after, elapsed_since, lasting, real_now};
use crate::backend::{AnyBackend, Backend, Begin, Survives};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::meta::{Meta, Status};
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions};
use crate::record::Record;
use crate::sys::sync::atomic::{AtomicBool, Ordering};
use crate::version::Version;

/// How long clients may take to find a server again.
const FOUND_AGAIN: Duration = Duration::from_secs(30);

/// Leaves the case out where nothing survives the end of the server.
fn survives(space: &Space<'_>) -> Step {
    match space.one.profile().survives {
        Survives::CallerCrash => Err(Stop::LeftOut("the backend keeps nothing over a restart")),
        _ => Ok(()),
    }
}

async fn seen(client: &AnyBackend) -> Step<Vec<(Option<Meta>, Option<Record>)>> {
    let mut seen = Vec::new();
    for key in KEYS {
        seen.push((client.peek(key).await?, client.get(key).await?));
    }
    Ok(seen)
}

const KEYS: [&[u8]; 8] =
    [b"done", b"failed", b"held", b"released", b"unknown", b"gone", b"removed", b"set"];

pub(super) async fn what_was_answered_survives_a_restart(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    survives(&space)?;
    let asks = BeginOptions::new().fingerprint(Fingerprint::of(b"request"));
    let grant = space.begun(b"done", asks).await?;
    space.one.complete(b"done", grant.version, b"outcome").await?;
    let grant = space.begun(b"failed", asks).await?;
    space.one.fail(b"failed", grant.version, b"\0\xff").await?;
    let held = space.begun(b"held", asks).await?;
    space.one.renew(b"held", held.version, 2 * LONG).await?;
    let grant = space.begun(b"released", asks).await?;
    space.one.release(b"released", grant.version, Some(LONG)).await?;
    space.overdue(b"unknown", asks.on_abandon(AbandonPolicy::Hold)).await?;
    let tiny = Duration::from_millis(1);
    let options = CheckOptions::new().outcome_ttl(tiny);
    ensure!(space.one.check_and_set(b"gone", b"outcome", options).await?.is_new(), "known");
    space.until(after(space.now().await?, tiny)).await?;
    let removed = space.done(b"removed", b"x").await?;
    ensure!(space.one.remove(b"removed", None).await?, "not removed");
    ensure!(space.one.check_and_set(b"set", b"", CheckOptions::new()).await?.is_new(), "known");
    let before = seen(&space.two).await?;
    let stale = CheckOptions::new().sent_at(crate::time::Timestamp::from_millis(1));
    let refused = space.one.check_and_set(b"stale", b"x", stale).await;
    let born = got!(refused, Err(Error::Stale { horizon_ms }) => horizon_ms);
    trial.restart().await?;
    let client = space.client().await?;
    for (key, (found, wanted)) in KEYS.iter().zip(seen(&client).await?.iter().zip(&before)) {
        ensure_eq!(found.0, wanted.0, "{key:?} after the restart");
        let outcomes = [&found.1, &wanted.1].map(|record| record.as_ref().map(Record::outcome));
        ensure_eq!(outcomes[0], outcomes[1], "outcome of {key:?} after the restart");
        let gone =
            [&found.1, &wanted.1].map(|record| record.as_ref().and_then(Record::outcome_gone));
        ensure_eq!(gone[0], gone[1], "what is known of the outcome of {key:?}");
    }
    let refused = client.check_and_set(b"stale", b"x", stale).await;
    let horizon = got!(refused, Err(Error::Stale { horizon_ms }) => horizon_ms);
    ensure_eq!(horizon, born, "when the namespace was made");
    got!(client.begin(b"done", asks).await?, Begin::Completed(_) => ());
    let another = BeginOptions::new().fingerprint(Fingerprint::of(b"another"));
    for key in [&b"done"[..], b"failed", b"held", b"released", b"unknown"] {
        got!(client.begin(key, another).await?, Begin::Mismatch(_) => ());
    }
    got!(client.begin(b"held", asks).await?, Begin::InProgress(_) => ());
    got!(client.begin(b"unknown", asks).await?, Begin::Unknown(_) => ());
    // The holder from before goes on.
    client.complete(b"held", held.version, b"x").await?;
    let grant = got!(client.begin(b"removed", asks).await?, Begin::Started(grant) => grant);
    ensure!(grant.version > removed.version(), "{grant:?} is not above {removed:?}");
    Ok(())
}

pub(super) async fn versions_rise_over_restarts(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    survives(&space)?;
    let tiny = Duration::from_millis(1);
    let keys: [&[u8]; 3] = [b"removed", b"expired", b"released"];
    let mut highest = [Version::from_u64(0); 3];
    let mut client = space.one.clone();
    for round in 0..2 {
        for (key, highest) in keys.iter().zip(&mut highest) {
            let options = BeginOptions::new().retention(tiny).lease(tiny);
            let options = if *key == b"expired" { options } else { BeginOptions::new() };
            let answer = client.begin(key, options).await?;
            let grant = got!(answer, Begin::Started(grant) => grant);
            ensure!(grant.version > *highest, "{key:?}, {round}: {grant:?}, {highest:?}");
            *highest = grant.version;
            match *key {
                b"removed" => ensure!(client.remove(key, None).await?, "not removed"),
                b"released" => {
                    client.release(key, grant.version, None).await?;
                    let meta = got!(client.peek(key).await?, Some(meta) => meta);
                    *highest = meta.version;
                }
                // It is over when the server is back; that it is over, whoever asks sees.
                _ => trial.harness.pass(2 * trial.unit()).await,
            }
        }
        trial.restart().await?;
        client = space.client().await?;
        for (key, highest) in keys.iter().zip(highest) {
            got!(client.complete(key, highest, b"late").await, Err(Error::LeaseLost) => ());
        }
    }
    Ok(())
}

/// True for an error that a client may answer while its server is away.
fn is_away(error: &Error) -> bool {
    error.is_indeterminate() || error.is_retryable() || matches!(error, Error::Closed)
}

pub(super) async fn clients_find_a_restarted_server_again(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    survives(&space)?;
    let grant = space.begun(b"key", BeginOptions::new()).await?;
    if trial.restart().await? == Clients::Anew {
        return Err(Stop::LeftOut("clients end with the server"));
    }
    let from = real_now();
    for client in [&space.one, &space.two] {
        loop {
            match client.peek(b"key").await {
                Ok(meta) => {
                    ensure_eq!(meta.map(|meta| meta.version), Some(grant.version), "version");
                    break;
                }
                Err(error) => {
                    ensure!(is_away(&error), "{error:?} of a server that was away");
                    ensure!(elapsed_since(from) < FOUND_AGAIN, "not found again: {error:?}");
                    trial.harness.sleep(trial.unit()).await;
                }
            }
        }
    }
    space.two.complete(b"key", grant.version, b"x").await?;
    let checked = space.one.check_and_set(b"key", b"y", CheckOptions::new()).await?;
    ensure!(checked.is_duplicate(), "a known key is new");
    Ok(())
}

/// What a worker was told before the server went away.
#[derive(Default)]
struct Told {
    /// Keys that it has completed.
    done: Vec<u32>,
    /// The key whose completion was not answered, if it was that.
    open: Option<u32>,
}

/// Does key after key until the server is away.
async fn works_until_away(
    client: AnyBackend,
    worker: u32,
    away: std::sync::Arc<AtomicBool>,
) -> Step<Told> {
    let mut told = Told::default();
    for number in 0.. {
        let key = key_of(worker, number);
        let grant = match client.begin(&key, BeginOptions::new()).await {
            Ok(Begin::Started(grant)) => grant,
            Ok(other) => got!(other, Begin::Started(_) => return Ok(told)),
            Err(error) => {
                ensure!(is_away(&error), "{error:?} of a server that is away");
                break;
            }
        };
        match client.complete(&key, grant.version, &key).await {
            Ok(_) => told.done.push(number),
            Err(error) => {
                ensure!(is_away(&error), "{error:?} of a server that is away");
                told.open = error.is_indeterminate().then_some(number);
                break;
            }
        }
        if away.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(told)
}

fn key_of(worker: u32, number: u32) -> Vec<u8> {
    format!("{worker} {number}").into_bytes()
}

pub(super) async fn a_server_killed_in_the_middle_keeps_what_it_answered(
    trial: &Trial<'_>,
) -> Step {
    let space = trial.space(lasting()).await?;
    survives(&space)?;
    let away = std::sync::Arc::new(AtomicBool::new(false));
    let clients = [&space.one, &space.two, &space.one, &space.two];
    let working: Vec<_> = (0..)
        .zip(clients)
        .map(|(n, client)| trial.start(works_until_away(client.clone(), n, away.clone())))
        .collect();
    trial.harness.sleep(trial.unit()).await;
    let restarted = trial.restart().await;
    away.store(true, Ordering::SeqCst);
    restarted?;
    let client = space.client().await?;
    for (worker, task) in (0..).zip(working) {
        let told = task.join().await?;
        for number in &told.done {
            let key = key_of(worker, *number);
            ensure_eq!(record_of(&client, &key).await?.outcome(), key, "outcome");
        }
        if let Some(number) = told.open {
            // Done or still to be done, by its holder; nothing else.
            let key = key_of(worker, number);
            let meta = got!(client.peek(&key).await?, Some(meta) => meta);
            let states = [Status::InProgress, Status::Completed];
            ensure!(states.contains(&meta.status), "{meta:?} of a completion that is open");
        }
    }
    Ok(())
}
