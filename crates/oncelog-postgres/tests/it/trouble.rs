//! Trouble: what each kind of it is answered with, and that nothing is half done.

use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions, Error, Policy};
use oncelog_postgres::{Builder, Dial, Lines};

use crate::server::{Server, is_installed, runtime};
use crate::{namespace, on_server, open};

#[test]
fn a_url_that_is_none_is_refused_without_showing_its_password() {
    for url in ["", "mysql://h/d", "postgres://u:secret@h/d?nonsense=1", "host"] {
        let refused = Builder::url(url);
        let Err(error @ Error::InvalidConfig { .. }) = refused else { panic!("{url}") };
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_server_that_is_away_cannot_be_reached_and_nothing_was_asked() {
    // Nothing listens on port 1.
    runtime().block_on(async {
        let builder = Builder::url("postgres://u@127.0.0.1:1/d").unwrap();
        let error = builder.open().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { backend: "postgres", .. }), "{error:?}");
        assert!(error.is_retryable() && !error.is_indeterminate());
    });
}

#[test]
fn users_passwords_and_databases_that_are_not_known_are_named() {
    on_server(|server, database| async move {
        let opened = |url: String| async move { Builder::url(&url).unwrap().open().await };
        let url = server.url(&database);
        let error = opened(url.replace("oncelog@", "nobody@")).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        let error = opened(url.replace(&database, "nowhere")).await.unwrap_err();
        assert!(matches!(error, Error::Unprepared { .. }), "{error:?}");
    });
}

#[test]
fn a_password_that_is_wrong_or_missing_is_denied() {
    if !is_installed() {
        return;
    }
    runtime().block_on(async {
        let server = Server::start(&["fsync=off"]).await;
        let client = server.client("postgres").await;
        client.batch_execute("CREATE ROLE app LOGIN PASSWORD 'right'").await.unwrap();
        server.authenticate("app").await;
        for user in ["app:wrong@", "app@"] {
            let url = server.url("postgres").replace("oncelog@", user);
            let error = Builder::url(&url).unwrap().open().await.unwrap_err();
            assert!(matches!(error, Error::Denied { .. }), "{user}: {error:?}");
            assert!(!error.is_retryable());
        }
        // With the right one it comes to what is missing.
        let url = server.url("postgres").replace("oncelog@", "app:right@");
        let error = Builder::url(&url).unwrap().open().await.unwrap_err();
        assert!(matches!(error, Error::Unprepared { .. }), "{error:?}");
    });
}

#[test]
fn a_user_without_rights_is_denied() {
    on_server(|server, database| async move {
        open(server, &database).await;
        let client = server.client(&database).await;
        let role = format!("guest_of_{database}");
        client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
        let url = server.url(&database).replace("oncelog@", &format!("{role}@"));
        let error = Builder::url(&url).unwrap().open().await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        let granted = format!(
            "GRANT USAGE ON SCHEMA oncelog TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA oncelog TO {role};
            GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA oncelog TO {role}"
        );
        client.batch_execute(&granted).await.unwrap();
        let opened = Builder::url(&url).unwrap().open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        assert!(orders.check_and_set(b"k", b"", CheckOptions::new()).await.unwrap().is_new());
        assert!(orders.remove(b"k", None).await.unwrap());
        opened.sweep(1).await.unwrap();
    });
}

/// Sets something for all sessions of the database that begin from now on.
async fn set(server: &Server, database: &str, setting: &str) {
    let set = format!("ALTER DATABASE {database} SET {setting}");
    server.client("postgres").await.batch_execute(&set).await.unwrap();
}

#[test]
fn a_standby_or_read_only_session_reads_and_refuses_the_rest() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        assert!(orders.check_and_set(b"k", b"x", CheckOptions::new()).await.unwrap().is_new());
        let Begin::Started(_) = orders.begin(b"held", BeginOptions::new()).await.unwrap() else {
            panic!("known")
        };
        set(server, &database, "default_transaction_read_only = on").await;
        let opened = Builder::url(&server.url(&database)).unwrap().open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        assert_eq!(orders.get(b"k").await.unwrap().unwrap().outcome(), b"x");
        let check = orders.check_and_set(b"k", b"y", CheckOptions::new()).await.unwrap();
        assert!(check.is_duplicate(), "what is known needs no writing");
        let error = orders.check_and_set(b"new", b"", CheckOptions::new()).await.unwrap_err();
        let Error::Denied { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.contains("connect to the primary"), "{reason}");
        // Nobody can be asked to tell, so it is looked at.
        let waited = orders.wait(b"held", Duration::from_millis(50)).await.unwrap();
        assert!(waited.is_some());
    });
}

#[test]
fn a_statement_that_the_server_ends_has_changed_nothing() {
    on_server(|server, database| async move {
        namespace(server, &database).await;
        for setting in ["statement_timeout = 200", "lock_timeout = 200"] {
            set(server, &database, setting).await;
            let orders = namespace(server, &database).await;
            let mut client = server.client(&database).await;
            let transaction = client.transaction().await.unwrap();
            let within = orders.within(&transaction);
            let check = within.check_and_set(b"k", b"a", CheckOptions::new()).await.unwrap();
            assert!(check.is_new());
            let error = orders.check_and_set(b"k", b"b", CheckOptions::new()).await.unwrap_err();
            assert!(matches!(error, Error::Aborted { .. }) && error.is_retryable(), "{error:?}");
            assert!(!error.is_indeterminate());
            transaction.rollback().await.unwrap();
            assert!(orders.peek(b"k").await.unwrap().is_none());
        }
    });
}

#[test]
fn what_the_server_fails_with_is_typed() {
    on_server(|server, database| async move {
        let orders = namespace(server, &database).await;
        let client = server.client(&database).await;
        for (code, wanted) in [
            ("53100", "Full"),
            ("53300", "Unreachable"),
            ("53200", "Unreachable"),
            ("57P03", "Unreachable"),
            ("57P01", "Unanswered"),
            ("57P02", "Unanswered"),
            ("42501", "Denied"),
            ("25006", "Denied"),
            ("42P01", "Unprepared"),
            ("58030", "Aborted"),
            ("XX000", "Aborted"),
        ] {
            let replace = format!(
                "CREATE OR REPLACE FUNCTION oncelog.remove(
                    p_space integer, p_key bytea, p_version bigint,
                    OUT verdict smallint, OUT version bigint, OUT deadline bigint
                ) LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
            );
            client.batch_execute(&replace).await.unwrap();
            let error = orders.remove(b"k", None).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(wanted), "{code}: {error:?}");
            assert_eq!(error.is_indeterminate(), wanted == "Unanswered", "{code}");
        }
    });
}

#[test]
fn a_call_whose_answer_does_not_come_in_time_is_open() {
    if !is_installed() {
        return;
    }
    runtime().block_on(async {
        let server = Server::start(&["fsync=off"]).await;
        let dial = Dial::url(&server.url("postgres")).unwrap();
        let builder = Builder::dial(dial, 2).timeout(Duration::from_millis(500));
        builder.migrate().await.unwrap();
        let opened = builder.open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let _ = orders.check_and_set(b"before", b"", CheckOptions::new()).await.unwrap();
        server.freeze(true);
        let error = orders.check_and_set(b"k", b"x", CheckOptions::new()).await.unwrap_err();
        assert!(error.is_indeterminate(), "{error:?}");
        // The line that may still be answered is given up, and no other can be dialled.
        let error = orders.check_and_set(b"l", b"x", CheckOptions::new()).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        server.freeze(false);
        let check = orders.check_and_set(b"k", b"y", CheckOptions::new()).await.unwrap();
        // It may have been recorded, as was said; by whom, the outcome tells.
        let outcome = orders.get(b"k").await.unwrap().unwrap().outcome().to_vec();
        assert_eq!(outcome, if check.is_new() { b"y" } else { b"x" });
        assert!(orders.check_and_set(b"l", b"", CheckOptions::new()).await.unwrap().is_new());
    });
}

#[test]
fn a_dropped_call_leaves_no_line_busy_with_its_answer() {
    on_server(|server, database| async move {
        let dial = Dial::url(&server.url(&database)).unwrap();
        open(server, &database).await;
        let opened = Builder::new(Lines::new(dial, 1)).open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let mut client = server.client(&database).await;
        let transaction = client.transaction().await.unwrap();
        let _ = orders
            .within(&transaction)
            .check_and_set(b"k", b"", CheckOptions::new())
            .await
            .unwrap();
        let blocked = orders.check_and_set(b"k", b"", CheckOptions::new());
        assert!(tokio::time::timeout(Duration::from_millis(200), blocked).await.is_err());
        // The one line there is would have to wait for the transaction.
        let free = orders.check_and_set(b"other", b"", CheckOptions::new());
        let free = tokio::time::timeout(Duration::from_secs(10), free).await;
        assert!(free.unwrap().unwrap().is_new());
        transaction.rollback().await.unwrap();
    });
}

#[test]
fn limits_and_policies_that_cannot_be_kept_are_refused() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        for policy in [
            Policy { max_keys: Some(1), ..Policy::default() },
            Policy { max_bytes: Some(1), ..Policy::default() },
            Policy { lease: Duration::ZERO, ..Policy::default() },
        ] {
            let refused = opened.namespace("orders", policy).await;
            assert!(
                matches!(refused, Err(Error::InvalidConfig { .. } | Error::InvalidLease { .. })),
                "{refused:?}"
            );
        }
        for name in ["", &"n".repeat(256)] {
            let refused = opened.namespace(name, Policy::default()).await;
            assert!(matches!(refused, Err(Error::InvalidNamespace { .. })), "{refused:?}");
        }
        let url = server.url(&database);
        for bytes in [0, 2049] {
            let refused = Builder::url(&url).unwrap().key_bytes_max(bytes).open().await;
            assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{refused:?}");
        }
        // The longest key that can be allowed fits, whatever is in it.
        let opened = Builder::url(&url).unwrap().key_bytes_max(2048).open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let mut state = 1_u64;
        let key: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        })
        .take(2048)
        .collect();
        for _ in 0..2 {
            let _ = orders.begin(&key, BeginOptions::new()).await.unwrap();
            orders.wait(&key, Duration::from_millis(50)).await.unwrap();
        }
        let refused = orders.peek(&[0; 2049]).await;
        assert!(matches!(refused, Err(Error::KeyTooLong { len: 2049, max: 2048 })), "{refused:?}");
    });
}
