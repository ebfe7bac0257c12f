//! Ends that nobody asked for: what was recorded stays recorded, and nothing is printed twice.

use super::support::{Place, awk, distinct, generated, kill, lines, read_some, run, start};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use oncelog::Store;

/// Starts a run on a store and writes the input to it in the background, without ever ending it.
fn start_endless(store: &str, extra: &[&str], input: &[u8]) -> Child {
    let mut child = start(&[&["dedup", "--store", store], extra].concat());
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    std::thread::spawn(move || {
        // Ends with the process; without an end, the run cannot be done before that.
        while stdin.write_all(&input).is_ok() {}
    });
    child
}

/// Reads what a process printed until it was gone.
fn rest_of(child: &mut Child) -> Vec<u8> {
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn send(signal: &str, child: &Child) {
    let line = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
}

/// The lines of `input` whose key the store holds.
fn recorded<'i>(store: &str, input: &'i [u8]) -> HashSet<&'i [u8]> {
    let store = Store::builder().key_bytes_max(65_535).open(store).unwrap();
    let key = |line: &[u8]| line.strip_suffix(b"\n").unwrap().to_vec();
    let found = distinct(input).into_iter().filter(|line| store.contains(key(line)).unwrap());
    let found = found.collect();
    store.close().unwrap();
    found
}

#[test]
fn after_a_kill_a_rerun_prints_exactly_the_lines_that_were_not_recorded() {
    for (round, printed_first) in [1, 33_000, 330_000, 1_500_000].into_iter().enumerate() {
        let place = Place::new();
        let (store, input) = (place.text("store"), generated(100_000, 120_000));
        let file = place.write("input", &input);
        let extra: &[&str] = if round == 0 { &["--line-buffered"] } else { &[] };
        let mut child = start_endless(&store, extra, &input);
        let mut first = read_some(child.stdout.as_mut().unwrap(), printed_first);
        kill(&mut child);
        first.extend(rest_of(&mut child));

        let recorded = recorded(&store, &input);
        let second = run(&["dedup", "--store", &store, &file]).quiet_success();
        let missing: Vec<&[u8]> =
            distinct(&input).into_iter().filter(|line| !recorded.contains(line)).collect();
        assert!(!missing.is_empty() && lines(&second) == missing, "round {round}");

        // A write may have been cut short; whole lines are in the order of the input.
        let whole: Vec<&[u8]> =
            lines(&first).into_iter().filter(|line| line.ends_with(b"\n")).collect();
        assert!(whole.iter().all(|line| recorded.contains(line)), "round {round}");
        assert!(distinct(&input).starts_with(&whole), "round {round}");
        assert!(run(&["dedup", "--store", &store, &file]).quiet_success().is_empty());
    }
}

#[test]
fn an_interrupt_leaves_no_line_recorded_and_unprinted() {
    for signal in ["INT", "TERM", "HUP"] {
        let place = Place::new();
        let (store, input) = (place.text("store"), generated(100_000, 120_000));
        let file = place.write("input", &input);
        let mut child = start_endless(&store, &[], &input);
        let mut printed = read_some(child.stdout.as_mut().unwrap(), 100_000);
        send(signal, &child);
        printed.extend(rest_of(&mut child));
        let status = child.wait().unwrap();
        assert!(status.signal().is_some(), "{status:?}");

        printed.extend(run(&["dedup", "--store", &store, &file]).quiet_success());
        assert!(printed == awk(&[&file]), "{signal}");
    }
}

#[test]
fn an_interrupt_removes_the_temporary_store() {
    let place = Place::new();
    let mut command = super::support::command(&["dedup"]);
    command.env("TMPDIR", place.path(""));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Kept open: waiting would close it, and the run might come to its own end first.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    read_some(child.stdout.as_mut().unwrap(), 2);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 1);
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}
