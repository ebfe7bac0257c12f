//! What a started process does: one engine, one batch size, one store.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::{self, Engine, Name, Setup};
use crate::kinds::{Role, Workload};
use crate::machine::{self, Memory};
use crate::paced;
use crate::report::{Filled, Measured};
use crate::workload::{self, Done, Present};

/// Plays the role for the first engine, size, number of threads and batch size of the command line.
///
/// The usual lengths are compiled in for every engine, and a few others for those that keep keys in
/// memory as arrays; any other length is held in slices.
pub fn run(args: &Args, role: Role) -> Result<()> {
    let name = *args.engines.first().ok_or("no engine is named")?;
    match (args.key_shape.len(), args.outcome_bytes) {
        (16, 32) => any_engine::<[u8; 16], [u8; 32]>(name, args, role),
        (8, 32) if is_map(name) => map::<[u8; 8], [u8; 32]>(name, args, role),
        (36, 32) if is_map(name) => map::<[u8; 36], [u8; 32]>(name, args, role),
        (64, 32) if is_map(name) => map::<[u8; 64], [u8; 32]>(name, args, role),
        (200, 32) if is_map(name) => map::<[u8; 200], [u8; 32]>(name, args, role),
        _ => any_engine::<Box<[u8]>, Box<[u8]>>(name, args, role),
    }
}

fn is_map(name: Name) -> bool {
    matches!(name, Name::Dashmap | Name::Papaya | Name::Moka)
}

fn map<K: Bytes, V: Bytes>(name: Name, args: &Args, role: Role) -> Result<()> {
    match name {
        Name::Dashmap => play::<engine::dashmap::Dashmap<K, V>, K, V>(args, role),
        Name::Papaya => play::<engine::papaya::Papaya<K, V>, K, V>(args, role),
        Name::Moka => play::<engine::moka::Moka<K, V>, K, V>(args, role),
        other => Err(format!("{} is not a map in memory", other.as_str()).into()),
    }
}

fn any_engine<K: Bytes, V: Bytes>(name: Name, args: &Args, role: Role) -> Result<()> {
    match name {
        #[cfg(feature = "oncelog")]
        Name::Oncelog => play::<engine::oncelog::Oncelog<false>, K, V>(args, role),
        #[cfg(feature = "oncelog")]
        Name::OncelogFilter => play::<engine::oncelog::Oncelog<true>, K, V>(args, role),
        #[cfg(feature = "oncelog")]
        Name::OncelogTickets => play::<engine::tickets::Tickets, K, V>(args, role),
        Name::Dashmap | Name::Papaya | Name::Moka => map::<K, V>(name, args, role),
        Name::Lmdb => play::<engine::lmdb::Lmdb, K, V>(args, role),
        Name::Fjall => play::<engine::fjall::Fjall<K>, K, V>(args, role),
        Name::Redb => play::<engine::redb::Redb<K, V>, K, V>(args, role),
        Name::Sqlite => play::<engine::sqlite::Sqlite, K, V>(args, role),
        #[cfg(feature = "rocksdb")]
        Name::Rocksdb => play::<engine::rocksdb::Rocksdb<K>, K, V>(args, role),
        #[cfg(feature = "services")]
        Name::Redis => play::<engine::redis::Redis<false>, K, V>(args, role),
        #[cfg(feature = "services")]
        Name::RedisAof => play::<engine::redis::Redis<true>, K, V>(args, role),
        #[cfg(feature = "services")]
        Name::Postgres => play::<engine::postgres::Postgres, K, V>(args, role),
        #[cfg(not(all(feature = "oncelog", feature = "rocksdb", feature = "services")))]
        name => {
            let why = name.missing();
            let why = why.unwrap_or_else(|| "it is not compiled in".to_owned());
            Err(format!("{}: {why}", name.as_str()).into())
        }
    }
}

fn play<E: Engine<K, V>, K: Bytes, V: Bytes>(args: &Args, role: Role) -> Result<()> {
    let dir = args.dir.as_deref().ok_or("a started process needs --dir")?;
    if role == Role::Pace {
        let workload = args.workloads.first().ok_or("no workload is named")?;
        return print(&paced::measure::<E, K, V>(args, *workload, dir)?);
    }
    let before = machine::memory()?;
    let begin = Instant::now();
    let engine = E::open(&Setup::of(args, dir))?;
    let opened = begin.elapsed().as_secs_f64();
    let scale = Scale { args, dir, before };
    match role {
        Role::Measure => measure(&engine, &scale),
        Role::Fill => {
            fill(&engine, args)?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Err("the parent went away without a kill".into())
        }
        Role::Close => {
            fill(&engine, args)?;
            engine.close()
        }
        Role::Open => reopened(&engine, &scale, begin, opened),
        Role::Pace => Err("a paced workload has stores of its own".into()),
    }
}

fn measure<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, scale: &Scale<'_>) -> Result<()> {
    let args = scale.args;
    let asked = |workload| args.workloads.contains(&workload);
    if asked(Workload::Growth) {
        return grow(engine, scale);
    }
    let filled = workload::new_keys(engine, args)?;
    let present = filled.ranges.clone();
    let held = present.len();
    for workload in [Workload::New, Workload::Synced] {
        if asked(workload) {
            print(&scale.line(workload, &filled, held, engine)?)?;
        }
    }
    if asked(Workload::Dup) {
        let done = workload::duplicates(engine, args, &present)?;
        print(&scale.line(Workload::Dup, &done, held, engine)?)?;
    }
    if asked(Workload::Miss) {
        let done = workload::misses(engine, args, &present)?;
        print(&scale.line(Workload::Miss, &done, held, engine)?)?;
    }
    for workload in [Workload::MixZipf, Workload::MixRecency] {
        if asked(workload) {
            let done = workload::mix(engine, args, workload, &present)?;
            let mut line = scale.line(workload, &done, held, engine)?;
            let (new, reads) = (args.mix_new * 100.0, args.mix_reads * 100.0);
            line.note = match workload {
                Workload::MixZipf => format!("new {new} %; reads {reads} %; zipf {}", args.zipf),
                _ => format!("new {new} %; reads {reads} %; mean age {}", args.recency),
            };
            print(&line)?;
        }
    }
    if asked(Workload::Lease) && args.engines[0].has_leases() {
        let done = workload::leases(engine, args)?;
        let held = held + done.ranges.len();
        print(&scale.line(Workload::Lease, &done, held, engine)?)?;
    }
    for workload in [Workload::Probe, Workload::Contend] {
        if asked(workload) && args.engines[0].has_probes() {
            let probed = workload::probes(engine, args, workload)?;
            let held = held + probed.inserted;
            print(&scale.line(workload, &probed.done, held, engine)?)?;
        }
    }
    if asked(Workload::Hot) {
        let done = workload::hot(engine, args)?;
        print(&scale.line(Workload::Hot, &done, held, engine)?)?;
    }
    Ok(())
}

fn grow<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, scale: &Scale<'_>) -> Result<()> {
    workload::growth(engine, scale.args, |stage| {
        let mut line = scale.line(Workload::Growth, &stage.done, stage.keys, engine)?;
        line.keys = stage.keys;
        print(&line)
    })
}

/// Fills the store and tells the parent what it holds.
fn fill<E: Engine<K, V>, K: Bytes, V: Bytes>(engine: &E, args: &Args) -> Result<()> {
    let filled = workload::new_keys(engine, args)?;
    engine.settle()?;
    let ranges = filled.ranges.0.iter();
    print(&Filled {
        filled: ranges.flat_map(|range| [range.start, range.end]).collect(),
    })
}

/// Asks the store that was just opened for a key, and then for many more.
fn reopened<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    scale: &Scale<'_>,
    begin: Instant,
    opened: f64,
) -> Result<()> {
    let args = scale.args;
    let pairs = args.present.chunks_exact(2);
    let present = Present(pairs.map(|pair| pair[0]..pair[1]).collect());
    workload::first_answer(engine, args, &present)?;
    let first_answer = begin.elapsed().as_secs_f64();
    let held = present.len();
    let done = Done {
        ranges: present.clone(),
        seconds: opened,
        times: None,
    };
    let mut line = scale.line(Workload::Reopen, &done, held, engine)?;
    line.workload = format!("reopen_{}", args.left);
    line.first_answer_s = Some(first_answer);
    let sample = workload::verify(engine, args, &present)?;
    eprintln!("  {sample} keys verified; left {}", args.left);
    print(&line)
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
    fn line<E: Engine<K, V>, K: Bytes, V: Bytes>(
        &self,
        workload: Workload,
        done: &Done,
        held: u64,
        engine: &E,
    ) -> Result<Measured> {
        let args = self.args;
        let name = args.engines[0];
        let each = |bytes: u64| (bytes as f64 / held.max(1) as f64 * 10.0).round() / 10.0;
        let (keys_done, seconds) = (done.ranges.len(), done.seconds);
        let rate = (keys_done as f64 / seconds.max(1e-9)).round();
        let memory = machine::memory()?;
        let (anon, mapped) = match engine.server_memory()? {
            Some(server) => (server.anon, server.file),
            None => (
                memory.anon.saturating_sub(self.before.anon),
                memory.file.saturating_sub(self.before.file),
            ),
        };
        let line = Measured {
            engine: name.as_str().to_owned(),
            version: name.version(),
            workload: workload.as_str().to_owned(),
            keys: args.keys(),
            done: keys_done,
            threads: args.threads(),
            batch: args.batch(),
            durability: name.survives(args.durability).to_owned(),
            key_shape: args.key_shape.to_string(),
            key_bytes: args.key_shape.len(),
            outcome_bytes: args.outcome_bytes,
            seconds,
            runs: 1,
            ops_per_s: rate,
            ops_per_s_min: rate,
            ops_per_s_max: rate,
            anon_bytes_per_key: each(anon),
            mapped_bytes_per_key: each(mapped),
            disk_bytes_per_key: each(machine::disk_usage(self.dir)?),
            ..Measured::default()
        };
        Ok(line.with_times(done.times.as_ref()))
    }
}
