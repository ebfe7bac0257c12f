//! Wrong arguments and unreadable inputs: the code, and a text that says what to do.

use super::support::{Place, feed, run};

#[test]
fn wrong_usage_ends_with_code_2() {
    let wrong: [&[&str]; 11] = [
        &[],
        &["dedupe"],
        &["dedup", "--unknown"],
        &["dedup", "--json", ".a", "--csv", "1"],
        &["dedup", "--json", ".a..b"],
        &["dedup", "--csv", "0"],
        &["dedup", "--csv", "name"],
        &["dedup", "--regex", "("],
        &["dedup", "--ttl", "soon"],
        &["dedup", "--no-output", "--repeated"],
        &["dedup", "--csv-header"],
    ];
    for arguments in wrong {
        let done = run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty() && done.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_missing_file_is_named_before_anything_is_read() {
    let place = Place::new();
    let (there, missing) = (place.write("there", "a\n"), place.text("missing"));
    let done = run(&["dedup", &there, &missing]);
    assert!(done.failure(1).contains(&missing) && done.stderr.contains("check the name"));
    assert_eq!(done.stdout, b"");
    let done = run(&["dedup", &place.text("")]);
    assert!(done.failure(1).contains("is a directory"), "{}", done.stderr);
}

#[test]
fn a_directory_of_other_files_is_no_store() {
    let place = Place::new();
    place.write("notes.txt", "not a store");
    let done = feed(&["dedup", "--store", &place.text("")], b"a\n");
    assert!(done.failure(1).contains("no store"), "{}", done.stderr);
    let file = place.text("notes.txt");
    let done = feed(&["dedup", "--store", &file], b"a\n");
    assert!(done.failure(1).contains("not a directory"), "{}", done.stderr);
}

#[test]
fn help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["dedup", "--help"], &["verify", "--help"]] {
        let printed = run(arguments).quiet_success();
        assert!(String::from_utf8(printed).unwrap().contains("Exit codes:"), "{arguments:?}");
    }
}
