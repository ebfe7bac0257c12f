//! The command line, shared by the parent and the processes it starts.

use std::path::PathBuf;

use clap::Parser;

use crate::Result;
use crate::engine::Name;
use crate::keys::KeyShape;
use crate::kinds::{Durability, Role, Workload};

/// The longest outcome: more is no longer a matter of calls, but of copying.
const OUTCOME_BYTES_MAX: usize = 64 << 10;
/// More threads than this measure the scheduler.
const THREADS_MAX: usize = 1024;
/// As many keys as a paced workload or an index of keys can tell apart.
const KEYS_MAX: u64 = 1 << 40;
/// Keys in one call.
const BATCH_MAX: usize = 1 << 20;

/// Measures oncelog beside other maps, caches and stores on one workload.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Engines to measure, each in a process of its own.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "oncelog,dashmap,lmdb,sqlite"
    )]
    pub engines: Vec<Name>,
    /// Workloads, always run in the order new, dup, miss, mix_zipf, mix_recency, lease, probe,
    /// contend, hot on one store; growth, synced and reopen on stores of their own; and then the
    /// paced ones: steady, mixed_ttl, remove_heavy.
    #[arg(long, value_delimiter = ',', default_value = "new,dup,miss")]
    pub workloads: Vec<Workload>,
    /// Distinct keys a run inserts, one run for each number; 20M is 20 million. In the paced
    /// workloads, keys that are alive at a time.
    #[arg(long, value_delimiter = ',', default_value = "2M", value_parser = count)]
    pub keys: Vec<u64>,
    /// Expiry buckets that `new` spreads its keys over, about, where the engine has lifetimes for
    /// single calls; in batches all keys have one lifetime.
    #[arg(long, default_value_t = 1)]
    pub buckets: u64,
    /// Threads calling the engine, one run for each number; may be more than there are cores.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    pub threads: Vec<usize>,
    /// Keys per call, one run for each number; in a durable engine one call is one transaction.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    pub batch: Vec<usize>,
    /// What an answered call has survived.
    #[arg(long, value_enum, default_value = "process")]
    pub durability: Durability,
    /// File to append the results to, one JSON object a line.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// File to append the results to, as rows of comma-separated values; the paced workloads and
    /// their curves go to --json only.
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Repetitions of everything, in rotated order; the median is reported.
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// Folder for the stores, which are deleted after each run.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Longest time for one measurement; the rate is over the keys done by then. A paced workload
    /// takes this time as a whole.
    #[arg(long, default_value_t = 60.0)]
    pub seconds_max: f64,
    /// Times every call and reports percentiles; this slows fast calls by some 50 ns each.
    #[arg(long)]
    pub latency: bool,
    /// Calls per second of all threads in the open loop of a paced workload [default: half of the
    /// peak measured just before].
    #[arg(long)]
    pub rate: Option<f64>,
    /// Share of new keys among the checks of the mixes.
    #[arg(long, default_value_t = 0.5)]
    pub mix_new: f64,
    /// Share of calls in the mixes that look up known keys, where the others check and set.
    #[arg(long, default_value_t = 0.0)]
    pub mix_reads: f64,
    /// Exponent of Zipf's law in `mix_zipf`; the greater, the more is asked of few keys.
    #[arg(long, default_value_t = 0.99)]
    pub zipf: f64,
    /// Mean age of the known keys that `mix_recency` asks for, as a share of --keys.
    #[arg(long, default_value_t = 0.01)]
    pub recency: f64,
    /// Folder to write plots to, as SVG.
    #[arg(long)]
    pub plots: Option<PathBuf>,
    /// Draws the plots from the results in this file, as --csv or --json wrote it; runs nothing.
    #[arg(long, requires = "plots")]
    pub redraw: Option<PathBuf>,
    /// Measures at once, without a short run before to have the machine's memory backed.
    #[arg(long)]
    pub cold: bool,
    /// Longest time for that short run.
    #[arg(long, default_value_t = 8.0)]
    pub warm_up_seconds: f64,
    /// What keys look like: random16, uuidv7 (16 bytes), text (36 characters), or a number of
    /// random bytes from 8 to 200.
    #[arg(long, default_value = "random16")]
    pub key_shape: KeyShape,
    /// Length of an outcome, at most 65536.
    #[arg(long, default_value_t = 32)]
    pub outcome_bytes: usize,
    /// Seed of keys, outcomes and order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What this process does for its parent.
    #[arg(long, hide = true)]
    pub role: Option<Role>,
    /// Key indexes the store to reopen holds: start,end,start,end...
    #[arg(long, hide = true, value_delimiter = ',')]
    pub present: Vec<u64>,
    /// How the store to reopen was left.
    #[arg(long, hide = true, default_value = "")]
    pub left: String,
}

/// A number, in thousands with a K behind it, or in millions with an M.
fn count(text: &str) -> std::result::Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok();
    let keys = number.and_then(|number| number.checked_mul(unit));
    keys.filter(|keys| (1..=KEYS_MAX).contains(keys))
        .ok_or_else(|| "a number such as 5000, 500K or 20M".to_owned())
}

/// A complaint about a number that is out of its range.
fn within(name: &str, number: f64, least: f64, most: f64) -> Result<()> {
    match (least..=most).contains(&number) {
        true => Ok(()),
        false => Err(format!("{name} is {number}; it must be between {least} and {most}").into()),
    }
}

impl Args {
    /// Puts the two mixes in the place of `mix`, and names every workload once.
    pub fn expand(mut self) -> Args {
        if self.workloads.contains(&Workload::Mix) {
            self.workloads
                .extend([Workload::MixZipf, Workload::MixRecency]);
        }
        self.workloads.retain(|workload| *workload != Workload::Mix);
        self.workloads.sort_unstable();
        self.workloads.dedup();
        self
    }

    /// Refuses what no run could be made of.
    pub fn check(&self) -> Result<()> {
        if self.engines.is_empty() || self.workloads.is_empty() {
            return Err("name at least one engine and one workload".into());
        }
        if self.keys.is_empty() || self.threads.is_empty() || self.batch.is_empty() {
            return Err("--keys, --threads and --batch take at least one number each".into());
        }
        for &threads in &self.threads {
            within("--threads", threads as f64, 1.0, THREADS_MAX as f64)?;
        }
        for &batch in &self.batch {
            within("--batch", batch as f64, 1.0, BATCH_MAX as f64)?;
        }
        within("--runs", self.runs as f64, 1.0, 1000.0)?;
        within("--buckets", self.buckets as f64, 1.0, 30.0)?;
        let most = OUTCOME_BYTES_MAX as f64;
        within("--outcome-bytes", self.outcome_bytes as f64, 0.0, most)?;
        within("--seconds-max", self.seconds_max, 0.001, 1e6)?;
        within("--warm-up-seconds", self.warm_up_seconds, 0.0, 1e6)?;
        within("--rate", self.rate.unwrap_or(1.0), 1.0, 1e9)?;
        within("--mix-new", self.mix_new, 0.0, 1.0)?;
        within("--mix-reads", self.mix_reads, 0.0, 1.0)?;
        within("--zipf", self.zipf, 0.01, 10.0)?;
        within("--recency", self.recency, 1e-9, 1.0)?;
        let threads = self.threads.iter().copied().max().unwrap_or(1) as u64;
        if let Some(keys) = self.keys.iter().find(|keys| **keys < threads) {
            return Err(format!("--keys {keys} gives some of {threads} threads no key").into());
        }
        let paced = self.workloads.iter().any(|workload| workload.is_paced());
        if paced && self.seconds_max < 4.0 {
            return Err("the paced workloads need --seconds-max 4 or more".into());
        }
        Ok(())
    }

    /// Whether every call ends with a sync to stable storage.
    pub fn synced(&self) -> bool {
        self.durability == Durability::Synced
    }

    /// Distinct keys, in a started process.
    pub fn keys(&self) -> u64 {
        self.keys.first().copied().unwrap_or(1)
    }

    /// Threads, in a started process.
    pub fn threads(&self) -> usize {
        self.threads.first().copied().unwrap_or(1)
    }

    /// Keys per call, in a started process.
    pub fn batch(&self) -> usize {
        self.batch.first().copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Args, String> {
        let words = std::iter::once("compare").chain(line.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        let args = args.expand();
        args.check().map_err(|error| error.to_string())?;
        Ok(args)
    }

    #[test]
    fn sizes_may_be_written_in_millions_and_mix_names_two_workloads() {
        let args = parse("--keys 1M,500k,77 --workloads mix,new,mix_zipf").unwrap();
        assert_eq!(args.keys, [1_000_000, 500_000, 77]);
        let names: Vec<&str> = args.workloads.iter().map(|w| w.as_str()).collect();
        assert_eq!(names, ["new", "mix_zipf", "mix_recency"]);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_a_reason() {
        for (line, said) in [
            ("--keys 0", "such as 5000"),
            ("--keys 20X", "such as 5000"),
            ("--keys 99999999999M", "such as 5000"),
            (
                "--keys 4 --threads 2,8",
                "--keys 4 gives some of 8 threads no key",
            ),
            ("--threads 0", "--threads is 0"),
            ("--threads 5000", "between 1 and 1024"),
            ("--batch 0", "--batch is 0"),
            ("--runs 0", "--runs is 0"),
            ("--key-shape 7", "from 8 to 200"),
            ("--key-shape 201", "from 8 to 200"),
            ("--key-shape uuidv4", "uuidv7"),
            ("--outcome-bytes 65537", "between 0 and 65536"),
            ("--mix-new 1.5", "--mix-new is 1.5"),
            ("--mix-reads NaN", "--mix-reads is NaN"),
            ("--zipf 0", "--zipf is 0"),
            ("--rate 0", "--rate is 0"),
            ("--seconds-max 0", "--seconds-max is 0"),
            ("--workloads steady --seconds-max 3", "--seconds-max 4"),
            ("--workloads nothing", "possible values"),
            ("--engines nothing", "possible values"),
            ("--redraw results.csv", "--plots"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
