//! A webhook handler: the sender repeats events, several threads receive them, one handles each.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use oncelog::{Begin, DropPolicy, Namespace, Policy, Scope, Store};

/// What the sender is answered, as an HTTP status.
fn receive(events: &Namespace, sender: &str, id: &str) -> Result<u16, oncelog::Error> {
    let key = Scope::new().tenant(sender).key(id);
    let mut answer = events.begin(key)?;
    if let Begin::InProgress(other) = answer {
        // Another thread has it: its answer is soon known.
        answer = other.wait(Duration::from_secs(2))?;
    }
    match answer {
        Begin::Started(mut lease) => {
            // Whatever `?` or a panic leaves undone here, the drop policy gives the event back.
            lease.complete("handled")?;
            Ok(200)
        }
        Begin::Completed(_) => Ok(200),
        // The sender comes back later.
        Begin::InProgress(_) | Begin::Unknown(_) => Ok(503),
        Begin::Mismatch(_) => Ok(422),
        // Repeating will not help.
        Begin::Exhausted(_) => Ok(200),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let policy = Policy {
        retention: Some(Duration::from_secs(7 * 24 * 3600).into()),
        lease: Duration::from_secs(10),
        on_drop: DropPolicy::Release,
        attempts_max: Some(5),
        ..Policy::default()
    };
    let events = store.namespace("events", policy)?;
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| receive(&events, "billing", "evt_1"))).collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(status)) => println!("answered {status}"),
                Ok(Err(error)) => println!("{error}"),
                Err(_) => println!("a handler panicked"),
            }
        }
    });
    println!("{} of 4 deliveries were handled", events.stats().leases_completed);
    Ok(())
}
