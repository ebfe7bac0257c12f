//! Draws the plots of the documents from rows of results, and from nothing else.
//!
//! Single calls, batches of each size, synced calls and servers have charts of their own; each says
//! how long answers survive, how many runs it is of, and on which machine and commit.

mod bars;
mod lines;
mod pick;

use std::path::Path;

use plotters::prelude::RGBColor;

use crate::Result;
use crate::rows::Row;

use bars::{Bar, Group};
use lines::{Line, Panel, Scale};
use pick::{Pick, engines, last_of_each};

/// A chart of bars: its file, its title and the workloads it shows.
struct Throughput<'a> {
    file: String,
    title: String,
    workloads: &'a [(&'a str, &'a str)],
    pick: Pick,
}

const BASIC: [(&str, &str); 3] = [
    ("new", "new keys"),
    ("dup", "duplicates, outcome read and compared"),
    ("miss", "look-ups of unknown keys"),
];
const SYNCED: [(&str, &str); 1] = [("synced", "new keys, each answer on stable storage")];

/// Told apart also by those who see no red or no green (Okabe and Ito's palette, and two more).
fn colour_of(engine: &str) -> RGBColor {
    match engine {
        "oncelog" => RGBColor(0, 114, 178),
        "dashmap" => RGBColor(213, 94, 0),
        "papaya" => RGBColor(0, 158, 115),
        "moka" => RGBColor(204, 121, 167),
        "lmdb" => RGBColor(86, 180, 233),
        "fjall" => RGBColor(230, 159, 0),
        "redb" => RGBColor(90, 90, 90),
        "sqlite" => RGBColor(140, 86, 75),
        "rocksdb" => RGBColor(148, 148, 0),
        _ => RGBColor(0, 0, 0),
    }
}

/// Writes every chart that there are rows for; the names of the files.
pub fn draw(rows: &[Row], dir: &Path) -> Result<Vec<String>> {
    let cannot = |error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let rows = last_of_each(rows);
    let mut names = Vec::new();
    for chart in throughputs(&rows) {
        let groups = groups(&rows, &chart);
        let Some((caption, groups)) = groups else {
            continue;
        };
        bars::draw(&dir.join(&chart.file), &chart.title, &groups, &caption)?;
        names.push(chart.file);
    }
    draw_memory(&rows, dir, &mut names)?;
    draw_latency(&rows, dir, &mut names)?;
    draw_size(&rows, dir, &mut names)?;
    draw_growth(&rows, dir, &mut names)?;
    Ok(names)
}

/// The charts of throughput, one for each class of calls and each batch size among the rows.
fn throughputs(rows: &[Row]) -> Vec<Throughput<'static>> {
    let mut batches: Vec<usize> = rows.iter().map(|row| row.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let mut charts = Vec::new();
    for batch in batches {
        let (calls, file) = match batch {
            1 => ("one key a call".to_owned(), "single".to_owned()),
            more => (format!("{more} keys a call"), format!("batch-{more}")),
        };
        let chart = |name: &str, title: &str, workloads, pick: fn(&Row) -> bool| Throughput {
            file: format!("throughput{name}-{file}.svg"),
            title: format!("{title}, {calls}"),
            workloads,
            pick: Pick { batch, pick },
        };
        charts.push(chart("", "Throughput", &BASIC[..], |row| {
            !row.is_service() && row.durability != "synced"
        }));
        charts.push(chart(
            "-synced",
            "Throughput on stable storage",
            &SYNCED[..],
            |row| !row.is_service(),
        ));
        charts.push(chart(
            "-service",
            "Throughput of servers on the loopback",
            &BASIC[..],
            Row::is_service,
        ));
    }
    charts
}

/// The bars of a chart, and what is to be said below it; `None` where there is no bar.
fn groups(rows: &[Row], chart: &Throughput<'_>) -> Option<(String, Vec<Group>)> {
    let names: Vec<&str> = chart.workloads.iter().map(|(name, _)| *name).collect();
    let focus = chart.pick.focus(rows, &names)?;
    let group = |(workload, title): &(&str, &str)| {
        let mut rows = focus.clone();
        rows.retain(|row| row.workload == *workload);
        rows.sort_by(|a, b| b.ops_per_s.total_cmp(&a.ops_per_s));
        let bar = |row: &&Row| Bar {
            name: row.engine.clone(),
            class: row.durability.clone(),
            value: row.ops_per_s,
            range: Some((row.ops_per_s_min, row.ops_per_s_max)),
        };
        Group {
            title: (*title).to_owned(),
            unit: "keys a second",
            bars: rows.iter().map(bar).collect(),
        }
    };
    let mut groups: Vec<Group> = chart.workloads.iter().map(group).collect();
    groups.retain(|group| !group.bars.is_empty());
    Some((pick::caption(&focus), groups))
}

/// Bytes a key, in memory and on disk, with all new keys of the size in focus recorded.
fn draw_memory(rows: &[Row], dir: &Path, names: &mut Vec<String>) -> Result<()> {
    let batch = rows
        .iter()
        .filter(|row| row.workload == "new")
        .map(|row| row.batch);
    let Some(batch) = batch.min() else {
        return Ok(());
    };
    let pick = Pick {
        batch,
        pick: |row| !row.is_service() && row.durability != "synced",
    };
    let Some(focus) = pick.focus(rows, &["new"]) else {
        return Ok(());
    };
    let group = |title: &str, figure: fn(&Row) -> f64| {
        let bar = |row: &&Row| Bar {
            name: row.engine.clone(),
            class: row.durability.clone(),
            value: figure(row),
            range: None,
        };
        let mut bars: Vec<Bar> = focus.iter().map(bar).collect();
        bars.retain(|bar| bar.value > 0.0);
        bars.sort_by(|a, b| a.value.total_cmp(&b.value));
        Group {
            title: title.to_owned(),
            unit: "bytes a key",
            bars,
        }
    };
    let mut groups = vec![
        group("anonymous memory", |row| row.anon_bytes_per_key),
        group("disk", |row| row.disk_bytes_per_key),
    ];
    groups.retain(|group| !group.bars.is_empty());
    let file = "memory.svg";
    let caption = pick::caption(&focus);
    bars::draw(&dir.join(file), "Memory and disk", &groups, &caption)?;
    names.push(file.to_owned());
    Ok(())
}

/// Lines of some rows, one for each engine; `point` may give a row several points.
fn lines_of(rows: &[&Row], points: impl Fn(&Row) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |engine: &String| {
        let mut rows: Vec<&&Row> = rows.iter().filter(|row| row.engine == *engine).collect();
        rows.sort_by_key(|row| row.keys);
        let class = rows.first().map_or("", |row| row.durability.as_str());
        Line {
            name: format!("{engine} ({class})"),
            colour: colour_of(engine),
            points: rows.iter().flat_map(|row| points(row)).collect(),
        }
    };
    engines(rows).iter().map(line).collect()
}

/// How long single calls take, by the share of calls that take longer.
fn draw_latency(rows: &[Row], dir: &Path, names: &mut Vec<String>) -> Result<()> {
    let pick = Pick {
        batch: 1,
        pick: |row| !row.is_service() && row.p50_us.is_some() && row.durability != "synced",
    };
    let Some(focus) = pick.focus(rows, &["new", "dup", "miss"]) else {
        return Ok(());
    };
    let nines = |row: &Row| -> Vec<(f64, f64)> {
        let at = [
            (0.301, row.p50_us),
            (1.0, row.p90_us),
            (2.0, row.p99_us),
            (3.0, row.p999_us),
            (4.0, row.p9999_us),
            (5.0, row.p99999_us),
        ];
        let point = |(nines, micros): (f64, Option<f64>)| Some((nines, micros?.max(0.01)));
        at.into_iter().filter_map(point).collect()
    };
    let panel = |(workload, title): &(&str, &str)| {
        let rows: Vec<&Row> = focus
            .iter()
            .copied()
            .filter(|r| r.workload == *workload)
            .collect();
        Panel {
            title: format!("one call in a closed loop, {title}"),
            x: "share of calls that took no longer, %",
            y: "microseconds",
            scale: Scale::Nines,
            lines: lines_of(&rows, nines),
        }
    };
    let panels: Vec<Panel> = BASIC
        .iter()
        .map(panel)
        .filter(|p| !p.lines.is_empty())
        .collect();
    let file = "latency.svg";
    lines::draw(&dir.join(file), &panels, &pick::caption(&focus))?;
    names.push(file.to_owned());
    Ok(())
}

/// What an operation takes as the number of keys grows, for every batch size that has two sizes.
fn draw_size(rows: &[Row], dir: &Path, names: &mut Vec<String>) -> Result<()> {
    let mut batches: Vec<usize> = rows.iter().map(|row| row.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    for batch in batches {
        let pick = Pick {
            batch,
            pick: |row| {
                !row.is_service() && row.durability != "synced" && row.done * 10 >= row.keys * 9
            },
        };
        let focus = pick.of_many_sizes(rows, &["new", "dup", "miss"]);
        let Some(focus) = focus else {
            continue;
        };
        let panel = |(workload, title): &(&str, &str)| {
            let rows: Vec<&Row> = focus
                .iter()
                .copied()
                .filter(|r| r.workload == *workload)
                .collect();
            let point = |row: &Row| vec![(row.keys as f64, row.nanos())];
            let calls = match batch {
                1 => "one key a call".to_owned(),
                more => format!("{more} keys a call"),
            };
            Panel {
                title: format!("{title}, {calls}"),
                x: "keys in the store",
                y: "nanoseconds of a thread for a key",
                scale: Scale::Keys,
                lines: lines_of(&rows, point),
            }
        };
        let panels: Vec<Panel> = BASIC
            .iter()
            .map(panel)
            .filter(|p| !p.lines.is_empty())
            .collect();
        let file = match batch {
            1 => "size-single.svg".to_owned(),
            more => format!("size-batch-{more}.svg"),
        };
        lines::draw(&dir.join(&file), &panels, &pick::caption(&focus))?;
        names.push(file);
    }
    Ok(())
}

/// What the longest calls took while a store grew.
fn draw_growth(rows: &[Row], dir: &Path, names: &mut Vec<String>) -> Result<()> {
    let pick = Pick {
        batch: 1,
        pick: |row| !row.is_service() && row.longest_us.is_some(),
    };
    let Some(focus) = pick.of_many_sizes(rows, &["growth"]) else {
        return Ok(());
    };
    let panel = |title: &str, figure: fn(&Row) -> Option<f64>| Panel {
        title: title.to_owned(),
        x: "keys in the store at the end of a stage",
        y: "microseconds",
        scale: Scale::Keys,
        lines: lines_of(&focus, |row| {
            figure(row)
                .map(|micros| (row.keys as f64, micros.max(0.01)))
                .into_iter()
                .collect()
        }),
    };
    let panels = [
        panel(
            "growing from empty: 99.99 % of a stage's calls took no longer",
            |r| r.p9999_us,
        ),
        panel(
            "growing from empty: the longest call of a stage, time without a processor left out",
            |r| Some(r.longest_us? - r.longest_waited_us.unwrap_or(0.0)),
        ),
    ];
    let file = "growth.svg";
    lines::draw(&dir.join(file), &panels, &pick::caption(&focus))?;
    names.push(file.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests;
