//! The words of the command line: workloads, durability, and what a started process is for.

use clap::ValueEnum;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Workload {
    /// Check-and-set of keys never seen, into a store that starts empty.
    New,
    /// Check-and-set of keys all present, in random order, reading the outcome.
    Dup,
    /// Look-up of keys never inserted.
    Miss,
    /// Both of the following.
    Mix,
    /// New and known keys mixed, the known ones by Zipf's law: few are asked for most.
    MixZipf,
    /// The same, the known ones by age: what is young is asked for most.
    MixRecency,
    /// Begin and complete of keys never seen, beside those of `new`: a pair counts as one.
    Lease,
    /// Questions for keys never inserted, by the call that locks.
    Probe,
    /// The same, while every thread inserts a new key after three questions.
    Contend,
    /// Check-and-set of one key by all threads.
    Hot,
    /// New keys one at a time from empty, by stages, each call timed: what growing costs.
    Growth,
    /// New keys at durability `synced`, whatever `--durability` says.
    Synced,
    /// Opening a filled store that was closed, and one whose process was killed.
    Reopen,
    /// As many keys expire as arrive, for several lifetimes.
    Steady,
    /// Lifetimes from a second to ever, mixed.
    MixedTtl,
    /// Keys are checked, removed and recorded again.
    RemoveHeavy,
}

impl Workload {
    /// The name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Workload::New => "new",
            Workload::Dup => "dup",
            Workload::Miss => "miss",
            Workload::Mix => "mix",
            Workload::MixZipf => "mix_zipf",
            Workload::MixRecency => "mix_recency",
            Workload::Lease => "lease",
            Workload::Probe => "probe",
            Workload::Contend => "contend",
            Workload::Hot => "hot",
            Workload::Growth => "growth",
            Workload::Synced => "synced",
            Workload::Reopen => "reopen",
            Workload::Steady => "steady",
            Workload::MixedTtl => "mixed_ttl",
            Workload::RemoveHeavy => "remove_heavy",
        }
    }

    /// Whether it is measured on the store that `new` has filled, in the same process.
    pub fn shares_a_store(self) -> bool {
        self <= Workload::Hot
    }

    /// Whether it goes on for a time instead of a number of keys.
    pub fn is_paced(self) -> bool {
        self >= Workload::Steady
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
    /// Measures the workloads that share a store, or growth, or synced calls.
    Measure,
    /// Fills a store, says so and waits to be killed.
    Fill,
    /// Fills a store, says so and closes it.
    Close,
    /// Opens a store left by either.
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
            Role::Close => "close",
            Role::Open => "open",
            Role::Pace => "pace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for workload in Workload::value_variants() {
            let named = Workload::from_str(workload.as_str(), false);
            assert_eq!(named, Ok(*workload));
        }
        for role in Role::value_variants() {
            assert_eq!(Role::from_str(role.as_str(), false), Ok(*role));
        }
    }

    #[test]
    fn every_workload_is_of_one_sort() {
        use Workload::{Contend, Growth, Hot, MixedTtl, New, Reopen, Synced};
        assert!([New, Contend, Hot].iter().all(|w| w.shares_a_store()));
        assert!([Growth, Synced, Reopen].iter().all(|w| !w.is_paced()));
        assert!([Growth, Synced, Reopen].iter().all(|w| !w.shares_a_store()));
        assert!(MixedTtl.is_paced() && !MixedTtl.shares_a_store());
    }
}
