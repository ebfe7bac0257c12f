//! Damaged stores: found by verify, refused by dedup, and never silently repaired.

use super::support::{Place, feed, generated, run};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A store of some thousand lines, and the paths of its files with this ending.
fn filled(place: &Place, ending: &str) -> (String, Vec<PathBuf>) {
    let store = place.text("store");
    let input = generated(5_000, 1_000_000);
    feed(&["dedup", "--no-output", "--store", &store], &input).quiet_success();
    let mut files: Vec<PathBuf> =
        fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    (store, files)
}

/// Changes one byte of the content in the middle of the first record that shows this text.
fn change_a_record(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let text = b"line 0000000000";
    let place = bytes.windows(text.len()).position(|window| window == text).unwrap();
    bytes[place + 3] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn verify_lists_a_changed_record_and_ends_with_code_3() {
    let place = Place::new();
    let (store, segments) = filled(&place, ".seg");
    change_a_record(&segments[0]);
    let done = run(&["verify", &store]);
    assert!(done.failure(3).contains("restore it from a copy"), "{}", done.stderr);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("at byte ") && text.contains("damaged: "), "{text}");
    let done = run(&["verify", "--format", "json", &store]);
    done.failure(3);
    let verified: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(verified["sound"], false);
    assert!(verified["problems"][0]["offset"].is_u64(), "{verified}");
}

#[test]
fn dedup_on_a_store_with_a_damaged_identity_ends_with_code_3() {
    let place = Place::new();
    let (store, files) = filled(&place, "STORE");
    let mut bytes = fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    let done = feed(&["dedup", "--store", &store], b"a\n");
    assert!(done.failure(3).contains("STORE"), "{}", done.stderr);
    assert_eq!(done.stdout, b"");
    assert_eq!(fs::read(&files[0]).unwrap(), bytes);
}

#[test]
fn salvage_changes_nothing_without_yes_and_lists_what_is_lost_with_it() {
    let place = Place::new();
    let (store, segments) = filled(&place, ".seg");
    let sound = run(&["salvage", &store]);
    assert!(String::from_utf8(sound.quiet_success()).unwrap().contains("sound"));
    change_a_record(&segments[0]);
    let damaged = fs::read(&segments[0]).unwrap();
    for arguments in [&["salvage", &store][..], &["salvage", "--dry-run", &store]] {
        let done = run(arguments);
        assert!(done.failure(3).contains("nothing was changed"), "{}", done.stderr);
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(text.contains("records lost: 1;") && text.contains("versions before"), "{text}");
        assert_eq!(fs::read(&segments[0]).unwrap(), damaged);
    }
    assert_eq!(run(&["salvage", "--dry-run", "--yes", &store]).code, Some(2));
    let done = run(&["salvage", "--yes", "--format", "json", &store]);
    let report: Value = serde_json::from_slice(&done.quiet_success()).unwrap();
    assert_eq!((&report["done"], &report["records_lost"]), (&Value::from(true), &Value::from(1)));
    let kept = report["damages"][0]["kept_as"].as_str().unwrap();
    assert_eq!(fs::read(kept).unwrap(), damaged);
    run(&["verify", &store]).quiet_success();
    // The one that is lost counts as new, and no other.
    let input = generated(5_000, 1_000_000);
    let again = feed(&["dedup", "--store", &store], &input);
    assert_eq!(String::from_utf8(again.stdout).unwrap().lines().count(), 1);
}
