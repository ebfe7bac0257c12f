//! `exec`: a command runs once per key, and everybody gets what it printed and its exit code.

use std::collections::HashSet;
use std::fs;
use std::process::Child;
use std::time::Duration;

use super::support::{Done, Place, kill, read_some, run, start};

/// A command line that appends to `file`, prints to both outputs and exits with `code`.
fn script(file: &str, code: i32) -> String {
    format!("echo run >> {file}; echo out; echo err >&2; exit {code}")
}

fn exec<'a>(store: &'a str, extra: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let head = ["exec", "--store", store, "--key", "k"];
    [&head[..], extra, &["--", "sh", "-c", script]].concat()
}

fn runs(place: &Place, name: &str) -> usize {
    fs::read_to_string(place.path(name)).map_or(0, |text| text.lines().count())
}

fn end_of(child: Child) -> Done {
    Done::from(child.wait_with_output().unwrap())
}

#[test]
fn the_second_caller_gets_output_and_exit_code_of_the_first() {
    for code in [0, 7] {
        let place = Place::new();
        let (store, file) = (place.text("store"), place.text("runs"));
        let script = script(&file, code);
        for _ in 0..3 {
            let done = run(&exec(&store, &[], &script));
            assert_eq!(done.code, Some(code));
            assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"out\n"[..], "err\n"));
        }
        assert_eq!(runs(&place, "runs"), 1);
        let other = run(&["exec", "--store", &store, "--key", "other", "--", "echo", "x"]);
        assert_eq!(other.quiet_success(), b"x\n");
    }
}

#[test]
fn of_concurrent_callers_one_runs_the_command_and_all_get_its_output() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let script = format!("sleep 0.3; {}", script(&file, 5));
    let children: Vec<Child> = (0..6).map(|_| start(&exec(&store, &[], &script))).collect();
    for child in children {
        let done = end_of(child);
        assert_eq!((done.code, &done.stdout[..]), (Some(5), &b"out\n"[..]), "{}", done.stderr);
    }
    assert_eq!(runs(&place, "runs"), 1);
}

#[test]
fn a_killed_caller_keeps_the_key_for_its_lease_and_the_next_runs_the_command() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let slow = format!("echo started; exec sleep 30 >> {file}");
    let mut first = start(&exec(&store, &["--lease", "1s"], &slow));
    read_some(first.stdout.as_mut().unwrap(), 8);
    kill(&mut first);
    let impatient = run(&exec(&store, &["--wait", "0s"], "exit 0"));
    assert!(impatient.failure(125).contains("in progress"));
    let second = run(&exec(&store, &[], &script(&file, 0)));
    assert_eq!((second.code, &second.stdout[..]), (Some(0), &b"out\n"[..]), "{}", second.stderr);
    assert_eq!(runs(&place, "runs"), 1);
}

#[test]
fn a_killed_run_that_is_held_is_not_repeated() {
    let place = Place::new();
    let store = place.text("store");
    let held = ["--hold", "--lease", "1s"];
    let mut first = start(&exec(&store, &held, "echo started; exec sleep 30"));
    read_some(first.stdout.as_mut().unwrap(), 8);
    kill(&mut first);
    let second = run(&exec(&store, &held, "echo again"));
    assert!(second.failure(125).contains("what came of it"));
}

#[test]
fn a_command_that_outlasts_its_lease_keeps_it() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let slow = format!("echo started; sleep 5; {}", script(&file, 0));
    let mut first = start(&exec(&store, &["--lease", "3s"], &slow));
    read_some(first.stdout.as_mut().unwrap(), 8);
    let second = run(&exec(&store, &[], "echo twice"));
    assert_eq!(&second.stdout[..], b"started\nout\n", "{}", second.stderr);
    assert_eq!(end_of(first).code, Some(0));
    assert_eq!(runs(&place, "runs"), 1);
}

#[test]
fn a_failure_is_repeated_only_if_asked_for() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let failing = script(&file, 3);
    for count in 1..3 {
        let done = run(&exec(&store, &["--retry-failed"], &failing));
        assert_eq!((done.code, runs(&place, "runs")), (Some(3), count));
    }
    let refused = run(&exec(&store, &["--attempts", "2"], &failing));
    assert!(refused.failure(125).contains("used up"));
    assert_eq!(run(&exec(&store, &[], &script(&file, 0))).code, Some(0));
    assert_eq!(run(&exec(&store, &["--retry-failed"], &failing)).code, Some(0));
}

#[test]
fn a_command_that_cannot_run_or_is_ended_by_a_signal_leaves_its_key_free() {
    let place = Place::new();
    let store = place.text("store");
    let missing = run(&["exec", "--store", &store, "--key", "k", "--", "no-such-program"]);
    missing.failure(127);
    let file = place.write("plain", "text");
    let plain = run(&["exec", "--store", &store, "--key", "k", "--", &file]);
    plain.failure(126);
    let ended = run(&exec(&store, &[], "kill -TERM $$"));
    assert!(ended.failure(143).contains("signal 15"));
    assert_eq!(run(&exec(&store, &[], "echo x")).quiet_success(), b"x\n");
}

#[test]
fn callers_killed_at_random_leave_one_outcome_for_all_others() {
    let place = Place::new();
    let store = place.text("store");
    let mut outputs = HashSet::new();
    for round in 0..4_u64 {
        // Each run prints something of its own, so that two recorded runs would be noticed.
        let script = "sleep 0.05; echo $$";
        let children: Vec<Child> =
            (0..6).map(|_| start(&exec(&store, &["--lease", "3s"], script))).collect();
        for (number, mut child) in children.into_iter().enumerate() {
            if number % 2 == 0 && round < 3 {
                std::thread::park_timeout(Duration::from_millis(7 * (round + 1)));
                kill(&mut child);
                continue;
            }
            let done = end_of(child);
            assert_eq!(done.code, Some(0), "{}", done.stderr);
            outputs.insert(done.stdout);
        }
        assert_eq!(outputs.len(), 1, "in round {round}");
    }
}

fn job<'a>(store: &'a str, extra: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let head = ["exec", "--store", store, "--job", "j"];
    [&head[..], extra, &["--", "sh", "-c", script]].concat()
}

const TIMES: [&str; 2] = ["2020-07-01T03:00:00Z", "2020-07-02T03:00:00Z"];
/// Longer than those times are ago, in any year that this is run in.
const LONG: &str = "100000d";

#[test]
fn of_processes_that_fire_a_job_at_one_time_one_runs_it_and_each_fire_time_has_its_run() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let script = format!("sleep 0.2; {}", script(&file, 0));
    for (count, time) in (1..).zip(TIMES) {
        let arguments = job(&store, &["--ttl", LONG, "--fire-time", time], &script);
        let children: Vec<Child> = (0..4).map(|_| start(&arguments)).collect();
        for child in children {
            let done = end_of(child);
            assert_eq!((done.code, &done.stdout[..]), (Some(0), &b"out\n"[..]), "{}", done.stderr);
        }
        assert_eq!(runs(&place, "runs"), count);
    }
    // A key of the job's name is something else.
    assert_eq!(run(&["exec", "--store", &store, "--key", "j", "--", "true"]).code, Some(0));
}

#[test]
fn a_run_of_a_job_that_was_killed_is_taken_over_and_not_missed() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    let times = ["--ttl", LONG, "--fire-time", TIMES[0], "--lease", "1s"];
    let slow = format!("echo started; exec sleep 30 >> {file}");
    let mut first = start(&job(&store, &times, &slow));
    read_some(first.stdout.as_mut().unwrap(), 8);
    kill(&mut first);
    for _ in 0..2 {
        let next = run(&job(&store, &times, &script(&file, 0)));
        assert_eq!((next.code, &next.stdout[..]), (Some(0), &b"out\n"[..]), "{}", next.stderr);
    }
    assert_eq!(runs(&place, "runs"), 1);
}

#[test]
fn a_fire_time_to_come_is_waited_for_and_one_that_may_be_forgotten_is_refused() {
    let place = Place::new();
    let store = place.text("store");
    let old = run(&job(&store, &["--fire-time", TIMES[0]], "true"));
    assert!(old.failure(125).contains("remembered"));
    let future = ["--fire-time", "2990-01-01T00:00:00Z", "--wait", "0s"];
    assert!(run(&job(&store, &future, "true")).failure(125).contains("has not come"));
    let never = ["--ttl", "never", "--every", "1h"];
    assert!(run(&job(&store, &never, "true")).failure(125).contains("--ttl"));
    let short = ["--ttl", "1h", "--every", "2h"];
    assert!(run(&job(&store, &short, "true")).failure(125).contains("at least"));
    for wrong in [&["--every", "1ms"][..], &[], &["--every", "1h", "--fire-time", TIMES[0]]] {
        assert_eq!(run(&job(&store, wrong, "true")).code, Some(2), "{wrong:?}");
    }
    let both = ["exec", "--store", &store, "--key", "k", "--every", "1h", "--", "true"];
    assert_eq!(run(&both).code, Some(2));
}

#[test]
fn a_period_has_one_run_until_its_next_fire_time() {
    let place = Place::new();
    let (store, file) = (place.text("store"), place.text("runs"));
    // A period so long that no fire time comes while this runs.
    let every = ["--every", "36500d", "--ttl", LONG];
    for _ in 0..3 {
        assert_eq!(run(&job(&store, &every, &script(&file, 0))).code, Some(0));
    }
    assert_eq!(runs(&place, "runs"), 1);
}
