//! Waiting: what it is woken by, and what it does not wait for.

use std::time::Duration;

use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::harness::Time;
use crate::backend::suite::tasks::Running;
use crate::backend::suite::trial::{LONG, Space, Trial, elapsed_since, lasting, real_now, started};
use crate::backend::{AnyBackend, Backend, Begin};
use crate::meta::{Meta, Status};
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions};

const KEY: &[u8] = b"key";
/// Longer than any wait takes that is woken.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Backends notice within a second; the rest is for a machine that has other things to do.
const NOTICED: Duration = Duration::from_secs(10);

/// Waits in a task of its own; the answer, and how long after `from` it came.
fn wait(trial: &Trial<'_>, client: &AnyBackend) -> Running<Step<Option<Meta>>> {
    let client = client.clone();
    trial.start(async move {
        let from = real_now();
        let meta = client.wait(KEY, TIMEOUT).await?;
        let took = elapsed_since(from);
        ensure!(took < TIMEOUT, "it was not woken: {meta:?} after {took:?}");
        Ok(meta)
    })
}

/// Two who wait, through each client, while something happens to the key; what they were answered.
async fn woken(
    trial: &Trial<'_>,
    space: &Space<'_>,
    happens: impl Future<Output = Step>,
) -> Step<Option<Meta>> {
    let waiting = [wait(trial, &space.one), wait(trial, &space.two)];
    // Long enough for both to have looked, and found it in progress.
    trial.harness.sleep(trial.unit()).await;
    let from = real_now();
    happens.await?;
    let [first, second] = waiting;
    let (first, second) = (first.join().await?, second.join().await?);
    let took = elapsed_since(from);
    ensure!(took < NOTICED, "noticed {took:?} after it happened");
    ensure_eq!(first, second, "what both are answered");
    ensure_eq!(first, space.two.peek(KEY).await?, "what wait and peek say");
    Ok(first)
}

fn status(meta: Option<Meta>) -> Option<Status> {
    meta.map(|meta| meta.status)
}

pub(super) async fn a_wait_ends_with_completion_and_failure(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let meta = woken(trial, &space, async {
        space.two.complete(KEY, grant.version, b"x").await?;
        Ok(())
    });
    ensure_eq!(status(meta.await?), Some(Status::Completed), "status");
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let meta = woken(trial, &space, async {
        space.one.fail(KEY, grant.version, b"x").await?;
        Ok(())
    });
    ensure_eq!(status(meta.await?), Some(Status::Failed), "status");
    Ok(())
}

pub(super) async fn a_wait_ends_with_release_and_removal(trial: &Trial<'_>) -> Step {
    for retry_after in [None, Some(LONG)] {
        let space = trial.space(lasting()).await?;
        let grant = space.begun(KEY, BeginOptions::new()).await?;
        let meta = woken(trial, &space, async {
            Ok(space.two.release(KEY, grant.version, retry_after).await?)
        });
        ensure_eq!(status(meta.await?), Some(Status::Released), "status");
    }
    let space = trial.space(lasting()).await?;
    space.begun(KEY, BeginOptions::new()).await?;
    let meta = woken(trial, &space, async {
        ensure!(space.one.remove(KEY, None).await?, "not removed");
        Ok(())
    });
    ensure_eq!(status(meta.await?), None, "status");
    Ok(())
}

pub(super) async fn a_wait_ends_with_the_lease(trial: &Trial<'_>) -> Step {
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    for (options, wanted) in [(BeginOptions::new(), Status::Overdue), (hold, Status::Unknown)] {
        let space = trial.space(lasting()).await?;
        let grant = space.begun(KEY, options.lease(4 * trial.unit())).await?;
        let meta = woken(trial, &space, space.until(grant.deadline));
        ensure_eq!(status(meta.await?), Some(wanted), "status");
    }
    // Where the time runs, the end comes by itself, whether or not the holder is heard of.
    if trial.harness.time() == Time::Runs {
        let space = trial.space(lasting()).await?;
        space.begun(KEY, BeginOptions::new().lease(2 * trial.unit())).await?;
        let meta = wait(trial, &space.two).join().await?;
        ensure_eq!(status(meta), Some(Status::Overdue), "status");
    }
    Ok(())
}

pub(super) async fn a_wait_ends_when_its_time_is_over(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let meta = space.meta(KEY, Status::InProgress).await?;
    for timeout in [Duration::ZERO, Duration::from_millis(1), 3 * trial.unit()] {
        let from = real_now();
        ensure_eq!(space.two.wait(KEY, timeout).await?, Some(meta), "a key in progress");
        let took = elapsed_since(from);
        // The clock that this is measured by moves in ticks.
        let ticks = Duration::from_millis(20);
        ensure!(took + ticks >= timeout, "{took:?} in place of {timeout:?}");
        ensure!(took < timeout + NOTICED, "{took:?} in place of {timeout:?}");
    }
    space.one.complete(KEY, grant.version, b"x").await?;
    Ok(())
}

pub(super) async fn nothing_is_waited_for_that_nobody_works_on(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    ensure_eq!(status(wait(trial, &space.two).join().await?), None, "unused");
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    space.one.release(KEY, grant.version, Some(LONG)).await?;
    ensure_eq!(status(wait(trial, &space.two).join().await?), Some(Status::Released), "released");
    ensure!(space.two.remove(KEY, None).await?, "not removed");
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    space.overdue(KEY, hold).await?;
    ensure_eq!(status(wait(trial, &space.two).join().await?), Some(Status::Unknown), "unknown");
    ensure!(space.two.resolve(KEY, b"x").await?, "not resolved");
    ensure_eq!(status(wait(trial, &space.two).join().await?), Some(Status::Completed), "done");
    Ok(())
}

pub(super) async fn a_renewal_does_not_end_a_wait(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new().lease(4 * trial.unit())).await?;
    let meta = woken(trial, &space, async {
        space.two.renew(KEY, grant.version, LONG).await?;
        // Past the end that those who wait have seen.
        space.until(grant.deadline).await?;
        trial.harness.sleep(trial.unit()).await;
        space.meta(KEY, Status::InProgress).await?;
        space.one.complete(KEY, grant.version, b"x").await?;
        Ok(())
    });
    ensure_eq!(status(meta.await?), Some(Status::Completed), "status");
    Ok(())
}

pub(super) async fn those_who_wait_get_a_released_key_one_at_a_time(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let grant = space.begun(KEY, BeginOptions::new()).await?;
    let wait_and_work = |client: AnyBackend| async move {
        loop {
            match client.begin(KEY, BeginOptions::new()).await? {
                Begin::InProgress(_) => drop(client.wait(KEY, TIMEOUT).await?),
                // The last of them finishes the work, the others give it back.
                Begin::Started(grant) if grant.attempt <= 5 => {
                    client.release(KEY, grant.version, None).await?;
                    return Ok(grant.attempt);
                }
                Begin::Started(grant) => {
                    client.complete(KEY, grant.version, b"x").await?;
                    return Ok(grant.attempt);
                }
                other => got!(other, Begin::Completed(_) => return Ok(0)),
            }
        }
    };
    let clients = [&space.one, &space.two, &space.one, &space.two, &space.one, &space.two];
    let mut running: Vec<_> =
        clients.map(|client| trial.start(wait_and_work(client.clone()))).into();
    trial.harness.sleep(trial.unit()).await;
    space.one.release(KEY, grant.version, None).await?;
    let mut attempts = Vec::new();
    for task in running.drain(..) {
        attempts.push(task.join().await?);
    }
    attempts.sort_unstable();
    let mut wanted: Vec<u32> = (2..=6).collect();
    wanted.insert(0, 0);
    ensure_eq!(attempts, wanted, "attempts");
    let checked = space.one.check_and_set(KEY, b"y", CheckOptions::new()).await?;
    ensure!(checked.is_duplicate(), "a completed key is new");
    started(&space.two, b"another", BeginOptions::new()).await?;
    Ok(())
}
