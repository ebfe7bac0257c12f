//! The report of a run: what was counted, printed on request, and notes on items without a key.

use std::fmt::Write;
use std::time::{Duration, Instant};

use oncelog::Stats;
use serde_json::json;

use crate::args::{DedupArgs, Format, OnMissing};
use crate::exit::say;
use crate::key::Missing;

/// What a run has counted so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) bytes: u64,
    pub(crate) items: u64,
    pub(crate) new: u64,
    pub(crate) duplicates: u64,
    pub(crate) absent: u64,
    pub(crate) malformed: u64,
    /// The first item without a key: where it is and what is wrong with it.
    pub(crate) first_missing: Option<(String, &'static str)>,
}

impl Counts {
    /// Counts an item without a key; `place` is asked for the first one only.
    pub(crate) fn add_missing(&mut self, missing: Missing, place: impl FnOnce() -> String) {
        match missing {
            Missing::Absent(_) => self.absent += 1,
            Missing::Malformed(_) => self.malformed += 1,
        }
        if self.first_missing.is_none() {
            self.first_missing = Some((place(), missing.what()));
        }
    }
}

/// The time, for telling how long something took.
#[expect(clippy::disallowed_methods, reason = "measures the run; no stored time comes from it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Tells on standard error what the arguments ask to be told.
pub(crate) fn tell(arguments: &DedupArgs, counts: &Counts, store: &Stats, took: Duration) {
    if !arguments.quiet {
        note_missing(arguments.on_missing, counts);
    }
    match arguments.stats {
        None => {}
        Some(Format::Human) => say(human(arguments, counts, store, took)),
        Some(Format::Json) => {
            use std::io::Write as _;
            let text = json(arguments, counts, store, took);
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}

fn note_missing(policy: OnMissing, counts: &Counts) {
    let Some((place, what)) = &counts.first_missing else {
        return;
    };
    let done = match policy {
        OnMissing::Skip => "dropped",
        OnMissing::Keep => "printed and not recorded",
        // The error itself tells the place.
        OnMissing::Fail => return,
    };
    let lines = counted(counts.absent + counts.malformed, "line");
    say(format_args!("{done}: {lines} without a key; the first is {place}: {what}"));
}

fn human(arguments: &DedupArgs, counts: &Counts, store: &Stats, took: Duration) -> String {
    let mut text = format!(
        "{} read, {} new, {}",
        counted(counts.items, "line"),
        grouped(counts.new),
        counted(counts.duplicates, "duplicate")
    );
    if counts.absent + counts.malformed > 0 {
        let (absent, malformed) = (grouped(counts.absent), grouped(counts.malformed));
        let _ = write!(text, ", {absent} without the field, {malformed} malformed");
    }
    let _ = write!(
        text,
        ", in {:.2} s ({} lines/s)",
        took.as_secs_f64(),
        grouped(rate(counts.items, took))
    );
    let _ = match &arguments.store {
        None => write!(text, "; the temporary store held {}", counted(store.keys, "key")),
        Some(path) => write!(
            text,
            "; the store {} holds {} in {} bytes",
            path.display(),
            counted(store.keys, "key"),
            grouped(store.disk_bytes)
        ),
    };
    text
}

fn json(arguments: &DedupArgs, counts: &Counts, store: &Stats, took: Duration) -> String {
    let policy = match arguments.on_missing {
        OnMissing::Skip => "skip",
        OnMissing::Keep => "keep",
        OnMissing::Fail => "fail",
    };
    json!({
        "lines": counts.items,
        "new": counts.new,
        "duplicates": counts.duplicates,
        "without_key": {
            "absent": counts.absent,
            "malformed": counts.malformed,
            "policy": policy,
        },
        "bytes_read": counts.bytes,
        "seconds": took.as_secs_f64(),
        "store": {
            "temporary": arguments.store.is_none(),
            "keys": store.keys,
            "segments": store.segments,
            "disk_bytes": store.disk_bytes,
            "index_bytes": store.index_bytes,
        },
    })
    .to_string()
}

/// Items in a second.
pub(crate) fn rate(items: u64, took: Duration) -> u64 {
    let millis = took.as_millis().max(1);
    u64::try_from(u128::from(items) * 1000 / millis).unwrap_or(u64::MAX)
}

/// A number and the word for what is counted.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Duration, counted, grouped, rate};

    #[test]
    fn digits_are_grouped_by_three() {
        let groups = [0, 999, 1_000, 12_345_678].map(grouped);
        assert_eq!(groups, ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn one_of_a_kind_is_not_a_plural() {
        assert_eq!([counted(1, "key"), counted(1_000, "key")], ["1 key", "1,000 keys"]);
    }

    #[test]
    fn a_rate_is_per_second_and_never_divides_by_zero() {
        assert_eq!(rate(10, Duration::from_secs(2)), 5);
        assert_eq!(rate(10, Duration::ZERO), 10_000);
    }
}
