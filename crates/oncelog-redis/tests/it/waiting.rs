//! Waiting: woken by a message where there are any, and by looking where there are none.

use std::time::Duration;

use oncelog::backend::Backend;
use oncelog::{BeginOptions, LongOutcomePolicy, Status};
use oncelog_redis::RedisBackend;
use tokio::time::{Instant, sleep};

use crate::protocol::{started, started_with};
use crate::servers::{PATIENCE, Server};
use crate::wires::Counted;

#[tokio::test]
async fn one_who_listens_is_woken_at_once_and_asks_the_server_little() {
    let Some(server) = Server::start(&[]).await else { return };
    let counted = Counted::new(server.connection().await);
    let builder = RedisBackend::builder("w").answer_timeout(PATIENCE).listen(server.client());
    let waits = builder.connect(counted.clone()).await.unwrap();
    let works = server.backend("w").await;
    subscribed(&server).await;
    let mut fastest = PATIENCE;
    for round in 0..5_u8 {
        let key = [round];
        let grant = started(&works, &key).await;
        let other = waits.clone();
        counted.taken();
        let waiting = tokio::spawn(async move {
            let found = other.wait(&key, PATIENCE).await.unwrap();
            (found, Instant::now())
        });
        sleep(Duration::from_millis(600)).await;
        assert!(counted.taken() <= 2, "it looks once, and once a second");
        let ended = Instant::now();
        match round % 4 {
            0 => drop(works.complete(&key, grant.version, b"o").await.unwrap()),
            1 => drop(works.fail(&key, grant.version, b"o").await.unwrap()),
            2 => works.release(&key, grant.version, None).await.unwrap(),
            _ => assert!(works.remove(&key, None).await.unwrap()),
        }
        let (found, woken) = waiting.await.unwrap();
        let status = found.map(|meta| meta.status);
        let expected =
            [Some(Status::Completed), Some(Status::Failed), Some(Status::Released), None];
        assert_eq!(status, expected[usize::from(round % 4)]);
        fastest = fastest.min(woken.saturating_duration_since(ended));
    }
    // A look alone would come up to 400 ms later, each time.
    assert!(fastest < Duration::from_millis(150), "{fastest:?}");
}

/// Waits until somebody listens.
async fn subscribed(server: &Server) {
    let end = Instant::now() + PATIENCE;
    loop {
        let channels: Vec<String> = server.run(&["PUBSUB", "CHANNELS"]).await;
        if !channels.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "nobody listens");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nothing_is_published_of_keys_that_nobody_waits_for() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("w").await;
    for round in 0..20_u8 {
        let options = BeginOptions::new().on_long_outcome(LongOutcomePolicy::KeepMark);
        let grant = started_with(&backend, &[round], options).await;
        match round % 4 {
            0 => drop(backend.complete(&[round], grant.version, b"o").await.unwrap()),
            1 => drop(backend.fail(&[round], grant.version, b"o").await.unwrap()),
            2 => backend.release(&[round], grant.version, None).await.unwrap(),
            _ => assert!(backend.remove(&[round], None).await.unwrap()),
        }
    }
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    assert!(!stats.contains("cmdstat_publish"), "{stats}");
}

#[tokio::test]
async fn one_who_does_not_listen_looks_at_growing_intervals() {
    let Some(server) = Server::start(&[]).await else { return };
    let counted = Counted::new(server.connection().await);
    let builder = RedisBackend::builder("w").answer_timeout(PATIENCE);
    let waits = builder.connect(counted.clone()).await.unwrap();
    let grant = started(&waits, b"k").await;
    counted.taken();
    let found = waits.wait(b"k", Duration::from_millis(1_000)).await.unwrap();
    assert_eq!(found.unwrap().status, Status::InProgress);
    // After 10, 20, 40, 80, 160, 250, 250 ms and the rest, and the text of the script once.
    let looks = counted.taken();
    assert!((2..=10).contains(&looks), "{looks} looks in a second");
    let other = waits.clone();
    let waiting = tokio::spawn(async move { other.wait(b"k", PATIENCE).await });
    sleep(Duration::from_millis(300)).await;
    waits.complete(b"k", grant.version, b"o").await.unwrap();
    let begin = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().unwrap().status, Status::Completed);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn one_who_listens_goes_on_when_the_subscription_is_cut() {
    let Some(server) = Server::start(&[]).await else { return };
    let builder = RedisBackend::builder("w").listen(server.client());
    let waits = server.backend_of(builder).await;
    subscribed(&server).await;
    let grant = started(&waits, b"k").await;
    let other = waits.clone();
    let waiting = tokio::spawn(async move { other.wait(b"k", PATIENCE).await });
    sleep(Duration::from_millis(100)).await;
    server.run::<i64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    waits.complete(b"k", grant.version, b"o").await.unwrap();
    let begin = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().unwrap().status, Status::Completed);
    assert!(begin.elapsed() < Duration::from_millis(1_500), "{:?}", begin.elapsed());
    subscribed(&server).await;
}

#[tokio::test]
async fn the_end_of_a_lease_ends_the_wait_also_of_one_who_listens() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend_of(RedisBackend::builder("w").listen(server.client())).await;
    let lease = Duration::from_millis(200);
    started_with(&backend, b"k", BeginOptions::new().lease(lease)).await;
    let begin = Instant::now();
    let found = backend.wait(b"k", PATIENCE).await.unwrap().unwrap();
    assert_eq!(found.status, Status::Overdue);
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn the_listener_ends_with_the_last_clone_of_the_backend() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend_of(RedisBackend::builder("w").listen(server.client())).await;
    subscribed(&server).await;
    let clone = backend.clone();
    drop(backend);
    started(&clone, b"k").await;
    drop(clone);
    let end = Instant::now() + PATIENCE;
    while !server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.is_empty() {
        assert!(Instant::now() < end, "somebody listens still");
        sleep(Duration::from_millis(10)).await;
    }
}
