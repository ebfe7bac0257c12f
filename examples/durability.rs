//! What survives what: a call's return, and `sync` on top of it.
//!
//! When `check_and_set` returns, the record survives the end of the process, also by `kill -9`.
//! A power failure may take what was recorded since the last `sync`; so where an answer leaves
//! the machine, call `sync` first. One `sync` covers everything acknowledged before it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use oncelog::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-durability-{}", std::process::id()));
    let store = Store::open(&path)?;
    for payment in 0..1_000 {
        assert!(store.check_and_set(format!("payment-{payment}"), "paid")?.is_new());
    }
    println!("1000 payments recorded: they survive the end of this process");
    store.sync()?;
    println!("synced: they survive a power failure too");

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
