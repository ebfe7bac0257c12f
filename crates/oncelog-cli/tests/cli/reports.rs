//! Counts, notes and progress: on standard error only, and only when asked for or needed.

use super::support::feed;
use serde_json::{Value, json};

const BROKEN: &[u8] = b"{\"a\":1}\n{\"b\":1}\n{\"a\":1}\n{\n{\"a\":2}\n";

#[test]
fn counts_in_json_are_one_object() {
    let arguments = ["dedup", "--json", ".a", "--on-missing", "skip", "-q", "--stats", "json"];
    let done = feed(&arguments, BROKEN);
    let counts: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((&counts["lines"], &counts["new"]), (&json!(5), &json!(2)));
    assert_eq!(counts["duplicates"], 1);
    assert_eq!(counts["without_key"], json!({"absent": 1, "malformed": 1, "policy": "skip"}));
    assert_eq!(counts["bytes_read"], BROKEN.len());
    assert_eq!(
        (&counts["store"]["keys"], &counts["store"]["temporary"]),
        (&json!(2), &json!(true))
    );
    assert_eq!((done.code, done.stdout), (Some(0), b"{\"a\":1}\n{\"a\":2}\n".to_vec()));
}

#[test]
fn counts_are_told_even_when_the_run_fails() {
    let done = feed(&["dedup", "--json", ".a", "--stats", "json"], BROKEN);
    let first = done.stderr.lines().next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(first).unwrap()["lines"], 2);
    done.failure(1);
}

#[test]
fn counts_for_people_are_a_sentence() {
    let done = feed(&["dedup", "--stats", "human"], b"a\nb\na\n");
    assert!(done.stderr.contains("3 lines read, 2 new, 1 duplicate,"), "{}", done.stderr);
}

#[test]
fn quiet_silences_notes_but_no_errors() {
    let done = feed(&["dedup", "--json", ".a", "--on-missing", "skip", "-q"], BROKEN);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    feed(&["dedup", "--json", ".a", "-q"], BROKEN).failure(1);
}

#[test]
fn progress_into_a_pipe_is_shown_only_on_request() {
    assert_eq!(feed(&["dedup", "--progress", "auto"], b"a\n").stderr, "");
    assert_eq!(feed(&["dedup", "--progress", "never"], b"a\n").stderr, "");
    let done = feed(&["dedup", "--progress", "always"], b"a\na\n");
    assert_eq!(done.stderr, "oncelog: 2 lines, 1 new\n");
}
