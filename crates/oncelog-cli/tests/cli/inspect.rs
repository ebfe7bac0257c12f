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
    assert!(text.contains("salvaged   never") && stat["salvaged_ms"].is_null(), "{text}");
    assert_eq!(stat["store_id"].as_str().unwrap().len() % 2, 0);
    assert!(stat["disk_bytes"].as_u64().unwrap() > 0);
    assert!(!stat["segments"].as_array().unwrap().is_empty());
    // What dedup leaves at its end is sealed, so that the records are known.
    assert_eq!(stat["filter"]["keys"], 2);
    assert!(stat["filter"]["bits_per_key"].as_f64().unwrap() >= 12.8);
    assert!(text.contains("bits a key"), "{text}");
}

#[test]
fn stat_tells_what_each_namespace_holds() {
    let place = Place::new();
    let path = place.text("store");
    let store = oncelog::Store::open(&path).unwrap();
    for (name, keys) in [("mails", 3), ("pay\nments", 2)] {
        let space = store.namespace(name, oncelog::Policy::default()).unwrap();
        (0..keys).for_each(|key: u64| assert!(space.insert(key.to_le_bytes()).unwrap()));
        assert!(space.remove(0_u64.to_le_bytes()).unwrap());
    }
    store.close().unwrap();
    let text = String::from_utf8(run(&["stat", &path]).quiet_success()).unwrap();
    assert!(text.contains("mails\n") && text.contains("pay\\nments\n"), "{text}");
    let stat = json(&["stat", &path, "--format", "json"]);
    let spaces = stat["namespaces"].as_array().unwrap();
    let keys: Vec<_> = spaces.iter().map(|one| one["keys"].as_u64().unwrap()).collect();
    assert_eq!(keys, [2, 1]);
    assert_eq!(spaces[1]["name"], "pay\nments");
    assert!(spaces[0]["bytes"].as_u64() > spaces[1]["bytes"].as_u64());
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
