//! Results as rows of comma-separated values, each with the machine and the commit it belongs to.

use std::fs::OpenOptions;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::machine::Header;
use crate::report::Measured;

/// One result. A field that a workload has no figure for is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// When the run began, in UTC.
    pub date: String,
    /// Commit of the source tree, with `+` when the tree differs from it.
    pub commit: String,
    /// Model of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory of the machine, in GiB.
    pub memory_gib: f64,
    /// Release of the kernel.
    pub kernel: String,
    /// Type of the file system the stores are on.
    pub file_system: String,
    /// Whether the kernel makes huge pages of its own accord.
    pub transparent_hugepage: String,
    /// Processes that wanted a processor in the minute before the run.
    pub load: f64,
    /// As in [`Measured`], and so are those that follow.
    pub workload: String,
    pub engine: String,
    pub version: String,
    pub durability: String,
    pub keys: u64,
    pub done: u64,
    pub threads: usize,
    pub batch: usize,
    pub key_shape: String,
    pub key_bytes: usize,
    pub outcome_bytes: usize,
    pub note: String,
    pub runs: usize,
    pub seconds: f64,
    pub ops_per_s: f64,
    pub ops_per_s_min: f64,
    pub ops_per_s_max: f64,
    pub anon_bytes_per_key: f64,
    pub mapped_bytes_per_key: f64,
    pub disk_bytes_per_key: f64,
    pub first_answer_s: Option<f64>,
    /// Calls that were timed, and latencies in microseconds.
    pub calls_timed: Option<u64>,
    pub p50_us: Option<f64>,
    pub p90_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub p9999_us: Option<f64>,
    pub p99999_us: Option<f64>,
    pub longest_us: Option<f64>,
    pub longest_waited_us: Option<f64>,
    pub over_1ms_running: Option<u64>,
}

impl Row {
    /// The row of a result.
    pub fn of(header: &Header, line: &Measured) -> Row {
        let latency = line.latency.as_ref();
        let at = |percent| latency.map(|latency| latency.at(percent));
        Row {
            date: header.date.clone(),
            commit: header.commit.clone().unwrap_or("unknown".to_owned()),
            cpu: header.cpu.clone(),
            cores: header.cores,
            memory_gib: (header.memory_bytes as f64 / f64::from(1 << 30) * 10.0).round() / 10.0,
            kernel: header.kernel.clone(),
            file_system: header.file_system.clone(),
            transparent_hugepage: header.transparent_hugepage.clone(),
            load: header.load,
            workload: line.workload.clone(),
            engine: line.engine.clone(),
            version: line.version.clone(),
            durability: line.durability.clone(),
            keys: line.keys,
            done: line.done,
            threads: line.threads,
            batch: line.batch,
            key_shape: line.key_shape.clone(),
            key_bytes: line.key_bytes,
            outcome_bytes: line.outcome_bytes,
            note: line.note.clone(),
            runs: line.runs,
            seconds: line.seconds,
            ops_per_s: line.ops_per_s,
            ops_per_s_min: line.ops_per_s_min,
            ops_per_s_max: line.ops_per_s_max,
            anon_bytes_per_key: line.anon_bytes_per_key,
            mapped_bytes_per_key: line.mapped_bytes_per_key,
            disk_bytes_per_key: line.disk_bytes_per_key,
            first_answer_s: line.first_answer_s,
            calls_timed: latency.map(|latency| latency.calls),
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            p9999_us: at(99.99),
            p99999_us: at(99.999),
            longest_us: latency.map(|latency| latency.max_us),
            longest_waited_us: line.longest_waited_us,
            over_1ms_running: line.over_1ms_running,
        }
    }

    /// Nanoseconds that a thread takes for a key.
    pub fn nanos(&self) -> f64 {
        1e9 * self.threads as f64 / self.ops_per_s.max(1e-9)
    }

    /// Whether the engine is a server of its own.
    pub fn is_service(&self) -> bool {
        is_service(&self.engine)
    }
}

/// Whether the engine of this name is a server of its own.
pub fn is_service(engine: &str) -> bool {
    ["redis", "redis-aof", "postgres"].contains(&engine)
}

/// Adds a row to a file, which gets a line with the names first if it is new.
pub fn append(path: &Path, row: &Row) -> Result<()> {
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(cannot)?;
    let is_new = file.metadata().map_err(cannot)?.len() == 0;
    let mut writer = csv::WriterBuilder::new()
        .has_headers(is_new)
        .from_writer(file);
    writer.serialize(row)?;
    writer.flush().map_err(cannot)?;
    Ok(())
}

/// The rows of a file.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let cannot = |error: csv::Error| format!("{}: {error}", path.display());
    let mut reader = csv::Reader::from_path(path).map_err(cannot)?;
    let rows: std::result::Result<Vec<Row>, csv::Error> = reader.deserialize().collect();
    Ok(rows.map_err(cannot)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written_and_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.csv");
        let first = Row {
            cpu: "A \"fast\" one, with commas".to_owned(),
            note: "new 50 %; reads 0 %".to_owned(),
            ops_per_s: 1.25,
            p50_us: Some(0.5),
            ..Row::default()
        };
        let second = Row {
            keys: 7,
            ..Row::default()
        };
        append(&path, &first).unwrap();
        append(&path, &second).unwrap();
        assert_eq!(read(&path).unwrap(), [first, second]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3, "one line of names: {text}");
    }

    #[test]
    fn a_file_that_holds_no_results_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.csv");
        let missing = read(&path).unwrap_err().to_string();
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let foreign = read(&path).unwrap_err().to_string();
        for error in [missing, foreign] {
            assert!(error.contains("other.csv"), "{error}");
        }
    }
}
