//! `stat` and `verify` on sound stores.

use super::support::{Place, feed, read_some, run, start};
use serde_json::Value;
use std::io::Write;

fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&run(arguments).quiet_success()).unwrap()
}

#[test]
fn stat_tells_what_a_store_consists_of() {
    let place = Place::new();
    let store = place.text("store");
    feed(&["dedup", "--no-output", "--store", &store], b"a\nb\na\n").quiet_success();
    let text = String::from_utf8(run(&["stat", &store]).quiet_success()).unwrap();
    assert!(text.contains("in use     no") && text.contains(&store), "{text}");
    let stat = json(&["stat", &store, "--format", "json"]);
    assert_eq!(stat["in_use"], false);
    assert_eq!(stat["store_id"].as_str().unwrap().len() % 2, 0);
    assert!(stat["disk_bytes"].as_u64().unwrap() > 0);
    assert!(!stat["segments"].as_array().unwrap().is_empty());
}

#[test]
fn verify_counts_the_records_of_a_sound_store() {
    let place = Place::new();
    let store = place.text("store");
    feed(&["dedup", "--no-output", "--store", &store], b"a\nb\na\n").quiet_success();
    let text = String::from_utf8(run(&["verify", &store]).quiet_success()).unwrap();
    assert!(text.starts_with("sound: 2 records"), "{text}");
    let verified = json(&["verify", "--format", "json", &store]);
    assert_eq!((&verified["sound"], &verified["records"]), (&true.into(), &2.into()));
}

#[test]
fn both_work_beside_a_run_and_say_so() {
    let place = Place::new();
    let store = place.text("store");
    let mut child = start(&["dedup", "--store", &store]);
    child.stdin.as_mut().unwrap().write_all(b"a\n").unwrap();
    read_some(child.stdout.as_mut().unwrap(), 2);
    for command in ["stat", "verify"] {
        assert_eq!(json(&[command, "--format", "json", &store])["in_use"], true);
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_missing_directory_is_an_error_and_is_not_created() {
    let place = Place::new();
    for command in ["stat", "verify"] {
        let done = run(&[command, &place.text("missing")]);
        assert!(done.failure(1).contains("missing"), "{}", done.stderr);
        assert!(!place.path("missing").exists());
    }
}
