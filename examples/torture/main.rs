//! Faults of every class against real stores on real file systems, held against written rules.
//!
//! ```text
//! cargo run --release --example torture -- --seconds 60
//! ```
//!
//! Every class of faults gets a share of the time. In it, rounds follow each other: each makes a
//! store of its own, in a folder of its own below `TMPDIR`, harms it, and asks it everything. A
//! table on standard output tells how many faults were injected and how many answers and states
//! were held against the rules; progress is on standard error. The last line is `violations: 0`.
//! The exit code is 0 then, 1 after a violation, 2 for a wrong command line.
//!
//! | option | what it does |
//! | --- | --- |
//! | `--seconds N` | how long, in all; 15 by default |
//! | `--seed N` | the seed of everything that is drawn; the table names the one that was used |
//! | `--only CLASS` | one class alone, with all of the time |
//! | `--round N` | one round alone, as a violation names it; with `--only` and `--seed` |
//! | `--json` | the table as one JSON object |
//! | `--self-test` | histories with a fault each are fed to the checker, which must see them all |
//! | `--list` | the classes, and what each does |
//!
//! A seed decides what is drawn: calls, faults, moments. What the scheduler and the clock add, it
//! does not repeat, so a violation may take several runs of its round to come again.
//!
//! The checker is `oracle.rs`, which begins with its rules, and `model.rs`, a key as a small state
//! machine. It knows of each key the set of states that it may be in, and every answer has to
//! follow from one of them. `--self-test` shows that it can fail, and is a part of every run.
//!
//! What a machine does not offer is left out and named in the table: without `strace`, the classes
//! that stop or fail single system calls; without the rights of root, those that mount. Mounts are
//! made in mount namespaces of their own, and end with the process that is in them.
#![expect(clippy::print_stdout, reason = "the result goes there")]

mod boundaries;
mod campaign;
mod child;
mod clocks;
mod damage;
mod errors;
mod full;
mod history;
mod kernel;
mod kill;
mod life;
mod model;
mod openers;
mod options;
mod oracle;
mod pace;
mod power;
mod random;
mod readonly;
mod report;
mod selftest;
mod settings;
mod stopped;
mod strays;
mod trace;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use campaign::{Class, Ended, Plan, Room, missing, run_apart, run_rounds};
use options::{Options, Task};

/// Whatever ends a round: a broken rule, or a machine that did not do what was asked of it.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// All classes, with their shares of the time.
const CLASSES: &[Class] = &[
    Class { name: "kill", room: Room::Plain, weight: 8, tools: &[], run: kill::run },
    Class {
        name: "boundaries",
        room: Room::Plain,
        weight: 8,
        tools: &["strace"],
        run: boundaries::run,
    },
    Class { name: "errors", room: Room::Plain, weight: 10, tools: &["strace"], run: errors::run },
    Class {
        name: "power",
        room: Room::Disk,
        weight: 10,
        tools: &["unshare", "mount", "umount", "mkfs.ext4"],
        run: power::run,
    },
    Class {
        name: "full",
        room: Room::Small,
        weight: 4,
        tools: &["unshare", "mount"],
        run: full::run,
    },
    Class {
        name: "unallocated",
        room: Room::Unallocated,
        weight: 3,
        tools: &["unshare", "mount"],
        run: kill::run,
    },
    Class {
        name: "readonly",
        room: Room::Small,
        weight: 1,
        tools: &["unshare", "mount"],
        run: readonly::run,
    },
    Class { name: "damage", room: Room::Plain, weight: 7, tools: &[], run: damage::run },
    Class { name: "strays", room: Room::Plain, weight: 3, tools: &[], run: strays::run },
    Class { name: "openers", room: Room::Plain, weight: 2, tools: &[], run: openers::run },
    Class {
        name: "bound",
        room: Room::Small,
        weight: 1,
        tools: &["unshare", "mount"],
        run: openers::run_bound,
    },
    Class { name: "fork", room: Room::Plain, weight: 2, tools: &[], run: openers::run_forked },
    Class { name: "stopped", room: Room::Plain, weight: 2, tools: &["kill"], run: stopped::run },
    Class { name: "clocks", room: Room::Plain, weight: 3, tools: &[], run: clocks::run },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match Options::parse(&words) {
        Ok(options) => run(&options),
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "torture: {text}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "torture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if no rule was broken.
fn run(options: &Options) -> Result<bool, Failure> {
    match &options.task {
        Task::Child(orders) => child::run(orders).map(|()| true),
        Task::Guest(words) => guest(words).map(|()| true),
        Task::SelfTest => {
            let (flagged, passed) = selftest::run()?;
            println!("self-test: {flagged} faulty histories were flagged, {passed} sound ones not");
            Ok(true)
        }
        Task::List => {
            for class in CLASSES {
                println!("{:<12} {}", class.name, report::what(class.name));
            }
            Ok(true)
        }
        Task::Apart { class, room } => {
            println!("{}", campaign::BEGUN);
            let class = class_of(class)?;
            watch_for_hangs();
            let ended = run_rounds(class, options.plan(1, 1), room);
            println!("{}", ended.line());
            Ok(true)
        }
        Task::Campaign => campaign(options),
    }
}

/// A process that one of the classes has started for a step of its own.
fn guest(words: &[String]) -> Result<(), Failure> {
    match words.split_first() {
        Some((name, rest)) if name == "open" => openers::guest(rest),
        Some((name, rest)) if name == "fork" => openers::forking_guest(rest),
        Some((name, rest)) if name == "hold" => stopped::guest(rest),
        _ => Err("no such guest".into()),
    }
}

fn class_of(name: &str) -> Result<&'static Class, Failure> {
    let found = CLASSES.iter().find(|class| class.name == name);
    found.ok_or_else(|| format!("there is no class {name}; --list names them").into())
}

fn watch_for_hangs() {
    pace::begin_watch(|what| {
        let _ = writeln!(std::io::stderr(), "torture: {what} hangs\nviolations: 1");
        std::process::exit(1);
    });
}

fn campaign(options: &Options) -> Result<bool, Failure> {
    let (flagged, _) = selftest::run()?;
    let chosen: Vec<&Class> = match &options.only {
        Some(name) => vec![class_of(name)?],
        None => CLASSES.iter().collect(),
    };
    let room = tempfile::Builder::new().prefix("oncelog-torture-").tempdir()?;
    watch_for_hangs();
    let said = format!("seed {}, {} s", options.seed, options.seconds);
    report::say(&format!("{said}; the checker flags {flagged} of {flagged} faulty histories"));
    let mut results = Vec::new();
    let mut weight = chosen.iter().map(|class| class.weight).sum();
    let until = pace::Until::after(Duration::from_secs(options.seconds));
    for class in chosen {
        let mut plan = options.plan(class.weight, weight);
        plan.time = until.left() * class.weight / weight;
        weight -= class.weight;
        let ended = run_class(class, plan, room.path());
        report::say(&report::progress(class.name, &ended));
        results.push((class.name, ended));
    }
    if options.json {
        println!("{}", report::json(options, &results));
    } else {
        print!("{}", report::table(options, &results));
    }
    Ok(results.iter().all(|(_, ended)| ended.violation.is_none()))
}

fn run_class(class: &Class, plan: Plan, room: &Path) -> Ended {
    if let Some(tool) = missing(class.tools) {
        let skipped = Some(format!("{tool} is missing"));
        return Ended { skipped, ..Ended::default() };
    }
    if class.room == Room::Plain {
        return run_rounds(class, plan, room);
    }
    let own = room.join(format!("{}-apart", class.name));
    pace::watch(format!("{} for {} s", class.name, plan.time.as_secs()));
    let ended = std::fs::create_dir_all(&own)
        .map_err(Failure::from)
        .and_then(|()| run_apart(class, plan, &own));
    ended.unwrap_or_else(|error| {
        let violation = Some(error.to_string());
        Ended { violation, ..Ended::default() }
    })
}
