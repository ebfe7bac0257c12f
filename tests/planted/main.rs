//! Plants small faults in a copy of the engine, one at a time, and says which test notices each.
//!
//! `scripts/planted.sh` is the way to run it. Without arguments, as `cargo test` runs it, every
//! fault is only held against the sources: one that no longer applies is an error.
#![expect(clippy::print_stdout, reason = "the verdicts are what the program is for")]

mod plant;
mod run;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use plant::Plant;
use run::Runs;
use verdict::{Verdict, json, summary};

const USAGE: &str = "usage: scripts/planted.sh [--check | --table] [--only NAME]... [--all-tests] \
                     [--json] [--seconds N]";
/// A run may not have fewer: they are what the table in docs/testing.md promises.
const PLANTS_MIN: usize = 35;

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    plant: bool,
    table: bool,
    only: Vec<String>,
    all_tests: bool,
    json: bool,
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let done = parse(&arguments).and_then(|options| work(&options));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whatever a test runner passes on is no mistake; what comes after `run` is the caller's.
fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let Some(at) = arguments.iter().position(|argument| argument == "run") else {
        return Ok(options);
    };
    options.plant = true;
    let mut rest = arguments.iter().skip(at + 1);
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().ok_or(format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--check" => options.plant = false,
            "--table" => (options.plant, options.table) = (false, true),
            "--only" => options.only.push(value()?),
            "--all-tests" => options.all_tests = true,
            "--json" => options.json = true,
            "--seconds" => {
                let seconds = value()?.parse().map_err(|_| format!("a number, please\n{USAGE}"))?;
                options.seconds = Some(seconds);
            }
            other => return Err(format!("{other} is no option\n{USAGE}")),
        }
    }
    Ok(options)
}

/// True if there is nothing to complain of.
fn work(options: &Options) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plants = plant::read_all(&root.join("tests/planted/faults"))?;
    if options.table {
        print!("{}", verdict::table(&plants));
        return Ok(true);
    }
    let wrong = check(root, &plants)?;
    for what in &wrong {
        eprintln!("planted: {what}");
    }
    if !options.plant || !wrong.is_empty() {
        if wrong.is_empty() {
            println!("planted: {} faults, each applies", plants.len());
        }
        return Ok(wrong.is_empty());
    }
    let chosen = choose(&plants, &options.only)?;
    let runs = Runs::prepare(root, options.all_tests, options.seconds)?;
    eprintln!("planted: first the tests without a fault");
    runs.baseline(&chosen)?;
    let mut verdicts = Vec::new();
    for (number, plant) in chosen.iter().enumerate() {
        eprintln!("planted: {}/{} {}", number + 1, chosen.len(), plant.name);
        let verdict = runs.try_one(plant)?;
        if !options.json {
            println!("{verdict}");
        }
        verdicts.push(verdict);
    }
    if options.json {
        println!("{}", json(&verdicts));
    } else {
        println!("{}", summary(&verdicts));
    }
    Ok(verdicts.iter().all(Verdict::is_caught))
}

fn choose<'a>(plants: &'a [Plant], only: &[String]) -> Result<Vec<&'a Plant>, String> {
    if only.is_empty() {
        return Ok(plants.iter().collect());
    }
    let named = |name: &String| {
        plants.iter().find(|plant| plant.name == *name).ok_or(format!("there is no fault {name}"))
    };
    only.iter().map(named).collect()
}

/// Everything that is wrong with the faults: where one does not apply, what it cites, the table.
fn check(root: &Path, plants: &[Plant]) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    if plants.len() < PLANTS_MIN {
        wrong.push(format!("only {} faults, fewer than {PLANTS_MIN}", plants.len()));
    }
    let page = "docs/testing.md";
    let docs = std::fs::read_to_string(root.join(page)).map_err(|e| format!("{page}: {e}"))?;
    for (number, plant) in plants.iter().enumerate() {
        if plants.iter().skip(number + 1).any(|other| other.name == plant.name) {
            wrong.push(format!("{}: two faults have this name", plant.name));
        }
        wrong.extend(plant.applied(root).err());
        wrong.extend(plant.test.check(root).err().map(|e| format!("{}: {e}", plant.name)));
        if !docs.contains(&verdict::row(plant)) {
            let how = "scripts/planted.sh --table prints them all";
            wrong.push(format!("{}: its row is not in {page}; {how}", plant.name));
        }
    }
    Ok(wrong)
}
