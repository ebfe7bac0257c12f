//! Connections of others: pools handed in, one client for all, and PgBouncer in between.

use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager as Connecting;
use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions, Policy, Status};
use oncelog_postgres::{Builder, Dial, Lines, Pool, Shared, refused, unreachable};
use tokio_postgres::{Client, NoTls};

use crate::server::Server;
use crate::{on_server, open};

/// A pool that knows nothing of this crate.
struct Bb8(bb8::Pool<Connecting<NoTls>>);

struct Taken(bb8::PooledConnection<'static, Connecting<NoTls>>);

impl Deref for Taken {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Pool for Bb8 {
    type Connection = Taken;

    async fn connection(&self) -> oncelog::Result<Taken> {
        match self.0.get_owned().await {
            Ok(connection) => Ok(Taken(connection)),
            Err(bb8::RunError::User(error)) => Err(refused(&error)),
            Err(bb8::RunError::TimedOut) => Err(unreachable("no connection became free")),
        }
    }
}

/// Goes through the verbs, from many tasks at a time.
async fn works<P: Pool>(builder: Builder<P>) {
    let opened = builder.open().await.unwrap();
    let orders = opened.namespace("orders", Policy::default()).await.unwrap();
    let tasks: Vec<_> = (0..16_u8)
        .map(|number| {
            let orders = orders.clone();
            tokio::spawn(async move {
                let mut started = 0;
                for round in 0..20_u8 {
                    let key = [round, number % 4];
                    match orders.begin(&key, BeginOptions::new()).await.unwrap() {
                        Begin::Started(grant) => {
                            started += 1;
                            orders.complete(&key, grant.version, b"x").await.unwrap();
                        }
                        Begin::InProgress(_) => {
                            let meta = orders.wait(&key, Duration::from_secs(20)).await.unwrap();
                            assert_eq!(meta.map(|meta| meta.status), Some(Status::Completed));
                        }
                        Begin::Completed(record) => assert_eq!(record.outcome(), b"x"),
                        other => panic!("{other:?}"),
                    }
                    let again = orders.check_and_set(&key, b"y", CheckOptions::new()).await;
                    assert!(again.unwrap().is_duplicate());
                }
                started
            })
        })
        .collect();
    let mut started = 0;
    for task in tasks {
        started += task.await.unwrap();
    }
    assert_eq!(started, 4 * 20);
}

#[test]
fn a_pool_of_another_crate_can_be_handed_in() {
    on_server(|server, database| async move {
        let config = server.url(&database).parse().unwrap();
        let pool = bb8::Pool::builder().max_size(4).build(Connecting::new(config, NoTls)).await;
        let builder = Builder::new(Bb8(pool.unwrap()));
        assert!(builder.migrate().await.unwrap());
        works(builder).await;
    });
}

#[test]
fn one_client_for_all_is_a_pool_too() {
    on_server(|server, database| async move {
        let builder = Builder::new(Shared::new(server.client(&database).await));
        assert!(builder.migrate().await.unwrap());
        works(builder).await;
    });
}

#[cfg(feature = "deadpool")]
#[test]
fn a_pool_of_deadpool_can_be_handed_in() {
    on_server(|server, database| async move {
        let config = server.url(&database).parse().unwrap();
        let connecting = deadpool_postgres::Manager::new(config, NoTls);
        let pool = deadpool_postgres::Pool::builder(connecting).max_size(4).build().unwrap();
        let builder = Builder::new(pool.clone());
        assert!(builder.migrate().await.unwrap());
        works(builder).await;
        // A connection whose answer nobody waits for does not stay in the pool.
        let opened = Builder::new(pool.clone()).open().await.unwrap();
        let orders = opened.namespace("orders", Policy::default()).await.unwrap();
        let mut client = server.client(&database).await;
        let transaction = client.transaction().await.unwrap();
        let _ = orders
            .within(&transaction)
            .check_and_set(b"k", b"", CheckOptions::new())
            .await
            .unwrap();
        let before = pool.status().size;
        let blocked = orders.check_and_set(b"k", b"", CheckOptions::new());
        assert!(tokio::time::timeout(Duration::from_millis(200), blocked).await.is_err());
        assert_eq!(pool.status().size, before - 1);
        transaction.rollback().await.unwrap();
    });
}

/// Ends with the test.
struct Bouncer(Child, #[expect(dead_code, reason = "removed with it")] tempfile::TempDir);

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// PgBouncer before the server, which hands sessions out by transaction; `None` where it is not
/// installed.
fn bouncer(server: &Server) -> Option<(Bouncer, u16)> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())?;
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = folder.path().join("pgbouncer.ini");
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=oncelog\n[pgbouncer]\n\
        listen_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\npool_mode=transaction\n\
        default_pool_size=3\nunix_socket_dir=\nignore_startup_parameters=extra_float_digits\n",
        server.port
    );
    std::fs::write(&file, settings).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let mut command = Command::new(program);
    // Started by root it wants to be told whom to become.
    command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    if Command::new("id").arg("-u").output().unwrap().stdout.trim_ascii() == b"0" {
        command.args(["-u", "nobody"]);
    }
    Some((Bouncer(command.spawn().unwrap(), folder), port))
}

#[test]
fn sessions_may_be_handed_out_by_transaction_without_prepared_statements() {
    on_server(|server, database| async move {
        let Some((_bouncer, port)) = bouncer(server) else {
            eprintln!("left out: PgBouncer is not installed (Debian package: pgbouncer)");
            return;
        };
        open(server, &database).await;
        let direct = Dial::url(&server.url(&database)).unwrap();
        let url = format!("postgres://oncelog@127.0.0.1:{port}/{database}?connect_timeout=5");
        let through = Dial::url(&url).unwrap();
        let up = async {
            while tokio_postgres::connect(&url, NoTls).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.unwrap();
        let lines = Lines::new(through, 8);
        works(Builder::new(lines).prepared(false).listening(direct)).await;
    });
}
