//! Builds and runs tests in a copy of the repository, with and without a fault.
//!
//! The copy and what is built from it stay in `target/planted/`, so that a fault costs what the
//! compiler must do again after a change of one file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use crate::plant::{Plant, Test};
use crate::verdict::{Found, Verdict};

/// Folders that no test needs.
const LEFT_OUT: &[&str] = &["target", ".git"];
/// A test that takes longer with a fault in place hangs.
const SECONDS: u64 = 300;

/// A copy of the repository, and how its tests are run.
#[derive(Debug)]
pub(crate) struct Runs {
    root: PathBuf,
    copy: PathBuf,
    build: PathBuf,
    all_tests: bool,
    seconds: u64,
}

impl Runs {
    pub(crate) fn prepare(
        root: &Path,
        all_tests: bool,
        seconds: Option<u64>,
    ) -> Result<Self, String> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let folder = target.join("planted");
        let (copy, build) = (folder.join("tree"), folder.join("build"));
        mirror(root, &copy).map_err(|e| format!("copying to {}: {e}", copy.display()))?;
        let seconds = seconds.unwrap_or(SECONDS);
        Ok(Self { root: root.to_owned(), copy, build, all_tests, seconds })
    }

    /// Fails unless every test that is to notice something passes without a fault.
    pub(crate) fn baseline(&self, plants: &[&Plant]) -> Result<(), String> {
        let mut targets: BTreeMap<Vec<String>, BTreeSet<&Test>> = BTreeMap::new();
        for plant in plants {
            targets.entry(target_of(&plant.test)).or_default().insert(&plant.test);
        }
        for (target, tests) in targets {
            let filters: Vec<&str> = tests.iter().map(|test| test.filter()).collect();
            if let Some(error) = self.build_error(&target) {
                return Err(format!("does not build without a fault:\n{error}"));
            }
            let output = self.cargo(&target, &filters, None)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                return Err(format!("fails without a fault: {target:?} {filters:?}\n{said}"));
            }
        }
        Ok(())
    }

    /// Plants the fault, runs the test that is to notice, and takes the fault out again.
    pub(crate) fn try_one(&self, plant: &Plant) -> Result<Verdict, String> {
        #[expect(clippy::disallowed_methods, reason = "how long a fault takes is told, not tested")]
        let since = Instant::now();
        let files = plant.applied(&self.root)?;
        for (file, text) in &files {
            fs::write(self.copy.join(file), text).map_err(|e| format!("{file}: {e}"))?;
        }
        let found = self.found(plant);
        for (file, _) in &files {
            let sound = fs::read(self.root.join(file)).map_err(|e| format!("{file}: {e}"))?;
            fs::write(self.copy.join(file), sound).map_err(|e| format!("{file}: {e}"))?;
        }
        let (name, what) = (plant.name.clone(), plant.what.clone());
        Ok(Verdict { name, what, found: found?, took: since.elapsed() })
    }

    fn found(&self, plant: &Plant) -> Result<Found, String> {
        let (target, filters) = if self.all_tests && !is_model(&plant.test) {
            let all = ["--workspace", "--no-fail-fast"];
            (all.map(str::to_owned).to_vec(), Vec::new())
        } else {
            (target_of(&plant.test), vec![plant.test.filter()])
        };
        if let Some(error) = self.build_error(&target) {
            return Ok(Found::Broken(format!("does not build:\n{error}")));
        }
        let output = self.cargo(&target, &filters, Some(self.seconds))?;
        let said = String::from_utf8_lossy(&output.stdout);
        // What `timeout` answers with.
        if output.status.code() == Some(124) {
            return Ok(Found::Hangs(plant.test.citation()));
        }
        if output.status.success() {
            let ran = plant.test.name.is_none() || said.lines().any(|line| is_result(line, "ok"));
            let none = || Found::Broken(format!("{} was not run", plant.test.citation()));
            return Ok(if ran { Found::Nothing } else { none() });
        }
        let mut failed: Vec<String> = said.lines().filter_map(failed_name).collect();
        failed.sort();
        failed.dedup();
        if failed.is_empty() {
            // The process itself came to an end.
            failed.push(plant.test.citation());
        }
        Ok(Found::By(failed))
    }

    /// What the compiler says, if it says no.
    fn build_error(&self, target: &[String]) -> Option<String> {
        let mut target = target.to_vec();
        target.push("--no-run".to_owned());
        match self.cargo(&target, &[], None) {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Some(error),
        }
    }

    fn cargo(
        &self,
        target: &[String],
        filters: &[&str],
        seconds: Option<u64>,
    ) -> Result<Output, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = match seconds {
            Some(seconds) => {
                let mut command = Command::new("timeout");
                command.args(["--kill-after=10", &seconds.to_string(), &cargo]);
                command
            }
            None => Command::new(&cargo),
        };
        let (models, target): (Vec<_>, Vec<_>) = target.iter().partition(|part| *part == MODELS);
        command.args(["test", "--locked", "--all-features"]).args(target);
        if !filters.is_empty() {
            command.arg("--").args(filters.iter().filter(|filter| !filter.is_empty()));
        }
        if models.is_empty() {
            command.env("CARGO_TARGET_DIR", &self.build);
        } else {
            command.env("CARGO_TARGET_DIR", self.build.with_file_name("models"));
            command.env("RUSTFLAGS", "--cfg oncelog_shuttle");
        }
        // Quick to build rather than quick to run.
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        command.env_remove("CARGO_MANIFEST_DIR").current_dir(&self.copy);
        command.output().map_err(|e| format!("{cargo} (by way of timeout, of coreutils): {e}"))
    }
}

/// Stands among a target's arguments for the build with a model checker.
const MODELS: &str = "(models)";

fn is_model(test: &Test) -> bool {
    test.file.contains("/models")
}

/// What cargo is told so that it builds the test and little else.
fn target_of(test: &Test) -> Vec<String> {
    let part = |number: usize| test.file.split('/').nth(number).unwrap_or_default();
    let words: &[&str] = match part(0) {
        "src" if is_model(test) => &["--lib", MODELS],
        "src" => &["--lib"],
        "crates" => &["-p", part(1), "--test", part(3)],
        _ => &["--test", part(1).trim_end_matches(".rs")],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_result(line: &str, result: &str) -> bool {
    line.starts_with("test ") && line.ends_with(&format!("... {result}"))
}

fn failed_name(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.split(" - ").next().unwrap_or(name).to_owned())
}

/// Makes `to` the same as `from`, and touches only what differs.
fn mirror(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let (entry, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let Some(name) = entry.file_name().map(ToOwned::to_owned) else { continue };
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        let copy = to.join(&name);
        if kind.is_dir() {
            mirror(&entry, &copy)?;
        } else if kind.is_file() {
            let contents = fs::read(&entry)?;
            if fs::read(&copy).ok().as_ref() != Some(&contents) {
                fs::write(&copy, contents)?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}
