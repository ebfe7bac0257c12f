//! A queue that delivers some messages twice, consumed so that each takes effect once.
//!
//! The key is inserted before the work. A crash between the two skips the message; where that is
//! worse than doing it twice, insert after the work instead, or make the work itself repeatable.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use oncelog::Store;

/// What an at-least-once queue hands out: after a lost acknowledgement, the same message again.
const DELIVERIES: [(&str, &str, u64); 7] = [
    ("m1", "ada", 5),
    ("m2", "bob", 7),
    ("m1", "ada", 5),
    ("m3", "ada", 1),
    ("m3", "ada", 1),
    ("m2", "bob", 7),
    ("m4", "cleo", 2),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-consumer-{}", std::process::id()));
    let mut balances: BTreeMap<&str, u64> = BTreeMap::new();
    // The consumer is started twice: what it has handled outlives it.
    for deliveries in DELIVERIES.chunks(4) {
        let handled = Store::open(&path)?;
        for (message, account, amount) in deliveries {
            if handled.insert(message)? {
                *balances.entry(account).or_default() += amount;
                println!("{message}: {account} gets {amount}");
            } else {
                println!("{message}: delivered again, skipped");
            }
        }
        handled.close()?;
    }
    println!("balances: {balances:?}");
    assert_eq!(balances, BTreeMap::from([("ada", 6), ("bob", 7), ("cleo", 2)]));
    std::fs::remove_dir_all(path)?;
    Ok(())
}
