//! Items longer than a key can be, up to the limit, and the exactness of their digests.

use super::support::{Place, feed, run};
use oncelog::Store;

fn line(byte: u8, len: usize) -> Vec<u8> {
    let mut line = vec![byte; len];
    line.push(b'\n');
    line
}

#[test]
fn lines_of_every_length_are_told_apart() {
    let lengths = [1_023, 1_024, 1_025, 64_999, 65_000, 65_001, 65_535, 65_536, 300_000, 1 << 21];
    let mut once = Vec::new();
    for len in lengths {
        once.extend(line(b'x', len));
        once.extend(line(b'y', len));
    }
    let twice = [once.clone(), once.clone()].concat();
    assert!(feed(&["dedup"], &twice).quiet_success() == once);
}

#[test]
fn long_lines_are_remembered_from_run_to_run() {
    let place = Place::new();
    let (store, input) = (place.text("store"), line(b'x', 200_000));
    assert!(feed(&["dedup", "--store", &store], &input).quiet_success() == input);
    assert!(feed(&["dedup", "--store", &store], &input).quiet_success().is_empty());
    let other = line(b'x', 200_001);
    assert!(feed(&["dedup", "--store", &store], &other).quiet_success() == other);
}

#[test]
fn equal_digests_do_not_make_two_lines_equal() {
    let place = Place::new();
    let (directory, input) = (place.text("store"), line(b'x', 70_000));
    let digest = xxhash_rust::xxh3::xxh3_128(&input[..70_000]).to_le_bytes();
    let key = [&b"\n\0L"[..], &digest, &0_u32.to_le_bytes()].concat();
    let builder = Store::builder().outcome_bytes_max(16 << 20).key_bytes_max(65_535);
    let store = builder.open(&directory).unwrap();
    assert!(store.check_and_set(&key, "another line with this digest").unwrap().is_new());
    store.close().unwrap();
    assert!(feed(&["dedup", "--store", &directory], &input).quiet_success() == input);
    assert!(feed(&["dedup", "--store", &directory], &input).quiet_success().is_empty());
}

#[test]
fn long_fields_are_keys_too() {
    let value = "v".repeat(100_000);
    let item = format!("{{\"n\":1,\"a\":\"{value}\"}}\n");
    let other = format!("{{\"n\":1,\"a\":\"{value}w\"}}\n");
    let input = [item.as_bytes(), other.as_bytes(), item.as_bytes()].concat();
    let printed = feed(&["dedup", "--json", ".a"], &input).quiet_success();
    assert!(printed == [item, other].concat().as_bytes());
}

#[test]
fn a_line_over_the_limit_is_an_error_with_its_place() {
    let place = Place::new();
    let longest = line(b'x', 16 << 20);
    let file = place.write("input", [b"a\n", longest.as_slice()].concat());
    assert!(run(&["dedup", &file]).quiet_success() == place.read("input"));
    let file = place.write("input", [b"a\n", line(b'x', (16 << 20) + 1).as_slice()].concat());
    let done = run(&["dedup", &file]);
    assert!(done.failure(1).contains("input:2: the line is longer than 16 MiB"));
    assert_eq!(done.stdout, b"a\n");
}
