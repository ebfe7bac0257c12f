//! Which processes a run consists of, and in which order.

use crate::args::Args;
use crate::engine::Name;
use crate::kinds::Workload;

/// One process, or the two of a reopening.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// What is measured.
    pub engine: Name,
    /// Distinct keys.
    pub keys: u64,
    /// Threads calling.
    pub threads: usize,
    /// Keys per call.
    pub batch: usize,
    /// What of the run the process does.
    pub part: Part,
}

/// What of the run a process does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The workloads that share a store.
    Shared,
    /// One workload on a store of its own.
    Alone(Workload),
    /// Opening what was closed, or what was killed.
    Reopen(Left),
    /// One workload that goes on for a time.
    Pace(Workload),
}

/// How a store to reopen was left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    /// By its owner.
    Closed,
    /// By a signal that its process could do nothing about.
    Killed,
}

impl Left {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Left::Closed => "closed",
            Left::Killed => "killed",
        }
    }
}

/// Groups of slots that differ in the engine only: those take turns.
///
/// An engine that is left out of a workload is named to `say`, with the reason.
pub fn groups(args: &Args, mut say: impl FnMut(String)) -> Vec<Vec<Slot>> {
    let mut engines = args.engines.clone();
    engines.retain(|engine| match engine.missing() {
        Some(why) => {
            say(format!("skipped: {}: {why}", engine.as_str()));
            false
        }
        None => true,
    });
    let mut groups = Vec::new();
    for &keys in &args.keys {
        for &threads in &args.threads {
            for (part, batch) in parts(args) {
                let slot = |&engine: &Name| Slot {
                    engine,
                    keys,
                    threads,
                    batch,
                    part,
                };
                let fits = |engine: &&Name| match unfit(**engine, part) {
                    Some(why) => {
                        say(format!("left out: {} {why}", engine.as_str()));
                        false
                    }
                    None => true,
                };
                let group: Vec<Slot> = engines.iter().filter(fits).map(slot).collect();
                groups.push(group);
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The parts of a run with their batch sizes.
fn parts(args: &Args) -> Vec<(Part, usize)> {
    let asked = |workload| args.workloads.contains(&workload);
    let mut parts = Vec::new();
    if args.workloads.iter().any(|w| w.shares_a_store()) {
        parts.extend(args.batch.iter().map(|batch| (Part::Shared, *batch)));
    }
    if asked(Workload::Growth) {
        parts.push((Part::Alone(Workload::Growth), 1));
    }
    if asked(Workload::Synced) {
        let synced = Part::Alone(Workload::Synced);
        parts.extend(args.batch.iter().map(|batch| (synced, *batch)));
    }
    if asked(Workload::Reopen) {
        // Filling is not measured, so that it may be quick.
        let batch = args.batch.iter().copied().max().unwrap_or(1);
        parts.push((Part::Reopen(Left::Closed), batch));
        parts.push((Part::Reopen(Left::Killed), batch));
    }
    let paced = args.workloads.iter().filter(|w| w.is_paced());
    parts.extend(paced.map(|workload| (Part::Pace(*workload), 1)));
    parts
}

/// Why an engine has no place in a part.
fn unfit(engine: Name, part: Part) -> Option<&'static str> {
    match part {
        Part::Alone(Workload::Synced) if !engine.is_durable() => Some("keeps nothing to sync"),
        Part::Reopen(_) if !engine.is_durable() => Some("keeps nothing to reopen"),
        Part::Reopen(_) if !engine.reopens() => Some("outlives a client that is killed"),
        Part::Pace(_) if !engine.expires() => Some("expires nothing by itself"),
        _ => None,
    }
}

/// The slots of one round: in every group another engine comes first.
pub fn round(groups: &[Vec<Slot>], number: usize) -> Vec<Slot> {
    let turned = |group: &Vec<Slot>| {
        let mut group = group.clone();
        let by = number % group.len().max(1);
        group.rotate_left(by);
        group
    };
    groups.iter().flat_map(turned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn groups_of(line: &str) -> (Vec<Vec<Slot>>, Vec<String>) {
        let words = std::iter::once("compare").chain(line.split(' '));
        let mut said = Vec::new();
        let groups = groups(&Args::parse_from(words).expand(), |why| said.push(why));
        (groups, said)
    }

    #[test]
    fn engines_take_turns_within_their_group() {
        let (groups, _) = groups_of("--engines dashmap,lmdb,redb --batch 1,64");
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        let firsts = |number| round(&groups, number)[0].engine.as_str();
        assert_eq!(
            [0, 1, 2, 3].map(firsts),
            ["dashmap", "lmdb", "redb", "dashmap"]
        );
        let batches: Vec<usize> = round(&groups, 1).iter().map(|slot| slot.batch).collect();
        assert_eq!(batches, [1, 1, 1, 64, 64, 64]);
    }

    #[test]
    fn every_size_and_number_of_threads_has_a_group() {
        let line = "--engines dashmap --keys 1M,4M --threads 1,8 --batch 1 --workloads dup,growth";
        let (groups, _) = groups_of(line);
        let sizes: Vec<(u64, usize)> = groups.iter().map(|g| (g[0].keys, g[0].threads)).collect();
        assert_eq!(sizes.len(), 8);
        assert!(sizes.contains(&(1_000_000, 8)) && sizes.contains(&(4_000_000, 1)));
    }

    #[test]
    fn who_has_no_place_in_a_workload_is_left_out_with_the_reason() {
        let line = "--engines dashmap,lmdb,moka --workloads synced,reopen,steady --batch 1";
        let (groups, said) = groups_of(line);
        let engines: Vec<&str> = groups.iter().flatten().map(|s| s.engine.as_str()).collect();
        assert_eq!(engines, ["lmdb", "lmdb", "lmdb", "moka"]);
        for why in [
            "dashmap keeps nothing to sync",
            "lmdb expires nothing by itself",
        ] {
            assert!(said.iter().any(|said| said.contains(why)), "{said:?}");
        }
    }
}
