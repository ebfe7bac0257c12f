//! What a command is run once for: a key, or a job at a fire time; and the calls on either.

use std::time::Duration;

use oncelog::recipes::schedule::{Fire, Schedule};
use oncelog::{Begin, BeginOptions, Error, Store, Timestamp, Ttl, Version};

use crate::args::ExecArgs;
use crate::exit::Failure;

/// The name of the schedule that all jobs of a store are in.
const SCHEDULE: &str = "exec";

/// What the command is run once for.
#[derive(Debug)]
pub(crate) enum Target {
    Key(Vec<u8>),
    Job { name: Vec<u8>, at: Timestamp, lease: Duration, retention: Duration },
}

/// Who is to run the command.
pub(crate) enum Answer {
    /// This process, under the lease with this version.
    Started(Version),
    /// Nobody yet, for this reason.
    Later(&'static str),
    /// Nobody: it was run, with this outcome.
    Done(Vec<u8>),
    /// Nobody, until somebody has looked at it.
    Stopped(String),
}

impl Target {
    /// The job's fire time is the one given, or the latest of its period by the store's time.
    pub(crate) fn new(arguments: &ExecArgs, store: &Store) -> Result<Self, Failure> {
        let Some(job) = &arguments.job else {
            let key = arguments.key.clone().unwrap_or_default();
            return Ok(Self::Key(key.into_bytes()));
        };
        let Ttl::After(retention) = arguments.ttl else {
            return Err(Failure::Usage("a job is remembered for a time; give it as --ttl".into()));
        };
        let (name, lease) = (job.clone().into_bytes(), arguments.lease);
        let schedule = Schedule::open(store, SCHEDULE, lease, retention)?;
        let at = match (arguments.fire_time, arguments.every) {
            (Some(at), _) => at,
            (None, Some(every)) if every > retention => {
                let text = "a run is remembered for --ttl, which must be --every at least";
                return Err(Failure::Usage(text.into()));
            }
            (None, Some(every)) => schedule.latest(every),
            (None, None) => {
                return Err(Failure::Usage("a job needs --fire-time or --every".into()));
            }
        };
        Ok(Self::Job { name, at, lease, retention })
    }

    pub(crate) fn begin(&self, store: &Store, options: BeginOptions) -> Result<Answer, Error> {
        let (name, at) = match self {
            Self::Key(key) => {
                return Ok(match store.begin_with(key, options)? {
                    Begin::Started(lease) => Answer::Started(lease.version()),
                    Begin::InProgress(_) => Answer::Later("the key is in progress"),
                    Begin::Completed(record) => Answer::Done(record.outcome().to_vec()),
                    Begin::Mismatch(_) | Begin::Unknown(_) => Answer::Stopped(unknown()),
                    Begin::Exhausted(meta) => Answer::Stopped(exhausted(meta.attempts)),
                });
            }
            Self::Job { name, at, .. } => (name, *at),
        };
        Ok(match self.schedule(store)?.fire_with(name, at, options)? {
            Fire::Started(lease) => Answer::Started(lease.version()),
            Fire::InProgress(_) => Answer::Later("the run is in progress"),
            Fire::NotYet(_) => Answer::Later("the fire time has not come"),
            Fire::Done(record) => Answer::Done(record.outcome().to_vec()),
            Fire::TooOld => Answer::Stopped(
                "the fire time is longer ago than runs are remembered, so it may have been run; \
                 find out, and give a longer --ttl only if no run was forgotten"
                    .to_owned(),
            ),
            Fire::Stopped(meta) if meta.status == oncelog::Status::Unknown => {
                Answer::Stopped(unknown())
            }
            Fire::Stopped(meta) => Answer::Stopped(exhausted(meta.attempts)),
        })
    }

    /// Records how the work has ended.
    pub(crate) fn end(
        &self,
        store: &Store,
        version: Version,
        outcome: &[u8],
        failed: bool,
    ) -> Result<(), Error> {
        let done = match self {
            Self::Key(key) if failed => store.fail_by(key, version, outcome),
            Self::Key(key) => store.complete_by(key, version, outcome),
            Self::Job { .. } => {
                let (schedule, key) = self.run(store)?;
                let jobs = schedule.namespace();
                if failed {
                    jobs.fail_by(key, version, outcome)
                } else {
                    jobs.complete_by(key, version, outcome)
                }
            }
        };
        done.map(drop)
    }

    pub(crate) fn release(&self, store: &Store, version: Version) -> Result<(), Error> {
        match self {
            Self::Key(key) => store.release_by(key, version, None),
            Self::Job { .. } => {
                let (schedule, key) = self.run(store)?;
                schedule.namespace().release_by(key, version, None)
            }
        }
    }

    pub(crate) fn renew(
        &self,
        store: &Store,
        version: Version,
        lease: Duration,
    ) -> Result<(), Error> {
        match self {
            Self::Key(key) => store.renew_by(key, version, lease),
            Self::Job { .. } => {
                let (schedule, key) = self.run(store)?;
                schedule.namespace().renew_by(key, version, lease)
            }
        }
    }

    fn schedule(&self, store: &Store) -> Result<Schedule, Error> {
        let (lease, retention) = match self {
            Self::Job { lease, retention, .. } => (*lease, *retention),
            Self::Key(_) => (oncelog::LEASE_DEFAULT, oncelog::LEASE_MAX),
        };
        Schedule::open(store, SCHEDULE, lease, retention)
    }

    /// The schedule, and the key of the run in it.
    fn run(&self, store: &Store) -> Result<(Schedule, Vec<u8>), Error> {
        let schedule = self.schedule(store)?;
        let key = match self {
            Self::Job { name, at, .. } => schedule.key(name, *at),
            Self::Key(key) => key.clone(),
        };
        Ok((schedule, key))
    }
}

fn unknown() -> String {
    "an earlier run ended without telling what came of it; find out, and choose another key or \
     leave out --hold"
        .to_owned()
}

fn exhausted(attempts: u32) -> String {
    format!("all {attempts} attempts are used up; raise --attempts")
}
