//! `stat`: what a store consists of, read beside whoever uses it.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use oncelog::inspect::{self, SegmentStat, StatReport};
use oncelog::{FilterStats, Timestamp};
use serde_json::{Value, json};

use crate::args::{Format, InspectArgs};
use crate::exit::{self, Failure};
use crate::report::grouped;

/// The last millisecond of the year 9999, after which the time format ends.
const FORMAT_MILLIS_MAX: u64 = 253_402_300_799_999;

pub(crate) fn run(arguments: &InspectArgs) -> Result<(), Failure> {
    let report = inspect::stat(&arguments.directory)?;
    let text = match arguments.format {
        Format::Human => human(arguments, &report),
        Format::Json => format!("{}\n", json(&report)),
    };
    exit::print(&text)
}

fn human(arguments: &InspectArgs, report: &StatReport) -> String {
    let mut text = format!(
        "directory  {}\nstore      {}\nformat     {}\ncreated    {}\nsalvaged   {}\nepoch      {}\n\
         in use     {}\ndurability {}\nunsynced   {} bytes\ndisk       {} bytes\n\
         filter     {}\nsegments   {}\n",
        arguments.directory.display(),
        report.store_id,
        report.format_version,
        time(report.created),
        report.salvaged.map_or("never".to_owned(), time),
        report.epoch,
        if report.in_use { "yes" } else { "no" },
        report.durability,
        grouped(report.unsynced_bytes),
        grouped(report.disk_bytes),
        filter(&report.filter),
        grouped(report.segments.len() as u64),
    );
    namespaces(&mut text, report);
    if report.segments.is_empty() {
        return text;
    }
    let head = ["number", "state", "bytes", "records", "created", "ends"];
    text.push('\n');
    row(&mut text, &head.map(str::to_owned));
    for segment in &report.segments {
        row(&mut text, &cells(segment));
    }
    text
}

/// What each namespace held when the store wrote it down last.
fn namespaces(text: &mut String, report: &StatReport) {
    if report.namespaces.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{:>13}  {:>15}  {:<20}  namespace", "keys", "bytes", "created");
    for one in &report.namespaces {
        let (keys, bytes) = (grouped(one.keys), grouped(one.bytes));
        let (created, name) = (time(one.created), one.name.escape_debug());
        let _ = writeln!(text, "{keys:>13}  {bytes:>15}  {created:<20}  {name}");
    }
}

/// What a filter would take, as it is in the memory of whoever opens the store.
fn filter(filter: &FilterStats) -> String {
    format!(
        "{} bytes of memory where it is on ({:.1} bits a key, {:.2} % false positives)",
        grouped(filter.bytes),
        filter.bits_per_key(),
        filter.false_positive_rate() * 100.0,
    )
}

fn cells(segment: &SegmentStat) -> [String; 6] {
    [
        segment.number.to_string(),
        segment.state.to_owned(),
        grouped(segment.bytes),
        segment.records.map_or("-".to_owned(), grouped),
        time(segment.created),
        segment.ends.map_or("-".to_owned(), time),
    ]
}

fn row(text: &mut String, [number, state, bytes, records, created, ends]: &[String; 6]) {
    let _ = writeln!(
        text,
        "{number:>8}  {state:<10}  {bytes:>15}  {records:>13}  {created:<20}  {ends:<20}"
    );
}

fn json(report: &StatReport) -> Value {
    let segments: Vec<Value> = report
        .segments
        .iter()
        .map(|segment| {
            json!({
                "number": segment.number,
                "state": segment.state,
                "bytes": segment.bytes,
                "records": segment.records,
                "created_ms": segment.created.as_millis(),
                "ends_ms": segment.ends.map(Timestamp::as_millis),
            })
        })
        .collect();
    let namespaces: Vec<Value> = report
        .namespaces
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "created_ms": one.created.as_millis(),
                "keys": one.keys,
                "bytes": one.bytes,
            })
        })
        .collect();
    json!({
        "store_id": report.store_id,
        "format_version": report.format_version,
        "epoch": report.epoch,
        "created_ms": report.created.as_millis(),
        "salvaged_ms": report.salvaged.map(Timestamp::as_millis),
        "in_use": report.in_use,
        "durability": report.durability,
        "unsynced_bytes": report.unsynced_bytes,
        "disk_bytes": report.disk_bytes,
        "namespaces": namespaces,
        "filter": {
            "bytes": report.filter.bytes,
            "keys": report.filter.keys,
            "bits_per_key": report.filter.bits_per_key(),
            "false_positive_rate": report.filter.false_positive_rate(),
        },
        "segments": segments,
    })
}

fn time(moment: Timestamp) -> String {
    let millis = moment.as_millis();
    if millis > FORMAT_MILLIS_MAX {
        return format!("{millis} ms");
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    humantime::format_rfc3339_seconds(time).to_string()
}
