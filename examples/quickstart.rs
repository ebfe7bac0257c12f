//! The shortest use: record what came of a key, and get it back the second time.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use oncelog::{Check, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-quickstart-{}", std::process::id()));
    let store = Store::open(&path)?;
    for order in ["order-1", "order-2", "order-1"] {
        match store.check_and_set(order, format!("receipt for {order}"))? {
            Check::New => println!("{order}: charged"),
            Check::Duplicate(record) => {
                println!("{order}: known, {}", String::from_utf8_lossy(record.outcome()));
            }
        }
    }
    store.close()?;
    std::fs::remove_dir_all(path)?;
    Ok(())
}
