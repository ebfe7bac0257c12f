//! Several processes: two that race while one is killed, and one whose clock is wrong.
//!
//! The other processes are this program, started to run one test, which works for whoever started
//! it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, CheckOptions, Policy};
use oncelog_postgres::Builder;

use crate::server::runtime;
use crate::{on_server, open};

/// Where the other process finds its database, and what it is called there.
const URL: &str = "ONCELOG_TEST_URL";
const NAME: &str = "ONCELOG_TEST_NAME";
/// Keys that they race for.
const KEYS: u32 = 600;

/// Begins key after key, has its effect, and completes it with its name.
#[test]
fn worker() {
    let (Ok(url), Ok(name)) = (std::env::var(URL), std::env::var(NAME)) else {
        return;
    };
    runtime().block_on(async {
        let opened = Builder::url(&url).unwrap().open().await.unwrap();
        let orders = opened.namespace("orders", policy()).await.unwrap();
        for number in 0..KEYS {
            let key = number.to_le_bytes();
            loop {
                match orders.begin(&key, BeginOptions::new()).await.unwrap() {
                    Begin::Started(grant) => {
                        let pause = Duration::from_millis(5 + u64::from(number % 3));
                        tokio::time::sleep(pause).await;
                        // Lost only by one that slept past its lease.
                        if orders.complete(&key, grant.version, name.as_bytes()).await.is_ok() {
                            break;
                        }
                    }
                    Begin::Completed(_) => break,
                    Begin::InProgress(_) => {
                        orders.wait(&key, Duration::from_secs(30)).await.unwrap();
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

fn policy() -> Policy {
    Policy { lease: Duration::from_secs(2), ..Policy::default() }
}

/// This program, as a worker; started through another one, if that is given.
fn start(url: &str, name: &str, through: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match through.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(["--exact", "processes::worker", "--nocapture"])
        .envs([(URL, url), (NAME, name)])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// How many keys each of the two has completed.
async fn done_by(orders: &impl Backend) -> [u32; 2] {
    let mut by = [0, 0];
    for number in 0..KEYS {
        match orders.get(&number.to_le_bytes()).await.unwrap() {
            Some(record) if record.outcome() == b"killed" => by[0] += 1,
            Some(record) if record.outcome() == b"other" => by[1] += 1,
            Some(record) => panic!("{record:?}"),
            None => {}
        }
    }
    by
}

#[test]
fn of_two_processes_that_race_one_may_be_killed_and_each_key_is_completed_once() {
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let url = server.url(&database);
        let mut killed = start(&url, "killed", &[]);
        let mut other = start(&url, "other", &[]);
        let orders = opened.namespace("orders", policy()).await.unwrap();
        // Once both are at it, one is killed.
        while done_by(&orders).await.contains(&0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(other.wait().unwrap().success());
        let by = done_by(&orders).await;
        assert_eq!(by[0] + by[1], KEYS);
        for number in 0..KEYS {
            let meta = orders.peek(&number.to_le_bytes()).await.unwrap().unwrap();
            assert!(meta.attempts <= 2, "{meta:?}");
        }
        assert!(by[0] > 0 && by[1] > 0, "only one of them worked: {by:?}");
    });
}

#[test]
fn the_clock_of_a_process_does_not_matter() {
    let there = Command::new("faketime").arg("--version").stdout(Stdio::null()).status();
    if there.is_err() {
        eprintln!("left out: faketime is not installed (Debian package: faketime)");
        return;
    }
    on_server(|server, database| async move {
        let opened = open(server, &database).await;
        let orders = opened.namespace("orders", policy()).await.unwrap();
        let before = stamp(&orders, b"before").await;
        for (name, skew) in [("ahead", "+40d"), ("behind", "-40d")] {
            let url = server.url(&database);
            let mut worker = start(&url, name, &["faketime", "-f", skew]);
            assert!(worker.wait().unwrap().success());
            let after = stamp(&orders, name.as_bytes()).await;
            for number in 0..KEYS {
                let record = orders.get(&number.to_le_bytes()).await.unwrap().unwrap();
                assert_eq!(record.outcome(), name.as_bytes());
                let times = [record.meta().first_seen, record.created()];
                assert!(times.iter().all(|at| (before..=after).contains(at)), "{record:?}");
                assert!(orders.remove(&number.to_le_bytes(), None).await.unwrap());
            }
        }
    });
}

/// The server's time.
async fn stamp(orders: &impl Backend, key: &[u8]) -> oncelog::Timestamp {
    assert!(orders.check_and_set(key, b"", CheckOptions::new()).await.unwrap().is_new());
    orders.get(key).await.unwrap().unwrap().created()
}
