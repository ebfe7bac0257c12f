//! The result of a paced workload, as a line of JSON and as text.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::curve::Sample;
use super::drive::Slow;

/// What one engine did in a paced workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paced {
    /// The workload's name.
    pub paced: String,
    /// The engine's name.
    pub engine: String,
    /// Its version in the lock file.
    pub version: String,
    /// Keys that are to be alive at a time.
    pub keys: u64,
    /// Threads calling.
    pub threads: usize,
    /// What an answered call survives.
    pub durability: String,
    /// Length of a key.
    pub key_bytes: usize,
    /// Length of an outcome.
    pub outcome_bytes: usize,
    /// Time at the rate.
    pub seconds: f64,
    /// The part of it before latencies counted and spreads were taken.
    pub warm_seconds: f64,
    /// Lifetime of every key, where there is one.
    pub lifetime_seconds: Option<f64>,
    /// Calls per second as fast as the threads can; in a steady state, without expiry.
    pub peak_per_s: f64,
    /// The same with expiry on, once as much expires as arrives.
    pub expiring_peak_per_s: Option<f64>,
    /// The second by the first.
    pub expiring_peak_ratio: Option<f64>,
    /// Calls per second that were to be sent in the open loop.
    pub rate_per_s: f64,
    /// Calls per second that were.
    pub reached_per_s: f64,
    /// Latency from when a call was to be sent.
    pub response: Latency,
    /// Latency from when it was sent.
    pub service: Latency,
    /// Calls over 1 ms, time without a processor not counted.
    pub over_1ms_running: u64,
    /// Calls over 5 ms, likewise.
    pub over_5ms_running: u64,
    /// The slowest calls.
    pub slowest: Vec<Slow>,
    /// How far apart the extremes of anonymous memory were, in percent of its mean.
    pub anon_spread_percent: f64,
    /// Likewise of disk use.
    pub disk_spread_percent: f64,
    /// Bytes of the live records, where their number is constant and the engine keeps a log.
    pub live_disk_bytes: Option<u64>,
    /// The most that was on disk.
    pub disk_bytes_max: Option<u64>,
    /// Anonymous memory at the end.
    pub anon_bytes_end: u64,
    /// The curve.
    pub samples: Vec<Sample>,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Calls measured.
    pub calls: u64,
    /// Calls that took more than a millisecond.
    pub over_1ms: u64,
    /// Calls that took more than five milliseconds.
    pub over_5ms: u64,
    /// The slowest call.
    pub max_us: f64,
    /// Shares of all calls in percent, and the latency that they did not exceed.
    pub percentiles: Vec<(f64, f64)>,
}

/// The percentiles kept: some for the table, all for the plot.
const PERCENTILES: [f64; 13] = [
    0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 99.9999,
];

impl Latency {
    /// The summary of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let over = |nanos| histogram.len() - histogram.count_between(0, nanos);
        let percentile = |at| (at, micros(histogram.value_at_percentile(at)));
        Latency {
            calls: histogram.len(),
            over_1ms: over(1_000_000),
            over_5ms: over(5_000_000),
            max_us: micros(histogram.max()),
            percentiles: PERCENTILES.map(percentile).to_vec(),
        }
    }

    /// The latency in microseconds that so many percent of the calls did not exceed.
    pub fn at(&self, percent: f64) -> f64 {
        let found = self.percentiles.iter().find(|(at, _)| *at == percent);
        found.map_or(f64::NAN, |(_, micros)| *micros)
    }

    fn line(&self, name: &str) -> String {
        let at = |percent| self.at(percent);
        format!(
            "  {name}  p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.1}  p99.99 {:.1}  \
             p99.999 {:.0}  max {:.0} us; over 1 ms {}, over 5 ms {}, of {}",
            at(50.0),
            at(90.0),
            at(99.0),
            at(99.9),
            at(99.99),
            at(99.999),
            self.max_us,
            self.over_1ms,
            self.over_5ms,
            self.calls,
        )
    }
}

/// All results for people, grouped by workload.
pub fn text(results: &[Paced]) -> String {
    let mut sorted: Vec<&Paced> = results.iter().collect();
    sorted.sort_by(|a, b| a.paced.cmp(&b.paced));
    sorted.into_iter().map(one).collect()
}

fn one(paced: &Paced) -> String {
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{}, {} ({}), {} live keys, {} threads",
        paced.paced, paced.engine, paced.durability, paced.keys, paced.threads
    );
    if let Some(lifetime) = paced.lifetime_seconds {
        let _ = write!(text, ", lifetime {lifetime:.1} s");
    }
    let _ = write!(text, "\n  peak {:.0} calls/s", paced.peak_per_s);
    if let (Some(rate), Some(ratio)) = (paced.expiring_peak_per_s, paced.expiring_peak_ratio) {
        let _ = write!(
            text,
            " without expiry, {rate:.0} with it: {:.1} %",
            ratio * 100.0
        );
    }
    let _ = writeln!(
        text,
        "\n  open loop: {:.0} calls/s meant, {:.0} done, {:.0} s of which {:.0} s to fill",
        paced.rate_per_s, paced.reached_per_s, paced.seconds, paced.warm_seconds
    );
    let _ = writeln!(text, "{}", paced.response.line("response"));
    let _ = writeln!(text, "{}", paced.service.line("the call"));
    let _ = writeln!(
        text,
        "  without time lacking a processor: over 1 ms {}, over 5 ms {}",
        paced.over_1ms_running, paced.over_5ms_running
    );
    for slow in paced.slowest.iter().take(5) {
        let _ = writeln!(
            text,
            "    at {:.3} s: {:.2} ms, of which {:.2} ms without a processor",
            slow.at_seconds, slow.took_ms, slow.waited_ms
        );
    }
    let _ = write!(
        text,
        "  anonymous memory {:.1} MB at the end, {:.1} % between extremes; disk at most {:.1} MB, \
         {:.1} % between extremes",
        mega(paced.anon_bytes_end),
        paced.anon_spread_percent,
        mega(paced.disk_bytes_max.unwrap_or(0)),
        paced.disk_spread_percent
    );
    if let (Some(live), Some(disk @ 1..)) = (paced.live_disk_bytes, paced.disk_bytes_max) {
        let times = disk as f64 / live.max(1) as f64;
        let _ = write!(text, ", {times:.2} times the live records");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_says_what_share_was_slower_than_a_millisecond() {
        let mut histogram = Histogram::new_with_bounds(1, 100_000_000_000, 3).unwrap();
        histogram.record_n(500, 9_990).unwrap();
        histogram.record_n(2_000_000, 8).unwrap();
        histogram.record_n(7_000_000, 2).unwrap();
        let latency = Latency::of(&histogram);
        let counts = (latency.calls, latency.over_1ms, latency.over_5ms);
        assert_eq!(counts, (10_000, 10, 2));
        assert_eq!(latency.at(50.0), 0.5);
        assert!((1_990.0..2_010.0).contains(&latency.at(99.95)));
        assert!((6_990.0..7_010.0).contains(&latency.max_us));
    }
}
