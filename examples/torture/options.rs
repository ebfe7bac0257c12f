//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::campaign::Plan;
use crate::child::Orders;

/// How long a campaign takes unless told otherwise.
const SECONDS: u64 = 15;

/// What this process is for.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Campaign,
    SelfTest,
    List,
    /// A class in a mount namespace of its own, with its rounds in this folder.
    Apart {
        class: String,
        room: PathBuf,
    },
    Child(Orders),
    /// A step of one of the classes in a process of its own.
    Guest(Vec<String>),
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) seconds: u64,
    millis: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) only: Option<String>,
    round: Option<u64>,
    pub(crate) json: bool,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self {
            task: Task::Campaign,
            seconds: SECONDS,
            millis: None,
            seed: u64::from(std::process::id()),
            only: None,
            round: None,
            json: false,
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().cloned().ok_or(format!("{word} wants a value"));
            let number = |text: String| {
                text.parse::<u64>().map_err(|_| format!("{word} wants a number, not {text}"))
            };
            match word.as_str() {
                "--seconds" => options.seconds = number(value()?)?,
                "--millis" => options.millis = Some(number(value()?)?),
                "--seed" => options.seed = number(value()?)?,
                "--round" => options.round = Some(number(value()?)?),
                "--only" => options.only = Some(value()?),
                "--json" => options.json = true,
                "--self-test" => options.task = Task::SelfTest,
                "--list" => options.task = Task::List,
                "--apart" => {
                    options.task = Task::Apart { class: value()?, room: value()?.into() };
                }
                "--child" => {
                    let orders: Vec<String> = rest.cloned().collect();
                    let orders = Orders::parse(&orders).ok_or("a child wants its orders")?;
                    options.task = Task::Child(orders);
                    break;
                }
                "--guest" => {
                    options.task = Task::Guest(rest.cloned().collect());
                    break;
                }
                other => return Err(format!("{other} is no option; see examples/torture/main.rs")),
            }
        }
        Ok(options)
    }

    /// The rounds of a class with this share of the time.
    pub(crate) fn plan(&self, weight: u32, of: u32) -> Plan {
        let all = Duration::from_secs(self.seconds);
        let time = self.millis.map_or(all * weight / of.max(1), Duration::from_millis);
        Plan { seed: self.seed, time, round: self.round }
    }
}
