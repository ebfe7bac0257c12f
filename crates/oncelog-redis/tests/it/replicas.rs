//! A primary and its replica: what a fail-over forgets, and what it does not.

use std::time::Duration;

use oncelog::backend::{Backend, Fenced};
use oncelog::{BeginOptions, Check, CheckOptions};
use oncelog_redis::RedisBackend;
use tokio::time::{Instant, sleep};

use crate::protocol::started;
use crate::servers::{PATIENCE, Server};

/// A primary and its replica, in step.
async fn pair() -> Option<(Server, Server)> {
    let primary = Server::start(&[]).await?;
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).await?;
    let end = Instant::now() + PATIENCE;
    loop {
        let info: String = replica.run(&["INFO", "replication"]).await;
        let seen: String = primary.run(&["INFO", "replication"]).await;
        if info.contains("master_link_status:up") && seen.contains("state=online") {
            return Some((primary, replica));
        }
        assert!(Instant::now() < end, "{info}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_a_replica_has_acknowledged_is_there_after_a_fail_over() {
    let Some((mut primary, replica)) = pair().await else { return };
    let builder = RedisBackend::builder("r").replicas(1, PATIENCE);
    let backend = primary.backend_of(builder).await;
    assert_eq!(backend.profile().fenced, Fenced::Primary);
    let mut begun = Vec::new();
    for number in 0..100_u32 {
        let key = number.to_le_bytes();
        let grant = started(&backend, &key).await;
        if number % 2 == 0 {
            backend.complete(&key, grant.version, &key).await.unwrap();
        }
        begun.push((key, grant));
    }
    let items: Vec<(&[u8], &[u8])> = vec![(b"m", b"o"), (b"n", b"o")];
    let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Check::New))));
    primary.kill();
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let backend = replica.backend("r").await;
    for (number, (key, grant)) in begun.iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(backend.get(key).await.unwrap().unwrap().outcome(), key);
        } else {
            // The token is good at the new primary as it was at the old one.
            backend.complete(key, grant.version, b"late").await.unwrap();
        }
    }
    assert!(backend.peek(b"m").await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_that_no_replica_acknowledges_says_that_it_may_be_forgotten() {
    let Some((primary, replica)) = pair().await else { return };
    let patient = primary.backend_of(RedisBackend::builder("r").replicas(1, PATIENCE)).await;
    let held = started(&patient, b"held").await;
    let done = started(&patient, b"done").await;
    patient.complete(b"done", done.version, b"o").await.unwrap();
    let builder = RedisBackend::builder("r").replicas(1, Duration::from_millis(200));
    let backend = primary.backend_of(builder).await;
    replica.signal("-STOP");
    let open = |error: oncelog::Error| {
        assert!(error.is_indeterminate(), "{error}");
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    };
    open(backend.begin(b"k", BeginOptions::new()).await.unwrap_err());
    open(backend.check_and_set(b"l", b"o", CheckOptions::new()).await.unwrap_err());
    let items: Vec<(&[u8], &[u8])> = vec![(b"m", b"o"), (b"done", b"o")];
    let mut answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    // What was not written waits for nobody.
    assert!(matches!(answers.pop(), Some(Ok(Check::Duplicate(_)))));
    open(answers.pop().unwrap().unwrap_err());
    open(backend.renew(b"held", held.version, PATIENCE).await.unwrap_err());
    open(backend.complete(b"held", held.version, b"o").await.unwrap_err());
    open(backend.remove(b"held", None).await.unwrap_err());
    replica.signal("-CONT");
    let plain = primary.backend("r").await;
    assert!(plain.peek(b"k").await.unwrap().is_some(), "the primary has it");
    assert!(plain.peek(b"held").await.unwrap().is_none());
}

/// Not a wish, but what the documents say: without `replicas`, a fail-over may forget.
#[tokio::test]
async fn without_replicas_a_fail_over_forgets_what_had_not_arrived_and_later_versions_are_greater()
{
    let Some((mut primary, replica)) = pair().await else { return };
    let backend = primary.backend("r").await;
    // The link is cut before, and the replica takes over.
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let lost = started(&backend, b"k").await;
    primary.kill();
    let backend = replica.backend("r").await;
    let again = started(&backend, b"k").await;
    assert_eq!(again.attempt, 1, "the first one is forgotten");
    assert!(again.version > lost.version, "by the clocks, which differ by less than that took");
    assert!(backend.complete(b"k", lost.version, b"o").await.is_err());
    backend.complete(b"k", again.version, b"o").await.unwrap();
}
