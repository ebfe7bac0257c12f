//! The schema: made by many at once, by other tools, older, newer, and gone.

use oncelog::backend::Backend;
use oncelog::{CheckOptions, Error, Policy};
use oncelog_postgres::{Builder, Lines, MIGRATIONS};

use crate::{on_server, open};

fn builder(url: &str) -> Builder<Lines> {
    Builder::url(url).unwrap()
}

/// The reason why the database is not prepared.
async fn unprepared(url: &str) -> String {
    match builder(url).open().await {
        Err(Error::Unprepared { backend: "postgres", reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_many_processes_that_start_at_once_each_finds_the_schema() {
    on_server(|server, database| async move {
        let url = server.url(&database);
        let starting: Vec<_> = (0..16)
            .map(|number| {
                let url = url.clone();
                tokio::spawn(async move {
                    let builder = builder(&url);
                    builder.migrate().await.unwrap();
                    let opened = builder.open().await.unwrap();
                    let orders = opened.namespace("orders", Policy::default()).await.unwrap();
                    let check = orders.check_and_set(b"k", &[number], CheckOptions::new()).await;
                    check.unwrap().is_new()
                })
            })
            .collect();
        let mut new = 0;
        for started in starting {
            new += usize::from(started.await.unwrap());
        }
        assert_eq!(new, 1);
        assert!(!builder(&url).migrate().await.unwrap(), "there was still something to do");
    });
}

#[test]
fn the_files_can_be_run_by_another_tool_and_again() {
    on_server(|server, database| async move {
        let client = server.client(&database).await;
        for round in 0..2 {
            for (number, migration) in (1..).zip(MIGRATIONS) {
                assert_eq!(migration.number, number);
                client.batch_execute(migration.sql).await.unwrap();
            }
            assert!(!builder(&server.url(&database)).migrate().await.unwrap(), "round {round}");
        }
        open(server, &database).await;
    });
}

#[test]
fn a_schema_that_is_missing_older_or_newer_is_refused_with_what_to_do() {
    on_server(|server, database| async move {
        let url = server.url(&database);
        assert!(unprepared(&url).await.contains("run Builder::migrate"));
        let client = server.client(&database).await;
        let (last, first) = MIGRATIONS.split_last().unwrap();
        for migration in first {
            client.batch_execute(migration.sql).await.unwrap();
        }
        let reason = unprepared(&url).await;
        assert!(reason.contains(&format!("needs {}", last.number)), "{reason}");
        assert!(builder(&url).migrate().await.unwrap());
        builder(&url).open().await.unwrap();
        let newer = "INSERT INTO oncelog.migrations (number) VALUES (1000)";
        client.batch_execute(newer).await.unwrap();
        assert!(unprepared(&url).await.contains("use a later version"));
        let refused = builder(&url).migrate().await;
        assert!(matches!(refused, Err(Error::Unprepared { .. })), "{refused:?}");
    });
}

#[test]
fn a_migration_that_finds_a_newer_schema_once_it_has_the_lock_changes_nothing() {
    on_server(|server, database| async move {
        let url = server.url(&database);
        let mut client = server.client(&database).await;
        // Another process, of a later version, is at it.
        let other = client.transaction().await.unwrap();
        let lock = "SELECT pg_advisory_xact_lock(31365095597305703)";
        other.batch_execute(lock).await.unwrap();
        let late = tokio::spawn(async move { builder(&url).migrate().await });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let newer = "CREATE SCHEMA oncelog; CREATE TABLE oncelog.migrations (number integer); \
            INSERT INTO oncelog.migrations VALUES (1000)";
        other.batch_execute(newer).await.unwrap();
        other.commit().await.unwrap();
        let refused = late.await.unwrap();
        assert!(matches!(refused, Err(Error::Unprepared { .. })), "{refused:?}");
        let there = "SELECT to_regclass('oncelog.records') IS NOT NULL";
        let there: bool = client.query_one(there, &[]).await.unwrap().get(0);
        assert!(!there, "half of an older schema was put over a newer one");
    });
}

#[test]
fn a_schema_that_is_taken_away_under_a_client_is_named() {
    on_server(|server, database| async move {
        let orders = crate::namespace(server, &database).await;
        let client = server.client(&database).await;
        assert!(orders.check_and_set(b"k", b"", CheckOptions::new()).await.unwrap().is_new());
        client.batch_execute("DROP SCHEMA oncelog CASCADE").await.unwrap();
        let check = orders.check_and_set(b"k", b"", CheckOptions::new()).await;
        let Err(Error::Unprepared { reason, .. }) = &check else { panic!("{check:?}") };
        assert!(reason.contains("run Builder::migrate"), "{reason}");
        open(server, &database).await;
    });
}

#[test]
fn a_text_that_no_one_else_writes_is_an_error_and_not_an_answer() {
    on_server(|server, database| async move {
        let orders = crate::namespace(server, &database).await;
        let client = server.client(&database).await;
        let _ = orders.check_and_set(b"k", b"x", CheckOptions::new()).await.unwrap();
        client.batch_execute("UPDATE oncelog.records SET kind = 9").await.unwrap();
        for result in [orders.peek(b"k").await.map(|_| ()), orders.get(b"k").await.map(|_| ())] {
            assert!(matches!(result, Err(Error::Unprepared { .. })), "{result:?}");
        }
        let check = orders.check_and_set(b"k", b"y", CheckOptions::new()).await;
        assert!(matches!(check, Err(Error::Unprepared { .. })), "{check:?}");
    });
}
