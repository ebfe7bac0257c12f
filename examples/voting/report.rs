//! The results, as text and as JSON.

use std::time::Instant;

use oncelog::recipes::ballot::{Export, Tally};

use crate::options::Options;
use crate::work::{Done, Kind};

/// Names with their values, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    text: Vec<String>,
    json: Vec<String>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let mut report = Self::default();
        let (threads, batch) = (options.threads, options.batch);
        report.text.push(format!("{threads} threads, batches of {batch}"));
        report.json.push(format!("\"threads\":{threads},\"batch\":{batch}"));
        report
    }

    pub(crate) fn add(&mut self, kind: Kind, done: &Done) {
        let (name, seconds) = (kind.name(), done.time.as_secs_f64());
        let lookups = done.found + done.unknown;
        let [ballots_rate, lookups_rate] = [done.counted, lookups].map(|n| n as f64 / seconds);
        let mut parts = Vec::new();
        if kind != Kind::Find {
            let (counted, refused) = (done.counted, done.refused);
            parts.push(format!(
                "{counted} ballots, {:.2} M/s, and {refused} refused",
                ballots_rate / 1e6
            ));
        }
        if lookups > 0 {
            parts.push(format!("{lookups} lookups, {:.2} M/s", lookups_rate / 1e6));
        }
        self.text.push(format!("{name}: {} in {seconds:.3} s", parts.join("; ")));
        self.json.push(format!(
            "\"{name}\":{{\"seconds\":{seconds:.6},\"ballots\":{},\"refused\":{},\
             \"lookups\":{lookups},\"found\":{},\"ballots_per_second\":{ballots_rate:.0},\
             \"lookups_per_second\":{lookups_rate:.0}}}",
            done.counted, done.refused, done.found
        ));
    }

    pub(crate) fn tally(&mut self, tally: &Tally, refused: u64) {
        let counts: Vec<_> =
            tally.iter().map(|(choice, n)| (String::from_utf8_lossy(choice), n)).collect();
        let shown = if counts.len() > 8 { counts.get(..8).unwrap_or_default() } else { &counts };
        let text: Vec<_> = shown.iter().map(|(choice, n)| format!("{choice}: {n}")).collect();
        let total = tally.total();
        self.text.push(format!("tally: {total} ballots, {refused} refused; {}", text.join(", ")));
        let json: Vec<_> = shown.iter().map(|(choice, n)| format!("\"{choice}\":{n}")).collect();
        self.json.push(format!(
            "\"total\":{total},\"refused\":{refused},\"choices\":{},\"tally\":{{{}}}",
            counts.len(),
            json.join(",")
        ));
    }

    pub(crate) fn time(&mut self, what: &str, begun: Instant) {
        let seconds = begun.elapsed().as_secs_f64();
        self.text.push(format!("{what}: {seconds:.3} s"));
        self.json.push(format!("\"{}_seconds\":{seconds:.6}", what.replace(' ', "_")));
    }

    pub(crate) fn root(&mut self, export: &Export) {
        let (segments, root) = (export.links().len(), export.root());
        self.text.push(format!("root over {segments} segments: {root}"));
        self.json.push(format!("\"segments\":{segments},\"root\":\"{root}\""));
    }

    pub(crate) fn text(&self) -> String {
        self.text.join("\n")
    }

    pub(crate) fn json(&self) -> String {
        format!("{{{}}}", self.json.join(","))
    }
}
