//! What became of a fault, for people, for programs, and for the page of documentation.

use std::fmt;
use std::time::Duration;

use crate::plant::Plant;

/// What became of a fault.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) found: Found,
    pub(crate) took: Duration,
}

/// How the tests ended with the fault in place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// These failed.
    By(Vec<String>),
    /// The test went on for ever: what waits is not woken.
    Hangs(String),
    /// All passed.
    Nothing,
    /// It does not build, or nothing was run.
    Broken(String),
}

impl Verdict {
    pub(crate) fn is_caught(&self) -> bool {
        matches!(self.found, Found::By(_) | Found::Hangs(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (&self.name, self.took.as_secs());
        match &self.found {
            Found::By(tests) => {
                write!(f, "caught      {name}  by {}  ({seconds} s)", tests.join(", "))
            }
            Found::Hangs(test) => write!(f, "caught      {name}  by {test}, which hangs"),
            Found::Nothing => write!(f, "NOT CAUGHT  {name}: {}", self.what),
            Found::Broken(why) => write!(f, "ERROR       {name}: {why}"),
        }
    }
}

/// The last line.
pub(crate) fn summary(verdicts: &[Verdict]) -> String {
    let caught = verdicts.iter().filter(|verdict| verdict.is_caught()).count();
    format!("planted: {} faults, {caught} caught, {} not", verdicts.len(), verdicts.len() - caught)
}

pub(crate) fn json(verdicts: &[Verdict]) -> String {
    let items: Vec<String> = verdicts.iter().map(item).collect();
    let caught = verdicts.iter().filter(|verdict| verdict.is_caught()).count();
    let counts = format!("\"faults\":{},\"caught\":{caught}", verdicts.len());
    format!("{{{counts},\"plants\":[\n{}\n]}}", items.join(",\n"))
}

fn item(verdict: &Verdict) -> String {
    let (kind, tests, why) = match &verdict.found {
        Found::By(tests) => ("caught", tests.clone(), ""),
        Found::Hangs(test) => ("hangs", vec![test.clone()], ""),
        Found::Nothing => ("not caught", Vec::new(), ""),
        Found::Broken(why) => ("error", Vec::new(), why.as_str()),
    };
    let tests: Vec<String> = tests.iter().map(|test| quoted(test)).collect();
    format!(
        "{{\"name\":{},\"what\":{},\"verdict\":{},\"by\":[{}],\"seconds\":{},\"error\":{}}}",
        quoted(&verdict.name),
        quoted(&verdict.what),
        quoted(kind),
        tests.join(","),
        verdict.took.as_secs(),
        quoted(why)
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A fault's row in docs/testing.md.
pub(crate) fn row(plant: &Plant) -> String {
    format!("| `{}` | {} | `{}` |\n", plant.name, plant.what, plant.test.citation())
}

pub(crate) fn table(plants: &[Plant]) -> String {
    let head = "| fault | what goes wrong | the test that notices |\n| --- | --- | --- |\n";
    head.to_owned() + &plants.iter().map(row).collect::<String>()
}
