//! The workloads that go on for a while: steady state, mixed lifetimes, removal.
//!
//! Each is measured twice in one process: as fast as the threads can, which is the peak, and at a
//! given rate in an open loop, half of the peak unless asked otherwise. Every phase has a store of
//! its own. Where keys expire, the peak is taken without expiry and with it, for the ratio.

pub mod curve;
pub mod drive;
pub mod plot;
pub mod result;
pub mod traffic;

use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::bytes::Bytes;
use crate::engine::lifetime::{Lifetime, MIXED_ALIVE_SECONDS};
use crate::engine::{Engine, Setup};
use crate::kinds::Workload;
use crate::machine;
use crate::workload;

use curve::{rate_since, spread_since};
use drive::{Pace, Ran};
use result::{Latency, Paced};
use traffic::{Traffic, Work};

/// Key indexes of different threads are this far apart.
const INDEXES_PER_THREAD: u64 = 1 << 48;
/// The shortest lifetime of a steady state: buckets are not narrower than a second.
const LIFETIME_MIN: f64 = 1.5;
/// Expired records may be held for a sixteenth of their lifetime or a second, and a bit.
const RECLAIMED_WITHIN: f64 = 1.5;
/// Shares of the whole time: finding the peak, and the peak with expiry on.
const PEAK_SHARE: f64 = 0.15;
const EXPIRING_SHARE: f64 = 0.35;

/// Measures one of the paced workloads; prints what it does to the standard error output.
pub fn measure<E: Engine<K, V>, K: Bytes, V: Bytes>(
    args: &Args,
    workload: Workload,
    base: &Path,
) -> Result<Paced> {
    let run = Run { args, base };
    match workload {
        Workload::Steady => run.steady::<E, K, V>(),
        Workload::MixedTtl => run.mixed::<E, K, V>(),
        Workload::RemoveHeavy => run.remove_heavy::<E, K, V>(),
        _ => Err("not a paced workload".into()),
    }
}

struct Run<'a> {
    args: &'a Args,
    base: &'a Path,
}

/// One phase in a store of its own.
struct Phase {
    name: &'static str,
    lifetime: Lifetime,
    pace: Pace,
}

impl Run<'_> {
    fn steady<E: Engine<K, V>, K: Bytes, V: Bytes>(&self) -> Result<Paced> {
        let (total, keys) = (self.args.seconds_max, self.args.keys() as f64);
        let pace = self.flat_out(total * PEAK_SHARE);
        let phase = Phase {
            name: "peak without expiry",
            lifetime: Lifetime::Never,
            pace,
        };
        let peak = self.insert::<E, K, V>(phase)?;
        let peak_rate = rate_since(&peak.samples, end_of(&peak) / 2.0);

        let lifetime = (keys / peak_rate).max(1.0);
        let seconds = (total * EXPIRING_SHARE).min(lifetime * 5.0 + 3.0);
        let pace = Pace {
            calls_max: u64::MAX,
            ..self.flat_out(seconds)
        };
        let name = "peak with expiry";
        let expiring = self.insert::<E, K, V>(Phase {
            name,
            lifetime: after(lifetime)?,
            pace,
        })?;
        let filled = filled_by(lifetime, seconds);
        let expiring_rate = rate_since(&expiring.samples, filled);

        let rate = self.rate(peak_rate, keys / LIFETIME_MIN);
        let lifetime = (keys / rate).max(1.0);
        let seconds = total * (1.0 - PEAK_SHARE - EXPIRING_SHARE);
        let pace = Pace {
            rate: Some(rate),
            seconds,
            calls_max: u64::MAX,
            warm: filled_by(lifetime, seconds),
        };
        let name = "at a rate";
        let ran = self.insert::<E, K, V>(Phase {
            name,
            lifetime: after(lifetime)?,
            pace,
        })?;
        let mut paced = self.result(Workload::Steady, pace, ran);
        paced.lifetime_seconds = Some(lifetime);
        paced.peak_per_s = peak_rate.round();
        paced.expiring_peak_per_s = Some(expiring_rate.round());
        paced.expiring_peak_ratio = Some(expiring_rate / peak_rate.max(1.0));
        Ok(paced)
    }

    fn mixed<E: Engine<K, V>, K: Bytes, V: Bytes>(&self) -> Result<Paced> {
        let total = self.args.seconds_max;
        let pace = self.flat_out((total * PEAK_SHARE).max(1.0));
        let name = "peak";
        let peak = self.insert::<E, K, V>(Phase {
            name,
            lifetime: Lifetime::Mixed,
            pace,
        })?;
        let peak_rate = rate_since(&peak.samples, end_of(&peak) / 2.0);

        let rate = self.rate(peak_rate, self.args.keys() as f64 / MIXED_ALIVE_SECONDS);
        let seconds = total * (1.0 - PEAK_SHARE);
        let warm = filled_by(2.0 * MIXED_ALIVE_SECONDS, seconds);
        let pace = Pace {
            rate: Some(rate),
            seconds,
            calls_max: u64::MAX,
            warm,
        };
        let name = "at a rate";
        let ran = self.insert::<E, K, V>(Phase {
            name,
            lifetime: Lifetime::Mixed,
            pace,
        })?;
        let mut paced = self.result(Workload::MixedTtl, pace, ran);
        paced.peak_per_s = peak_rate.round();
        Ok(paced)
    }

    /// Both parts in one store: filling takes long, and rewriting leaves it as it was.
    fn remove_heavy<E: Engine<K, V>, K: Bytes, V: Bytes>(&self) -> Result<Paced> {
        let (args, total) = (self.args, self.args.seconds_max);
        let dir = tempfile::tempdir_in(self.base)?;
        let engine = E::open_for(&self.setup(dir.path()), Lifetime::Never)?;
        eprintln!("  filling");
        let filled = Args {
            seconds_max: total * 0.3,
            batch: vec![1],
            ..args.clone()
        };
        let present = workload::new_keys(&engine, &filled)?.ranges;
        let traffic = || -> Vec<Traffic<K, V>> {
            let work = |range: &std::ops::Range<u64>| Work::Rewrite(range.clone());
            let traffic = |range| Traffic::new(args, work(range), Lifetime::Never);
            present.0.iter().map(traffic).collect()
        };
        eprintln!("  peak");
        let pace = Pace {
            calls_max: u64::MAX,
            ..self.flat_out((total * PEAK_SHARE).max(1.0))
        };
        let peak = drive::run(&engine, dir.path(), pace, traffic())?;
        let peak_rate = rate_since(&peak.samples, end_of(&peak) / 2.0);

        let seconds = total * (0.7 - PEAK_SHARE);
        let rate = self.rate(peak_rate, f64::INFINITY);
        let pace = Pace {
            rate: Some(rate),
            seconds,
            calls_max: u64::MAX,
            warm: seconds * 0.2,
        };
        eprintln!("  at a rate: {rate:.0} a second for {seconds:.0} s");
        // A cycle cut off has left a key without its record.
        let ran = drive::run(&engine, dir.path(), pace, self.mended(&engine, traffic())?)?;
        let mut paced = self.result(Workload::RemoveHeavy, pace, ran);
        paced.peak_per_s = peak_rate.round();
        paced.live_disk_bytes = Some(present.len() * self.record_bytes());
        Ok(paced)
    }

    /// Records once more what a thread may have removed last.
    fn mended<E: Engine<K, V>, K: Bytes, V: Bytes>(
        &self,
        engine: &E,
        traffic: Vec<Traffic<K, V>>,
    ) -> Result<Vec<Traffic<K, V>>> {
        let mut session = engine.session()?;
        for traffic in &traffic {
            traffic.record_all(&mut session)?;
        }
        Ok(traffic)
    }

    fn insert<E: Engine<K, V>, K: Bytes, V: Bytes>(&self, phase: Phase) -> Result<Ran> {
        let Phase {
            name,
            lifetime,
            pace,
        } = phase;
        let seconds = pace.seconds;
        match pace.rate {
            Some(rate) => eprintln!("  {name}: {rate:.0} a second for {seconds:.0} s"),
            None => eprintln!("  {name}, {seconds:.0} s at most"),
        }
        let dir = tempfile::tempdir_in(self.base)?;
        let engine = E::open_for(&self.setup(dir.path()), lifetime)?;
        let work = |thread| match lifetime {
            Lifetime::Mixed => Work::Mixed(thread * INDEXES_PER_THREAD),
            _ => Work::Insert(thread * INDEXES_PER_THREAD),
        };
        let traffic = |thread| Traffic::new(self.args, work(thread), lifetime);
        let traffic = (0..self.args.threads() as u64).map(traffic).collect();
        let ran = drive::run(&engine, dir.path(), pace, traffic)?;
        drop(engine);
        drop(dir);
        machine::wait_for_writeback(self.base);
        Ok(ran)
    }

    fn setup<'a>(&self, dir: &'a Path) -> Setup<'a> {
        Setup::of(self.args, dir)
    }

    /// As fast as the threads can, until there are three times the keys.
    fn flat_out(&self, seconds: f64) -> Pace {
        let calls_max = self.args.keys().saturating_mul(3);
        Pace {
            rate: None,
            seconds,
            calls_max,
            warm: 0.0,
        }
    }

    /// The rate asked for, or half of the peak if so many keys can be held.
    fn rate(&self, peak: f64, most: f64) -> f64 {
        self.args.rate.unwrap_or((peak / 2.0).min(most)).max(1.0)
    }

    /// A record's bytes in oncelog's log: the header, key and outcome, in units of 16.
    fn record_bytes(&self) -> u64 {
        (16 + self.args.key_shape.len() + self.args.outcome_bytes).next_multiple_of(16) as u64
    }

    fn result(&self, workload: Workload, pace: Pace, ran: Ran) -> Paced {
        let (args, name) = (self.args, self.args.engines[0]);
        let Ran { latencies, samples } = ran;
        let last = samples.last().copied();
        Paced {
            paced: workload.as_str().to_owned(),
            engine: name.as_str().to_owned(),
            version: name.version(),
            keys: args.keys(),
            threads: args.threads(),
            durability: name.survives(args.durability).to_owned(),
            key_bytes: args.key_shape.len(),
            outcome_bytes: args.outcome_bytes,
            seconds: pace.seconds,
            warm_seconds: pace.warm,
            lifetime_seconds: None,
            peak_per_s: 0.0,
            expiring_peak_per_s: None,
            expiring_peak_ratio: None,
            rate_per_s: pace.rate.unwrap_or(0.0).round(),
            reached_per_s: rate_since(&samples, pace.warm).round(),
            response: Latency::of(&latencies.response),
            service: Latency::of(&latencies.service),
            over_1ms_running: latencies.over_1ms_running,
            over_5ms_running: latencies.over_5ms_running,
            slowest: latencies.slow,
            anon_spread_percent: spread_since(&samples, pace.warm, |s| s.anon_bytes),
            disk_spread_percent: spread_since(&samples, pace.warm, |s| s.disk_bytes),
            live_disk_bytes: None,
            disk_bytes_max: samples.iter().map(|sample| sample.disk_bytes).max(),
            anon_bytes_end: last.map_or(0, |sample| sample.anon_bytes),
            samples,
        }
    }
}

fn after(seconds: f64) -> Result<Lifetime> {
    Ok(Lifetime::After(Duration::try_from_secs_f64(seconds)?))
}

fn end_of(ran: &Ran) -> f64 {
    ran.samples.last().map_or(0.0, |sample| sample.seconds)
}

/// When as much expires as arrives, or half of the time where that is too short.
fn filled_by(lifetime: f64, seconds: f64) -> f64 {
    (lifetime * 17.0 / 16.0 + RECLAIMED_WITHIN).min(seconds / 2.0)
}
