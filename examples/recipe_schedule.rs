//! A timed job that several workers are set to run: each fire time is run once, and none is missed.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use oncelog::recipes::schedule::{Fire, Schedule};
use oncelog::{Store, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let schedule = Schedule::open(&store, "hourly", Duration::from_secs(60), 24 * HOUR)?;

    // Three workers whose timers ring at once.
    let at = schedule.latest(HOUR);
    let run = |worker: u32| -> oncelog::Result<()> {
        match schedule.fire("report", at)? {
            Fire::Started(mut lease) => {
                println!("worker {worker} writes the report of {at}");
                lease.complete("12 pages")?;
            }
            Fire::InProgress(other) => println!("worker {worker}: {:?}", other.meta().status),
            Fire::Done(_) => println!("worker {worker}: it is written"),
            other => println!("worker {worker}: {other:?}"),
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=3).map(|worker| scope.spawn(move || run(worker))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;

    // After a time in which nothing ran, the others are made up for.
    let since = Timestamp::from_millis(at.as_millis() - 3 * 3_600_000);
    for missed in schedule.due("report", since, HOUR)? {
        if let Fire::Started(mut lease) = schedule.fire("report", missed)? {
            println!("made up for {missed}");
            lease.complete("12 pages, late")?;
        }
    }
    assert!(schedule.due("report", since, HOUR)?.is_empty());
    Ok(())
}
