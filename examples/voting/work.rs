//! The threads: which ballots they cast, which voters they look up, and what came of it.

use std::error::Error;
use std::io::{IsTerminal, Write, stderr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use oncelog::recipes::ballot::{Casts, Election, Found};

use crate::options::Options;

/// Of so many lookups, one is of somebody who has not voted.
const UNKNOWN: u64 = 10;
/// Numbers of voters that nobody casts a ballot for begin here.
const NOBODY: u64 = 1 << 48;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cast,
    Find,
    Together,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cast => "cast",
            Self::Find => "find",
            Self::Together => "together",
        }
    }
}

/// A run to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    kind: Kind,
    /// Voters with numbers below this one have voted.
    voted: u64,
    /// Ballots to be counted.
    ballots: u64,
    /// Lookups in all, or for each ballot that is offered.
    lookups: u64,
    options: Options,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) counted: u64,
    pub(crate) refused: u64,
    pub(crate) found: u64,
    pub(crate) unknown: u64,
    pub(crate) time: Duration,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.counted += other.counted;
        self.refused += other.refused;
        self.found += other.found;
        self.unknown += other.unknown;
    }
}

impl Plan {
    pub(crate) fn of(kind: Kind, voted: u64, options: &Options) -> Self {
        let ballots = if kind == Kind::Find { 0 } else { options.ballots };
        let lookups = match kind {
            Kind::Cast => 0,
            Kind::Find => options.lookups,
            Kind::Together => options.per_ballot,
        };
        Self { kind, voted, ballots, lookups, options: options.clone() }
    }

    /// The share of a thread in a number.
    fn share(&self, of: u64, thread: u64) -> std::ops::Range<u64> {
        let threads = self.options.threads;
        of * thread / threads..of * (thread + 1) / threads
    }

    /// Nothing was refused that should not have been, and nothing counted either.
    pub(crate) fn check(&self, done: &Done) -> Result<(), String> {
        if done.counted != self.ballots {
            return Err(format!("{} of {} ballots were counted", done.counted, self.ballots));
        }
        if self.kind == Kind::Find && done.found + done.unknown != self.lookups {
            return Err("not all lookups were answered".into());
        }
        Ok(())
    }
}

/// Does a run on all threads at once.
pub(crate) fn run(election: &Election, plan: &Plan) -> Result<Done, Box<dyn Error>> {
    let threads = usize::try_from(plan.options.threads)?;
    let (barrier, progress) = (Barrier::new(threads + 1), AtomicU64::new(0));
    thread::scope(|scope| {
        let (answer, answers) = channel();
        for thread in 0..plan.options.threads {
            let (answer, barrier, progress) = (answer.clone(), &barrier, &progress);
            scope.spawn(move || {
                let mut worker = Worker::new(election, plan, thread, progress);
                barrier.wait();
                // Nobody listens any more once another thread has failed.
                let _ = answer.send(worker.work().map(|()| worker.done));
            });
        }
        barrier.wait();
        let begun = now();
        let mut done = Done::default();
        let mut left = threads;
        while left > 0 {
            match answers.recv_timeout(Duration::from_millis(500)) {
                Ok(one) => {
                    done.add(one.map_err(|error| -> Box<dyn Error> { error })?);
                    left -= 1;
                }
                Err(RecvTimeoutError::Timeout) => show(plan, &progress, begun),
                Err(error) => return Err(error.into()),
            }
        }
        done.time = begun.elapsed();
        if !plan.options.quiet && stderr().is_terminal() {
            eprintln!();
        }
        Ok(done)
    })
}

fn show(plan: &Plan, progress: &AtomicU64, begun: Instant) {
    if plan.options.quiet {
        return;
    }
    let (count, name) = (progress.load(Ordering::Relaxed), plan.kind.name());
    let line = format!("{name}: {count} answers in {:.1} s", begun.elapsed().as_secs_f64());
    // One line that changes, where somebody looks at it.
    let end = if stderr().is_terminal() { "\r" } else { "\n" };
    let _ = write!(stderr(), "{line}{end}");
}

type Voter = [u8; 16];

/// The moment, to measure from.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long it takes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// One thread.
struct Worker<'a> {
    election: &'a Election,
    plan: &'a Plan,
    thread: u64,
    progress: &'a AtomicU64,
    choices: Vec<String>,
    state: u64,
    casts: Casts,
    found: Found,
    done: Done,
}

impl<'a> Worker<'a> {
    fn new(election: &'a Election, plan: &'a Plan, thread: u64, progress: &'a AtomicU64) -> Self {
        Self {
            election,
            plan,
            thread,
            progress,
            choices: (0..plan.options.choices).map(|number| format!("choice {number}")).collect(),
            state: mixed(thread + 1),
            casts: Casts::new(),
            found: Found::new(),
            done: Done::default(),
        }
    }

    fn work(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.plan.kind == Kind::Find {
            let share = self.plan.share(self.plan.lookups, self.thread);
            return self.find(share.end - share.start, self.plan.voted);
        }
        let share = self.plan.share(self.plan.ballots, self.thread);
        let (mut next, end) = (share.start, share.end);
        let choices = std::mem::take(&mut self.choices);
        let mut items: Vec<(Voter, &str)> = Vec::new();
        while next < end {
            items.clear();
            let first = next;
            let mut repeated = 0;
            while next < end && (items.len() as u64) < self.plan.options.batch {
                let random = self.random();
                let choice = &choices[below(random, choices.len() as u64)];
                // Somebody of this thread's who has voted, maybe in this very batch.
                let number = if next > share.start && random % 100 < self.plan.options.repeat {
                    repeated += 1;
                    share.start + mixed(random) % (next - share.start)
                } else {
                    next += 1;
                    next - 1
                };
                items.push((voter(self.plan.voted + number), choice));
            }
            self.election.cast_many(&items, &mut self.casts)?;
            let counted = self.casts.counted();
            let refused = self.casts.len() as u64 - counted;
            if (counted, refused) != (next - first, repeated) {
                return Err(format!("{counted} ballots counted of {}", next - first).into());
            }
            self.done.counted += counted;
            self.done.refused += refused;
            self.progress.fetch_add(counted + refused, Ordering::Relaxed);
            // Only what this thread has cast is sure to be there yet.
            let known = self.plan.voted.max(1);
            self.find((counted + refused) * self.plan.lookups, known)?;
        }
        Ok(())
    }

    /// Looks up so many voters, most of them of those with numbers below `voted`.
    fn find(&mut self, count: u64, voted: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut voters: Vec<Voter> = Vec::new();
        let mut left = count;
        while left > 0 {
            voters.clear();
            let mut expected = 0;
            for _ in 0..left.min(self.plan.options.batch) {
                let random = self.random();
                let unknown = random.is_multiple_of(UNKNOWN);
                let number = if unknown { NOBODY + random % NOBODY } else { random % voted };
                expected += u64::from(!unknown && number < self.plan.voted);
                voters.push(voter(number));
            }
            self.election.find_many(&voters, &mut self.found)?;
            let (found, all) = (self.found.voted(), self.found.len() as u64);
            if found < expected || (self.plan.voted > 0 && found != expected) {
                return Err(format!("{found} voters were found of {expected}").into());
            }
            self.done.found += found;
            self.done.unknown += all - found;
            self.progress.fetch_add(all, Ordering::Relaxed);
            left -= all;
        }
        Ok(())
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state) >> 1
    }
}

fn below(random: u64, end: u64) -> usize {
    usize::try_from((random >> 32) % end).unwrap_or(0)
}

/// Spreads numbers over all numbers, each to one of its own.
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The voter with a number: no two are the same, and neighbours have nothing in common.
fn voter(number: u64) -> Voter {
    let mixed = mixed(number);
    (u128::from(mixed) << 64 | u128::from(mixed.rotate_left(32) ^ number)).to_le_bytes()
}
