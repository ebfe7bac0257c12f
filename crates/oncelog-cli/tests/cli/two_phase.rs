//! `dedup --two-phase`: a line is recorded after it was printed, so that a kill leaves none out.

use std::collections::HashSet;
use std::io::{Read, Write};

use super::support::{Place, awk, distinct, feed, generated, kill, lines, read_some, run, start};

const OPTION: &str = "--two-phase";

#[test]
fn it_prints_what_the_other_order_prints() {
    let place = Place::new();
    let file = place.write("input", generated(20_000, 7_000));
    let store = place.text("store");
    let printed = run(&["dedup", OPTION, "--store", &store, &file]).quiet_success();
    assert!(printed == awk(&[&file]));
    assert!(run(&["dedup", OPTION, "--store", &store, &file]).quiet_success().is_empty());
    assert!(run(&["dedup", "--store", &store, &file]).quiet_success().is_empty());
    let repeated = run(&["dedup", OPTION, "--repeated", "--store", &store, &file]).quiet_success();
    assert_eq!(lines(&repeated).len(), 20_000);
}

#[test]
fn long_and_empty_lines_are_told_apart_in_one_batch() {
    let long = "x".repeat(70_000);
    let input = format!("{long}a\n\n{long}b\n{long}a\n\n{long}b\n");
    let printed = feed(&["dedup", OPTION], input.as_bytes()).quiet_success();
    assert_eq!(printed, format!("{long}a\n\n{long}b\n").as_bytes());
}

#[test]
fn a_killed_run_and_the_next_together_print_every_line() {
    for printed_first in [1, 200_000, 1_500_000] {
        let place = Place::new();
        let (store, input) = (place.text("store"), generated(100_000, 120_000));
        let file = place.write("input", &input);
        let mut child = start(&["dedup", OPTION, "--store", &store]);
        let mut stdin = child.stdin.take().unwrap();
        let fed = input.clone();
        std::thread::spawn(move || while stdin.write_all(&fed).is_ok() {});
        let mut printed = read_some(child.stdout.as_mut().unwrap(), printed_first);
        kill(&mut child);
        child.stdout.take().unwrap().read_to_end(&mut printed).unwrap();
        // A line that was cut short by the kill was not recorded.
        let whole = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        printed.truncate(whole);
        printed.extend(run(&["dedup", OPTION, "--store", &store, &file]).quiet_success());
        let printed: HashSet<&[u8]> = lines(&printed).into_iter().collect();
        let missing = distinct(&input).into_iter().filter(|line| !printed.contains(line)).count();
        assert_eq!(missing, 0, "after {printed_first} bytes");
    }
}
