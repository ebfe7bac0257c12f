//! Waiting: told at once by the server, and looking all the same where nothing is told.

use std::time::Duration;

use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{BeginOptions, Policy, Status};
use oncelog_postgres::{Builder, Dial, Lines, Namespace};
use tokio::time::Instant;

use crate::server::Server;
use crate::{namespace, on_server, open};

async fn begun(orders: &Namespace, lease: Duration) -> Grant {
    match orders.begin(b"k", BeginOptions::new().lease(lease)).await.unwrap() {
        Begin::Started(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// Waits for the key at the same time; how long after the start it woke, and to what.
fn waits(orders: &Namespace) -> tokio::task::JoinHandle<(Instant, Option<Status>)> {
    let orders = orders.clone();
    tokio::spawn(async move {
        let meta = orders.wait(b"k", Duration::from_secs(30)).await.unwrap();
        (Instant::now(), meta.map(|meta| meta.status))
    })
}

/// Lets all who wait come to where they are told.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1_000)).await;
}

const LEASE: Duration = Duration::from_secs(60);

#[test]
fn whoever_waits_is_told_of_each_end_at_once() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        // With connections of its own, as another process has.
        let other = namespace(server, &database).await;
        let mut slowest = Duration::ZERO;
        for end in 0..12 {
            let grant = begun(&orders, LEASE).await;
            let waiting = [waits(&other), waits(&orders)];
            settle().await;
            let ended = Instant::now();
            let wanted = match end % 4 {
                0 => {
                    orders.complete(b"k", grant.version, b"").await.unwrap();
                    Some(Status::Completed)
                }
                1 => {
                    orders.fail(b"k", grant.version, b"").await.unwrap();
                    Some(Status::Failed)
                }
                2 => {
                    orders.release(b"k", grant.version, None).await.unwrap();
                    Some(Status::Released)
                }
                _ => None,
            };
            orders.remove(b"k", wanted.map_or(Some(grant.version), |_| None)).await.unwrap();
            for waiting in waiting {
                let (woke, status) = waiting.await.unwrap();
                // What the key was on the way, or that it is gone.
                assert!(status.is_none() || status == wanted, "{status:?}, {wanted:?}");
                slowest = slowest.max(woke - ended);
            }
        }
        // Pauses between looks are 800 ms once the server tells: most of 24 would take longer.
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    });
}

#[test]
fn whoever_waits_wakes_with_the_end_of_the_lease() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let grant = begun(&orders, Duration::from_millis(700)).await;
        let (_, status) = waits(&orders).await.unwrap();
        assert_eq!(status, Some(Status::Overdue));
        let meta = orders.peek(b"k").await.unwrap().unwrap();
        assert_eq!(meta.version, grant.version);
        let waited = orders.wait(b"k", Duration::MAX).await.unwrap();
        assert_eq!(waited.unwrap().status, Status::Overdue);
    });
}

#[test]
fn whoever_waits_without_a_listener_looks_after_growing_pauses() {
    on_server(|server, database| async move {
        open(server, &database).await;
        let lines = Lines::new(Dial::url(&server.url(&database)).unwrap(), 4);
        let opened = Builder::new(lines).open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let grant = begun(&orders, LEASE).await;
        let waiting = waits(&orders);
        settle().await;
        let ended = Instant::now();
        orders.complete(b"k", grant.version, b"").await.unwrap();
        let (woke, status) = waiting.await.unwrap();
        assert_eq!(status, Some(Status::Completed));
        assert!(woke - ended < Duration::from_secs(1), "{:?}", woke - ended);
    });
}

/// Sessions of the database that listen.
async fn listening(server: &Server, database: &str) -> Vec<i32> {
    let listening = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'LISTEN%'";
    let rows = server.client("postgres").await.query(listening, &[&database]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn one_connection_listens_however_many_wait_and_is_made_again_when_it_is_lost() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        assert!(listening(server, &database).await.is_empty(), "nobody waits yet");
        let grant = begun(&orders, LEASE).await;
        let waiting: Vec<_> = (0..8).map(|_| waits(&orders)).collect();
        settle().await;
        let first = listening(server, &database).await;
        assert_eq!(first.len(), 1);
        let kill = "SELECT pg_terminate_backend($1)";
        server.client("postgres").await.execute(kill, &[&first[0]]).await.unwrap();
        // Told of nothing, they look.
        orders.complete(b"k", grant.version, b"").await.unwrap();
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().1, Some(Status::Completed));
        }
        orders.remove(b"k", None).await.unwrap();
        begun(&orders, LEASE).await;
        let waiting = waits(&orders);
        settle().await;
        let second = listening(server, &database).await;
        assert!(second.len() == 1 && second != first, "{first:?}, {second:?}");
        orders.remove(b"k", None).await.unwrap();
        assert_eq!(waiting.await.unwrap().1, None);
        drop(orders);
        settle().await;
        assert!(listening(server, &database).await.is_empty(), "it outlives its database");
    });
}

#[test]
fn the_server_tells_only_where_somebody_waits() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let url = server.url(&database);
        let (client, mut connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let (send, mut told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notice) = message {
                    send.send(notice.payload().to_owned()).unwrap();
                }
            }
        });
        client.batch_execute("LISTEN oncelog").await.unwrap();
        let grant = begun(&orders, LEASE).await;
        orders.complete(b"k", grant.version, b"secret").await.unwrap();
        orders.remove(b"k", None).await.unwrap();
        let grant = begun(&orders, LEASE).await;
        let waiting = waits(&orders);
        settle().await;
        orders.complete(b"k", grant.version, b"secret").await.unwrap();
        waiting.await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        let token = told.recv().await.unwrap();
        assert!(!token.contains('k') && token.len() == 32, "{token} tells what the key is");
        assert!(told.try_recv().is_err(), "told more than once");
    });
}
