//! `run`: concurrent callers with one key, one of whom works; `run_async.rs` is its counterpart.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::thread;

use oncelog::{BeginOptions, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let render = || {
        store.run("page 7", BeginOptions::new(), |lease| {
            Ok::<_, std::io::Error>(format!("rendered in attempt {}", lease.attempt()))
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(render)).collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(run)) => {
                    let who = if run.worked() { "worked" } else { "waited" };
                    println!("{who}: {}", String::from_utf8_lossy(run.outcome()));
                }
                Ok(Err(error)) => println!("{error}"),
                Err(_) => println!("the work panicked"),
            }
        }
    });
    Ok(())
}
