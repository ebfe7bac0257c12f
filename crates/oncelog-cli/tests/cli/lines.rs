//! Whole lines as keys: the same bytes as awk prints, whatever the bytes are.

use super::support::{Place, awk, distinct, feed, generated, lines, run, sample, start};
use std::io::Write;

#[test]
fn samples_come_out_as_awk_prints_them() {
    for name in ["access.log", "events.ndjson", "visits.csv"] {
        let file = sample(name);
        let printed = run(&["dedup", &file]).quiet_success();
        assert!(!printed.is_empty());
        assert_eq!(printed, awk(&[&file]), "{name}");
    }
}

#[test]
fn a_large_input_comes_out_as_awk_prints_it() {
    let place = Place::new();
    let file = place.write("input", generated(200_000, 120_000));
    let expected = awk(&[&file]);
    assert!(run(&["dedup", &file]).quiet_success() == expected);
    assert!(feed(&["dedup", "-"], &place.read("input")).quiet_success() == expected);
}

#[test]
fn empty_lines_and_a_missing_last_newline_come_out_as_awk_prints_them() {
    let place = Place::new();
    let contents = ["", "\n", "\n\n\n", "a", "a\na", "\n\na\n\nb", "a\r\na\n", " a\na \n a\na"];
    for content in contents {
        let file = place.write("input", content);
        let printed = run(&["dedup", &file]).quiet_success();
        assert_eq!(printed, awk(&[&file]), "{content:?}");
    }
}

#[test]
fn several_files_are_one_input_and_a_dash_is_standard_input() {
    let place = Place::new();
    let first = place.write("first", "a\nb");
    let second = place.write("second", "b\nc\na\nd");
    let printed = run(&["dedup", &first, &second]).quiet_success();
    assert_eq!(printed, awk(&[&first, &second]));
    assert_eq!(feed(&["dedup", &first, "-"], b"c\nb\n").quiet_success(), b"a\nb\nc\n");
}

#[test]
fn bytes_that_are_no_text_are_kept_and_told_apart() {
    let input = b"\xff\xfe\n\xff\n\xff\xfe\n\x00\n\x00\x00\n\xc3\x28\n\x00\n";
    let printed = feed(&["dedup"], input).quiet_success();
    assert_eq!(printed, b"\xff\xfe\n\xff\n\x00\n\x00\x00\n\xc3\x28\n");
}

#[test]
fn items_may_end_with_nul_instead_of_newline() {
    let input = b"a\nb\0c\0a\nb\0\0\0last";
    assert_eq!(feed(&["dedup", "-0"], input).quiet_success(), b"a\nb\0c\0\0last\0");
    assert_eq!(feed(&["dedup", "--null"], input).quiet_success(), b"a\nb\0c\0\0last\0");
}

#[test]
fn an_item_is_printed_before_the_next_one_arrives() {
    for extra in [&[][..], &["--line-buffered"]] {
        let mut child = start(&[&["dedup"], extra].concat());
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        for line in [&b"first\n"[..], b"second\n", b"third\n"] {
            stdin.write_all(line).unwrap();
            assert_eq!(super::support::read_some(&mut stdout, line.len()), line);
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn line_by_line_prints_the_same() {
    let input = generated(3_000, 2_000);
    let printed = feed(&["dedup", "--line-buffered"], &input).quiet_success();
    assert_eq!(lines(&printed), distinct(&input));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let place = Place::new();
    let file = place.write("input", generated(200_000, 1_000_000_000));
    let mut child = start(&["dedup", &file]);
    let mut stdout = child.stdout.take().unwrap();
    super::support::read_some(&mut stdout, 10);
    drop(stdout);
    let done = super::support::Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}
