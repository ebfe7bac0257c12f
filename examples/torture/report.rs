//! What a campaign tells: progress as it goes, and a table at its end.

use std::fmt::Write;

use crate::campaign::{Ended, Tally};
use crate::options::Options;

type Results = [(&'static str, Ended)];

/// What a class does, in a few words.
pub(crate) fn what(class: &str) -> &'static str {
    match class {
        "kill" => "kill -9 at random moments, in calls and in openings",
        "boundaries" => "kill -9 at each system call of a scripted life",
        "errors" => "EIO, ENOSPC, EINTR, EMFILE and others at each system call, once and for good",
        "power" => "the power of an ext4 cut off, at each level of durability",
        "full" => "a file system without room, and room that returns",
        "unallocated" => "kill -9 on a file system without fallocate",
        "readonly" => "a file system remounted read-only, and back",
        "damage" => "bits, bytes and pages changed, swapped, zeroed, cut off, or put back",
        "strays" => "pipes, sockets, links, folders and files of others in the directory",
        "openers" => "two openers, by every path to the directory",
        "bound" => "two openers, one of them through a bind mount",
        "fork" => "copies of a process that has the store open",
        "stopped" => "a process stopped beyond the lease that it holds",
        "clocks" => "clocks that jump back and forth",
        _ => "",
    }
}

pub(crate) fn say(text: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("torture: {text}\n"));
}

/// One line about a class that has ended.
pub(crate) fn progress(name: &str, ended: &Ended) -> String {
    let Tally { rounds, faults, checks } = ended.tally;
    match (&ended.violation, &ended.skipped) {
        (Some(text), _) => format!("{name}: VIOLATION: {text}"),
        (None, Some(text)) => format!("{name}: skipped: {text}"),
        (None, None) => format!("{name}: {rounds} rounds, {faults} faults, {checks} checks"),
    }
}

fn violations(results: &Results) -> usize {
    results.iter().filter(|(_, ended)| ended.violation.is_some()).count()
}

pub(crate) fn table(options: &Options, results: &Results) -> String {
    let mut text = format!("seed {}\n", options.seed);
    let _ =
        writeln!(text, "{:<12} {:>7} {:>8} {:>10}  note", "class", "rounds", "faults", "checks");
    for (name, ended) in results {
        let Tally { rounds, faults, checks } = ended.tally;
        let note = match (&ended.violation, &ended.skipped) {
            (Some(text), _) => format!("VIOLATION: {text}"),
            (None, Some(text)) => format!("skipped: {text}"),
            (None, None) => what(name).to_owned(),
        };
        let _ = writeln!(text, "{name:<12} {rounds:>7} {faults:>8} {checks:>10}  {note}");
    }
    let _ = writeln!(text, "violations: {}", violations(results));
    text
}

pub(crate) fn json(options: &Options, results: &Results) -> String {
    let quoted = |text: &Option<String>| {
        text.as_ref().map_or("null".to_owned(), |text| format!("\"{}\"", escaped(text)))
    };
    let classes: Vec<String> = results
        .iter()
        .map(|(name, ended)| {
            let Tally { rounds, faults, checks } = ended.tally;
            format!(
                "{{\"class\":\"{name}\",\"rounds\":{rounds},\"faults\":{faults},\
                 \"checks\":{checks},\"violation\":{},\"skipped\":{}}}",
                quoted(&ended.violation),
                quoted(&ended.skipped)
            )
        })
        .collect();
    format!(
        "{{\"seed\":{},\"seconds\":{},\"violations\":{},\"classes\":[{}]}}",
        options.seed,
        options.seconds,
        violations(results),
        classes.join(",")
    )
}

fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}
