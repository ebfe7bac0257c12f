//! `verify`: reads every record of a store, beside whoever uses it, and lists what is damaged.

use std::fmt::Write;

use oncelog::inspect::{self, Problem, VerifyReport};
use serde_json::{Value, json};

use crate::args::{Format, InspectArgs};
use crate::exit::{self, Failure};
use crate::report::counted;

pub(crate) fn run(arguments: &InspectArgs) -> Result<(), Failure> {
    let report = inspect::verify(&arguments.directory)?;
    let text = match arguments.format {
        Format::Human => human(&report),
        Format::Json => format!("{}\n", json(&report)),
    };
    exit::print(&text)?;
    if report.is_sound() {
        return Ok(());
    }
    let problems = counted(report.problems.len() as u64, "problem");
    let path = arguments.directory.display();
    Err(Failure::Corrupt(format!(
        "{problems} in the store at {path}; restore it from a copy, or see with oncelog \
         salvage what would be lost without one"
    )))
}

fn human(report: &VerifyReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = write!(text, "{}", problem.path.display());
        if let Some(segment) = problem.segment {
            let _ = write!(text, " (segment {segment})");
        }
        let _ = writeln!(text, " at byte {}: {}", problem.offset, problem.what);
    }
    let _ = writeln!(
        text,
        "{}: {} in {}, {}, {}, {}{}",
        if report.is_sound() { "sound" } else { "damaged" },
        counted(report.records, "record"),
        counted(report.segments, "segment"),
        counted(report.bytes, "byte"),
        counted(report.torn_tails, "torn tail"),
        counted(report.problems.len() as u64, "problem"),
        if report.in_use { "; in use" } else { "" },
    );
    text
}

fn json(report: &VerifyReport) -> Value {
    let problem = |problem: &Problem| {
        json!({
            "path": problem.path.to_string_lossy(),
            "segment": problem.segment,
            "offset": problem.offset,
            "what": problem.what,
        })
    };
    json!({
        "sound": report.is_sound(),
        "in_use": report.in_use,
        "segments": report.segments,
        "records": report.records,
        "bytes": report.bytes,
        "torn_tails": report.torn_tails,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}
