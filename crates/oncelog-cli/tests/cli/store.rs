//! The durable memory: what a second run, a later run and another process see.

use super::support::{Done, Place, awk, feed, read_some, run, sample, start};
use std::io::Write;

#[test]
fn a_first_run_with_a_store_prints_what_awk_prints() {
    let place = Place::new();
    let file = sample("access.log");
    let printed = run(&["dedup", "--store", &place.text("store"), &file]).quiet_success();
    assert_eq!(printed, awk(&[&file]));
}

#[test]
fn a_second_run_over_the_same_input_prints_nothing() {
    let place = Place::new();
    let (store, file) = (place.text("store"), sample("access.log"));
    assert!(!run(&["dedup", "--store", &store, &file]).quiet_success().is_empty());
    assert!(run(&["dedup", "--store", &store, &file]).quiet_success().is_empty());
}

#[test]
fn a_store_is_made_by_a_name_alone_or_by_several_that_are_not_there_yet() {
    let place = Place::new();
    for store in ["seen", "./again", "new/folder/seen", "new/other/"] {
        for printed in [b"a\n".as_slice(), b""] {
            let mut command = super::support::command(&["dedup", "--store", store]);
            command.current_dir(place.path("")).stdin(std::process::Stdio::piped());
            let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"a\n").unwrap();
            let done = Done::from(child.wait_with_output().unwrap());
            assert_eq!((done.code, done.stdout.as_slice()), (Some(0), printed), "{store}");
        }
        assert!(place.path(store).join("STORE").exists(), "{store}");
    }
}

#[test]
fn a_later_run_prints_only_what_was_added() {
    let place = Place::new();
    let store = place.text("store");
    assert_eq!(feed(&["dedup", "--store", &store], b"a\nb\n").quiet_success(), b"a\nb\n");
    assert_eq!(feed(&["dedup", "--store", &store], b"c\na\nb\nd\n").quiet_success(), b"c\nd\n");
}

#[test]
fn without_a_store_nothing_is_remembered() {
    for _ in 0..2 {
        assert_eq!(feed(&["dedup"], b"a\na\n").quiet_success(), b"a\n");
    }
}

#[test]
fn nothing_is_left_behind_without_a_store() {
    let place = Place::new();
    let mut command = super::support::command(&["dedup", &sample("access.log")]);
    let done = Done::from(command.env("TMPDIR", place.path("")).output().unwrap());
    assert!(!done.quiet_success().is_empty());
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn a_key_counts_as_new_again_after_its_time() {
    let place = Place::new();
    let store = place.text("store");
    let dedup = |ttl| feed(&["dedup", "--store", &store, "--ttl", ttl], b"a\n").quiet_success();
    assert_eq!(dedup("1ms"), b"a\n");
    assert!((0..1_000).any(|_| dedup("1h") == b"a\n"), "the key was never forgotten");
    assert_eq!(dedup("1ms"), b"");
}

#[test]
fn a_key_that_never_expires_is_kept() {
    let place = Place::new();
    let arguments = ["dedup", "--store", &place.text("store"), "--ttl", "never"];
    assert_eq!(feed(&arguments, b"a\n").quiet_success(), b"a\n");
    assert_eq!(feed(&arguments, b"a\n").quiet_success(), b"");
}

#[test]
fn kinds_of_keys_do_not_meet_in_one_store() {
    let place = Place::new();
    let store = place.text("store");
    let with = |extra: &[&str], input: &[u8]| {
        let arguments = [&["dedup", "--store", store.as_str()], extra].concat();
        assert_eq!(feed(&arguments, input).quiet_success(), input, "{extra:?}");
        assert_eq!(feed(&arguments, input).quiet_success(), b"", "{extra:?}");
    };
    with(&[], b"7\n");
    with(&["--csv", "1"], b"7\n");
    with(&["--regex", "7"], b"7\n");
    with(&["--json", ".a"], b"{\"a\":7}\n");
    with(&["--json", ".a"], b"{\"a\":\"7\"}\n");
    with(&[], b"\n");
    with(&["--regex", "^"], b"\n");
    with(&["-0"], b"\n\0");
}

#[test]
fn a_store_in_use_elsewhere_ends_with_code_4() {
    let place = Place::new();
    let store = place.text("store");
    let mut first = start(&["dedup", "--store", &store]);
    first.stdin.as_mut().unwrap().write_all(b"a\n").unwrap();
    read_some(first.stdout.as_mut().unwrap(), 2);
    let second = feed(&["dedup", "--store", &store], b"b\n");
    assert!(second.failure(4).contains("in use by another process"), "{}", second.stderr);
    assert!(second.stderr.contains(&store));
    assert_eq!(second.stdout, b"");
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    assert_eq!(feed(&["dedup", "--store", &store], b"b\na\n").quiet_success(), b"b\n");
}
