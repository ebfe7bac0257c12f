//! A process that is stopped beyond the lease that it holds: the key goes on, and it has lost it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use oncelog::{Begin, BeginOptions, Error, Lease, Store};

use crate::Failure;
use crate::campaign::Round;
use crate::pace::{pause, wait};
use crate::power::call;
use crate::settings::builder;

const LEASE: Duration = Duration::from_millis(100);
/// Longer than any step of the guest takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    for how in ["waits", "begins", "nobody"] {
        let path = round.room.join(how);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--guest", "hold", how]).arg(&path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guest = command.spawn()?;
        let mut output = BufReader::new(guest.stdout.take().ok_or("no pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let process = guest.id().to_string();
        let signal = |name: &str| call(Command::new("kill").args([name, &process]));
        signal("-STOP")?;
        pause(150 + round.random.below(150));
        signal("-CONT")?;
        round.fault();
        round.tally.checks += 3;
        if let Some(mut input) = guest.stdin.take() {
            // Where it has ended already, its status tells why.
            let _ = input.write_all(b"go\n");
        }
        let status = wait(&mut guest, PATIENCE)?;
        let said = guest.stderr.take().map(std::io::read_to_string).transpose()?;
        match status {
            Some(status) if status.success() => {}
            Some(status) => {
                return Err(format!("{how}: {status}: {}", said.unwrap_or_default()).into());
            }
            None => return Err(format!("{how}: the stopped process hangs").into()),
        }
    }
    Ok(())
}

/// Holds a lease, is stopped, and finds out what has become of it.
pub(crate) fn guest(words: &[String]) -> Result<(), Failure> {
    let [how, path] = words else { return Err("a holder wants a path".into()) };
    let store = builder().open(Path::new(path))?;
    let options = BeginOptions::new().lease(LEASE);
    let Begin::Started(mut late) = store.begin_with("key", options)? else {
        return Err("a new key is in progress".into());
    };
    let waiting = how == "waits";
    let next = std::thread::scope(|scope| {
        let waiter = waiting.then(|| scope.spawn(|| next(&store).map_err(|e| e.to_string())));
        println!("held");
        std::io::stdin().lock().read_line(&mut String::new())?;
        Ok::<_, Failure>(match waiter {
            Some(waiter) => Some(waiter.join().map_err(|_| "the waiter panicked")??),
            None if how == "begins" => Some(next(&store)?),
            None => None,
        })
    })?;
    let Some(mut next) = next else {
        // Nobody was given the key meanwhile, so there is one outcome all the same.
        late.complete("late")?;
        return expect_outcome(&store, b"late");
    };
    if next.attempt() != 2 || next.version() <= late.version() {
        return Err("the next holder's token or attempt is not above the first one's".into());
    }
    if !matches!(late.complete("late"), Err(Error::LeaseLost)) {
        return Err("a holder that was replaced completes".into());
    }
    next.complete("next")?;
    if !matches!(late.renew(LEASE), Err(Error::LeaseLost)) {
        return Err("a holder that was replaced renews".into());
    }
    expect_outcome(&store, b"next")
}

/// The lease of whoever comes next.
fn next(store: &Store) -> Result<Lease, Failure> {
    let options = BeginOptions::new().lease(Duration::from_secs(60));
    match store.begin_with("key", options)? {
        Begin::Started(lease) => Ok(lease),
        Begin::InProgress(other) => match other.wait(PATIENCE)? {
            Begin::Started(lease) => Ok(lease),
            other => Err(format!("after waiting: {other:?}").into()),
        },
        other => Err(format!("{other:?}").into()),
    }
}

fn expect_outcome(store: &Store, wanted: &[u8]) -> Result<(), Failure> {
    match store.get("key")? {
        Some(record) if record.outcome() == wanted => Ok(()),
        other => Err(format!("the outcome is not the one recorded: {}", other.is_some()).into()),
    }
}
