//! A payment that is made at most once per key, fenced against holders that were replaced.
//!
//! The bank here stands for any system that the work changes: it keeps the highest token that it
//! has seen for an order, and refuses lower ones.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use oncelog::{AbandonPolicy, Begin, BeginOptions, Fingerprint, Namespace, Policy, Store};

#[derive(Default)]
struct Bank {
    tokens: HashMap<String, u64>,
}

impl Bank {
    fn pay(&mut self, order: &str, cents: u64, token: u64) -> Result<String, String> {
        let highest = self.tokens.entry(order.into()).or_default();
        if token < *highest {
            return Err(format!("token {token} was overtaken by {highest}"));
        }
        *highest = token;
        Ok(format!("receipt for {order}: {cents} cents"))
    }
}

fn pay(
    payments: &Namespace,
    bank: &mut Bank,
    order: &str,
    cents: u64,
) -> Result<(), Box<dyn Error>> {
    let request =
        Fingerprint::builder().field(order.as_bytes()).field(&cents.to_le_bytes()).finish();
    match payments.begin_with(order, BeginOptions::new().fingerprint(request))? {
        Begin::Started(mut lease) => {
            match bank.pay(order, cents, lease.version().as_u64()) {
                Ok(receipt) => lease.complete(receipt)?,
                // Refused for good: the refusal is what later requests with this key get, too.
                Err(refusal) => lease.fail(refusal)?,
            };
            println!("{order}: paid");
        }
        Begin::Completed(record) => {
            println!("{order}: {}", String::from_utf8_lossy(record.outcome()));
        }
        Begin::InProgress(other) => println!("{order}: again in {:?}", other.retry_after()),
        Begin::Mismatch(_) => println!("{order}: this key was used for another amount"),
        Begin::Unknown(meta) => println!("{order}: ask the bank about token {}", meta.version),
        Begin::Exhausted(meta) => println!("{order}: given up after {} attempts", meta.attempts),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let policy = Policy {
        lease: Duration::from_secs(60),
        // Whether money has moved is for somebody to find out, not to try again.
        on_abandon: AbandonPolicy::Hold,
        require_fingerprint: true,
        ..Policy::default()
    };
    let payments = store.namespace("payments", policy)?;
    let mut bank = Bank::default();
    pay(&payments, &mut bank, "order-42", 1_999)?;
    pay(&payments, &mut bank, "order-42", 1_999)?;
    pay(&payments, &mut bank, "order-42", 5)?;
    store.sync()?;
    store.close()?;
    Ok(())
}
