//! Servers killed and started again in the middle: what was answered is there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oncelog::backend::{Backend, Begin, Survives};
use oncelog::{BeginOptions, Check, CheckOptions, Error, Status};
use oncelog_redis::RedisBackend;
use tokio::time::sleep;

use crate::protocol::started;
use crate::servers::{PATIENCE, Server};

const SYNCED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Works on keys until told to stop: those begun and completed, and those that were left open.
async fn work(
    backend: impl Backend,
    worker: u64,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<(Vec<u8>, bool)> {
    let mut sure = Vec::new();
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let key = [worker.to_le_bytes(), number.to_le_bytes()].concat();
        let begun = backend.begin(&key, BeginOptions::new()).await;
        match begun {
            Ok(Begin::Started(grant)) => {
                match backend.complete(&key, grant.version, &key).await {
                    Ok(_) => sure.push((key, true)),
                    Err(error) => {
                        assert!(!matches!(error, Error::LeaseLost), "{number}: the lease is gone");
                        sure.push((key, false));
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(other) => panic!("a key of this worker's alone: {other:?}"),
            Err(Error::Unanswered { .. } | Error::Unreachable { .. }) => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    sure
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_the_server_was_killed_again_and_again() {
    let Some(mut server) = Server::start(SYNCED).await else { return };
    let builder = RedisBackend::builder("k").answer_timeout(PATIENCE);
    let backend = builder.open(&server.url()).await.unwrap();
    assert_eq!(backend.profile().survives, Survives::PowerLoss);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..8)
        .map(|worker| tokio::spawn(work(backend.clone(), worker, stop.clone(), done.clone())))
        .collect();
    for _ in 0..3 {
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 100 {
            sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        sleep(Duration::from_millis(30)).await;
        server.restart().await;
    }
    sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::Release);
    let (mut completed, mut open) = (0, 0);
    for worker in workers {
        for (key, finished) in worker.await.unwrap() {
            let meta = backend.peek(&key).await.unwrap().expect("a key that was begun is known");
            if finished {
                completed += 1;
                assert_eq!(meta.status, Status::Completed);
                assert_eq!(backend.get(&key).await.unwrap().unwrap().outcome(), key);
            } else {
                open += 1;
                assert!(matches!(meta.status, Status::Completed | Status::InProgress));
            }
        }
    }
    assert!(completed >= 300, "{completed} completed, {open} left open");
}

#[tokio::test]
async fn a_lease_outlives_a_restart_with_its_token() {
    let Some(mut server) = Server::start(SYNCED).await else { return };
    let builder = RedisBackend::builder("k").answer_timeout(PATIENCE);
    let backend = builder.open(&server.url()).await.unwrap();
    let grant = started(&backend, b"k").await;
    server.kill();
    server.restart().await;
    let backend = RedisBackend::builder("k").answer_timeout(PATIENCE);
    let backend = backend.open(&server.url()).await.unwrap();
    let held = backend.begin(b"k", BeginOptions::new()).await.unwrap();
    assert!(matches!(held, Begin::InProgress(meta) if meta.version == grant.version));
    backend.complete(b"k", grant.version, b"o").await.unwrap();
}

#[tokio::test]
async fn the_profile_says_what_a_server_keeps() {
    for (arguments, survives) in [
        (&[][..], Survives::CallerCrash),
        (&["--save", "1 1"][..], Survives::CallerCrash),
        (SYNCED, Survives::PowerLoss),
        (
            &["--appendonly", "yes", "--appendfsync", "everysec"][..],
            Survives::PowerLossAfter(Duration::from_secs(2)),
        ),
        (&["--appendonly", "yes", "--appendfsync", "no"][..], Survives::ProcessCrash),
    ] {
        let Some(server) = Server::start(arguments).await else { return };
        let backend = server.backend("k").await;
        assert_eq!(backend.profile().survives, survives, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_forgets_and_says_so_to_late_requests() {
    let Some(mut server) = Server::start(&[]).await else { return };
    let builder = RedisBackend::builder("k").answer_timeout(PATIENCE);
    let backend = builder.open(&server.url()).await.unwrap();
    assert_eq!(backend.profile().survives, Survives::CallerCrash);
    let grant = started(&backend, b"k").await;
    let done = CheckOptions::new().sent_at(grant.first_seen);
    backend.complete(b"k", grant.version, b"o").await.unwrap();
    server.kill();
    server.restart().await;
    let mut stale = backend.check_and_set(b"k", b"", done).await;
    for _ in 0..100 {
        if !matches!(stale, Err(Error::Unreachable { .. } | Error::Unanswered { .. })) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        stale = backend.check_and_set(b"k", b"", done).await;
    }
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    let new = backend.check_and_set(b"k", b"", CheckOptions::new()).await;
    assert!(matches!(new, Ok(Check::New)), "as the documents say: {new:?}");
    let again = started(&backend, b"other").await;
    assert!(again.version > grant.version, "by the clock, where nothing else is left");
}
