//! Waiting for tasks that the harness runs, and for the first of two futures.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::failure::{Step, Stop};
use super::harness::{Harness, Task};
use crate::sys::sync::Mutex;

/// A place for one value, which is filled by one side and awaited by the other.
pub fn slot<T>() -> (Filler<T>, Slot<T>) {
    let inner = Arc::new(Mutex::new(Inner { value: None, over: false, waker: None }));
    (Filler(inner.clone()), Slot(inner))
}

struct Inner<T> {
    value: Option<T>,
    /// Nothing will come any more but what is there.
    over: bool,
    waker: Option<Waker>,
}

/// Fills a [`slot`].
pub struct Filler<T>(Arc<Mutex<Inner<T>>>);

/// Is ready when the [`slot`] is filled, or with `None` when it never will be.
#[must_use = "a future does nothing until it is polled"]
pub struct Slot<T>(Arc<Mutex<Inner<T>>>);

impl<T> Filler<T> {
    /// Fills it, and wakes who waits for it.
    pub fn fill(self, value: T) {
        self.0.lock().value = Some(value);
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.over = true;
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inner = self.0.lock();
        if inner.over {
            return Poll::Ready(inner.value.take());
        }
        let before = inner.waker.replace(context.waker().clone());
        drop(inner);
        drop(before);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Filler<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filler")
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// A task that runs by itself.
pub(super) struct Running<T>(Slot<T>);

/// Starts a task.
pub(super) fn start<T: Send + 'static>(
    harness: &dyn Harness,
    task: impl Future<Output = T> + Send + 'static,
) -> Running<T> {
    let (filler, slot) = slot();
    let task: Task<'static, ()> = Box::pin(async move { filler.fill(task.await) });
    harness.spawn(task);
    Running(slot)
}

impl<T> Running<Step<T>> {
    /// Waits for the end of the task.
    #[track_caller]
    pub(super) fn join(self) -> impl Future<Output = Step<T>> + Send
    where
        T: Send,
    {
        let lost = Stop::failed("a task ended without an answer: it panicked, or was not run");
        async move { self.0.await.unwrap_or(Err(lost)) }
    }
}

/// Starts all of them, and waits until each is over.
pub(super) async fn all<T: Send + 'static>(
    harness: &dyn Harness,
    tasks: impl IntoIterator<Item = impl Future<Output = Step<T>> + Send + 'static>,
) -> Step<Vec<T>> {
    let running: Vec<_> = tasks.into_iter().map(|task| start(harness, task)).collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        answers.push(task.join().await);
    }
    answers.into_iter().collect()
}

/// The answer of the work, unless the limit is ready first.
pub(super) async fn within<T>(
    limit: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut limit, mut work) = (pin!(limit), pin!(work));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}
