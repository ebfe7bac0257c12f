//! `kill -9` at random moments, also of openings, and then of openings after those.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use oncelog::{Durability, inspect};

use crate::Failure;
use crate::campaign::Round;
use crate::child::Orders;
use crate::history::Line;
use crate::life::{Witness, look_at_all};
use crate::oracle::Oracle;
use crate::pace::pause;
use crate::settings::manual;

/// Kills of one store.
const CYCLES: u64 = 6;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let store = round.room.join("store");
    let mut oracle = Oracle::new(Durability::Process);
    for cycle in 0..CYCLES {
        let seed = round.random.next();
        let orders = Orders {
            store: store.clone(),
            seed,
            level: "process",
            threads: 1 + cycle % 4,
            ttl: 400,
        };
        let mut child = start(&orders)?;
        let end = if round.random.one_in(5) {
            // Probably while it opens.
            pause(round.random.below(6));
            End::Now
        } else {
            End::AfterLines(round.random.below(if cycle % 2 == 0 { 300 } else { 8_000 }))
        };
        follow(&mut child, &mut oracle, end)?;
        round.fault();
        oracle.process_ended();
        // Some stores are opened by the next child, with what this one has left.
        if !round.random.one_in(4) {
            let closes = round.random.one_in(3);
            inspect_all(&store, &mut oracle, closes, true)?;
        }
        if round.until.has_come() {
            break;
        }
    }
    inspect_all(&store, &mut oracle, true, true)?;
    inspect_all(&store, &mut oracle, false, true)?;
    round.tally.checks += oracle.checks;
    Ok(())
}

/// Starts a child that lives until it is killed.
pub(crate) fn start(orders: &Orders) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(orders.arguments()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// When a child is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Now,
    AfterLines(u64),
}

/// Reads what a child writes and kills it.
pub(crate) fn follow(child: &mut Child, oracle: &mut Oracle, end: End) -> Result<(), Failure> {
    follow_until(child, oracle, end, |child| Ok(child.kill()?))
}

/// Reads what a child writes; at its end it is stopped by `stop`, which kills it.
pub(crate) fn follow_until(
    child: &mut Child,
    oracle: &mut Oracle,
    end: End,
    stop: impl FnOnce(&mut Child) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let output = child.stdout.take().ok_or("no pipe")?;
    let (mut stop, mut refused) = (Some(stop), false);
    let mut left = match end {
        End::Now => 0,
        End::AfterLines(lines) => lines + 1,
    };
    let mut result = Ok(());
    if left == 0
        && let Some(stop) = stop.take()
    {
        result = stop(child);
    }
    if result.is_ok() {
        result = read(output, |line| {
            oracle.hear(line)?;
            refused |= stop.is_none() && matches!(line, Line::NotOpened(_));
            left = left.saturating_sub(1);
            match stop.take_if(|_| left == 0) {
                Some(stop) => stop(child),
                None => Ok(()),
            }
        });
    }
    if result.is_err() {
        child.kill()?;
    }
    let said = child.stderr.take();
    let status = child.wait()?;
    result?;
    // What it opens may be gone before it is killed.
    if status.signal() != Some(9) && !refused {
        let said = said.map(std::io::read_to_string).transpose()?.unwrap_or_default();
        return Err(format!("a child ended by itself, with {status}: {said}").into());
    }
    Ok(())
}

/// Hands on each whole line; the last one may have been cut off.
pub(crate) fn read(
    output: impl std::io::Read,
    mut each: impl FnMut(&Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(1 << 16, output);
    let mut text = String::new();
    while input.read_line(&mut text)? > 0 {
        let Some(line) = text.strip_suffix('\n') else { break };
        let line = Line::parse(line).ok_or_else(|| format!("a child wrote `{line}`"))?;
        each(&line)?;
        text.clear();
    }
    Ok(())
}

/// Verifies the files, opens the store and looks at every key; `sound` asks that nothing sound
/// was called damaged.
pub(crate) fn inspect_all(
    store: &Path,
    oracle: &mut Oracle,
    closes: bool,
    sound: bool,
) -> Result<(), Failure> {
    if store.join("STORE").exists() {
        let report = inspect::verify(store)?;
        if let Some(problem) = report.problems.first().filter(|_| sound) {
            return Err(format!("verify finds {problem}").into());
        }
    }
    let opened = manual().open(store)?;
    oracle.hear(&Line::Opened)?;
    if sound && opened.recovery().damaged > 0 {
        return Err(format!("opening finds damage: {:?}", opened.recovery()).into());
    }
    look_at_all(&opened, oracle)?;
    // What opening serves is durable, and looking changes nothing.
    oracle.hear(&Line::SyncBegins)?;
    oracle.hear(&Line::SyncReturned)?;
    if closes {
        opened.close()?;
    } else {
        drop(opened);
        oracle.process_ended();
    }
    Ok(())
}
