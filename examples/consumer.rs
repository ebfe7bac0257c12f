//! A consumer of an at-least-once queue: each message takes effect once, over crashes and repeats.
//!
//! The queue delivers from any offset, as brokers do after a restart or a rebalance, and its
//! producer has sent one message twice. The consumer dies between an effect and the commit. Where
//! the effect goes, the version of the message's lease is passed on, and a repetition is refused.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::time::Duration;

use oncelog::recipes::consumer::{Group, Message, Turn};
use oncelog::{Durability, Store};

/// A partition: id, account and amount of the message at each offset.
const PARTITION: [(&str, &str, u64); 7] = [
    ("m1", "ada", 5),
    ("m2", "bob", 7),
    ("m3", "ada", 1),
    // Sent again, as its producer never heard of the first.
    ("m2", "bob", 7),
    ("m4", "cleo", 2),
    ("m5", "ada", 3),
    ("m6", "bob", 4),
];
const LEASE: Duration = Duration::from_millis(20);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the consumer changes: it keeps the payments that it has made by the id of the message.
#[derive(Default)]
struct Accounts {
    paid: BTreeMap<String, u64>,
    balances: BTreeMap<&'static str, u64>,
}

impl Accounts {
    fn pay(&mut self, id: &str, token: u64, account: &'static str, amount: u64) {
        // A repetition comes with a higher token and finds what was done.
        if self.paid.insert(id.to_owned(), token).is_none() {
            *self.balances.entry(account).or_default() += amount;
        }
    }
}

/// Consumes up to `polls` polls of three messages; dies in the middle of the last if told to.
fn consume(
    store: &Store,
    accounts: &mut Accounts,
    polls: usize,
    dies: bool,
) -> oncelog::Result<()> {
    let group = Group::open(store, "billing", LEASE, WEEK)?;
    let partition = group.partition("payments", 0);
    let mut from = partition.position()?.unwrap_or(0);
    println!("resuming at {from}");
    for poll in 1..=polls {
        let polled: Vec<_> = (from..)
            .zip(PARTITION.iter().skip(usize::try_from(from).unwrap_or(0)))
            .take(3)
            .collect();
        let messages = polled.iter().map(|(offset, (id, ..))| Message::at(*offset).id(*id));
        let mut batch = partition.claim(from, messages)?;
        // Of a consumer that died, once its leases are over.
        batch.wait(Duration::from_secs(1))?;
        for (index, (offset, (id, account, amount))) in polled.iter().enumerate() {
            if let Turn::Handle(lease) = batch.turn(index) {
                println!("{offset}: {id} pays {amount} to {account}, attempt {}", lease.attempt());
                accounts.pay(id, lease.version().as_u64(), account, *amount);
                if dies && poll == polls {
                    println!("{offset}: the consumer dies before it commits");
                    return Ok(());
                }
                batch.handled(index, "")?;
            } else {
                println!("{offset}: {id} was handled before");
            }
        }
        // Marks and position in one step. The broker may be told the position now.
        let committed = batch.commit()?;
        from = committed.next.unwrap_or(from);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-consumer-{}", std::process::id()));
    let mut accounts = Accounts::default();
    for (polls, dies) in [(2, true), (3, false)] {
        // Synced: what is committed survives a power cut as well.
        let store = Store::builder().durability(Durability::Synced).open(&path)?;
        consume(&store, &mut accounts, polls, dies)?;
    }
    println!("balances: {:?}", accounts.balances);
    assert_eq!(accounts.balances, BTreeMap::from([("ada", 9), ("bob", 11), ("cleo", 2)]));
    std::fs::remove_dir_all(path)?;
    Ok(())
}
