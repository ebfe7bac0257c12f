//! The threads of a paced workload: as fast as they can, or at a given rate.
//!
//! At a given rate the loop is open: calls have times at which they are meant to be sent, whether
//! or not the ones before have returned. Latency counts from that time, so that one slow call also
//! counts for all that had to wait for it. How long the call itself took is kept apart: that is
//! what the engine did to its caller.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::curve::{self, Count, Sample};
use super::traffic::Traffic;
use crate::Result;
use crate::bytes::Bytes;
use crate::engine::Engine;
use crate::machine;

/// Calls between two looks at the time where no rate is given, and between two counts.
const CALLS_PER_LOOK: u64 = 64;
/// Calls between two looks at how long the thread was without a processor.
const CALLS_PER_WAIT_LOOK: u64 = 4096;
/// The longest latency that is told apart, in nanoseconds: 100 s.
const LATENCY_MAX: u64 = 100_000_000_000;
/// Calls from this long on are looked at one by one, in nanoseconds.
const SLOW: u64 = 1_000_000;
/// As many are kept.
const SLOW_KEPT: usize = 20;

/// How the threads call.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Calls per second of all threads; `None` for as many as they can.
    pub rate: Option<f64>,
    /// When they end.
    pub seconds: f64,
    /// As many calls are enough, once a second has passed.
    pub calls_max: u64,
    /// From when on latencies count.
    pub warm: f64,
}

/// A call that took at least a millisecond.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slow {
    /// When it was sent, in seconds since the threads began.
    pub at_seconds: f64,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// How much of that the thread was ready to run but had no processor, in milliseconds.
    pub waited_ms: f64,
}

/// Latencies of many calls, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From when a call was to be sent until it returned.
    pub response: Histogram<u64>,
    /// From when it was sent until it returned.
    pub service: Histogram<u64>,
    /// The slowest calls, the worst first.
    pub slow: Vec<Slow>,
    /// Calls that took over five milliseconds for other reasons than the want of a processor.
    pub over_5ms_running: u64,
    /// Likewise over one millisecond.
    pub over_1ms_running: u64,
}

/// What the threads did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// At a rate only: without one there is no time at which a call is meant to be sent.
    pub latencies: Latencies,
    /// What was seen meanwhile.
    pub samples: Vec<Sample>,
}

impl Latencies {
    fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX, 3)?;
        Ok(Latencies {
            response: histogram.clone(),
            service: histogram,
            slow: Vec::with_capacity(2 * SLOW_KEPT),
            over_5ms_running: 0,
            over_1ms_running: 0,
        })
    }

    fn add(&mut self, other: &Latencies) -> Result<()> {
        self.response.add(&other.response)?;
        self.service.add(&other.service)?;
        self.slow.extend(&other.slow);
        self.keep_slowest();
        self.over_5ms_running += other.over_5ms_running;
        self.over_1ms_running += other.over_1ms_running;
        Ok(())
    }

    #[cold]
    fn add_slow(&mut self, sent: u64, took: u64, waited: u64) {
        let waited = waited.min(took);
        let running = took - waited;
        self.over_1ms_running += u64::from(running > SLOW);
        self.over_5ms_running += u64::from(running > 5 * SLOW);
        self.slow.push(Slow {
            at_seconds: sent as f64 / 1e9,
            took_ms: took as f64 / 1e6,
            waited_ms: waited as f64 / 1e6,
        });
        if self.slow.len() == 2 * SLOW_KEPT {
            self.keep_slowest();
        }
    }

    fn keep_slowest(&mut self) {
        self.slow.sort_by(|a, b| b.took_ms.total_cmp(&a.took_ms));
        self.slow.truncate(SLOW_KEPT);
    }
}

/// Lets every thread call on its own traffic at once, until all have ended.
pub fn run<E: Engine<K, V>, K: Bytes, V: Bytes>(
    engine: &E,
    dir: &Path,
    pace: Pace,
    traffic: Vec<Traffic<K, V>>,
) -> Result<Ran> {
    let counts: Vec<Count> = traffic.iter().map(|_| Count::default()).collect();
    let (start, done) = (Barrier::new(traffic.len() + 1), AtomicBool::new(false));
    let threads = traffic.len();
    let one = |number: usize, mut traffic: Traffic<K, V>| -> Result<(Latencies, u64)> {
        let (session, latencies) = (engine.session(), Latencies::new());
        start.wait();
        let mut caller = Caller {
            pace,
            number,
            threads,
            begin: Instant::now(),
            count: &counts[number],
            latencies: latencies?,
        };
        match pace.rate {
            Some(rate) => caller.at_rate::<E, K, V>(rate, &mut session?, &mut traffic)?,
            None => caller.flat_out::<E, K, V>(&mut session?, &mut traffic)?,
        }
        Ok((caller.latencies, traffic.wrong()))
    };
    thread::scope(|scope| {
        let one = &one;
        let spawn = |(number, traffic)| scope.spawn(move || one(number, traffic));
        let handles: Vec<_> = traffic.into_iter().enumerate().map(spawn).collect();
        let watcher = scope.spawn(|| {
            start.wait();
            curve::watch(&counts, dir, Instant::now(), pace.seconds, &done)
        });
        let parts: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        done.store(true, Ordering::Release);
        let samples = watcher.join();
        let samples = samples.unwrap_or_else(|_| Err("the watching thread panicked".into()))?;
        let mut latencies = Latencies::new()?;
        let mut wrong = 0;
        for part in parts {
            let lost = |_| Err("a calling thread panicked".into());
            let (part, wrongs) = part.unwrap_or_else(lost)?;
            latencies.add(&part)?;
            wrong += wrongs;
        }
        if wrong > 0 {
            return Err(format!("{wrong} answers are wrong").into());
        }
        Ok(Ran { latencies, samples })
    })
}

/// One thread at work.
struct Caller<'a> {
    pace: Pace,
    number: usize,
    threads: usize,
    begin: Instant,
    count: &'a Count,
    latencies: Latencies,
}

impl Caller<'_> {
    fn flat_out<E: Engine<K, V>, K: Bytes, V: Bytes>(
        &mut self,
        session: &mut E::Session<'_>,
        traffic: &mut Traffic<K, V>,
    ) -> Result<()> {
        let end = Duration::try_from_secs_f64(self.pace.seconds)?;
        let enough = self.pace.calls_max / self.threads as u64;
        let mut calls = 0;
        loop {
            for _ in 0..CALLS_PER_LOOK {
                traffic.prepare();
                traffic.call(session)?;
                traffic.check();
            }
            calls += CALLS_PER_LOOK;
            self.count.0.store(calls, Ordering::Relaxed);
            let elapsed = self.begin.elapsed();
            if elapsed >= end || (calls >= enough && elapsed >= Duration::from_secs(1)) {
                return Ok(());
            }
        }
    }

    fn at_rate<E: Engine<K, V>, K: Bytes, V: Bytes>(
        &mut self,
        rate: f64,
        session: &mut E::Session<'_>,
        traffic: &mut Traffic<K, V>,
    ) -> Result<()> {
        let gap = 1e9 * self.threads as f64 / rate;
        let first = gap * self.number as f64 / self.threads as f64;
        let (end, warm) = (nanos(self.pace.seconds), nanos(self.pace.warm));
        let mut waited = machine::waited_for_processor();
        for calls in 0_u64.. {
            let due = (first + gap * calls as f64) as u64;
            traffic.prepare();
            let mut sent = self.now();
            while sent < due {
                std::hint::spin_loop();
                sent = self.now();
            }
            if due >= end || sent >= end {
                return Ok(());
            }
            traffic.call(session)?;
            let returned = self.now();
            traffic.check();
            let took = returned - sent;
            if sent >= warm {
                self.latencies
                    .response
                    .saturating_record((returned - due).max(1));
                self.latencies.service.saturating_record(took.max(1));
                if took >= SLOW {
                    let before = waited;
                    waited = machine::waited_for_processor();
                    self.latencies.add_slow(sent, took, waited - before);
                }
            }
            if calls.is_multiple_of(CALLS_PER_LOOK) {
                self.count.0.store(calls, Ordering::Relaxed);
            }
            if calls.is_multiple_of(CALLS_PER_WAIT_LOOK) {
                waited = machine::waited_for_processor();
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
