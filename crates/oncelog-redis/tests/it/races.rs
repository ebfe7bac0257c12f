//! Several processes at one server, some with a clock that is wrong.
//!
//! The test program starts itself: `a_child_of_a_race` does nothing unless it is told where.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, Status};
use oncelog_redis::RedisBackend;
use tokio::time::sleep;

use crate::protocol::{started, started_with};
use crate::servers::{PATIENCE, Server};

const URL: &str = "ONCELOG_REDIS_RACE_URL";
const KEYS: u32 = 300;

/// Begins every key, in an order of its own, and completes what it gets with its process number.
#[tokio::test]
#[ignore = "is started by the tests of this file"]
async fn a_child_of_a_race() {
    let Ok(url) = std::env::var(URL) else { return };
    let backend = RedisBackend::builder("race").answer_timeout(PATIENCE).open(&url).await.unwrap();
    let me = std::process::id();
    let mut won = 0;
    for turn in 0..KEYS {
        let key = ((turn * 7 + me) % KEYS).to_le_bytes();
        // Long enough for the slowest machine: who dies is not replaced in this race.
        let options = BeginOptions::new().lease(PATIENCE * 10);
        if let Begin::Started(grant) = backend.begin(&key, options).await.unwrap() {
            assert_eq!(grant.attempt, 1);
            backend.complete(&key, grant.version, &me.to_le_bytes()).await.unwrap();
            won += 1;
        }
    }
    println!("won {won}");
}

fn child(url: &str, through: &[&str]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut command = match through {
        [] => Command::new(&own),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&own);
            command
        }
    };
    command.args(["--exact", "races::a_child_of_a_race", "--ignored", "--nocapture"]);
    command.env(URL, url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How many keys a child got.
fn won(child: Child) -> (u32, u32) {
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let count = said.lines().find_map(|line| line.split("won ").nth(1)?.trim().parse().ok());
    assert!(count.is_some(), "{said}");
    (pid, count.unwrap())
}

/// Lets the children race, and checks that each key has one winner.
async fn race(server: &Server, children: Vec<Child>) {
    let url = server.url();
    let backend = RedisBackend::builder("race").answer_timeout(PATIENCE).open(&url).await.unwrap();
    let all =
        tokio::task::spawn_blocking(move || children.into_iter().map(won).collect::<Vec<_>>());
    let all = all.await.unwrap();
    assert_eq!(all.iter().map(|(_, won)| won).sum::<u32>(), KEYS, "{all:?}");
    let mut recorded: BTreeMap<u32, u32> = BTreeMap::new();
    for key in 0..KEYS {
        let record = backend.get(&key.to_le_bytes()).await.unwrap().unwrap();
        assert_eq!(record.meta().attempts, 1);
        let winner = u32::from_le_bytes(record.outcome().try_into().unwrap());
        *recorded.entry(winner).or_default() += 1;
    }
    assert_eq!(recorded.values().sum::<u32>(), KEYS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_processes_one_gets_each_key() {
    let Some(server) = Server::start(&[]).await else { return };
    race(&server, (0..3).map(|_| child(&server.url(), &[])).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_of_processes_that_are_wrong_make_no_difference() {
    let Some(server) = Server::start(&[]).await else { return };
    if Command::new("faketime").arg("--version").output().is_err() {
        eprintln!("skipped: faketime is missing (Debian: faketime)");
        return;
    }
    let skews = ["+3 days", "-3 days"];
    // A process number may differ from that of the child that faketime becomes.
    let children = skews.map(|skew| child(&server.url(), &["faketime", "-f", skew_of(skew)]));
    race(&server, children.into_iter().chain([child(&server.url(), &[])]).collect()).await;
}

fn skew_of(skew: &str) -> &'static str {
    if skew.starts_with('+') { "+3d" } else { "-3d" }
}

#[tokio::test]
async fn a_process_that_dies_is_followed_when_its_lease_is_over() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("race").await;
    let lease = Duration::from_millis(300);
    let dead = started_with(&backend, b"k", BeginOptions::new().lease(lease)).await;
    let held = backend.begin(b"k", BeginOptions::new()).await.unwrap();
    assert!(matches!(held, Begin::InProgress(meta) if meta.deadline == Some(dead.deadline)));
    let found = backend.wait(b"k", PATIENCE).await.unwrap().unwrap();
    assert_eq!(found.status, Status::Overdue);
    let next = started(&backend, b"k").await;
    assert_eq!(next.attempt, 2);
    assert!(next.version > dead.version);
    assert!(backend.complete(b"k", dead.version, b"o").await.is_err());
}

/// The server's clock was ahead when a record was written, and has been set back since.
#[tokio::test]
async fn versions_rise_also_where_the_clock_of_the_server_was_set_back() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("race").await;
    let grant = started(&backend, b"k").await;
    let ahead = grant.version.as_u64() + 3_600_000_000;
    let mut connection = server.connection().await;
    let mut set = oncelog_redis::redis::cmd("SETRANGE");
    set.arg("oncelog:4:race:k").arg(3).arg(&ahead.to_le_bytes()[..7]);
    set.exec_async(&mut connection).await.unwrap();
    let ahead = oncelog::Version::from_u64(ahead);
    let done = backend.complete(b"k", ahead, b"o").await.unwrap();
    assert!(done > ahead);
    assert!(backend.remove(b"k", Some(done)).await.unwrap());
    // An hour and the skew: until no clock can give a version out again.
    let left: i64 = server.run(&["PTTL", "oncelog:4:race:k"]).await;
    assert!((3_590_000..=3_611_000).contains(&left), "{left} ms");
    sleep(Duration::from_millis(20)).await;
    assert!(backend.peek(b"k").await.unwrap().is_none());
    let again = started(&backend, b"k").await;
    assert!(again.version > done, "{} after {done}", again.version);
    assert_eq!(again.attempt, 1);
}
