//! Starts one process per engine and batch size, collects what they print and sums it up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use tempfile::TempDir;

use crate::Result;
use crate::args::{Args, Role, Workload};
use crate::engine::Name;
use crate::machine;
use crate::paced::{self, result::Paced};
use crate::report::{self, Filled, Measured};

const WARM_UP_SECONDS_MAX: f64 = 8.0;

/// One process, or the two of a reopening.
#[derive(Clone, Copy, Debug)]
struct Slot {
    engine: Name,
    batch: usize,
    part: Part,
}

/// What of the run a process does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Measure,
    Reopen,
    Pace(Workload),
}

/// Runs everything the command line asks for.
///
/// An engine that fails does not end the run, but the program fails when all is done.
pub fn run(args: &Args) -> Result<()> {
    let base = base_dir(args)?;
    let mut report = Report::create(args)?;
    report.write(&machine::header(args, &base))?;
    let slots = slots(args);
    for round in 0..args.runs {
        let mut order = slots.clone();
        order.rotate_left(round % slots.len().max(1));
        for slot in order {
            let (name, batch) = (slot.engine.as_str(), slot.batch);
            eprintln!("run {}/{}: {name}, batch {batch}", round + 1, args.runs);
            if let Err(error) = run_slot(args, slot, &base, &mut report) {
                eprintln!("FAILED: {name}, batch {batch}: {error}");
                report
                    .failures
                    .push(format!("{name}, batch {batch}: {error}"));
            }
            machine::wait_for_writeback(&base);
        }
    }
    print!("\n{}", report::table(&report.results));
    print!("\n{}", paced::result::text(&report.paced));
    if let Some(dir) = args.plots.as_ref().filter(|_| !report.paced.is_empty()) {
        let names = paced::plot::draw(&report.paced, dir)?;
        eprintln!("plots in {}: {}", dir.display(), names.join(", "));
    }
    if report.failures.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} failed:\n  {}",
        report.failures.len(),
        report.failures.join("\n  ")
    )
    .into())
}

/// Draws the plots of the paced results in a file that an earlier run wrote.
pub fn redraw(results: &Path, dir: &Path) -> Result<()> {
    let text = std::fs::read_to_string(results)?;
    // Lines of other kinds are of other workloads.
    let paced = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let paced: Vec<Paced> = paced.collect();
    if paced.is_empty() {
        return Err(format!("{} has no result of a paced workload", results.display()).into());
    }
    print!("{}", paced::result::text(&paced));
    paced::plot::draw(&paced, dir)?;
    Ok(())
}

/// Every engine with every batch size, one reopening of each that keeps anything, and the paced
/// workloads of each that expires what it holds.
fn slots(args: &Args) -> Vec<Slot> {
    let mut slots = Vec::new();
    let reopen = args.workloads.contains(&Workload::Reopen);
    let is_measured = |workload: &&Workload| !workload.is_paced() && **workload != Workload::Reopen;
    let measure = args.workloads.iter().any(|workload| is_measured(&workload));
    for &batch in args.batch.iter().filter(|_| measure) {
        let slot = |&engine| Slot {
            engine,
            batch,
            part: Part::Measure,
        };
        slots.extend(args.engines.iter().map(slot));
    }
    let batch = args.batch.iter().copied().max().unwrap_or(1);
    for &engine in args.engines.iter().filter(|_| reopen) {
        match engine.is_durable() {
            true => slots.push(Slot {
                engine,
                batch,
                part: Part::Reopen,
            }),
            false => eprintln!("{} keeps nothing to reopen", engine.as_str()),
        }
    }
    let mut paced: Vec<Workload> = args.workloads.clone();
    paced.retain(|workload| workload.is_paced());
    paced.sort_unstable();
    for &engine in args.engines.iter().filter(|_| !paced.is_empty()) {
        if engine.expires() {
            let slot = |&workload| Slot {
                engine,
                batch: 1,
                part: Part::Pace(workload),
            };
            slots.extend(paced.iter().map(slot));
        } else {
            eprintln!("{} expires nothing by itself: left out", engine.as_str());
        }
    }
    slots
}

fn run_slot(args: &Args, slot: Slot, base: &Path, report: &mut Report) -> Result<()> {
    if !args.cold && slot.part != Part::Reopen {
        warm_up(args, slot, base)?;
    }
    let dir = temporary_folder(base)?;
    let mut command = match slot.part {
        Part::Measure => command(args, slot, Role::Measure, dir.path())?,
        Part::Pace(_) => command(args, slot, Role::Pace, dir.path())?,
        Part::Reopen => {
            let present = fill_and_kill(args, slot, &dir)?;
            let mut command = command(args, slot, Role::Open, dir.path())?;
            command.args(["--present", &present]);
            command
        }
    };
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let read = each_line(&mut child, |line| {
        println!("{line}");
        match slot.part {
            Part::Pace(_) => report.add_paced(serde_json::from_str(line)?)?,
            _ => report.add(serde_json::from_str(line)?)?,
        }
        Ok(true)
    });
    let status = child.wait()?;
    read?;
    if !status.success() {
        return Err(format!("the process ended with {status}").into());
    }
    Ok(())
}

/// Runs the engine for a short time without measuring it.
///
/// A virtual machine's host takes free memory away and hands it back page by page at the first
/// touch, at up to 3 us for 4 KiB: for a store of a gigabyte more than all that an engine does.
/// What this process gives back when it ends, the next one finds still backed, whichever engine it
/// is.
fn warm_up(args: &Args, slot: Slot, base: &Path) -> Result<()> {
    let dir = temporary_folder(base)?;
    let seconds = args.seconds_max.min(WARM_UP_SECONDS_MAX);
    let args = Args {
        seconds_max: seconds,
        workloads: vec![Workload::New],
        ..args.clone()
    };
    let slot = Slot {
        part: Part::Measure,
        ..slot
    };
    let mut command = command(&args, slot, Role::Measure, dir.path())?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status()?;
    if !status.success() {
        return Err(format!("the process to warm up ended with {status}").into());
    }
    Ok(())
}

fn temporary_folder(base: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new()
        .prefix("compare-")
        .tempdir_in(base)?)
}

/// Has a process fill the store, then kills it; returns the keys that are in it.
fn fill_and_kill(args: &Args, slot: Slot, dir: &TempDir) -> Result<String> {
    let mut command = command(args, slot, Role::Fill, dir.path())?;
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let mut present = None;
    let read = each_line(&mut child, |line| {
        let filled: Filled = serde_json::from_str(line)?;
        let numbers: Vec<String> = filled.filled.iter().map(u64::to_string).collect();
        present = Some(numbers.join(","));
        Ok(false)
    });
    child.kill()?;
    child.wait()?;
    read?;
    present.ok_or_else(|| "the filling process ended before it was killed".into())
}

/// Passes on the lines a process prints until it ends or `take` has enough.
fn each_line(child: &mut Child, mut take: impl FnMut(&str) -> Result<bool>) -> Result<()> {
    let out = child.stdout.take().ok_or("the process has no output")?;
    for line in BufReader::new(out).lines() {
        if !take(&line?)? {
            break;
        }
    }
    Ok(())
}

/// This program again, for one engine and one batch size or one paced workload.
fn command(args: &Args, slot: Slot, role: Role, dir: &Path) -> Result<Command> {
    let workloads: Vec<&str> = match slot.part {
        Part::Pace(workload) => vec![workload.as_str()],
        _ => args
            .workloads
            .iter()
            .map(|workload| workload.as_str())
            .collect(),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--engines", slot.engine.as_str()])
        .args(["--workloads", &workloads.join(",")])
        .args(["--durability", args.durability.as_str()])
        .args(["--keys", &args.keys.to_string()])
        .args(["--buckets", &args.buckets.to_string()])
        .args(["--threads", &args.threads.to_string()])
        .args(["--batch", &slot.batch.to_string()])
        .args(["--seconds-max", &args.seconds_max.to_string()])
        .args(["--key-bytes", &args.key_bytes.to_string()])
        .args(["--outcome-bytes", &args.outcome_bytes.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .args(["--role", role.as_str()])
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped());
    if let Some(rate) = args.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    Ok(command)
}

/// Where the stores go: `--dir`, or beside this program, or the system's temporary folder.
fn base_dir(args: &Args) -> Result<PathBuf> {
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir)?;
        return Ok(dir.clone());
    }
    let program = std::env::current_exe()?;
    let beside = program.parent().map(|folder| folder.join("stores"));
    match beside.filter(|folder| std::fs::create_dir_all(folder).is_ok()) {
        Some(folder) => Ok(folder),
        None => Ok(std::env::temp_dir()),
    }
}

/// Results so far, and the file they go to as soon as their last run is in.
struct Report {
    json: Option<File>,
    runs: usize,
    lines: Vec<Measured>,
    results: Vec<Measured>,
    paced: Vec<Paced>,
    failures: Vec<String>,
}

impl Report {
    fn create(args: &Args) -> Result<Report> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let json = args.json.as_ref().map(open).transpose()?;
        let (lines, results, failures) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Report {
            json,
            runs: args.runs,
            lines,
            results,
            paced: Vec::new(),
            failures,
        })
    }

    fn add(&mut self, line: Measured) -> Result<()> {
        let mut runs: Vec<Measured> = Vec::new();
        self.lines.push(line.clone());
        runs.extend(self.lines.iter().filter(|other| other.same(&line)).cloned());
        if runs.len() == self.runs
            && let Some(result) = report::median(&runs)
        {
            self.write(&result)?;
            self.results.push(result);
        }
        Ok(())
    }

    /// Every run of a paced workload is a result of its own.
    fn add_paced(&mut self, result: Paced) -> Result<()> {
        self.write(&result)?;
        self.paced.push(result);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", serde_json::to_string(line)?)?;
        }
        Ok(())
    }
}
