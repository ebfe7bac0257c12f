//! Which rows belong into one chart, and what is said of them.

use std::collections::BTreeSet;

use crate::rows::Row;

/// Rows of one batch size and one sort.
#[derive(Clone, Copy)]
pub struct Pick {
    /// Keys per call.
    pub batch: usize,
    /// The sort.
    pub pick: fn(&Row) -> bool,
}

/// What rows of one chart agree in, beside the workload, the engine and perhaps the size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Setting<'a> {
    threads: usize,
    key_shape: &'a str,
    outcome_bytes: usize,
}

impl Setting<'_> {
    fn of(row: &Row) -> Setting<'_> {
        Setting {
            threads: row.threads,
            key_shape: &row.key_shape,
            outcome_bytes: row.outcome_bytes,
        }
    }
}

/// Of rows that measure the same thing, the one that was written last.
pub fn last_of_each(rows: &[Row]) -> Vec<Row> {
    let same = |a: &Row, b: &Row| {
        let key = |row: &Row| (row.keys, row.threads, row.batch, row.outcome_bytes);
        key(a) == key(b)
            && a.engine == b.engine
            && a.workload == b.workload
            && a.durability == b.durability
            && a.key_shape == b.key_shape
            && a.p50_us.is_some() == b.p50_us.is_some()
    };
    let mut last: Vec<Row> = Vec::new();
    for row in rows {
        last.retain(|other| !same(other, row));
        last.push(row.clone());
    }
    last
}

/// The engines of some rows: this repository's first, the others by name.
pub fn engines(rows: &[&Row]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| row.engine.clone()).collect();
    names.sort_by_key(|name| (!name.starts_with("oncelog"), name.clone()));
    names.dedup();
    names
}

impl Pick {
    fn rows<'a>(&self, rows: &'a [Row], workloads: &[&str]) -> Vec<&'a Row> {
        let fits =
            |row: &&Row| row.batch == self.batch && workloads.contains(&row.workload.as_str());
        rows.iter()
            .filter(fits)
            .filter(|row| (self.pick)(row))
            .collect()
    }

    /// The rows of the size and the setting that most engines were measured at, the largest of
    /// several; `None` where there are no rows.
    ///
    /// Timing each call slows it, so that rows with latencies are taken only where others are not.
    pub fn focus<'a>(&self, rows: &'a [Row], workloads: &[&str]) -> Option<Vec<&'a Row>> {
        let rows = self.rows(rows, workloads);
        let plain: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| row.p50_us.is_none())
            .collect();
        let rows = if plain.is_empty() { rows } else { plain };
        let settings: BTreeSet<(u64, Setting<'_>)> = rows
            .iter()
            .map(|row| (row.keys, Setting::of(row)))
            .collect();
        let of = |(keys, setting): &(u64, Setting<'_>)| -> Vec<&'a Row> {
            let fits = |row: &&Row| row.keys == *keys && Setting::of(row) == *setting;
            rows.iter().copied().filter(fits).collect()
        };
        let count = |setting: &&(u64, Setting<'_>)| {
            let engines = engines(&of(setting)).len();
            (engines, setting.0, setting.1.key_shape == "random16")
        };
        settings.iter().max_by_key(count).map(of)
    }

    /// The rows of the setting that has most of them, of engines with two sizes or more.
    pub fn of_many_sizes<'a>(&self, rows: &'a [Row], workloads: &[&str]) -> Option<Vec<&'a Row>> {
        let mut rows = self.rows(rows, workloads);
        if !workloads.contains(&"growth") {
            rows.retain(|row| row.p50_us.is_none());
        }
        let settings: BTreeSet<Setting<'_>> = rows.iter().map(|row| Setting::of(row)).collect();
        let of = |setting: &Setting<'_>| -> Vec<&'a Row> {
            rows.iter()
                .copied()
                .filter(|row| Setting::of(row) == *setting)
                .collect()
        };
        let mut rows = settings.iter().map(of).max_by_key(Vec::len)?;
        let all = rows.clone();
        rows.retain(|row| {
            let other = |other: &&Row| other.engine == row.engine && other.keys != row.keys;
            all.iter().any(other)
        });
        (!rows.is_empty()).then_some(rows)
    }
}

/// What all rows have in common, in three lines: what was measured, where, and of which sources.
pub fn caption(rows: &[&Row]) -> String {
    let Some(row) = rows.first() else {
        return String::new();
    };
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.keys).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sizes = match sizes[..] {
        [one] => format!("{} keys", short(one as f64)),
        [first, .., last] => format!("{} to {} keys", short(first as f64), short(last as f64)),
        [] => String::new(),
    };
    let runs = match (
        rows.iter().map(|r| r.runs).min(),
        rows.iter().map(|r| r.runs).max(),
    ) {
        (Some(1), Some(1)) => "one run".to_owned(),
        (Some(least), Some(most)) if least == most => {
            format!("medians of {most} runs")
        }
        (least, most) => format!(
            "medians of {} to {} runs",
            least.unwrap_or(0),
            most.unwrap_or(0)
        ),
    };
    let load = rows.iter().map(|row| row.load).fold(0.0, f64::max);
    let busy = if load > 0.5 {
        format!("; busy before: load {load:.1}")
    } else {
        String::new()
    };
    let mut commits: Vec<&str> = rows.iter().map(|row| row.commit.as_str()).collect();
    commits.dedup();
    format!(
        "{sizes} asked for, {} keys of {} bytes, outcomes of {} bytes, {} threads; {runs}\n\
         {}, {} cores, {:.0} GiB, Linux {}, {}{busy}\n\
         oncelog {}, {}",
        row.key_shape.trim_end_matches(|c: char| c.is_ascii_digit()),
        row.key_bytes,
        row.outcome_bytes,
        row.threads,
        row.cpu,
        row.cores,
        row.memory_gib,
        row.kernel,
        row.file_system,
        commits.join(", "),
        row.date.get(..10).unwrap_or(&row.date),
    )
}

/// A number in three digits, with a unit of thousands or millions.
pub fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        big if big >= 999_500.0 => (number / 1e6, " M"),
        big if big >= 999.5 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    let digits = match scaled.abs() {
        big if big >= 99.95 => 0,
        big if big >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}
