//! Result lines, their medians and the tables for people.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::paced::result::Latency;
use crate::rows;
use crate::timed::Times;

/// The workloads in the order of the tables.
const ORDER: [&str; 14] = [
    "new",
    "dup",
    "miss",
    "mix_zipf",
    "mix_recency",
    "lease",
    "probe",
    "contend",
    "hot",
    "growth",
    "synced",
    "reopen_closed",
    "reopen_killed",
    "",
];

/// One result: an engine, a workload, a number of keys and of threads, and a batch size.
///
/// With several runs, the rate is the median and the other figures are those of its run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The engine's name.
    pub engine: String,
    /// Its version in the lock file.
    pub version: String,
    /// The workload's name.
    pub workload: String,
    /// Keys asked for; in `growth`, those in the store at the end of a stage.
    pub keys: u64,
    /// Keys done before the time limit; for `reopen`, the keys in the store.
    pub done: u64,
    /// Threads calling.
    pub threads: usize,
    /// Keys per call.
    pub batch: usize,
    /// What an answered call survives: memory, none, process or synced.
    pub durability: String,
    /// What keys look like.
    pub key_shape: String,
    /// Length of a key.
    pub key_bytes: usize,
    /// Length of an outcome.
    pub outcome_bytes: usize,
    /// From the first thread's start to the last one's end; for `reopen`, the opening.
    pub seconds: f64,
    /// Runs the rate is the median of.
    pub runs: usize,
    /// Keys done per second.
    pub ops_per_s: f64,
    /// The slowest run.
    pub ops_per_s_min: f64,
    /// The fastest run.
    pub ops_per_s_max: f64,
    /// Growth of anonymous memory since before the store was opened, per key held. Of a server, its
    /// own memory.
    pub anon_bytes_per_key: f64,
    /// Growth of mapped file pages in memory, per key held.
    pub mapped_bytes_per_key: f64,
    /// Allocated blocks of the store's folder, per key held.
    pub disk_bytes_per_key: f64,
    /// For `reopen`: from the beginning of the opening to the answer about the first key.
    #[serde(default)]
    pub first_answer_s: Option<f64>,
    /// What else the workload was given.
    #[serde(default)]
    pub note: String,
    /// How long the calls took, where that was asked for.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// Calls over a millisecond, time without a processor not counted.
    #[serde(default)]
    pub over_1ms_running: Option<u64>,
    /// Of the longest call's time, what it was without a processor, in microseconds.
    #[serde(default)]
    pub longest_waited_us: Option<f64>,
    /// Calls by how long they took: up to so many nanoseconds, and how many above the entry before.
    #[serde(default)]
    pub histogram: Vec<(u64, u64)>,
}

/// What a filling process says before it is killed or closes: range starts and ends by turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Filled {
    /// The key indexes the store holds.
    pub filled: Vec<u64>,
}

impl Measured {
    /// Whether two lines are runs of the same thing.
    pub fn same(&self, other: &Measured) -> bool {
        let key = |line: &Measured| (line.keys, line.threads, line.batch);
        self.engine == other.engine
            && self.workload == other.workload
            && key(self) == key(other)
            && self.durability == other.durability
    }

    /// Adds how long the calls took.
    pub fn with_times(mut self, times: Option<&Times>) -> Measured {
        let Some(times) = times else {
            return self;
        };
        self.latency = Some(Latency::of(&times.histogram));
        self.over_1ms_running = Some(times.over_1ms_running);
        self.longest_waited_us = Some(times.longest.1 as f64 / 1000.0);
        let steps = times.histogram.iter_log(64, 2.0);
        let step = |step: hdrhistogram::iterators::IterationValue<u64>| {
            let count = step.count_since_last_iteration();
            (count > 0).then(|| (step.value_iterated_to(), count))
        };
        self.histogram = steps.filter_map(step).collect();
        self
    }
}

/// The run with the median rate (the upper one of two), with the extremes of all.
pub fn median(runs: &[Measured]) -> Option<Measured> {
    let mut sorted: Vec<&Measured> = runs.iter().collect();
    sorted.sort_by(|a, b| a.ops_per_s.total_cmp(&b.ops_per_s));
    let mut line = (*sorted.get(sorted.len() / 2)?).clone();
    line.runs = sorted.len();
    line.ops_per_s_min = sorted.first()?.ops_per_s;
    line.ops_per_s_max = sorted.last()?.ops_per_s;
    Some(line)
}

/// Tables of all results: single calls, batches, servers, latencies; never two in one.
pub fn tables(results: &[Measured]) -> String {
    let mut text = String::new();
    let kinds = [
        ("single calls", false, true),
        ("batches", false, false),
        ("servers, one command at a time", true, true),
        ("servers, many keys at a time", true, false),
    ];
    for (title, is_service, is_single) in kinds {
        let of_kind = |line: &&Measured| {
            rows::is_service(&line.engine) == is_service && (line.batch == 1) == is_single
        };
        let lines: Vec<&Measured> = results.iter().filter(of_kind).collect();
        if !lines.is_empty() {
            let _ = write!(text, "{title}\n{}\n", table(&lines));
        }
    }
    let timed: Vec<&Measured> = results.iter().filter(|l| l.latency.is_some()).collect();
    if !timed.is_empty() {
        let _ = write!(
            text,
            "microseconds a call, closed loop\n{}\n",
            latencies(&timed)
        );
    }
    text
}

fn in_order<'a>(lines: &[&'a Measured]) -> Vec<&'a Measured> {
    let mut sorted: Vec<&Measured> = lines.to_vec();
    let rank = |name: &str| ORDER.iter().position(|other| *other == name);
    sorted.sort_by_key(|line| (rank(&line.workload), line.batch, line.threads, line.keys));
    sorted
}

/// Rates and sizes, with the ratio to dashmap in the same workload.
fn table(lines: &[&Measured]) -> String {
    let head = [
        "workload",
        "engine",
        "survives",
        "keys",
        "thr",
        "batch",
        "done",
        "seconds",
        "kops/s",
        "min",
        "max",
        "x dashmap",
        "anon B/key",
        "mapped B/key",
        "disk B/key",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for line in in_order(lines) {
        let likewise = |other: &&&Measured| {
            let key = |line: &Measured| (line.keys, line.threads, line.batch);
            other.engine == "dashmap" && other.workload == line.workload && key(other) == key(line)
        };
        let dashmap = lines.iter().find(likewise);
        let ratio = dashmap.map(|other| line.ops_per_s / other.ops_per_s);
        let kilo = |rate: f64| format!("{:.1}", rate / 1000.0);
        rows.push([
            line.workload.clone(),
            line.engine.clone(),
            line.durability.clone(),
            line.keys.to_string(),
            line.threads.to_string(),
            line.batch.to_string(),
            line.done.to_string(),
            format!("{:.3}", line.seconds),
            kilo(line.ops_per_s),
            kilo(line.ops_per_s_min),
            kilo(line.ops_per_s_max),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            format!("{:.1}", line.anon_bytes_per_key),
            format!("{:.1}", line.mapped_bytes_per_key),
            format!("{:.1}", line.disk_bytes_per_key),
        ]);
    }
    align(&rows)
}

fn latencies(lines: &[&Measured]) -> String {
    let head = [
        "workload", "engine", "survives", "keys", "thr", "batch", "p50", "p99", "p99.9", "p99.99",
        "p99.999", "longest", "waited", ">1ms", "calls",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for line in in_order(lines) {
        let Some(latency) = &line.latency else {
            continue;
        };
        let at = |percent| format!("{:.2}", latency.at(percent));
        rows.push([
            line.workload.clone(),
            line.engine.clone(),
            line.durability.clone(),
            line.keys.to_string(),
            line.threads.to_string(),
            line.batch.to_string(),
            at(50.0),
            at(99.0),
            at(99.9),
            at(99.99),
            at(99.999),
            format!("{:.1}", latency.max_us),
            format!("{:.1}", line.longest_waited_us.unwrap_or(0.0)),
            line.over_1ms_running.unwrap_or(0).to_string(),
            latency.calls.to_string(),
        ]);
    }
    align(&rows)
}

/// Pads every column to its widest cell; words to the left, numbers to the right.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    const WORDS: usize = 3;
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let wide = widths[column];
            // Writing to a string cannot fail.
            let _ = match column < WORDS {
                true => write!(line, "{cell:<wide$}  "),
                false => write!(line, "{cell:>wide$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(engine: &str, batch: usize, rate: f64) -> Measured {
        Measured {
            engine: engine.to_owned(),
            workload: "new".to_owned(),
            threads: 2,
            batch,
            ops_per_s: rate,
            ..Measured::default()
        }
    }

    #[test]
    fn median_keeps_the_extremes() {
        let runs = [3.0, 1.0, 2.0, 9.0, 0.5].map(|rate| line("dashmap", 1, rate));
        let line = median(&runs).unwrap();
        let rates = (line.ops_per_s, line.ops_per_s_min, line.ops_per_s_max);
        assert_eq!((rates, line.runs), ((2.0, 0.5, 9.0), 5));
    }

    #[test]
    fn single_calls_and_batches_have_tables_of_their_own_with_the_ratio() {
        let lines = [
            line("dashmap", 1, 2000.0),
            line("redb", 1, 1000.0),
            line("redb", 64, 4000.0),
        ];
        let text = tables(&lines);
        let (single, batches) = text.split_once("batches\n").unwrap();
        assert!(
            single.lines().nth(3).unwrap().contains(" 0.500 "),
            "{single}"
        );
        assert_eq!(batches.lines().count(), 3, "{batches}");
        assert!(batches.lines().nth(1).unwrap().contains(" - "), "{batches}");
    }

    #[test]
    fn percentiles_and_the_histogram_are_those_of_the_calls() {
        let mut times = Times::new().unwrap();
        times.histogram.record_n(100, 990).unwrap();
        times.histogram.record_n(900_000, 10).unwrap();
        let line = line("redb", 1, 1000.0).with_times(Some(&times));
        let latency = line.latency.as_ref().unwrap();
        assert_eq!((latency.calls, latency.at(50.0)), (1_000, 0.1));
        assert!((899.0..902.0).contains(&latency.at(99.9)));
        let counts: Vec<u64> = line.histogram.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [990, 10]);
        assert!(line.histogram[0].0 >= 100 && line.histogram[1].0 >= 900_000);
    }
}
