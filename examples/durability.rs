//! What survives what: levels per store and per call, tickets, and `sync`.
//!
//! At the level `Process`, the default, a record survives the end of the process when the call
//! returns, also by `kill -9`. A power failure may take what was recorded since the last `sync`;
//! so where an answer leaves the machine, record it at `Synced`, or wait for a ticket first.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use oncelog::{Durability, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-durability-{}", std::process::id()));
    let store = Store::open(&path)?;
    for payment in 0..1_000 {
        assert!(store.check_and_set(format!("payment-{payment}"), "paid")?.is_new());
    }
    println!("1000 payments recorded: they survive the end of this process");
    let ticket = store.ticket()?;
    ticket.wait()?;
    println!("a ticket waited for: they survive a power failure too");

    // One sync serves all who wait at this level, and no answer rests on what is not synced.
    let synced = store.with_durability(Durability::Synced)?;
    assert!(synced.check_and_set("payment-1000", "paid")?.is_new());
    println!("one more at the level Synced: it survives a power failure at once");
    drop(synced);

    // Dropping the last handle does no more than a crash of the process would.
    drop(store);
    let store = Store::open(&path)?;
    let report = store.recovery();
    println!("opened after a drop: {} records, closed: {}", report.records, report.after_close);
    assert!(store.contains("payment-999")?);

    // Closing seals and syncs, so the next open reads less.
    store.close()?;
    let store = Store::open(&path)?;
    let report = store.recovery();
    println!("opened after a close: {} records, closed: {}", report.records, report.after_close);
    drop(store);
    std::fs::remove_dir_all(path)?;
    Ok(())
}
