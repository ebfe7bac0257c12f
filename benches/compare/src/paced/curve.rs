//! What changes over time: calls done, memory and disk, looked at at regular times.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::machine;

/// One look.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the threads began.
    pub seconds: f64,
    /// Calls done by then.
    pub calls: u64,
    /// Anonymous memory of the process in bytes.
    pub anon_bytes: u64,
    /// Mapped pages of files in memory, in bytes.
    pub mapped_bytes: u64,
    /// Blocks allocated to the store's files, in bytes.
    pub disk_bytes: u64,
}

/// A count of one thread, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Count(pub AtomicU64);

/// Looks until `done`, some 250 times in `seconds` but at least every five seconds.
pub fn watch(
    counts: &[Count],
    dir: &Path,
    begin: Instant,
    seconds: f64,
    done: &AtomicBool,
) -> Result<Vec<Sample>> {
    let every = Duration::try_from_secs_f64((seconds / 250.0).clamp(0.05, 5.0))?;
    let mut samples = Vec::with_capacity(1_024);
    let mut next = begin;
    loop {
        let over = done.load(Ordering::Acquire);
        let memory = machine::memory()?;
        samples.push(Sample {
            seconds: begin.elapsed().as_secs_f64(),
            calls: counts
                .iter()
                .map(|count| count.0.load(Ordering::Relaxed))
                .sum(),
            anon_bytes: memory.anon,
            mapped_bytes: memory.file,
            disk_bytes: machine::disk_usage(dir)?,
        });
        if over {
            return Ok(samples);
        }
        next += every;
        while !done.load(Ordering::Acquire) && Instant::now() < next {
            let left = next.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// Calls per second from a moment on.
pub fn rate_since(samples: &[Sample], seconds: f64) -> f64 {
    let mut of_interest = samples.iter().filter(|sample| sample.seconds >= seconds);
    let (first, last) = (of_interest.next(), of_interest.next_back());
    first.zip(last).map_or(0.0, |(first, last)| {
        (last.calls - first.calls) as f64 / (last.seconds - first.seconds).max(1e-9)
    })
}

/// How far the extremes of a figure are apart from a moment on, in percent of its mean.
pub fn spread_since(samples: &[Sample], seconds: f64, figure: fn(&Sample) -> u64) -> f64 {
    let figures: Vec<f64> = samples
        .iter()
        .filter(|sample| sample.seconds >= seconds)
        .map(|sample| figure(sample) as f64)
        .collect();
    let most = figures.iter().copied().fold(0.0, f64::max);
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = figures.iter().sum::<f64>() / figures.len().max(1) as f64;
    if mean > 0.0 {
        (most - least) / mean * 100.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_spreads_are_of_the_time_asked_for() {
        let sample = |seconds: f64, calls, anon_bytes| Sample {
            seconds,
            calls,
            anon_bytes,
            mapped_bytes: 0,
            disk_bytes: 0,
        };
        let samples = [
            sample(0.0, 0, 1),
            sample(1.0, 100, 95),
            sample(2.0, 200, 100),
            sample(3.0, 300, 105),
        ];
        assert_eq!(rate_since(&samples, 1.0), 100.0);
        assert_eq!(spread_since(&samples, 1.0, |s| s.anon_bytes), 10.0);
        assert_eq!(rate_since(&samples, 9.0), 0.0);
    }
}
