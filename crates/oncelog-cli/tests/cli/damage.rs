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
