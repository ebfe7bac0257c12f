//! Numbered messages, the branches of a transaction, and an audit of keys before they are enforced.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use oncelog::Store;
use oncelog::recipes::audit::{Audit, Observe};
use oncelog::recipes::fence::{Cancel, Confirm, Fence, Try};
use oncelog::recipes::sequence::{Accept, Order, Sequences};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;

    // A device numbers its readings, and counts its restarts as epochs.
    let meters = Sequences::open(&store, "meters", Order::Window(128))?;
    for (epoch, number) in [(1, 1), (1, 4), (1, 2), (1, 4), (2, 0), (1, 5)] {
        match meters.accept("meter 7", epoch, number)? {
            Accept::New { skipped: 0 } => println!("{epoch}/{number}: taken"),
            Accept::New { skipped } => println!("{epoch}/{number}: taken, {skipped} to come"),
            refused => println!("{epoch}/{number}: {refused:?}"),
        }
    }

    // The coordinator of a transaction gave up before its first message came.
    let fence = Fence::open(&store, "stock", WEEK)?;
    if fence.on_cancel("tx 1", "item 7")? == Cancel::Empty {
        println!("tx 1: nothing to give back");
    }
    if fence.on_try("tx 1", "item 7")? == Try::Late {
        println!("tx 1: not reserved, as it is cancelled");
    }
    // Another one is confirmed, twice.
    if fence.on_try("tx 2", "item 7")? == Try::Proceed {
        println!("tx 2: reserved");
    }
    for _ in 0..2 {
        if fence.on_confirm("tx 2", "item 7")? == Confirm::Proceed {
            println!("tx 2: taken from the shelf");
            fence.confirmed("tx 2", "item 7")?;
        }
    }

    // What would a check of these keys have refused?
    let audit = Audit::open(&store, "payments", WEEK)?;
    for (key, answer) in [("k1", "201"), ("k2", "201"), ("k1", "201"), ("k2", "402")] {
        if let Observe::Diverged { .. } = audit.observe(key, answer) {
            println!("{key} stands for two requests");
        }
    }
    println!("{:?}", audit.report()?);
    Ok(())
}
