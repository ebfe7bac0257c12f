//! Batches: as if one item came after another, in one statement, and without deadlocks.

use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{AbandonPolicy, Anchor, BeginOptions, Check, CheckOptions, Error, Policy, Timestamp};
use oncelog_postgres::Namespace;

use crate::server::Server;
use crate::{namespace, on_server, open};

/// How often transactions of the database were ended to break a deadlock.
async fn deadlocks(server: &Server, database: &str) -> i64 {
    let count = "SELECT deadlocks FROM pg_stat_database WHERE datname = $1";
    server.client("postgres").await.query_one(count, &[&database]).await.unwrap().get(0)
}

/// A different order of the numbers below `count` for each seed.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut numbers: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(at, usize::try_from(state % (at as u64 + 1)).unwrap());
    }
    numbers
}

async fn checks(orders: &Namespace, keys: &[&[u8]], options: CheckOptions) -> Vec<bool> {
    let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (*key, &b"x"[..])).collect();
    let checks = orders.check_and_set_many(&items, options).await.unwrap();
    checks.into_iter().map(|check| check.unwrap().is_new()).collect()
}

#[test]
fn batches_that_overlap_in_any_order_never_deadlock_and_each_key_is_new_once() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let client = server.client(&database).await;
        for round in 0..6_u64 {
            // Half of the keys are known and expired, some released, so that all kinds of locks
            // are taken; sweeps run beside.
            let expire = "UPDATE oncelog.records SET expires = expires - 1000000000, \
                bucket = oncelog.bucket_of(expires - 1000000000) WHERE get_byte(key, 1) % 2 = 0";
            client.batch_execute(expire).await.unwrap();
            let batches: Vec<_> = (0..8)
                .map(|task| {
                    let (orders, opened) = (orders.clone(), opened.clone());
                    tokio::spawn(async move {
                        let order = shuffled(200, round * 8 + task);
                        let number = u8::try_from(round % 3).unwrap();
                        let keys: Vec<[u8; 2]> =
                            order.iter().map(|at| [number, u8::try_from(*at).unwrap()]).collect();
                        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                        let options = CheckOptions::new().anchor(Anchor::LastSeen);
                        let new = checks(&orders, &keys, options).await;
                        opened.sweep(50).await.unwrap();
                        let new = keys.iter().zip(new).filter(|(_, new)| *new);
                        new.map(|(key, _)| key[1]).collect::<Vec<u8>>()
                    })
                })
                .collect();
            let mut new = Vec::new();
            for batch in batches {
                new.extend(batch.await.unwrap());
            }
            let count = new.len();
            new.sort_unstable();
            new.dedup();
            assert_eq!(new.len(), count, "a key was new to two");
            assert_eq!(count, if round < 3 { 200 } else { 100 }, "round {round}");
        }
        assert_eq!(deadlocks(server, &database).await, 0);
    });
}

#[test]
fn items_are_answered_one_after_another_whatever_state_their_keys_are_in() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let short = BeginOptions::new().lease(Duration::from_millis(1));
        let _ = orders.begin(b"held", BeginOptions::new()).await.unwrap();
        let _ = orders.begin(b"overdue", short).await.unwrap();
        let _ = orders.begin(b"unknown", short.on_abandon(AbandonPolicy::Hold)).await.unwrap();
        let Begin::Started(grant) = orders.begin(b"released", short).await.unwrap() else {
            panic!("known")
        };
        orders.release(b"released", grant.version, Some(Duration::from_secs(60))).await.unwrap();
        let gone = CheckOptions::new().outcome_ttl(Duration::from_millis(1));
        let _ = orders.check_and_set(b"gone", b"long ago", gone).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let items: [(&[u8], &[u8]); 10] = [
            (b"released", b"1"),
            (b"held", b"2"),
            (b"new", b"3"),
            (b"", b"4"),
            (b"unknown", b"5"),
            (b"new", b"6"),
            (b"overdue", b"7"),
            (b"gone", b"8"),
            (b"released", b"9"),
            (&[0; 1025], b"10"),
        ];
        let checks = orders.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
        let text = |check: &oncelog::Result<Check>| match check {
            Ok(Check::New) => "new".to_owned(),
            Ok(Check::Duplicate(record)) => match record.outcome_gone() {
                Some(gone) => format!("gone {}", gone.bytes),
                None => String::from_utf8(record.outcome().to_vec()).unwrap(),
            },
            Err(Error::InProgress { .. }) => "held".into(),
            Err(Error::Unresolved) => "unresolved".into(),
            Err(Error::EmptyKey | Error::KeyTooLong { .. }) => "no key".into(),
            Err(other) => panic!("{other:?}"),
        };
        let answers: Vec<String> = checks.iter().map(text).collect();
        let wanted =
            ["new", "held", "new", "no key", "unresolved", "3", "new", "gone 8", "1", "no key"];
        assert_eq!(answers, wanted);
        for (at, key) in [(5, &b"new"[..]), (8, b"released")] {
            let Ok(Check::Duplicate(record)) = &checks[at] else { panic!("{key:?}") };
            assert_eq!(record.meta(), orders.peek(key).await.unwrap().unwrap());
        }
        assert!(orders.check_and_set_many(&[], CheckOptions::new()).await.unwrap().is_empty());
    });
}

#[test]
fn a_stale_batch_answers_what_is_known_and_records_nothing_else() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let _ = orders.check_and_set(b"known", b"x", CheckOptions::new()).await.unwrap();
        let stale = CheckOptions::new().sent_at(Timestamp::from_millis(1));
        let items: [(&[u8], &[u8]); 3] = [(b"new", b"1"), (b"known", b"2"), (b"new", b"3")];
        let checks = orders.check_and_set_many(&items, stale).await.unwrap();
        assert!(matches!(checks[0], Err(Error::Stale { .. })), "{checks:?}");
        assert!(matches!(&checks[1], Ok(check) if check.is_duplicate()), "{checks:?}");
        assert!(matches!(checks[2], Err(Error::Stale { .. })), "{checks:?}");
        assert!(orders.peek(b"new").await.unwrap().is_none());
    });
}

#[test]
fn a_batch_prolongs_what_it_sees_and_changes_nothing_else_of_it() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let short = CheckOptions::new().retention(Duration::from_secs(60));
        let Begin::Started(grant) = orders.begin(b"failed", BeginOptions::new()).await.unwrap()
        else {
            panic!("known")
        };
        orders.fail(b"failed", grant.version, b"no").await.unwrap();
        assert_eq!(checks(&orders, &[b"a", b"b"], short).await, [true, true]);
        let mut before = Vec::new();
        for key in [&b"a"[..], b"b", b"failed"] {
            before.push(orders.get(key).await.unwrap().unwrap());
        }
        let seen =
            CheckOptions::new().anchor(Anchor::LastSeen).retention(Duration::from_secs(200_000));
        let keys: [&[u8]; 3] = [b"failed", b"b", b"a"];
        assert_eq!(checks(&orders, &keys, seen).await, [false, false, false]);
        for (key, before) in [&b"a"[..], b"b", b"failed"].into_iter().zip(before) {
            let after = orders.get(key).await.unwrap().unwrap();
            assert!(after.expires() > before.expires() && after.version() > before.version());
            assert_eq!(
                (after.outcome(), after.created(), after.is_failure(), after.meta().attempts),
                (before.outcome(), before.created(), before.is_failure(), before.meta().attempts)
            );
        }
        let versions = orders.get(b"a").await.unwrap().unwrap().version();
        assert_eq!(checks(&orders, &keys, seen).await, [false, false, false]);
        assert_eq!(orders.get(b"a").await.unwrap().unwrap().version(), versions);
    });
}

#[test]
fn a_batch_is_one_transaction_of_the_server_and_one_of_known_keys_writes_nothing() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let client = server.client(&database).await;
        let keys: Vec<[u8; 4]> = (0..500_u32).map(u32::to_le_bytes).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let written = "SELECT last_value FROM oncelog.versions";
        let new = checks(&orders, &keys, CheckOptions::new()).await;
        assert!(new.into_iter().all(|new| new));
        let inserted = "SELECT count(DISTINCT xmin::text) FROM oncelog.records";
        let transactions: i64 = client.query_one(inserted, &[]).await.unwrap().get(0);
        assert_eq!(transactions, 1);
        let before: i64 = client.query_one(written, &[]).await.unwrap().get(0);
        let new = checks(&orders, &keys, CheckOptions::new()).await;
        assert!(new.into_iter().all(|new| !new));
        let after: i64 = client.query_one(written, &[]).await.unwrap().get(0);
        assert_eq!(before, after, "versions were drawn for keys that are known");
    });
}
