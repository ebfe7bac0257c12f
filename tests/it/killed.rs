//! `kill -9` between any two steps of the protocol, then reopening: what was answered still holds.
//!
//! The test runs itself again as a child, which begins, renews and ends leases and writes a line
//! after each call that returned. The parent kills it after some lines and checks them all. The
//! store is carried from cycle to cycle.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use oncelog::{BeginOptions, Error, Status, Store, inspect};

use crate::lease::{in_progress, started};
use crate::setup::{Random, directory, small};

/// Names the store's directory; set for the child alone.
const STORE: &str = "ONCELOG_TEST_LEASES";
const NAME: &str = "killed::every_step_of_a_lease_survives_kill_9";
const CYCLES: u64 = 25;
const HOUR: Duration = Duration::from_secs(3600);

/// The child: takes leases through their steps until it is killed.
fn work(path: &Path) {
    let store = small().open(path).unwrap();
    let mut out = std::io::stdout();
    let start = store.recovery().records;
    for number in start.. {
        let key = format!("{start}.{number}");
        let options = BeginOptions::new().lease(HOUR);
        let mut lease = started(store.begin_with(&key, options).unwrap());
        writeln!(out, "\nstep begun {key} {}", lease.version().as_u64()).unwrap();
        if number % 3 == 0 {
            lease.renew(2 * HOUR).unwrap();
            writeln!(out, "step renewed {key} 0").unwrap();
        }
        let step = match number % 5 {
            0 => lease.fail(&key).map(|_| "failed"),
            1 => lease.release(None).map(|()| "released"),
            2 => Ok("left"),
            _ => lease.complete(&key).map(|_| "completed"),
        };
        writeln!(out, "step {} {key} 0", step.unwrap()).unwrap();
    }
}

/// The last line about a key, and its token.
type Lines = BTreeMap<String, (String, u64)>;

/// The parent: starts the child, kills it after so many lines, and returns those.
fn kill_after(path: &Path, count: u64) -> Lines {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Lines::new();
    let mut left = count;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let ["step", step, key, token] = words[..] else { continue };
        let token = token.parse().unwrap();
        let entry = lines.entry(key.to_owned()).or_insert((String::new(), token));
        entry.0 = step.to_owned();
        left = left.saturating_sub(1);
        if left == 0 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert_eq!(left, 0, "the child ended by itself");
    lines
}

fn check(store: &Store, key: &str, step: &str, token: u64, is_last: bool) {
    let meta = store.peek(key).unwrap().unwrap_or_else(|| panic!("{key} is forgotten"));
    let expected = match step {
        "completed" => Status::Completed,
        "failed" => Status::Failed,
        "released" => Status::Released,
        _ => Status::InProgress,
    };
    // The call under way when the child was killed may have taken effect.
    if is_last && meta.status != expected {
        assert_eq!(expected, Status::InProgress, "{key} after {step}");
        return;
    }
    assert_eq!((meta.status, meta.attempts), (expected, 1), "{key} after {step}");
    if meta.status.is_final() {
        assert_eq!(store.get(key).unwrap().unwrap().outcome(), key.as_bytes());
    }
    let complete = |token| store.complete_by(key, token, "by another process");
    if meta.status == Status::InProgress {
        assert_eq!(meta.version.as_u64(), token);
        in_progress(store.begin(key).unwrap());
        complete(meta.version).unwrap();
    } else if meta.status == Status::Released {
        let next = started(store.begin(key).unwrap());
        assert!(next.attempt() == 2 && next.version() > meta.version);
        assert!(matches!(complete(meta.version), Err(Error::LeaseLost)));
    }
}

#[test]
fn every_step_of_a_lease_survives_kill_9() {
    if let Some(path) = std::env::var_os(STORE) {
        return work(Path::new(&path));
    }
    let directory = directory();
    let mut random = Random::new(11);
    let mut highest = 0;
    for cycle in 0..CYCLES {
        let count = 1 + random.below(if cycle % 2 == 0 { 12 } else { 3_000 });
        let lines = kill_after(directory.path(), count);
        assert!(inspect::verify(directory.path()).unwrap().is_sound());
        let store = small().open(directory.path()).unwrap();
        let last = lines.iter().max_by_key(|(_, (_, token))| *token);
        let last = last.map(|(key, _)| key.clone()).unwrap_or_default();
        for (key, (step, token)) in &lines {
            assert!(*token > highest, "token {token} was given out before");
            check(&store, key, step, *token, *key == last);
        }
        highest = started(store.begin(format!("end of {cycle}")).unwrap()).version().as_u64();
    }
}
