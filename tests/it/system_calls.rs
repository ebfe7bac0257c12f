//! The system calls of a store that is created and written to, as strace sees them.
//!
//! What must be on stable storage is synced, and in time.
//!
//! The test runs itself again as a child under strace. Where there is no strace, or tracing is not
//! allowed, it says so and tries nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use oncelog::{Durability, Policy};

use crate::setup::{directory, small};

/// Names the store's directory; set for the child alone.
const STORE: &str = "ONCELOG_TEST_TRACED";
const NAME: &str =
    "system_calls::every_file_and_every_name_is_synced_before_the_first_answer_that_rests_on_it";
const TRACED: &str = "openat,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,write";

/// The child: says before and after each call that its answer is being asked for.
fn work(path: &Path) {
    let store = small().durability(Durability::Synced).open(path).unwrap();
    let say = |text: &str| {
        std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).unwrap();
    };
    for key in ["a", "b"] {
        say("asking");
        assert!(store.insert(key).unwrap());
        say("answered");
    }
    say("asking");
    let orders = store.namespace("orders", Policy::default()).unwrap();
    assert!(orders.insert("a").unwrap());
    say("answered");
}

/// One system call that succeeded: its name, and what stands behind it.
fn calls(trace: &str) -> Vec<(&str, &str)> {
    let call = |line: &'_ str| -> Option<(usize, usize)> {
        let (call, result) = line.rsplit_once(" = ")?;
        let from = call.find(|c: char| c.is_ascii_alphabetic())?;
        let to = from + call.get(from..)?.find('(')?;
        (call.trim_end().ends_with(')') && !result.starts_with("-1")).then_some((from, to))
    };
    trace
        .lines()
        .filter_map(|line| call(line).map(|(from, to)| (&line[from..to], &line[to + 1..])))
        .collect()
}

/// What is between angle brackets, the last such path: of the file that a call made or used.
fn last_path(text: &str) -> Option<&str> {
    text.rsplit_once('<')?.1.split_once('>').map(|(path, _)| path)
}

/// The path that a call's descriptor stands for.
fn first_path(text: &str) -> Option<&str> {
    text.split_once('<')?.1.split_once('>').map(|(path, _)| path)
}

fn split(path: &str) -> (String, String) {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    (above.to_owned(), name.to_owned())
}

/// What is not on stable storage yet, call by call.
#[derive(Default)]
struct Unsynced {
    /// By directory, the names that were made or changed in it.
    names: BTreeMap<String, BTreeSet<String>>,
    files: BTreeSet<String>,
    segments_made: usize,
    files_replaced: usize,
    segments_synced: usize,
}

impl Unsynced {
    fn made(&mut self, path: &str) {
        let (above, name) = split(path);
        self.names.entry(above).or_default().insert(name);
    }

    fn see(&mut self, call: &str, rest: &str) {
        match call {
            "mkdir" | "mkdirat" => {
                let path = rest.split('"').nth(1).unwrap();
                self.made(path);
            }
            "openat" if rest.contains("O_CREAT") && rest.contains("O_NOFOLLOW") => {
                let path = last_path(rest).unwrap().to_owned();
                self.made(&path);
                self.segments_made += usize::from(path.ends_with(".seg"));
                // The lock has no contents.
                if !path.ends_with("LOCK") {
                    self.files.insert(path);
                }
            }
            "fsync" | "fdatasync" => {
                let path = first_path(rest).unwrap();
                self.names.remove(path);
                self.files.remove(path);
                self.segments_synced += usize::from(path.ends_with(".seg"));
            }
            "rename" | "renameat" | "renameat2" => {
                let mut names = rest.split('"').skip(1).step_by(2);
                let (from, to) = (names.next().unwrap(), names.next().unwrap());
                let above = first_path(rest).unwrap();
                let unsynced = self.files.contains(&format!("{above}/{from}"));
                assert!(!unsynced, "{to} was replaced by contents that may be lost");
                if to == "MANIFEST" {
                    // It lists the segments: from now on they must be found, and whole.
                    let is_segment = |name: &String| name.ends_with(".seg");
                    assert!(!self.files.iter().any(is_segment), "listed before its room is sure");
                    let mut names = self.names.values().flatten();
                    assert!(!names.any(is_segment), "listed, and nameless");
                }
                self.made(&format!("{above}/{to}"));
                self.files_replaced += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn every_file_and_every_name_is_synced_before_the_first_answer_that_rests_on_it() {
    if let Some(path) = std::env::var_os(STORE) {
        return work(Path::new(&path));
    }
    let directory = directory();
    let trace = directory.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "signal=none", "-s", "256", "-e"])
        .arg(format!("trace={TRACED}"))
        .arg("-o")
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(STORE, directory.path().join("new/nested/store"))
        .output();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    match traced {
        Ok(output) if output.status.success() && !text.is_empty() => {}
        Ok(output) if text.is_empty() => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("skipped: strace cannot trace here: {said}");
            return;
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("skipped: there is no strace here: {error}");
            return;
        }
    }
    let (mut unsynced, mut answered) = (Unsynced::default(), 0);
    for (call, rest) in calls(&text) {
        unsynced.see(call, rest);
        if call == "write" && rest.contains("\"asking") {
            unsynced.segments_synced = 0;
        }
        if call == "write" && rest.contains("\"answered") {
            answered += 1;
            assert!(unsynced.segments_synced > 0, "answer {answered} without a sync of its record");
            assert!(unsynced.files.is_empty(), "not synced: {:?}", unsynced.files);
            assert!(unsynced.names.is_empty(), "names may be lost: {:?}", unsynced.names);
        }
    }
    assert_eq!(answered, 3);
    assert!(unsynced.segments_made > 0 && unsynced.files_replaced > 2);
}
