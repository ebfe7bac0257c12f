//! `run_async`: as `run.rs`, for asynchronous work, under any runtime.
//!
//! The runtime here is the least that works: it polls one future and sleeps until it is woken.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use oncelog::{BeginOptions, Store};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

async fn render(attempt: u32) -> std::io::Result<String> {
    Ok(format!("rendered in attempt {attempt}"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let page =
        || {
            block_on(store.run_async("page 7", BeginOptions::new(), async |lease| {
                render(lease.attempt()).await
            }))
        };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(page)).collect();
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
