//! System calls that are interrupted or refused, by the real system: retried, or told and harmless.
//!
//! A test runs itself again under strace, which makes one system call of its process fail. Without
//! strace it says so and passes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oncelog::{Durability, Error, Store};

use crate::setup::{directory, maintain, small};

/// Names the directory of the store; set under strace alone.
const STORE: &str = "ONCELOG_TEST_REFUSED";
const KEYS: u64 = 800;

/// Runs the named test again with these faults; false if there is no strace to do it.
fn with_faults(name: &str, path: &Path, faults: &[&str]) -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("refused::{name}"), "--nocapture"])
        .env(STORE, path)
        .output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    if !text.contains("living") {
        let _ = writeln!(std::io::stderr(), "skipped: strace does not work here: {text}");
        return false;
    }
    assert!(output.is_ok_and(|output| output.status.success()), "{faults:?}: {text}");
    true
}

/// The directory, in the process under strace.
fn told() -> Option<std::path::PathBuf> {
    let path = std::env::var_os(STORE)?;
    eprintln!("living");
    Some(path.into())
}

fn outcome(number: u64) -> Vec<u8> {
    vec![number.to_le_bytes()[0]; 4_000]
}

fn fill(store: &Store) {
    for number in 0..KEYS {
        assert!(store.check_and_set(format!("key {number}"), outcome(number)).unwrap().is_new());
    }
    maintain(store);
}

fn check_all(store: &Store) {
    for number in 0..KEYS {
        let found = store.get(format!("key {number}")).unwrap().unwrap();
        assert_eq!(found.outcome(), outcome(number), "key {number}");
    }
}

#[test]
fn interrupted_calls_are_made_again_and_nobody_is_told() {
    if let Some(path) = told() {
        fill(&small().durability(Durability::Synced).open(&path).unwrap());
        let store = small().open(&path).unwrap();
        check_all(&store);
        return store.close().unwrap();
    }
    // Every second call of each kind, from the first one after the program was loaded.
    let faults = ["openat", "flock", "fallocate", "pwrite64", "getrandom"]
        .map(|name| format!("{name}:error=EINTR:when=12+2"));
    let mut faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    faults.push("flock:error=EINTR:when=1");
    faults.push("fallocate:error=EINTR:when=1");
    let directory = directory();
    if with_faults("interrupted_calls_are_made_again_and_nobody_is_told", directory.path(), &faults)
    {
        check_all(&small().open(directory.path()).unwrap());
    }
}

#[test]
fn a_file_system_without_allocation_is_filled_with_zeros_instead() {
    if let Some(path) = told() {
        fill(&small().open(&path).unwrap());
        let store = small().open(&path).unwrap();
        check_all(&store);
        return store.close().unwrap();
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        let directory = directory();
        let name = "a_file_system_without_allocation_is_filled_with_zeros_instead";
        let fault = format!("fallocate:error={error}");
        if with_faults(name, directory.path(), &[&fault]) {
            check_all(&small().open(directory.path()).unwrap());
        }
    }
}

#[test]
fn too_many_open_files_are_an_error_that_may_be_repeated_and_loses_nothing() {
    let name = "too_many_open_files_are_an_error_that_may_be_repeated_and_loses_nothing";
    let Some(path) = told() else {
        let directory = directory();
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("refused::{name}"), "--nocapture"])
            .env(STORE, directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("living"), "{text}");
        return check_all(&small().open(directory.path()).unwrap());
    };
    let store = small().open(&path).unwrap();
    let mut number = 0;
    for round in 0..2 {
        // All that this process may have, in either order of who is refused first.
        let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        if round == 0 {
            let other = small().open(path.join("other"));
            assert!(matches!(other, Err(Error::Io { .. })), "{other:?}");
        }
        let refused = loop {
            match store.check_and_set(format!("key {number}"), outcome(number)) {
                Ok(check) => assert!(check.is_new()),
                Err(error) => break error,
            }
            number += 1;
        };
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        // Whatever maintenance is refused now, it is not to lose anything.
        let _ = store.maintain(Duration::from_secs(1));
        assert!(!store.contains(format!("key {number}")).unwrap());
        assert!(number == 0 || store.contains("key 0").unwrap());
        taken.clear();
        maintain(&store);
        assert!(store.check_and_set(format!("key {number}"), outcome(number)).unwrap().is_new());
        number += 1;
    }
    assert!(number < KEYS, "{number}");
    for number in number..KEYS {
        assert!(store.check_and_set(format!("key {number}"), outcome(number)).unwrap().is_new());
    }
    check_all(&store);
}

#[test]
fn a_file_that_cannot_be_looked_at_never_makes_a_store_look_like_something_else() {
    let name = "a_file_that_cannot_be_looked_at_never_makes_a_store_look_like_something_else";
    if let Some(path) = told() {
        match small().open(&path) {
            Ok(store) => check_all(&store),
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
        return;
    }
    let directory = directory();
    fill(&small().open(directory.path()).unwrap());
    for number in 1..40 {
        let fault = format!("newfstatat:error=EIO:when={number}");
        with_faults(name, directory.path(), &[&fault]);
    }
    check_all(&small().open(directory.path()).unwrap());
}
