//! Measures oncelog beside other maps, caches and stores on one workload.

mod args;
mod bytes;
mod chart;
mod child;
mod engine;
mod keys;
mod kinds;
mod machine;
mod paced;
mod popular;
mod report;
mod rows;
mod runner;
mod slots;
mod tally;
mod timed;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

/// What every fallible step of the program returns.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = Args::parse().expand();
    let done = args.check().and_then(|()| match args.role {
        Some(role) => child::run(&args, role),
        None => match (&args.redraw, &args.plots) {
            (Some(results), Some(dir)) => runner::redraw(results, dir),
            _ => runner::run(&args),
        },
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
