//! Orders that are charged, and whose mails go out: never the one without the other.
//!
//! The service completes an order together with its messages and dies before it has sent them all.
//! The next one finds what is pending, in the order of completion, and goes on. One message is sent
//! a second time, as the service died between sending and marking it; the receiver knows the
//! number.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeSet;
use std::time::Duration;

use oncelog::recipes::outbox::Outbox;
use oncelog::{Begin, Durability, Store};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whoever sends the mails: a number that it has seen is dropped.
#[derive(Default)]
struct Mailer {
    seen: BTreeSet<u64>,
    mails: Vec<String>,
}

impl Mailer {
    fn send(&mut self, number: u64, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        if self.seen.insert(number) {
            println!("mailed: {text}");
            self.mails.push(text);
        } else {
            println!("came again, dropped: {text}");
        }
    }
}

/// Charges an order, unless that was done before, and says what is to be mailed.
fn charge(store: &Store, outbox: &Outbox, order: &str) -> oncelog::Result<()> {
    match store.begin(order)? {
        Begin::Started(mut lease) => {
            println!("{order}: charged with token {}", lease.version().as_u64());
            let messages = [format!("{order}: receipt"), format!("{order}: shipping note")];
            // The outcome and both messages, or nothing of it.
            outbox.complete(&mut lease, "charged", &messages)?;
        }
        other => println!("{order}: {other:?}"),
    }
    Ok(())
}

/// Sends what is pending; dies after so many messages, before it has marked the last.
fn dispatch(outbox: &Outbox, mailer: &mut Mailer, dies_after: usize) -> oncelog::Result<()> {
    for (count, message) in (1..).zip(outbox.pending()?) {
        let message = message?;
        mailer.send(message.number(), message.payload());
        if count == dies_after {
            println!("the service dies");
            return Ok(());
        }
        outbox.dispatched(&message)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("oncelog-outbox-{}", std::process::id()));
    let mut mailer = Mailer::default();
    for (orders, dies_after) in [(["order 1", "order 2"], 3), (["order 2", "order 3"], usize::MAX)]
    {
        let store = Store::builder().durability(Durability::Synced).open(&path)?;
        let outbox = Outbox::open(&store, "mails", WEEK)?;
        for order in orders {
            charge(&store, &outbox, order)?;
        }
        dispatch(&outbox, &mut mailer, dies_after)?;
    }
    assert_eq!(mailer.mails.len(), 6);
    assert!(mailer.mails.is_sorted());
    std::fs::remove_dir_all(path)?;
    Ok(())
}
