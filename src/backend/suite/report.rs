//! Running cases one after another, and what came of them.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::cases::CASES;
use super::failure::{Step, Stop};
use super::harness::{Harness, Task};
use super::tasks::within;
use super::trial::Trial;
use crate::sys::clock;

/// No case takes as long as this unless something hangs.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// One thing that a backend has to do.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, a sentence.
    pub name: &'static str,
    /// What it asserts.
    pub asserts: &'static str,
    pub(super) run: for<'a> fn(&'a Trial<'a>) -> Task<'a, Step>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("asserts", &self.asserts)
            .finish_non_exhaustive()
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend does what it asserts.
    Passed,
    /// It was not run, or not to its end, for this reason.
    LeftOut(&'static str),
    /// The backend does not do what it asserts: what was found instead, and where.
    Failed(String),
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    verdicts: Vec<(&'static str, Verdict, Duration)>,
}

impl Report {
    /// The cases that were run, by name, and what came of each.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &Verdict)> {
        self.verdicts.iter().map(|(name, verdict, _)| (*name, verdict))
    }

    /// The names of the cases that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = |(name, verdict)| matches!(verdict, &Verdict::Failed(_)).then_some(name);
        self.verdicts().filter_map(failed).collect()
    }

    /// The names of the cases that were left out, and the reasons.
    #[must_use]
    pub fn left_out(&self) -> Vec<(&'static str, &'static str)> {
        let left_out = |(name, verdict): (_, &Verdict)| match verdict {
            Verdict::LeftOut(reason) => Some((name, *reason)),
            _ => None,
        };
        self.verdicts().filter_map(left_out).collect()
    }

    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.verdicts.iter().map(|(_, _, took)| *took).sum()
    }

    /// Ends the test if a case failed. What was left out is printed.
    ///
    /// # Panics
    /// With the report, if a case failed or none was run.
    pub fn assert_passed(&self) {
        for (name, reason) in self.left_out() {
            eprintln!("{name}: left out: {reason}");
        }
        assert!(self.failed().is_empty() && !self.verdicts.is_empty(), "{self}");
    }
}

/// A line for each case that did not pass, and one for the whole.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, left_out) = (self.failed().len(), self.left_out().len());
        for (name, verdict) in self.verdicts() {
            match verdict {
                Verdict::Passed => {}
                Verdict::LeftOut(reason) => writeln!(f, "{name}: left out: {reason}")?,
                Verdict::Failed(what) => writeln!(f, "{name}: FAILED: {what}")?,
            }
        }
        let took = self.took();
        write!(f, "{} cases, {failed} failed, {left_out} left out, ", self.verdicts.len())?;
        write!(f, "{}.{:03} s", took.as_secs(), took.subsec_millis())
    }
}

/// Runs every case.
pub async fn run_all(harness: &dyn Harness) -> Report {
    run_chosen(harness, |_| true).await
}

/// Runs the cases with these names; a name that no case has fails.
pub async fn run_named(harness: &dyn Harness, names: &[&'static str]) -> Report {
    let mut report = run_chosen(harness, |case| names.contains(&case.name)).await;
    for name in names.iter().filter(|name| CASES.iter().all(|case| case.name != **name)) {
        let verdict = Verdict::Failed("there is no case of this name".into());
        report.verdicts.push((*name, verdict, Duration::ZERO));
    }
    report
}

async fn run_chosen(harness: &dyn Harness, chosen: impl Fn(&Case) -> bool) -> Report {
    let mut report = Report::default();
    for case in CASES.iter().filter(|case| chosen(case)) {
        let start = clock::monotonic_millis();
        let verdict = run_one(harness, case).await;
        let took = Duration::from_millis(clock::monotonic_millis().saturating_sub(start));
        report.verdicts.push((case.name, verdict, took));
    }
    report
}

async fn run_one(harness: &dyn Harness, case: &Case) -> Verdict {
    let trial = Trial::new(harness);
    let run = caught((case.run)(&trial));
    match within(harness.sleep(CASE_LIMIT), run).await {
        Some(Ok(Ok(()))) => Verdict::Passed,
        Some(Ok(Err(Stop::LeftOut(reason)))) => Verdict::LeftOut(reason),
        Some(Ok(Err(Stop::Failed(what)))) => Verdict::Failed(what),
        Some(Err(panic)) => Verdict::Failed(format!("the backend panicked: {}", text_of(&panic))),
        None => Verdict::Failed(format!("not over within {} s", CASE_LIMIT.as_secs())),
    }
}

type Panic = Box<dyn Any + Send>;

/// The answer of a future or, if it panics, what it panicked with.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // It is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

fn text_of(panic: &Panic) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}
