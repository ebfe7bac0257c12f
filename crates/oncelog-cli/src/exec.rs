//! `exec`: runs a command once per key, and replays its output and exit code to later callers.
//!
//! The store is open only for the steps between which the command runs: others use it meanwhile
//! for other keys. A caller whose key is in progress looks again until it is done.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use oncelog::{AbandonPolicy, BeginOptions, Error, Store, Version};

use crate::args::ExecArgs;
use crate::exit::{Failure, say};
use crate::outcome::{OUTPUT_BYTES_MAX, Outcome};
use crate::target::{Answer, Target};

/// Between two looks at a key that is in progress; each takes the store for a moment.
const KEY_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to open a store that is in use.
const STORE_PAUSE: Duration = Duration::from_millis(20);
/// The same for whoever holds a key, and must not lose it to those who look.
const HOLDER_PAUSE: Duration = Duration::from_millis(2);
/// Room for an outcome.
const OUTCOME_BYTES_MAX: usize = 16 << 20;

/// What oncelog itself ends with when it fails, as other programs that run programs do.
const OWN_FAILURE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command.
const SIGNALLED: i32 = 128;

pub(crate) fn run(arguments: &ExecArgs) -> Result<(), Failure> {
    let exec = Exec { arguments, until: None, store_pause: STORE_PAUSE };
    exec.run().map_err(|failure| failure.with_code(OWN_FAILURE))
}

struct Exec<'a> {
    arguments: &'a ExecArgs,
    /// When waiting for others ends.
    until: Option<Instant>,
    store_pause: Duration,
}

impl Exec<'_> {
    fn run(mut self) -> Result<(), Failure> {
        self.until = self.arguments.wait.map(|wait| now() + wait);
        // A period's latest fire time is that of the first look, however long others take.
        let mut known = None;
        loop {
            let store = self.open()?;
            let target = match known.take() {
                Some(target) => target,
                None => Target::new(self.arguments, &store)?,
            };
            let answer = target.begin(&store, self.options());
            // What follows may take long: others need the store.
            let closed = store.close();
            let answer = answer?;
            closed?;
            match answer {
                Answer::Started(version) => return self.execute(&target, version),
                Answer::Later(why) => self.pause(KEY_PAUSE, why)?,
                Answer::Done(outcome) => return replay(&outcome),
                Answer::Stopped(why) => return Err(Failure::Runtime(why)),
            }
            known = Some(target);
        }
    }

    fn options(&self) -> BeginOptions {
        let arguments = self.arguments;
        let mut options = BeginOptions::new().lease(arguments.lease).retention(arguments.ttl);
        if let Some(attempts) = arguments.attempts {
            options = options.attempts_max(attempts);
        }
        if arguments.hold {
            options = options.on_abandon(AbandonPolicy::Hold);
        }
        options
    }

    /// Opens the store, as soon as nobody else has it.
    fn open(&self) -> Result<Store, Failure> {
        loop {
            let builder = Store::builder().outcome_bytes_max(OUTCOME_BYTES_MAX).stripes(64);
            let builder = builder.durability(self.arguments.durability);
            match builder.open(&self.arguments.store) {
                Err(Error::AlreadyOpen { .. }) => {
                    self.pause(self.store_pause, "the store is in use")?
                }
                opened => return Ok(opened?),
            }
        }
    }

    fn pause(&self, pause: Duration, why: &str) -> Result<(), Failure> {
        if self.until.is_some_and(|until| now() >= until) {
            return Err(Failure::Runtime(format!("{why}, and the time given with --wait is over")));
        }
        thread::park_timeout(pause);
        Ok(())
    }

    /// Runs the command, and records what came of it under the lease with this version.
    fn execute(&self, target: &Target, version: Version) -> Result<(), Failure> {
        let Some((program, rest)) = self.arguments.command.split_first() else {
            return Err(Failure::Usage("name a command to run".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(rest).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.settle(|store| target.release(store, version))?;
                let missing = error.kind() == io::ErrorKind::NotFound;
                let code = if missing { NOT_FOUND } else { NOT_EXECUTABLE };
                let text = format!("could not run {}: {error}", program.to_string_lossy());
                return Err(Failure::Coded(code, text));
            }
        };
        let (sender, ended) = mpsc::channel();
        let outputs = (child.stdout.take(), child.stderr.take());
        thread::spawn(move || {
            let stderr = thread::spawn(move || pass_on(outputs.1, io::stderr()));
            let stdout = pass_on(outputs.0, io::stdout());
            let stderr = stderr.join().unwrap_or_default();
            // The receiver is gone only with the process.
            let _ = sender.send(child.wait().map(|status| (status, stdout, stderr)));
        });
        let result = loop {
            match ended.recv_timeout(self.arguments.lease / 3) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Timeout) => self.renew(target, version)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Runtime("the command's end was not seen".to_owned()));
                }
            }
        };
        let (status, stdout, stderr) = result.map_err(|error| {
            Failure::Runtime(format!("could not wait for the command: {error}"))
        })?;
        self.record(target, version, (status, stdout, stderr))
    }

    fn record(
        &self,
        target: &Target,
        version: Version,
        (status, stdout, stderr): (ExitStatus, Vec<u8>, Vec<u8>),
    ) -> Result<(), Failure> {
        let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) else {
            self.settle(|store| target.release(store, version))?;
            let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
            let code = u8::try_from(SIGNALLED + signal).unwrap_or(OWN_FAILURE);
            let text = format!("the command was ended by signal {signal}; its key is free again");
            return Err(Failure::Coded(code, text));
        };
        let outcome = Outcome::new(code, stdout, stderr).encode();
        self.settle(|store| match code {
            0 => target.end(store, version, &outcome, false),
            _ if self.arguments.retry_failed => target.release(store, version),
            _ => target.end(store, version, &outcome, true),
        })?;
        ended_with(code)
    }

    fn renew(&self, target: &Target, version: Version) -> Result<(), Failure> {
        self.settle(|store| target.renew(store, version, self.arguments.lease))
    }

    /// Does something to the key. That the lease is lost is told, and no failure: the command has
    /// run, and what it printed and returned is true.
    fn settle(&self, step: impl FnOnce(&Store) -> Result<(), Error>) -> Result<(), Failure> {
        let store_pause = HOLDER_PAUSE;
        let patient = Exec { arguments: self.arguments, until: None, store_pause };
        let store = patient.open()?;
        let done = step(&store);
        store.close()?;
        match done {
            Err(Error::LeaseLost) => {
                say("the command took longer than its lease, and another caller has its key now");
                Ok(())
            }
            done => Ok(done?),
        }
    }
}

/// Prints what an earlier run printed, and ends as it ended.
fn replay(outcome: &[u8]) -> Result<(), Failure> {
    let Some(outcome) = Outcome::decode(outcome) else {
        return Err(Failure::Runtime("this key was not recorded by exec".to_owned()));
    };
    let write = |sink: &mut dyn Write, bytes| sink.write_all(bytes).and_then(|()| sink.flush());
    write(&mut io::stdout().lock(), &outcome.stdout)
        .map_err(|error| Failure::writing("standard output", &error))?;
    write(&mut io::stderr().lock(), &outcome.stderr)
        .map_err(|error| Failure::writing("standard error", &error))?;
    if outcome.cut {
        say("the command had printed more than was recorded");
    }
    ended_with(outcome.code)
}

fn ended_with(code: u8) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure::Ended(code)) }
}

/// Copies what a command prints to where it would have gone, and keeps the first part of it.
fn pass_on(from: Option<impl Read>, mut to: impl Write) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let Some(mut from) = from else { return kept };
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..length).unwrap_or_default();
        // Nobody may read it any more; what came of the command is recorded all the same.
        let _ = to.write_all(piece).and_then(|()| to.flush());
        let room = (OUTPUT_BYTES_MAX + 1).saturating_sub(kept.len());
        kept.extend_from_slice(piece.get(..room.min(length)).unwrap_or_default());
    }
    kept
}

#[expect(clippy::disallowed_methods, reason = "how long a person waits is no matter of the store")]
fn now() -> Instant {
    Instant::now()
}
