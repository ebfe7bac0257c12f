//! Progress on standard error: a bar at a terminal, a plain line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{DedupArgs, When};
use crate::exit::say;
use crate::report::{Counts, counted, grouped, now};

/// Time between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);
const KNOWN: &str = "{wide_bar} {percent}% {bytes_per_sec}, {eta} left {msg}";
const UNKNOWN: &str = "{spinner} {bytes} {bytes_per_sec} {msg}";

/// Shows how far a run is.
#[derive(Debug)]
pub(crate) enum Progress {
    Off,
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// `total` is the number of bytes to come, if that is known.
    pub(crate) fn new(arguments: &DedupArgs, total: Option<u64>) -> Self {
        let terminal = io::stderr().is_terminal();
        let lines_show = !arguments.no_output && io::stdout().is_terminal();
        let wanted = match arguments.progress {
            When::Auto => terminal && !lines_show && !arguments.quiet,
            When::Always => true,
            When::Never => false,
        };
        if !wanted {
            return Self::Off;
        }
        if !terminal {
            return Self::Lines { last: now() };
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar(bar)
    }

    pub(crate) fn update(&mut self, counts: &Counts) {
        match self {
            Self::Off => {}
            Self::Bar(bar) => {
                bar.set_position(counts.bytes);
                bar.set_message(message(counts));
            }
            Self::Lines { last } => {
                if last.elapsed() >= LINE_EVERY {
                    *last = now();
                    say(message(counts));
                }
            }
        }
    }

    /// Clears the bar; the last plain line tells the result.
    pub(crate) fn finish(&self, counts: &Counts) {
        match self {
            Self::Off => {}
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => say(message(counts)),
        }
    }
}

fn message(counts: &Counts) -> String {
    format!("{}, {} new", counted(counts.items, "line"), grouped(counts.new))
}
