//! Arguments: every option, its help and the rules that can be checked before anything is opened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use oncelog::{Durability, Timestamp, Ttl};
use regex::bytes::Regex;

use crate::key::csv::Columns;
use crate::key::json::JsonPath;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; also when the reader of the output closes it early
  1  something could not be read, written or recorded, or an item has no key
     and --on-missing is fail
  2  wrong usage
  3  the store is damaged, or verify found problems
  4  the store is in use by another process";

const DEDUP_NOTES: &str = "\
An item is recorded before it is printed. When the process is killed, the items
recorded last may not have been printed; a rerun prints exactly those whose key
had not been recorded. With --two-phase an item is recorded after it was printed
and flushed: a kill leaves none out, and a rerun may print some a second time.
An interrupt (Ctrl-C) or a termination request first finishes the items in hand,
so that it leaves none of them out.

A key taken from a field never equals a whole line, and JSON, CSV and regex
keys never equal each other, so one store can serve several kinds of input.
A whole line or a CSV record may have up to 16 MiB.

Examples:
  oncelog dedup access.log
  oncelog dedup --store seen --ttl 7d --json .event.id < events.ndjson
  oncelog dedup --csv-header --csv user,day --dupes-output again.csv visits.csv
  tail -F app.log | oncelog dedup --line-buffered --regex 'id=(\\w+)'

Exit codes:
  0  done; also when the reader of the output closes it early
  1  something could not be read, written or recorded, or an item has no key
     and --on-missing is fail
  2  wrong usage
  3  the store is damaged
  4  the store is in use by another process";

const EXEC_NOTES: &str = "\
The first caller with a key runs the command; callers that come meanwhile wait,
and all later ones get what it printed and its exit code, until --ttl is over.
Up to 7 MiB of each output are recorded. Standard input is the command's alone.

A command that is ended by a signal, or cannot be started, leaves its key free.
When oncelog itself is killed, the command may go on by itself; its key is in
progress until the lease ends, and the next caller runs the command again. With
--hold nobody does. So a command can run twice; make its effects repeatable, or
let them check for themselves.

With --job, every process that is set to run a job at a fire time may start it;
one runs it. A fire time longer ago than --ttl is refused, as its run may be
forgotten.

Examples:
  oncelog exec --store once --key deploy-1.4.2 -- ./deploy.sh production
  oncelog exec --store once --key report-2026-07 --ttl 31d -- ./report.sh
  oncelog exec --store once --job backup --every 24h --ttl 7d -- ./backup.sh

Exit codes:
  that of the command, run or replayed
  125  oncelog itself failed: store, waiting time, attempts used up
  126  the command cannot be executed
  127  the command was not found
  128+n  the command was ended by signal n
  2    wrong usage";

const SALVAGE_NOTES: &str = "\
Without --yes nothing is changed. With it, damaged files are kept under names
that end in .damaged-NUMBER, the report is written to salvage-NUMBER.txt in the
directory, and the store opens again. Keys of lost records count as new then, so
find out first what was done for them; a copy of the store may still know.

Exit codes:
  0  done, or nothing is damaged
  1  something could not be read or written; the salvage can be begun anew
  2  wrong usage
  3  something is damaged and --yes was not given, or nothing can be salvaged
  4  the store is in use by another process";

/// Drops what was seen before, across runs and crashes.
#[derive(Debug, Parser)]
#[command(name = "oncelog", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print each line whose key was not seen before, and drop the rest
    #[command(after_help = DEDUP_NOTES)]
    Dedup(Box<DedupArgs>),
    /// Run a command once per key, and replay its output and exit code to later callers
    #[command(after_help = EXEC_NOTES)]
    Exec(Box<ExecArgs>),
    /// Tell what a store holds, without changing it
    #[command(after_help = EXIT_CODES)]
    Stat(InspectArgs),
    /// Read every record of a store and list what is damaged
    #[command(after_help = EXIT_CODES)]
    Verify(InspectArgs),
    /// List what is lost of a damaged store, and with --yes go on without it
    #[command(after_help = SALVAGE_NOTES)]
    Salvage(SalvageArgs),
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("key").multiple(false))]
pub(crate) struct DedupArgs {
    /// Files to read, in this order; - is standard input, which is also the default
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,

    /// Directory that remembers the keys from run to run, created when missing
    ///
    /// Without it, keys are remembered for this run only, in a temporary directory.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) store: Option<PathBuf>,

    /// How long a key is remembered, such as 90s, 24h, 7d or never
    ///
    /// 24h by default with --store, and never forgotten during the run without.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,

    /// What a recorded key survives: process, interval=TIME or synced
    ///
    /// process: a kill. interval=TIME: also a power loss that comes later than TIME, such as
    /// interval=100ms. synced: any power loss, before the item is printed.
    #[arg(long, value_name = "LEVEL", default_value = "process", value_parser = parse_durability)]
    #[arg(requires = "store")]
    pub(crate) durability: Durability,

    /// Take the key from this JSON field of each line, such as .event.id
    ///
    /// A number as a path's part is the place in an array, counted from 0. Quote a name that
    /// holds dots: .labels."a.b". Numbers are compared as written, so 1 and 1.0 differ; objects
    /// are compared without regard to spacing and order. A field that is null counts as missing.
    #[arg(long, value_name = "PATH", group = "key")]
    pub(crate) json: Option<JsonPath>,

    /// Take the key from these CSV columns, numbered from 1
    ///
    /// A record may extend over several lines inside quotes.
    #[arg(long, value_name = "COL[,COL]", group = "key")]
    pub(crate) csv: Option<Columns>,

    /// The first record of each file is a header; --csv takes its names too
    ///
    /// The first file's header is printed and never recorded; those of further files are dropped.
    #[arg(long, requires = "csv")]
    pub(crate) csv_header: bool,

    /// The character between CSV columns; tab is written \t
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = parse_delimiter)]
    #[arg(requires = "csv")]
    pub(crate) csv_delimiter: u8,

    /// Take the key from the first group of this pattern, or from its whole match without groups
    #[arg(long, value_name = "RE", group = "key", value_parser = Regex::new)]
    pub(crate) regex: Option<Regex>,

    /// What to do with a line that is malformed or lacks the field
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = OnMissing::Fail)]
    pub(crate) on_missing: OnMissing,

    /// Print the duplicates instead of the new lines
    #[arg(short, long)]
    pub(crate) repeated: bool,

    /// Write the duplicates to this file as well, replacing what it holds
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) dupes_output: Option<PathBuf>,

    /// Print nothing to standard output, only record
    #[arg(long, conflicts_with = "repeated")]
    pub(crate) no_output: bool,

    /// Items end with a NUL byte instead of a newline, in the input and in the output
    #[arg(short = '0', long)]
    pub(crate) null: bool,

    /// Record and print line by line instead of in batches
    #[arg(long)]
    pub(crate) line_buffered: bool,

    /// Record a line only after it was printed and flushed
    ///
    /// A kill then prints the lines in hand again at the next run, where without this option it
    /// may leave some out. Lines that are being printed are held under leases meanwhile.
    #[arg(long, conflicts_with = "no_output")]
    pub(crate) two_phase: bool,

    /// No notes and no progress on standard error; errors are still told
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print counts on standard error at the end
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) stats: Option<Format>,

    /// Show how far the work is, on standard error; auto shows it at a terminal only
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub(crate) progress: When,
}

impl DedupArgs {
    /// The byte that ends each item.
    pub(crate) fn delimiter(&self) -> u8 {
        if self.null { 0 } else { b'\n' }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// Directory that remembers the keys, created when missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) store: PathBuf,

    /// What the command is run once for; at most 1024 bytes
    #[arg(long, value_name = "KEY", required_unless_present = "job")]
    pub(crate) key: Option<String>,

    /// The job that the command is run for, once for each fire time
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    #[arg(requires = "fires")]
    pub(crate) job: Option<String>,

    /// The job's fire time, such as 2026-07-01T03:00:00Z; one that is to come is waited for
    #[arg(long, value_name = "WHEN", requires = "job", group = "fires")]
    #[arg(conflicts_with = "key", value_parser = parse_moment)]
    pub(crate) fire_time: Option<Timestamp>,

    /// The job's fire time is the latest multiple of this time, counted from 1970 in UTC
    #[arg(long, value_name = "TIME", requires = "job", group = "fires")]
    #[arg(conflicts_with = "key", value_parser = parse_period)]
    pub(crate) every: Option<Duration>,

    /// How long the outcome is replayed, such as 90s, 24h, 7d or never
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_ttl)]
    pub(crate) ttl: Ttl,

    /// What a claim and an outcome survive: process, interval=TIME or synced
    ///
    /// process: a kill. interval=TIME: also a power loss that comes later than TIME. synced: any
    /// power loss, before the command is run, and before its outcome is printed.
    #[arg(long, value_name = "LEVEL", default_value = "process", value_parser = parse_durability)]
    pub(crate) durability: Durability,

    /// How long a run that was killed keeps others waiting; renewed while the command runs
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_lease)]
    pub(crate) lease: Duration,

    /// How long to wait for others at most; without it, as long as it takes
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) wait: Option<Duration>,

    /// How often the command is run for a key at most, if its runs do not end by themselves
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: Option<u32>,

    /// A command that exits with another code than 0 leaves its key free
    #[arg(long)]
    pub(crate) retry_failed: bool,

    /// A run that was killed is not repeated
    #[arg(long)]
    pub(crate) hold: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The store's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human, action = ArgAction::Set)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct SalvageArgs {
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,

    /// Do it, and accept that keys of lost records count as new
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,

    /// Only list what would be lost, which is the default
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The policy for items without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnMissing {
    /// Drop the line and count it
    Skip,
    /// Print the line each time and count it; it is not recorded
    Keep,
    /// Stop with the line's place: neither a line nor a duplicate slips through unnoticed
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Human,
    /// One JSON object
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Only when standard error is a terminal and standard output is not
    Auto,
    /// Also into a file or pipe, there as plain lines
    Always,
    /// Not at all
    Never,
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "never" {
        return Ok(Ttl::Never);
    }
    let lifetime = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a time such as 90s, 24h or 7d, or never"))?;
    if lifetime < Duration::from_millis(1) {
        return Err("a key must be remembered for at least 1ms".to_owned());
    }
    Ok(Ttl::After(lifetime))
}

fn parse_durability(text: &str) -> Result<Durability, String> {
    match (text, text.strip_prefix("interval=")) {
        ("process", _) => Ok(Durability::Process),
        ("synced", _) => Ok(Durability::Synced),
        (_, Some(time)) => {
            let interval = humantime::parse_duration(time)
                .map_err(|error| format!("{error}; write a time such as interval=100ms"))?;
            if interval < Duration::from_millis(1) || interval > Duration::from_secs(3600) {
                return Err("an interval has at least 1ms and at most 1h".to_owned());
            }
            Ok(Durability::Interval(interval))
        }
        _ => Err("write process, interval=TIME or synced".to_owned()),
    }
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a time such as 90s or 5m"))?;
    if lease < Duration::from_secs(1) || lease > oncelog::LEASE_MAX {
        return Err("a lease has at least 1s and at most 366 days".to_owned());
    }
    Ok(lease)
}

fn parse_moment(text: &str) -> Result<Timestamp, String> {
    let moment = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("{error}; write a time such as 2026-07-01T03:00:00Z"))?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let millis = u64::try_from(since.as_millis()).map_err(|error| error.to_string())?;
    Ok(Timestamp::from_millis(millis))
}

fn parse_period(text: &str) -> Result<Duration, String> {
    let period = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a time such as 10m or 24h"))?;
    if period < Duration::from_secs(1) {
        return Err("a period has at least 1s".to_owned());
    }
    Ok(period)
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [b'\n' | b'\r' | b'"' | 0] => Err("this character has a meaning of its own".to_owned()),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("the separator is one ASCII character, or \\t for a tab".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, Durability, Ttl, parse_delimiter, parse_durability, parse_ttl};
    use clap::CommandFactory;
    use std::time::Duration;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_lifetime_is_a_duration_or_never() {
        assert_eq!(parse_ttl("24h"), Ok(Ttl::After(Duration::from_secs(86_400))));
        assert_eq!(parse_ttl("never"), Ok(Ttl::Never));
        assert!(parse_ttl("0s").is_err() && parse_ttl("soon").is_err());
    }

    #[test]
    fn a_durability_is_a_level_or_an_interval() {
        assert_eq!(parse_durability("synced"), Ok(Durability::Synced));
        let interval = Durability::Interval(Duration::from_millis(100));
        assert_eq!(parse_durability("interval=100ms"), Ok(interval));
        for wrong in ["interval", "interval=", "interval=0s", "interval=2h", "always"] {
            assert!(parse_durability(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_separator_is_one_character_that_means_nothing_else() {
        assert_eq!(parse_delimiter("\\t"), Ok(b'\t'));
        assert_eq!(parse_delimiter(";"), Ok(b';'));
        assert!(parse_delimiter("\"").is_err() && parse_delimiter(";;").is_err());
    }
}
