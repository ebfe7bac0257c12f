//! Sweeping: in bounded steps, beside claims, and never what is still remembered.

use std::collections::HashSet;
use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions, Policy, Ttl, Version};
use tokio_postgres::Client;

use crate::{namespace, on_server, open};

/// Moves the ends of all records so far back that they can be swept.
async fn expire(client: &Client) {
    let expire = "UPDATE oncelog.records SET expires = expires - 1000000000, \
        deadline = greatest(deadline - 1000000000, 0), \
        bucket = oncelog.bucket_of(expires - 1000000000)";
    client.batch_execute(expire).await.unwrap();
}

async fn rows(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM oncelog.records", &[]).await.unwrap().get(0)
}

#[test]
fn a_sweep_removes_so_many_expired_records_and_nothing_that_lives() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let day =
            Policy { retention: Some(Duration::from_secs(86_400).into()), ..Policy::default() };
        let orders = opened.namespace("orders", day).await.unwrap();
        let client = server.client(&database).await;
        let keys: Vec<Vec<u8>> = (0..250_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &b"x"[..])).collect();
        for check in orders.check_and_set_many(&items, CheckOptions::new()).await.unwrap() {
            assert!(check.unwrap().is_new());
        }
        // Some of these end in the same minute as now.
        for seconds in 5..65 {
            let soon = CheckOptions::new().retention(Duration::from_secs(seconds));
            let _ = orders.check_and_set(&seconds.to_le_bytes(), b"", soon).await.unwrap();
        }
        assert_eq!(opened.sweep(1000).await.unwrap(), 0);
        expire(&client).await;
        let never = CheckOptions::new().retention(Ttl::Never);
        let _ = orders.check_and_set(b"for ever", b"", never).await.unwrap();
        let _ = orders.begin(b"held", BeginOptions::new()).await.unwrap();
        for swept in [100, 100, 100, 10, 0] {
            assert_eq!(opened.sweep(100).await.unwrap(), swept);
        }
        assert_eq!(rows(&client).await, 2);
        assert!(orders.get(b"for ever").await.unwrap().is_some());
        assert!(orders.peek(b"held").await.unwrap().is_some());
        // The plan is one that stays good however large the table is.
        let plan = "EXPLAIN SELECT ctid FROM oncelog.records WHERE bucket < 1 \
            ORDER BY bucket LIMIT 10 FOR UPDATE SKIP LOCKED";
        client.batch_execute("SET enable_seqscan = off").await.unwrap();
        let plan = client.query(plan, &[]).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("records_bucket")), "{plan:?}");
    });
}

#[test]
fn an_expired_record_is_claimed_in_place() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let client = server.client(&database).await;
        let Begin::Started(first) = orders.begin(b"k", BeginOptions::new()).await.unwrap() else {
            panic!("known")
        };
        orders.complete(b"k", first.version, b"x").await.unwrap();
        expire(&client).await;
        assert!(orders.peek(b"k").await.unwrap().is_none());
        let Begin::Started(second) = orders.begin(b"k", BeginOptions::new()).await.unwrap() else {
            panic!("known")
        };
        assert_eq!((second.attempt, rows(&client).await), (1, 1));
        assert!(second.version > first.version);
        expire(&client).await;
        let items: [(&[u8], &[u8]); 2] = [(b"k", b"1"), (b"l", b"2")];
        let checks = orders.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
        assert!(checks.into_iter().all(|check| check.unwrap().is_new()));
        assert_eq!(rows(&client).await, 2);
    });
}

#[test]
fn a_sweep_passes_over_what_a_transaction_holds() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let mut client = server.client(&database).await;
        for key in [b"a", b"b"] {
            let _ = orders.check_and_set(key, b"", CheckOptions::new()).await.unwrap();
        }
        expire(&client).await;
        let transaction = client.transaction().await.unwrap();
        let within = orders.within(&transaction);
        assert!(within.check_and_set(b"a", b"", CheckOptions::new()).await.unwrap().is_new());
        let swept = tokio::time::timeout(Duration::from_secs(10), opened.sweep(100)).await;
        assert_eq!(swept.unwrap().unwrap(), 1);
        transaction.commit().await.unwrap();
        assert_eq!(opened.sweep(100).await.unwrap(), 0);
        assert!(orders.get(b"a").await.unwrap().is_some());
    });
}

#[test]
fn keys_claimed_beside_sweeps_have_one_holder_each_and_rising_versions() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let expiring = server.client(&database).await;
        let sweeping = tokio::spawn({
            let opened = opened.clone();
            async move { opened.sweep_for_ever(3, Duration::from_millis(1)).await }
        });
        let expiring = tokio::spawn(async move {
            for _ in 0..150 {
                expire(&expiring).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let orders = orders.clone();
                tokio::spawn(async move {
                    let mut grants = Vec::new();
                    for number in 0..400_u32 {
                        let key = [u8::try_from(number % 7).unwrap()];
                        let begun = orders.begin(&key, BeginOptions::new()).await.unwrap();
                        if let Begin::Started(grant) = begun {
                            grants.push((key, grant.version));
                            let _ = orders.complete(&key, grant.version, b"x").await;
                        }
                    }
                    grants
                })
            })
            .collect();
        let mut seen: HashSet<Version> = HashSet::new();
        for worker in workers {
            let grants = worker.await.unwrap();
            for key in 0..7 {
                let of_key = grants.iter().filter(|(at, _)| at[0] == key).map(|(_, v)| *v);
                assert!(of_key.is_sorted_by(|a, b| a < b), "versions of {key} fall");
            }
            for (_, version) in grants {
                assert!(seen.insert(version), "{version} was given twice");
            }
        }
        expiring.await.unwrap();
        sweeping.abort();
        assert!(seen.len() > 50, "nothing was swept: {}", seen.len());
    });
}
