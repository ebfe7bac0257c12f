//! Result lines, their medians and the table for people.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// One result: an engine, a workload and a batch size.
///
/// With several runs, the rate is the median and the other figures are those of its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The engine's name.
    pub engine: String,
    /// Its version in the lock file.
    pub version: String,
    /// The workload's name.
    pub workload: String,
    /// Keys asked for.
    pub keys: u64,
    /// Keys done before the time limit; for `reopen`, the keys in the store.
    pub done: u64,
    /// Threads calling.
    pub threads: usize,
    /// Keys per call.
    pub batch: usize,
    /// What an answered call survives: memory, none, process or synced.
    pub durability: String,
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
    /// Growth of anonymous memory since before the store was opened, per key held.
    pub anon_bytes_per_key: f64,
    /// Growth of mapped file pages in memory, per key held.
    pub mapped_bytes_per_key: f64,
    /// Allocated blocks of the store's folder, per key held.
    pub disk_bytes_per_key: f64,
}

/// What a filling process says before it is killed: range starts and ends by turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Filled {
    /// The key indexes the store holds.
    pub filled: Vec<u64>,
}

impl Measured {
    /// Whether two lines are runs of the same thing.
    pub fn same(&self, other: &Measured) -> bool {
        self.engine == other.engine && self.workload == other.workload && self.batch == other.batch
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

/// A table of all results, grouped by workload and batch, with the ratio to dashmap.
pub fn table(results: &[Measured]) -> String {
    let mut rows = vec![
        [
            "workload",
            "batch",
            "engine",
            "survives",
            "done",
            "seconds",
            "kops/s",
            "min",
            "max",
            "x dashmap",
            "anon B/key",
            "mapped B/key",
            "disk B/key",
        ]
        .map(str::to_owned),
    ];
    let mut sorted: Vec<&Measured> = results.iter().collect();
    let rank = |name: &str| {
        ["new", "dup", "miss", "reopen"]
            .iter()
            .position(|w| *w == name)
    };
    sorted.sort_by_key(|line| (rank(&line.workload), line.batch));
    for line in sorted {
        let dashmap = results.iter().find(|other| {
            other.engine == "dashmap"
                && other.workload == line.workload
                && other.batch == line.batch
        });
        let ratio = dashmap.map(|other| line.ops_per_s / other.ops_per_s);
        let kilo = |rate: f64| format!("{:.1}", rate / 1000.0);
        rows.push([
            line.workload.clone(),
            line.batch.to_string(),
            line.engine.clone(),
            line.durability.clone(),
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

/// Pads every column to its widest cell; numbers to the right.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let wide = widths[column];
            // Writing to a string cannot fail.
            let _ = match column {
                0 | 2 | 3 => write!(line, "{cell:<wide$}  "),
                _ => write!(line, "{cell:>wide$}  "),
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

    fn line(engine: &str, rate: f64) -> Measured {
        Measured {
            engine: engine.to_owned(),
            version: "1".to_owned(),
            workload: "new".to_owned(),
            keys: 1,
            done: 1,
            threads: 1,
            batch: 1,
            durability: "memory".to_owned(),
            key_bytes: 16,
            outcome_bytes: 32,
            seconds: 1.0,
            runs: 1,
            ops_per_s: rate,
            ops_per_s_min: rate,
            ops_per_s_max: rate,
            anon_bytes_per_key: 0.0,
            mapped_bytes_per_key: 0.0,
            disk_bytes_per_key: 0.0,
        }
    }

    #[test]
    fn median_keeps_the_extremes() {
        let runs = [3.0, 1.0, 2.0].map(|rate| line("dashmap", rate));
        let line = median(&runs).unwrap();
        let rates = (line.ops_per_s, line.ops_per_s_min, line.ops_per_s_max);
        assert_eq!((rates, line.runs), ((2.0, 1.0, 3.0), 3));
    }

    #[test]
    fn table_has_the_ratio() {
        let text = table(&[line("dashmap", 2000.0), line("redb", 1000.0)]);
        assert!(text.lines().nth(2).unwrap().contains(" 0.500 "), "{text}");
    }
}
