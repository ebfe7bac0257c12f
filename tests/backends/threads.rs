//! Tasks on threads: a future to its end, and a timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use oncelog::backend::suite::{Filler, Task, slot};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs a task on a thread of its own.
pub(crate) fn spawn(task: Task<'static, ()>) {
    thread::spawn(|| block_on(task));
}

static ALARMS: LazyLock<Sender<(Instant, Filler<()>)>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<(Instant, Filler<()>)>();
    thread::spawn(move || {
        let (mut ends, mut fillers) = (BinaryHeap::new(), Vec::new());
        loop {
            let now = now();
            while ends.peek().is_some_and(|Reverse((end, _))| *end <= now) {
                let Some(Reverse((_, index))) = ends.pop() else { break };
                let filler: Option<Filler<()>> = std::mem::take(&mut fillers[index]);
                filler.unwrap().fill(());
            }
            let next = ends.peek().map(|Reverse((end, _)): &Reverse<(Instant, usize)>| *end - now);
            match receiver.recv_timeout(next.unwrap_or(Duration::from_secs(3600))) {
                Ok((end, filler)) => {
                    ends.push(Reverse((end, fillers.len())));
                    fillers.push(Some(filler));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    sender
});

#[expect(clippy::disallowed_methods, reason = "real time is what a timer measures")]
fn now() -> Instant {
    Instant::now()
}

/// Is ready when so much time has passed.
pub(crate) fn sleep(time: Duration) -> Task<'static, ()> {
    let (filler, slot) = slot();
    ALARMS.send((now() + time, filler)).unwrap();
    Box::pin(async move { slot.await.unwrap_or_default() })
}
