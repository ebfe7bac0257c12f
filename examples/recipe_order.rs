//! An order's way: guarded states, a job with recovery points, and a bounded number of attempts.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use oncelog::Store;
use oncelog::recipes::budget::{Attempt, Budgets, Limits, Retry};
use oncelog::recipes::checkpoint::{Jobs, Resume};
use oncelog::recipes::state::{States, Transition};

const LEASE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;

    // Of two who act on one state, one gets through; the other is told what it is now.
    let orders = States::open(&store, "orders")?;
    let _ = orders.create("42", "new")?;
    for next in ["paid", "cancelled"] {
        match orders.transition("42", "new", next)? {
            Transition::Made(version) => println!("order 42 is {next}, version {version}"),
            Transition::Refused(Some(current)) => {
                println!("not {next}: it is {}", String::from_utf8_lossy(current.state()));
            }
            Transition::Refused(None) => println!("there is no such order"),
        }
    }

    // The first run breaks off in its second step; the next one goes on there.
    let jobs = Jobs::open(&store, "fulfilment", LEASE, DAY)?;
    for run in 1..=2 {
        let Resume::Started(mut job) = jobs.resume("42")? else { break };
        job.step("reserve", |_| {
            println!("run {run}: reserved");
            Ok::<_, std::io::Error>("shelf 9")
        })?;
        let sent = job.step("send", |step| {
            if run == 1 {
                return Err(std::io::Error::other("the carrier does not answer"));
            }
            println!("run {run}: sent from {}", String::from_utf8_lossy(step.state()));
            Ok("parcel 1001")
        });
        match sent {
            Ok(_) => {
                let parcel = job.state().to_vec();
                job.complete(parcel)?;
            }
            Err(error) => {
                println!("run {run}: {error}");
                job.release(None)?;
            }
        }
    }

    // A mail that cannot be delivered is put aside in the end.
    let limits = Limits { attempts: 2, pause_first: Duration::from_nanos(1), ..Limits::default() };
    let budgets = Budgets::open(&store, "mails", limits)?;
    loop {
        match budgets.attempt("mail to 42")? {
            Attempt::Go(attempt) => match attempt.fail("mailbox full")? {
                Retry::After(pause) => println!("again in {pause:?}"),
                Retry::Never => println!("that was the last attempt"),
            },
            Attempt::Wait(pause) => std::thread::park_timeout(pause),
            Attempt::Spent { attempts, .. } => {
                println!("put aside after {attempts} attempts");
                return Ok(());
            }
            Attempt::Done(_) => return Ok(()),
        }
    }
}
