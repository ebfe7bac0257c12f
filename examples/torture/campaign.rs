//! What a class of faults is, how its rounds are run, and what is counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::pace::{Until, watch};
use crate::random::Random;

/// What was done in a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rounds: u64,
    /// Faults that were injected.
    pub(crate) faults: u64,
    /// Answers and states that were held against the rules.
    pub(crate) checks: u64,
}

/// One round: a store of its own, a few faults, and what it says afterwards.
pub(crate) struct Round<'a> {
    pub(crate) random: Random,
    /// An empty directory.
    pub(crate) room: PathBuf,
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) until: Until,
    pub(crate) tally: &'a mut Tally,
}

impl Round<'_> {
    /// Counts a fault.
    pub(crate) fn fault(&mut self) {
        self.tally.faults += 1;
    }
}

/// A file system of its own for a class, in a mount namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Where temporary files are.
    Plain,
    /// A few megabytes in memory.
    Small,
    /// In memory, without `fallocate`.
    Unallocated,
    /// An ext4 on a loop device; the class itself mounts it.
    Disk,
}

/// A class of faults.
#[derive(Clone, Copy)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) room: Room,
    /// Its share of the time.
    pub(crate) weight: u32,
    /// Programs that it needs.
    pub(crate) tools: &'static [&'static str],
    pub(crate) run: fn(&mut Round<'_>) -> Result<(), Failure>,
}

/// How the rounds of a class ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) tally: Tally,
    pub(crate) violation: Option<String>,
    pub(crate) skipped: Option<String>,
}

/// Which rounds are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    /// This round alone.
    pub(crate) round: Option<u64>,
}

/// A tool that is missing, if one is.
pub(crate) fn missing(tools: &[&'static str]) -> Option<&'static str> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    // Where those of the administrator are, which are not in everybody's path.
    folders.extend(["/sbin", "/usr/sbin"].map(PathBuf::from));
    tools.iter().copied().find(|tool| !folders.iter().any(|folder| folder.join(tool).exists()))
}

/// Runs rounds in folders of `room` until the time is over or a rule was broken.
pub(crate) fn run_rounds(class: &Class, plan: Plan, room: &Path) -> Ended {
    let until = Until::after(plan.time);
    let mut ended = Ended::default();
    let first = plan.round.unwrap_or(0);
    for number in first.. {
        watch(format!("{} round {number}", class.name));
        let folder = room.join(format!("{}-{number}", class.name));
        let made = std::fs::create_dir_all(&folder);
        let done = made.map_err(Failure::from).and_then(|()| {
            let random = Random::of(plan.seed, class.name, number);
            let (seed, tally) = (plan.seed, &mut ended.tally);
            let room = folder.clone();
            (class.run)(&mut Round { random, room, number, seed, until, tally })
        });
        let removed = std::fs::remove_dir_all(&folder);
        if let Err(error) = done {
            ended.violation = Some(format!(
                "{error}; again: --seed {} --only {} --round {number}",
                plan.seed, class.name
            ));
            break;
        }
        if let Err(error) = removed {
            ended.violation = Some(format!("round {number} left its folder behind: {error}"));
            break;
        }
        ended.tally.rounds += 1;
        if until.has_come() || plan.round.is_some() {
            break;
        }
    }
    ended
}

/// Runs a class in a mount namespace of its own, by this program started anew.
///
/// Nothing that is mounted there is seen anywhere else, and all of it ends with the process.
pub(crate) fn run_apart(class: &Class, plan: Plan, room: &Path) -> Result<Ended, Failure> {
    let mount = match class.room {
        Room::Small => "mount -t tmpfs -o size=9m none \"$0\" || exit 77; ",
        Room::Unallocated => "mount -t ramfs none \"$0\" || exit 77; ",
        Room::Disk | Room::Plain => "",
    };
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{mount}exec \"$@\"")]).arg(room);
    command.arg(std::env::current_exe()?);
    command.args(["--apart", class.name]).arg(room);
    command.args(["--seed", &plan.seed.to_string()]);
    command.args(["--millis", &plan.time.as_millis().to_string()]);
    if let Some(round) = plan.round {
        command.args(["--round", &round.to_string()]);
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(ended) = Ended::parse(&text) {
        return Ok(ended);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default().to_owned();
    // Nothing was begun: this user may not mount, or the machine has no such file system.
    if !text.contains(BEGUN) {
        let skipped = Some(format!("no file system of its own ({said})"));
        return Ok(Ended { skipped, ..Ended::default() });
    }
    Err(format!("the process of {} ended with {}: {said}", class.name, output.status).into())
}

/// What the process says first that runs a class apart.
pub(crate) const BEGUN: &str = "torture-begun";

impl Ended {
    /// One line, for the process that waits for it.
    pub(crate) fn line(&self) -> String {
        let Tally { rounds, faults, checks } = self.tally;
        let (word, text) = match (&self.violation, &self.skipped) {
            (Some(text), _) => ("violation", text.as_str()),
            (None, Some(text)) => ("skipped", text.as_str()),
            (None, None) => ("done", ""),
        };
        format!("torture-ended {rounds} {faults} {checks} {word} {}", text.replace('\n', " "))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("torture-ended "))?;
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [rounds, faults, checks, word, text] = words.as_slice() else { return None };
        let number = |text: &str| text.parse::<u64>().ok();
        let tally =
            Tally { rounds: number(rounds)?, faults: number(faults)?, checks: number(checks)? };
        let said = |wanted: &str| (*word == wanted).then(|| (*text).to_owned());
        Some(Self { tally, violation: said("violation"), skipped: said("skipped") })
    }
}
