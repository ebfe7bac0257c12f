//! Charts hold what belongs together, and say where it comes from.

use super::*;

fn row(engine: &str, workload: &str, batch: usize) -> Row {
    Row {
        engine: engine.to_owned(),
        workload: workload.to_owned(),
        batch,
        durability: "process".to_owned(),
        keys: 20_000_000,
        done: 20_000_000,
        threads: 2,
        key_shape: "random16".to_owned(),
        key_bytes: 16,
        outcome_bytes: 32,
        runs: 5,
        ops_per_s: 5.1e6,
        ops_per_s_min: 4.8e6,
        ops_per_s_max: 5.9e6,
        anon_bytes_per_key: 11.0,
        cpu: "Some Processor".to_owned(),
        cores: 2,
        commit: "0123456789ab".to_owned(),
        date: "2026-01-01T00:00:00Z".to_owned(),
        ..Row::default()
    }
}

fn drawn(rows: &[Row]) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let names = draw(rows, dir.path()).unwrap();
    let read = |name: String| {
        let text = std::fs::read_to_string(dir.path().join(&name)).unwrap();
        (name, text)
    };
    names.into_iter().map(read).collect()
}

fn text_of<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    let file = files.iter().find(|(other, _)| other == name);
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    &file
        .unwrap_or_else(|| panic!("{name} is not among {names:?}"))
        .1
}

#[test]
fn single_calls_batches_synced_calls_and_servers_are_never_in_one_chart() {
    let mut synced = row("fjall", "synced", 1);
    synced.durability = "synced".to_owned();
    let rows = [
        row("oncelog", "new", 1),
        row("papaya", "new", 64),
        row("redis", "new", 64),
        synced,
    ];
    let files = drawn(&rows);
    let holders = [
        ("throughput-single.svg", "oncelog"),
        ("throughput-batch-64.svg", "papaya"),
        ("throughput-service-batch-64.svg", "redis"),
        ("throughput-synced-single.svg", "fjall"),
    ];
    for (name, engine) in holders {
        let text = text_of(&files, name);
        for other in ["oncelog", "papaya", "redis", "fjall"] {
            // The last line of every caption names this repository's version.
            let bars = text.split("asked for").next().unwrap();
            assert_eq!(bars.contains(other), other == engine, "{other} in {name}");
        }
    }
}

#[test]
fn a_chart_names_classes_units_extremes_machine_and_commit() {
    let mut map = row("dashmap", "new", 1);
    map.durability = "memory".to_owned();
    let files = drawn(&[row("oncelog", "new", 1), map]);
    let text = text_of(&files, "throughput-single.svg");
    for said in [
        "process: survives kill -9",
        "memory: gone with the process",
        "keys a second",
        "5.1 M  (4.8 M to 5.9 M)",
        "medians of 5 runs",
        "Some Processor, 2 cores",
        "oncelog 0123456789ab, 2026-01-01",
        "20 M keys asked for, random keys of 16 bytes",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("synced: "), "a class that does not occur");
    assert!(text_of(&files, "memory.svg").contains("bytes a key"));
}

#[test]
fn the_size_that_most_engines_have_is_shown_and_of_repeated_rows_the_last() {
    let mut small = row("oncelog", "new", 1);
    small.keys = 1_000_000;
    let mut old = row("oncelog", "new", 1);
    old.ops_per_s = 1.0;
    let rows = [old, small, row("oncelog", "new", 1), row("lmdb", "new", 1)];
    let files = drawn(&rows);
    let text = text_of(&files, "throughput-single.svg");
    assert!(text.contains("lmdb") && text.contains("20 M keys asked for"));
    assert_eq!(text.matches("5.1 M  (").count(), 2);
    let text = text_of(&files, "size-single.svg");
    assert!(text.contains("1 M to 20 M keys asked for") && !text.contains("lmdb"));
    assert!(text.contains("nanoseconds of a thread for a key"));
}

#[test]
fn latencies_are_drawn_from_rows_that_have_them_and_rates_from_those_that_have_not() {
    let mut timed = row("oncelog", "dup", 1);
    (timed.p50_us, timed.p99_us, timed.p9999_us) = (Some(0.2), Some(0.9), Some(30.0));
    timed.ops_per_s = 2.2e6;
    let files = drawn(&[row("oncelog", "dup", 1), timed]);
    assert!(text_of(&files, "latency.svg").contains("microseconds"));
    let text = text_of(&files, "throughput-single.svg");
    assert!(text.contains("5.1 M") && !text.contains("2.2 M"));
}

#[test]
fn growth_is_drawn_over_its_stages() {
    let stage = |keys| {
        let mut stage = row("oncelog", "growth", 1);
        (stage.keys, stage.done) = (keys, keys / 2);
        (stage.p50_us, stage.p9999_us) = (Some(0.2), Some(40.0));
        (stage.longest_us, stage.longest_waited_us) = (Some(900.0), Some(100.0));
        stage
    };
    let files = drawn(&[1_000_000, 2_000_000, 4_000_000].map(stage));
    assert_eq!(files.len(), 1);
    assert!(text_of(&files, "growth.svg").contains("the longest call of a stage"));
}

#[test]
fn no_rows_make_no_charts() {
    assert!(drawn(&[]).is_empty());
}

#[test]
fn numbers_have_three_digits() {
    let short = [0.0, 0.25, 9.99, 12.34, 999.0, 1000.0, 123_456.0, 5.1e6, 2e7].map(pick::short);
    let wanted = [
        "0", "0.25", "9.99", "12.3", "999", "1 k", "123 k", "5.1 M", "20 M",
    ];
    assert_eq!(short, wanted);
}

#[test]
fn percentiles_are_named_by_their_nines() {
    let names = [0.0, 1.0, 2.0, 3.0, 5.0].map(lines::percentile_of);
    assert_eq!(names, ["0", "90", "99", "99.9", "99.999"]);
}
