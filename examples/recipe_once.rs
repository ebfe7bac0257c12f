//! Calls that come twice: a one-shot token, a signed request's nonce, and a double click.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use oncelog::recipes::debounce::{Admit, Debounce, Window};
use oncelog::recipes::nonce::{Accept, Nonces};
use oncelog::recipes::token::{Consume, Tokens};
use oncelog::{Scope, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;

    // The page is given a token for the cart; submitting it consumes the token.
    let tokens = Tokens::open(&store, "checkout")?;
    let token = tokens.issue("cart 7", Duration::from_secs(1800))?;
    for submitted in [token.as_str(), token.as_str(), "0123456789abcdef0123456789abcdef"] {
        match tokens.consume(submitted)? {
            Consume::Now(cart) => println!("ordered {}", String::from_utf8_lossy(&cart)),
            Consume::Already { at } => println!("this was ordered at {at}"),
            Consume::Unknown => println!("no such token: load the page again"),
        }
    }

    // A request of an API, whose signature was verified before.
    let nonces = Nonces::open(&store, "api", Duration::from_secs(300))?;
    for sent in [store.now(), store.now(), oncelog::Timestamp::from_millis(0)] {
        match nonces.accept("app-1", "n-81", sent)? {
            Accept::New => println!("served"),
            Accept::Duplicate => println!("a replay"),
            Accept::Late | Accept::Early => println!("the sender's clock is wrong"),
        }
    }

    // A click counts once in five seconds, and what comes in between is told afterwards.
    let clicks = Debounce::open(&store, "clicks", Window::Fixed(Duration::from_secs(5)))?;
    let clicks = clicks.with_marks();
    let ann = Scope::new().principal("ann").operation("POST /refresh");
    for _ in 0..3 {
        match clicks.admit(&ann, "dashboard")? {
            Admit::First => println!("refreshing"),
            Admit::Repeat { until } => println!("not again before {until}"),
        }
    }
    if clicks.take_mark(&ann, "dashboard")? {
        println!("somebody asked again meanwhile: refreshing once more");
    }
    Ok(())
}
