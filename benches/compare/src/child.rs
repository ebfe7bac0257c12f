//! What a started process does: one engine, one batch size, one store.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::args::{Args, Role, Workload};
use crate::engine::{self, Engine, Name, Setup};
use crate::machine::{self, Memory};
use crate::paced;
use crate::report::{Filled, Measured};
use crate::workload::{self, Present};

/// Plays the role for the first engine and the first batch size of the command line.
pub fn run(args: &Args, role: Role) -> Result<()> {
    match (args.key_bytes, args.outcome_bytes) {
        (16, 32) => run_shape::<16, 32>(args, role),
        (16, 256) => run_shape::<16, 256>(args, role),
        (36, 32) => run_shape::<36, 32>(args, role),
        (64, 32) => run_shape::<64, 32>(args, role),
        _ => Err("this size of key and outcome is not compiled in".into()),
    }
}

fn run_shape<const K: usize, const V: usize>(args: &Args, role: Role) -> Result<()> {
    match args.engines[0] {
        #[cfg(feature = "oncelog")]
        Name::Oncelog => play::<engine::oncelog::Oncelog<false>, K, V>(args, role),
        #[cfg(feature = "oncelog")]
        Name::OncelogFilter => play::<engine::oncelog::Oncelog<true>, K, V>(args, role),
        Name::Dashmap => play::<engine::dashmap::Dashmap<K, V>, K, V>(args, role),
        Name::Papaya => play::<engine::papaya::Papaya<K, V>, K, V>(args, role),
        Name::Moka => play::<engine::moka::Moka<K, V>, K, V>(args, role),
        Name::Lmdb => play::<engine::lmdb::Lmdb, K, V>(args, role),
        Name::Fjall => play::<engine::fjall::Fjall<K>, K, V>(args, role),
        Name::Redb => play::<engine::redb::Redb<K, V>, K, V>(args, role),
        Name::Sqlite => play::<engine::sqlite::Sqlite, K, V>(args, role),
        #[cfg(feature = "rocksdb")]
        Name::Rocksdb => play::<engine::rocksdb::Rocksdb<K>, K, V>(args, role),
        #[cfg(not(all(feature = "oncelog", feature = "rocksdb")))]
        name => Err(format!("built without the feature {}", name.as_str()).into()),
    }
}

fn play<E: Engine<K, V>, const K: usize, const V: usize>(args: &Args, role: Role) -> Result<()> {
    let dir = args.dir.as_deref().ok_or("a started process needs --dir")?;
    if role == Role::Pace {
        return print(&paced::measure::<E, K, V>(args, args.workloads[0], dir)?);
    }
    let setup = Setup {
        dir,
        keys: args.keys,
        threads: args.threads,
        synced: args.synced(),
    };
    let before = machine::memory()?;
    let begin = Instant::now();
    let engine = E::open(&setup)?;
    let opened = begin.elapsed().as_secs_f64();
    let scale = Scale { args, dir, before };
    match role {
        Role::Measure => measure(&engine, &scale),
        Role::Fill => fill(&engine, args),
        Role::Pace => Err("a paced workload has stores of its own".into()),
        Role::Open => {
            let present = Present(
                args.present
                    .chunks(2)
                    .map(|pair| pair[0]..pair[1])
                    .collect(),
            );
            let line = scale.line(Workload::Reopen, opened, present.len(), present.len())?;
            let sample = workload::verify(&engine, args, &present)?;
            eprintln!("  {sample} keys verified after the kill");
            print(&line)
        }
    }
}

fn measure<E: Engine<K, V>, const K: usize, const V: usize>(
    engine: &E,
    scale: &Scale<'_>,
) -> Result<()> {
    let args = scale.args;
    let filled = workload::new_keys(engine, args)?;
    let present = filled.ranges;
    let asked = |workload| args.workloads.contains(&workload);
    if asked(Workload::New) {
        print(&scale.line(Workload::New, filled.seconds, present.len(), present.len())?)?;
    }
    if asked(Workload::Dup) {
        let done = workload::duplicates(engine, args, &present)?;
        let count = done.ranges.len();
        print(&scale.line(Workload::Dup, done.seconds, count, present.len())?)?;
    }
    if asked(Workload::Miss) {
        let done = workload::misses(engine, args, &present)?;
        let count = done.ranges.len();
        print(&scale.line(Workload::Miss, done.seconds, count, present.len())?)?;
    }
    if asked(Workload::Lease) && args.engines[0].has_leases() {
        let done = workload::leases(engine, args)?;
        let count = done.ranges.len();
        print(&scale.line(Workload::Lease, done.seconds, count, present.len() + count)?)?;
    }
    for workload in [Workload::Probe, Workload::Contend] {
        if asked(workload) && args.engines[0].has_probes() {
            let done = workload::probes(engine, args, workload)?;
            let held = present.len() + done.inserted;
            print(&scale.line(workload, done.seconds, done.ranges.len(), held)?)?;
        }
    }
    Ok(())
}

/// Fills the store, tells the parent what it holds and waits to be killed.
fn fill<E: Engine<K, V>, const K: usize, const V: usize>(engine: &E, args: &Args) -> Result<()> {
    let filled = workload::new_keys(engine, args)?;
    engine.settle()?;
    let ranges = filled
        .ranges
        .0
        .iter()
        .flat_map(|range| [range.start, range.end])
        .collect();
    print(&Filled { filled: ranges })?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Err("the parent went away without a kill".into())
}

fn print(line: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    out.flush()?;
    Ok(())
}

/// What turns counts into a line of the report.
struct Scale<'a> {
    args: &'a Args,
    dir: &'a Path,
    before: Memory,
}

impl Scale<'_> {
    fn line(&self, workload: Workload, seconds: f64, done: u64, held: u64) -> Result<Measured> {
        let args = self.args;
        let name = args.engines[0];
        let memory = machine::memory()?;
        let each = |bytes: u64| (bytes as f64 / held.max(1) as f64 * 10.0).round() / 10.0;
        let rate = (done as f64 / seconds.max(1e-9)).round();
        Ok(Measured {
            engine: name.as_str().to_owned(),
            version: name.version(),
            workload: workload.as_str().to_owned(),
            keys: args.keys,
            done,
            threads: args.threads,
            batch: args.batch[0],
            durability: name.survives(args.durability).to_owned(),
            key_bytes: args.key_bytes,
            outcome_bytes: args.outcome_bytes,
            seconds,
            runs: 1,
            ops_per_s: rate,
            ops_per_s_min: rate,
            ops_per_s_max: rate,
            anon_bytes_per_key: each(memory.anon.saturating_sub(self.before.anon)),
            mapped_bytes_per_key: each(memory.file.saturating_sub(self.before.file)),
            disk_bytes_per_key: each(machine::disk_usage(self.dir)?),
        })
    }
}
