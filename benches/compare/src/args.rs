//! The command line, shared by the parent and the processes it starts.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::Result;
use crate::engine::Name;

/// The sizes of key and outcome that the program is compiled for.
pub const SHAPES: [(usize, usize); 4] = [(16, 32), (16, 256), (36, 32), (64, 32)];

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
    /// Workloads, always run in the order new, dup, miss, lease, probe, contend, reopen, and then
    /// the paced ones: steady, mixed_ttl, remove_heavy.
    #[arg(long, value_delimiter = ',', default_value = "new,dup,miss")]
    pub workloads: Vec<Workload>,
    /// Distinct keys a run inserts; in the paced workloads, keys that are alive at a time.
    #[arg(long, default_value_t = 2_000_000)]
    pub keys: u64,
    /// Expiry buckets that `new` spreads its keys over, about, where the engine has lifetimes for
    /// single calls; in batches all keys have one lifetime.
    #[arg(long, default_value_t = 1)]
    pub buckets: u64,
    /// Threads calling the engine.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Keys per call; in a durable engine one call is one transaction.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    pub batch: Vec<usize>,
    /// What an answered call has survived.
    #[arg(long, value_enum, default_value = "process")]
    pub durability: Durability,
    /// File to append the results to, one JSON object a line.
    #[arg(long)]
    pub json: Option<PathBuf>,
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
    /// Calls per second of all threads in the open loop of a paced workload [default: half of the
    /// peak measured just before].
    #[arg(long)]
    pub rate: Option<f64>,
    /// Folder to write plots of the paced workloads to, as SVG.
    #[arg(long)]
    pub plots: Option<PathBuf>,
    /// Draws the plots from the results in this file, as --json wrote it, and runs nothing.
    #[arg(long, requires = "plots")]
    pub redraw: Option<PathBuf>,
    /// Measures at once, without a short run before to have the machine's memory backed.
    #[arg(long)]
    pub cold: bool,
    /// Length of a key.
    #[arg(long, default_value_t = 16)]
    pub key_bytes: usize,
    /// Length of an outcome.
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
}

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Check-and-set of keys never seen, into a store that starts empty.
    New,
    /// Check-and-set of keys all present, in random order, reading the outcome.
    Dup,
    /// Look-up of keys never inserted.
    Miss,
    /// Begin and complete of keys never seen, beside those of `new`: a pair counts as one.
    Lease,
    /// Questions for keys never inserted, by the call that locks.
    Probe,
    /// The same, while every thread inserts a new key after three questions.
    Contend,
    /// Opening a filled store whose process was killed.
    Reopen,
    /// As many keys expire as arrive, for several lifetimes.
    Steady,
    /// Lifetimes from a second to ever, mixed.
    #[value(name = "mixed_ttl")]
    MixedTtl,
    /// Keys are checked, removed and recorded again.
    #[value(name = "remove_heavy")]
    RemoveHeavy,
}

impl Workload {
    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Workload::New => "new",
            Workload::Dup => "dup",
            Workload::Miss => "miss",
            Workload::Lease => "lease",
            Workload::Probe => "probe",
            Workload::Contend => "contend",
            Workload::Reopen => "reopen",
            Workload::Steady => "steady",
            Workload::MixedTtl => "mixed_ttl",
            Workload::RemoveHeavy => "remove_heavy",
        }
    }

    /// Whether it goes on for a time instead of a number of keys.
    pub fn is_paced(self) -> bool {
        matches!(
            self,
            Workload::Steady | Workload::MixedTtl | Workload::RemoveHeavy
        )
    }
}

/// The crash an answered call must survive, for the engines that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// The end of the process, but not of the machine.
    Process,
    /// Loss of power: every call ends with a sync to stable storage.
    Synced,
}

impl Durability {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Synced => "synced",
        }
    }
}

/// What a started process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Measures new, dup, miss, lease, probe and contend on one store.
    Measure,
    /// Fills a store, says so and waits to be killed.
    Fill,
    /// Opens a store left by a killed process.
    Open,
    /// Measures one paced workload.
    Pace,
}

impl Role {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Measure => "measure",
            Role::Fill => "fill",
            Role::Open => "open",
            Role::Pace => "pace",
        }
    }
}

impl Args {
    /// Refuses what no run could be made of.
    pub fn check(&self) -> Result<()> {
        if self.engines.is_empty() || self.workloads.is_empty() || self.batch.is_empty() {
            return Err("name at least one engine, one workload and one batch size".into());
        }
        if self.threads == 0 || self.runs == 0 || self.batch.contains(&0) {
            return Err("--threads, --runs and --batch start at 1".into());
        }
        if self.buckets == 0 || self.buckets > 30 {
            return Err("--buckets must be between 1 and 30".into());
        }
        if self.keys < self.threads as u64 {
            return Err("--keys must give every thread at least one key".into());
        }
        if self.rate.is_some_and(|rate| !(1.0..=1e9).contains(&rate)) {
            return Err("--rate must be between 1 and 1e9 calls per second".into());
        }
        let paced = self.workloads.iter().any(|workload| workload.is_paced());
        if paced && (self.seconds_max.is_nan() || self.seconds_max < 4.0) {
            return Err("the paced workloads need --seconds-max 4 or more".into());
        }
        if !SHAPES.contains(&(self.key_bytes, self.outcome_bytes)) {
            let known: Vec<String> = SHAPES.iter().map(|(k, o)| format!("{k}/{o}")).collect();
            return Err(format!(
                "--key-bytes {} with --outcome-bytes {} is not compiled in; one of {}",
                self.key_bytes,
                self.outcome_bytes,
                known.join(", "),
            )
            .into());
        }
        Ok(())
    }

    /// Whether every call ends with a sync to stable storage.
    pub fn synced(&self) -> bool {
        self.durability == Durability::Synced
    }
}
