//! The command `oncelog`: hands each subcommand its arguments and turns its result into an exit
//! code.

#![forbid(unsafe_code)]

mod args;
mod batch;
mod dedup;
mod exec;
mod exit;
mod input;
mod key;
mod memory;
mod outcome;
mod output;
mod progress;
mod report;
mod salvage;
mod signals;
mod split;
mod stat;
mod target;
mod two_phase;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dedup(arguments) => dedup::run(&arguments),
        Command::Exec(arguments) => exec::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Salvage(arguments) => salvage::run(&arguments),
    };
    exit::code(result)
}
