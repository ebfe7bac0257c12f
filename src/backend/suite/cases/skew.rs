//! Clients whose clocks are wrong, by an hour.

use super::checks::record_of;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::harness::Skew;
use crate::backend::suite::trial::{LONG, Trial, after, lasting, started};
use crate::backend::{AnyBackend, Backend, Begin};
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::BeginOptions;

pub(super) async fn the_clock_of_a_client_does_not_matter(trial: &Trial<'_>) -> Step {
    for skew in [Skew::Ahead(LONG), Skew::Behind(LONG)] {
        // The others have leases and keys for half of that.
        let space = trial.space(lasting()).await?;
        let wrong = space.skewed(skew).await?;
        let lease = BeginOptions::new().lease(LONG / 2);
        let earlier = space.now().await?;
        let grant = started(&wrong, b"wrong", lease).await?;
        let now = wrong.now().await?;
        let later = space.now().await?;
        ensure!(now >= earlier && now <= later, "{now} is not in {earlier} to {later}, {skew:?}");
        ensure!(grant.first_seen >= earlier && grant.first_seen <= later, "{grant:?}, {skew:?}");
        ensure_eq!(grant.deadline, after(grant.first_seen, LONG / 2), "deadline");
        got!(space.one.begin(b"wrong", lease).await?, Begin::InProgress(_) => ());
        wrong.complete(b"wrong", grant.version, b"x").await?;
        let record = record_of(&space.two, b"wrong").await?;
        ensure!(record.created() >= later, "recorded at {}, {skew:?}", record.created());
        ensure!(record.created() <= space.now().await?, "recorded in the future, {skew:?}");
        sees_what_others_see(&space.one, &wrong).await?;
        let late = space.overdue(b"overdue", lease).await?;
        let grant = started(&wrong, b"overdue", lease).await?;
        ensure!(grant.version > late.version, "{grant:?} is not above {late:?}");
        let deadline = wrong.renew(b"overdue", grant.version, LONG / 2).await?;
        let meta = space.meta(b"overdue", Status::InProgress).await?;
        ensure_eq!(deadline, after(meta.updated, LONG / 2), "deadline");
    }
    Ok(())
}

async fn sees_what_others_see(right: &AnyBackend, wrong: &AnyBackend) -> Step {
    let held = BeginOptions::new().lease(LONG / 2);
    let grant = started(right, b"held", held).await?;
    got!(wrong.begin(b"held", held).await?, Begin::InProgress(_) => ());
    ensure_eq!(wrong.peek(b"held").await?, right.peek(b"held").await?, "a key in progress");
    let options = CheckOptions::new().retention(LONG / 2).outcome_ttl(LONG / 4);
    ensure!(right.check_and_set(b"set", b"x", options).await?.is_new(), "known");
    let record = record_of(wrong, b"set").await?;
    ensure!(record.outcome_gone().is_none(), "gone by the clock of a client");
    ensure!(wrong.check_and_set(b"set", b"y", options).await?.is_duplicate(), "known key is new");
    right.release(b"held", grant.version, Some(LONG / 2)).await?;
    got!(wrong.begin(b"held", held).await?, Begin::InProgress(_) => ());
    Ok(())
}
