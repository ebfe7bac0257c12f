//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use oncelog::Durability;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Casts ballots and looks voters up, and says how fast.

  --ballots N        ballots to cast in each of the runs that cast      [20000]
  --lookups N        voters to look up in the run that looks up         [200000]
  --per-ballot N     lookups for each ballot in the run that does both  [10]
  --threads N        threads                                            [2]
  --batch N          ballots or voters in a call                        [1000]
  --repeat PERCENT   ballots of voters who have voted, to be refused    [5]
  --choices N        choices                                            [4]
  --run A,B          of cast, find, together: which runs                [all]
  --level L          process, synced, or an interval in milliseconds    [process]
  --directory PATH   where the ballots are kept                         [temporary]
  --json             results as JSON
  --quiet            no progress";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) ballots: u64,
    pub(crate) lookups: u64,
    pub(crate) per_ballot: u64,
    pub(crate) threads: u64,
    pub(crate) batch: u64,
    pub(crate) repeat: u64,
    pub(crate) choices: u64,
    pub(crate) cast: bool,
    pub(crate) find: bool,
    pub(crate) together: bool,
    pub(crate) durability: Durability,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ballots: 20_000,
            lookups: 200_000,
            per_ballot: 10,
            threads: 2,
            batch: 1_000,
            repeat: 5,
            choices: 4,
            cast: true,
            find: true,
            together: true,
            durability: Durability::Process,
            directory: None,
            json: false,
            quiet: false,
        }
    }
}

impl Options {
    /// Reads the arguments; `None` if they ask for help.
    pub(crate) fn of(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match &*word {
                "--help" | "-h" => return Ok(None),
                "--json" => options.json = true,
                "--quiet" => options.quiet = true,
                "--directory" => options.directory = Some(value()?.into()),
                "--run" => options.choose(&value()?)?,
                "--level" => options.durability = level(&value()?)?,
                "--ballots" => options.ballots = number(&word, &value()?, 1, 1 << 32)?,
                "--lookups" => options.lookups = number(&word, &value()?, 1, 1 << 40)?,
                "--per-ballot" => options.per_ballot = number(&word, &value()?, 0, 1_000)?,
                "--threads" => options.threads = number(&word, &value()?, 1, 1_024)?,
                "--batch" => options.batch = number(&word, &value()?, 1, 1 << 20)?,
                "--repeat" => options.repeat = number(&word, &value()?, 0, 99)?,
                "--choices" => options.choices = number(&word, &value()?, 1, 1 << 20)?,
                _ => return Err(format!("{word} is not known; --help says what is")),
            }
        }
        Ok(Some(options))
    }

    fn choose(&mut self, runs: &str) -> Result<(), String> {
        (self.cast, self.find, self.together) = (false, false, false);
        for run in runs.split(',') {
            match run {
                "cast" => self.cast = true,
                "find" => self.find = true,
                "together" => self.together = true,
                _ => return Err(format!("--run {run}: there are cast, find and together")),
            }
        }
        Ok(())
    }
}

fn level(word: &str) -> Result<Durability, String> {
    match word {
        "process" => Ok(Durability::Process),
        "synced" => Ok(Durability::Synced),
        millis => {
            let millis = number("--level", millis, 1, 3_600_000)?;
            Ok(Durability::Interval(Duration::from_millis(millis)))
        }
    }
}

fn number(name: &str, word: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = word.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("{name} {word}: it is a number from {min} to {max}"))
}
