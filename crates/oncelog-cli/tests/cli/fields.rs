//! Keys from fields: JSON, CSV and patterns, and each policy for lines without a key.

use super::support::{Place, feed, run, sample};

fn dedup(arguments: &[&str], input: &str) -> String {
    let printed = feed(&[&["dedup"], arguments].concat(), input.as_bytes()).quiet_success();
    String::from_utf8(printed).unwrap()
}

#[test]
fn a_json_field_is_the_key_wherever_it_stands() {
    let input = "{\"a\":{\"b\":\"x\"},\"n\":1}\n{ \"n\":2, \"a\" : {\"b\":\"\\u0078\"}}\n\
                 {\"a\":{\"b\":\"y\"}}\n";
    assert_eq!(
        dedup(&["--json", ".a.b"], input),
        "{\"a\":{\"b\":\"x\"},\"n\":1}\n\
                 {\"a\":{\"b\":\"y\"}}\n"
    );
}

#[test]
fn a_nested_id_finds_the_repeats_of_the_sample() {
    let printed = run(&["dedup", "--json", ".event.id", &sample("events.ndjson")]).quiet_success();
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.lines().all(|line| line.contains("\"attempt\":1,")));
    let repeated = ["dedup", "-r", "--json", ".event.id", &sample("events.ndjson")];
    let repeated = String::from_utf8(run(&repeated).quiet_success()).unwrap();
    assert_eq!(printed.lines().count() + repeated.lines().count(), 40);
}

#[test]
fn csv_columns_are_not_run_together() {
    assert_eq!(dedup(&["--csv", "1,2"], "ab,c\na,bc\nab,c\n"), "ab,c\na,bc\n");
}

#[test]
fn csv_quotes_do_not_matter_and_may_hold_separators_and_newlines() {
    let input = "1,\"a,\"\"b\"\"\nc\",x\n2,\"a,\"\"b\"\"\nc\",y\n3,d\n\"4\",\"d\"\n";
    assert_eq!(dedup(&["--csv", "2"], input), "1,\"a,\"\"b\"\"\nc\",x\n3,d\n");
    assert_eq!(dedup(&["--csv", "2", "--csv-delimiter", "\\t"], "1\ta\n2\ta\n"), "1\ta\n");
}

#[test]
fn a_csv_header_names_columns_and_is_printed_once() {
    let place = Place::new();
    let first = place.write("first", "id,\"the day\"\n1,mon\n2,mon\n");
    let second = place.write("second", "the day,id\r\ntue,1\r\nmon,3\r\n");
    let arguments = ["dedup", "--csv-header", "--csv", "the day", &first, &second];
    let printed = run(&arguments).quiet_success();
    assert_eq!(printed, b"id,\"the day\"\n1,mon\ntue,1\r\n");
    let done = run(&["dedup", "--csv-header", "--csv", "week", &first]);
    assert!(done.failure(1).contains("the header has no column \"week\""), "{}", done.stderr);
}

#[test]
fn the_csv_sample_has_one_line_for_each_user_and_day() {
    let arguments = ["dedup", "--csv-header", "--csv", "user,day", &sample("visits.csv")];
    let by_name = run(&arguments).quiet_success();
    let arguments = ["dedup", "--csv-header", "--csv", "1,2", &sample("visits.csv")];
    assert_eq!(by_name, run(&arguments).quiet_success());
}

#[test]
fn a_pattern_takes_its_first_group_or_its_whole_match() {
    let input = "id=1 a\nid=2 b\nx id=1 c\n";
    assert_eq!(dedup(&["--regex", "id=(\\d)"], input), "id=1 a\nid=2 b\n");
    assert_eq!(dedup(&["--regex", "^.* ?id"], input), "id=1 a\nx id=1 c\n");
    let done = feed(&["dedup", "--regex", "(?-u)\\xff(.)"], b"\xff1a\n\xfe\xff1b\n\xff2\n");
    assert_eq!(done.quiet_success(), b"\xff1a\n\xff2\n");
}

/// Options that name a field, and an input whose second and fourth line lack it.
const BROKEN: [(&[&str], &str); 4] = [
    (&["--json", ".a"], "{\"a\":1}\n{\"b\":1}\n{\"a\":2}\n{\"a\":null}\n{\"a\":1}\n"),
    (&["--json", ".a"], "{\"a\":1}\n{\"a\":1\n{\"a\":2}\n{\"a\":1}}\n{\"a\":1}\n"),
    (&["--csv", "2"], "x,1\ny\nz,2\n\nw,1\n"),
    (&["--regex", "a(\\d)"], "a1\nb\na2\nab\na1\n"),
];

fn pick(input: &str, wanted: &[usize]) -> Vec<u8> {
    let lines: Vec<&str> = input.split_inclusive('\n').collect();
    wanted.iter().map(|index| lines[*index]).collect::<String>().into_bytes()
}

#[test]
fn by_default_a_line_without_the_field_stops_the_run_with_its_place() {
    for (options, input) in BROKEN {
        for policy in [&[][..], &["--on-missing", "fail"]] {
            let done = feed(&[&["dedup"], options, policy].concat(), input.as_bytes());
            assert!(done.failure(1).contains("standard input:2: "), "{}", done.stderr);
            assert_eq!(done.stdout, pick(input, &[0]));
        }
    }
}

#[test]
fn skip_drops_lines_without_the_field_and_says_how_many() {
    for (options, input) in BROKEN {
        let policy = ["--on-missing", "skip"];
        let done = feed(&[&["dedup"], options, &policy].concat(), input.as_bytes());
        assert_eq!(done.stdout, pick(input, &[0, 2]));
        assert!(done.stderr.contains("dropped: 2 lines without a key"), "{}", done.stderr);
        assert!(done.stderr.contains("standard input:2: "), "{}", done.stderr);
        assert_eq!(done.code, Some(0));
    }
}

#[test]
fn keep_prints_lines_without_the_field_each_time() {
    for (options, input) in BROKEN {
        let place = Place::new();
        let store = place.text("store");
        let fixed = ["dedup", "--on-missing", "keep", "--quiet", "--store", &store];
        let arguments = [&fixed, options].concat();
        let printed = feed(&arguments, input.as_bytes()).quiet_success();
        assert_eq!(printed, pick(input, &[0, 1, 2, 3]));
        assert_eq!(feed(&arguments, input.as_bytes()).quiet_success(), pick(input, &[1, 3]));
    }
}

#[test]
fn an_open_csv_quote_is_reported_where_it_starts() {
    let done = feed(&["dedup", "--csv", "1"], b"a,\"x\ny\"\nb,\"z\nc,1\n");
    assert!(done.failure(1).contains("standard input:3: a CSV quote"), "{}", done.stderr);
    assert_eq!(done.stdout, b"a,\"x\ny\"\n");
}
