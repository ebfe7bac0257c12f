//! Where new lines and duplicates go.

use super::support::{Place, feed, run};

const INPUT: &[u8] = b"a\nb\na\na\nc\nb";

#[test]
fn repeated_prints_the_duplicates_instead() {
    for option in ["-r", "--repeated"] {
        assert_eq!(feed(&["dedup", option], INPUT).quiet_success(), b"a\na\nb\n");
    }
}

#[test]
fn duplicates_can_go_to_a_file_of_their_own() {
    let place = Place::new();
    let dupes = place.write("dupes", "what was there before\n");
    let printed = feed(&["dedup", "--dupes-output", &dupes], INPUT).quiet_success();
    assert_eq!(printed, b"a\nb\nc\n");
    assert_eq!(place.read("dupes"), b"a\na\nb\n");
    let printed = feed(&["dedup", "-r", "--dupes-output", &dupes], INPUT).quiet_success();
    assert_eq!((printed, place.read("dupes")), (b"a\na\nb\n".to_vec(), b"a\na\nb\n".to_vec()));
}

#[test]
fn without_output_the_lines_are_only_recorded() {
    let place = Place::new();
    let (store, dupes) = (place.text("store"), place.text("dupes"));
    let fill = ["dedup", "--no-output", "--store", &store, "--dupes-output", &dupes];
    assert_eq!(feed(&fill, INPUT).quiet_success(), b"");
    assert_eq!(place.read("dupes"), b"a\na\nb\n");
    assert_eq!(feed(&["dedup", "--store", &store], b"d\nc\n").quiet_success(), b"d\n");
}

#[test]
fn an_input_is_never_overwritten_with_its_duplicates() {
    let place = Place::new();
    let file = place.write("input", INPUT);
    let done = run(&["dedup", "--dupes-output", &file, &file]);
    assert!(done.failure(2).contains("is an input"), "{}", done.stderr);
    assert_eq!(place.read("input"), INPUT);
}
