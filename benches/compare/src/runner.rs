//! Starts one process per engine and batch size, collects what they print and sums it up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use tempfile::TempDir;

use crate::Result;
use crate::args::Args;
use crate::chart;
use crate::kinds::{Durability, Role, Workload};
use crate::machine::{self, Header};
use crate::paced::{self, result::Paced};
use crate::report::{self, Filled, Measured};
use crate::rows::{self, Row};
use crate::slots::{self, Left, Part, Slot};

/// Runs everything the command line asks for.
///
/// An engine that fails does not end the run, but the program fails when all is done.
pub fn run(args: &Args) -> Result<()> {
    let base = base_dir(args)?;
    let mut said: Vec<String> = Vec::new();
    let groups = slots::groups(args, |why| {
        if !said.contains(&why) {
            eprintln!("{why}");
            said.push(why);
        }
    });
    let mut report = Report::create(args, machine::header(args, &base))?;
    for round in 0..args.runs {
        for slot in slots::round(&groups, round) {
            let name = named(&slot);
            eprintln!("run {}/{}: {name}", round + 1, args.runs);
            if let Err(error) = run_slot(args, &slot, &base, &mut report) {
                eprintln!("FAILED: {name}: {error}");
                report.failures.push(format!("{name}: {error}"));
            }
            machine::wait_for_writeback(&base);
        }
    }
    print!("\n{}", report::tables(&report.results));
    print!("{}", paced::result::text(&report.paced));
    if let Some(dir) = &args.plots {
        let mut names = Vec::new();
        if !report.paced.is_empty() {
            names.extend(paced::plot::draw(&report.paced, dir)?);
        }
        names.extend(chart::draw(&report.rows(), dir)?);
        eprintln!("plots in {}: {}", dir.display(), names.join(", "));
    }
    if report.failures.is_empty() {
        return Ok(());
    }
    let (count, failures) = (report.failures.len(), report.failures.join("\n  "));
    Err(format!("{count} failed:\n  {failures}").into())
}

fn named(slot: &Slot) -> String {
    let part = match slot.part {
        Part::Shared => String::new(),
        Part::Alone(workload) | Part::Pace(workload) => format!(", {}", workload.as_str()),
        Part::Reopen(left) => format!(", reopen {}", left.as_str()),
    };
    let (
        name,
        Slot {
            keys,
            threads,
            batch,
            ..
        },
    ) = (slot.engine.as_str(), slot);
    format!("{name}{part}, {keys} keys, {threads} threads, batch {batch}")
}

/// Draws the plots of the results in a file that an earlier run wrote.
pub fn redraw(results: &Path, dir: &Path) -> Result<()> {
    let cannot = |error| format!("{}: {error}", results.display());
    let names = if results
        .extension()
        .is_some_and(|extension| extension == "csv")
    {
        let rows = rows::read(results)?;
        if rows.is_empty() {
            return Err(cannot("it has no result".to_owned()).into());
        }
        chart::draw(&rows, dir)?
    } else {
        let text = std::fs::read_to_string(results).map_err(|error| cannot(error.to_string()))?;
        // Lines of other kinds are of other workloads.
        let paced = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let paced: Vec<Paced> = paced.collect();
        if paced.is_empty() {
            let why = "it has no result of a paced workload, and its name does not end in .csv";
            return Err(cannot(why.to_owned()).into());
        }
        print!("{}", paced::result::text(&paced));
        paced::plot::draw(&paced, dir)?
    };
    eprintln!("plots in {}: {}", dir.display(), names.join(", "));
    Ok(())
}

fn run_slot(args: &Args, slot: &Slot, base: &Path, report: &mut Report) -> Result<()> {
    if !args.cold && !matches!(slot.part, Part::Reopen(_)) {
        warm_up(args, slot, base)?;
    }
    let dir = temporary_folder(base)?;
    let mut command = match slot.part {
        Part::Shared | Part::Alone(_) => command(args, slot, Role::Measure, dir.path())?,
        Part::Pace(_) => command(args, slot, Role::Pace, dir.path())?,
        Part::Reopen(left) => {
            let present = fill_and_leave(args, slot, left, &dir)?;
            let mut command = command(args, slot, Role::Open, dir.path())?;
            command.args(["--present", &present, "--left", left.as_str()]);
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
fn warm_up(args: &Args, slot: &Slot, base: &Path) -> Result<()> {
    let dir = temporary_folder(base)?;
    let args = Args {
        seconds_max: args.seconds_max.min(args.warm_up_seconds),
        workloads: vec![Workload::New],
        durability: Durability::Process,
        latency: false,
        ..args.clone()
    };
    if args.seconds_max < 0.001 {
        return Ok(());
    }
    let slot = Slot {
        part: Part::Shared,
        ..slot.clone()
    };
    let mut command = command(&args, &slot, Role::Measure, dir.path())?;
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

/// Has a process fill the store, then kills it or lets it close; returns the keys that are in it.
fn fill_and_leave(args: &Args, slot: &Slot, left: Left, dir: &TempDir) -> Result<String> {
    let role = match left {
        Left::Closed => Role::Close,
        Left::Killed => Role::Fill,
    };
    let mut child = command(args, slot, role, dir.path())?
        .stdin(Stdio::piped())
        .spawn()?;
    let mut present = None;
    let read = each_line(&mut child, |line| {
        let filled: Filled = serde_json::from_str(line)?;
        let numbers: Vec<String> = filled.filled.iter().map(u64::to_string).collect();
        present = Some(numbers.join(","));
        Ok(false)
    });
    if left == Left::Killed {
        child.kill()?;
    }
    let status = child.wait()?;
    read?;
    if left == Left::Closed && !status.success() {
        return Err(format!("the process to fill the store ended with {status}").into());
    }
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

/// This program again, for one slot.
fn command(args: &Args, slot: &Slot, role: Role, dir: &Path) -> Result<Command> {
    let workloads: Vec<&str> = match slot.part {
        Part::Pace(workload) | Part::Alone(workload) => vec![workload.as_str()],
        Part::Reopen(_) => vec![Workload::New.as_str()],
        Part::Shared => {
            let shared = args.workloads.iter().filter(|w| w.shares_a_store());
            shared.map(|workload| workload.as_str()).collect()
        }
    };
    let durability = match slot.part {
        Part::Alone(Workload::Synced) => Durability::Synced,
        _ => args.durability,
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--engines", slot.engine.as_str()])
        .args(["--workloads", &workloads.join(",")])
        .args(["--durability", durability.as_str()])
        .args(["--keys", &slot.keys.to_string()])
        .args(["--buckets", &args.buckets.to_string()])
        .args(["--threads", &slot.threads.to_string()])
        .args(["--batch", &slot.batch.to_string()])
        .args(["--seconds-max", &args.seconds_max.to_string()])
        .args(["--key-shape", &args.key_shape.to_string()])
        .args(["--outcome-bytes", &args.outcome_bytes.to_string()])
        .args(["--mix-new", &args.mix_new.to_string()])
        .args(["--mix-reads", &args.mix_reads.to_string()])
        .args(["--zipf", &args.zipf.to_string()])
        .args(["--recency", &args.recency.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .args(["--role", role.as_str()])
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped());
    if args.latency {
        command.arg("--latency");
    }
    if let Some(rate) = args.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    Ok(command)
}

/// Where the stores go: `--dir`, or beside this program, or the system's temporary folder.
fn base_dir(args: &Args) -> Result<PathBuf> {
    if let Some(dir) = &args.dir {
        let cannot = |error| format!("--dir {}: {error}", dir.display());
        std::fs::create_dir_all(dir).map_err(cannot)?;
        return Ok(dir.clone());
    }
    let program = std::env::current_exe()?;
    let beside = program.parent().map(|folder| folder.join("stores"));
    match beside.filter(|folder| std::fs::create_dir_all(folder).is_ok()) {
        Some(folder) => Ok(folder),
        None => Ok(std::env::temp_dir()),
    }
}

/// Results so far, and the files they go to as soon as their last run is in.
struct Report {
    header: Header,
    json: Option<File>,
    csv: Option<PathBuf>,
    runs: usize,
    lines: Vec<Measured>,
    results: Vec<Measured>,
    paced: Vec<Paced>,
    failures: Vec<String>,
}

impl Report {
    fn create(args: &Args, header: Header) -> Result<Report> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        let json = args.json.as_ref().map(open).transpose()?;
        // Opened now, so that it is not after an hour of measuring that it turns out to be in vain.
        args.csv.as_ref().map(open).transpose()?;
        let mut report = Report {
            header: header.clone(),
            json,
            csv: args.csv.clone(),
            runs: args.runs,
            lines: Vec::new(),
            results: Vec::new(),
            paced: Vec::new(),
            failures: Vec::new(),
        };
        report.write(&header)?;
        Ok(report)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |line| Row::of(&self.header, line);
        self.results.iter().map(row).collect()
    }

    fn add(&mut self, line: Measured) -> Result<()> {
        let mut runs: Vec<Measured> = Vec::new();
        self.lines.push(line.clone());
        runs.extend(self.lines.iter().filter(|other| other.same(&line)).cloned());
        if runs.len() == self.runs
            && let Some(result) = report::median(&runs)
        {
            self.write(&result)?;
            if let Some(path) = &self.csv {
                rows::append(path, &Row::of(&self.header, &result))?;
            }
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
