//! The suite that says whether a backend keeps the contract, for anyone's backend to run.
//!
//! A [`Harness`] says how clients of the backend are made, how time passes, and what can be done
//! to its server. [`run_all`] runs every case of [`CASES`] against it, one after another, each in
//! namespaces that nobody used before, and [`Report::assert_passed`] panics with the names of those
//! that failed. What a harness cannot do is left out, and said, with the reason it gives.
//!
//! There is no runtime in here: tasks and timers are the harness's. A harness on threads, for the
//! engine of this crate:
//!
//! ```
//! use std::pin::pin;
//! use std::sync::Arc;
//! use std::task::{Context, Poll, Wake, Waker};
//! use std::thread::{self, Thread};
//! use std::time::Duration;
//!
//! use oncelog::backend::AnyBackend;
//! use oncelog::backend::suite::{self, Able, Clients, Harness, Skew, Task};
//! use oncelog::{Policy, Result, Store};
//!
//! struct Unpark(Thread);
//!
//! impl Wake for Unpark {
//!     fn wake(self: Arc<Self>) {
//!         self.0.unpark();
//!     }
//! }
//!
//! fn block_on<F: Future>(future: F) -> F::Output {
//!     let waker = Waker::from(Arc::new(Unpark(thread::current())));
//!     let mut future = pin!(future);
//!     loop {
//!         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
//!             Poll::Ready(output) => return output,
//!             Poll::Pending => thread::park(),
//!         }
//!     }
//! }
//!
//! struct Embedded(Store);
//!
//! impl Harness for Embedded {
//!     fn client<'a>(&'a self, name: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>> {
//!         Box::pin(async move { Ok(AnyBackend::new(self.0.namespace(name, policy)?)) })
//!     }
//!
//!     fn spawn(&self, task: Task<'static, ()>) {
//!         thread::spawn(|| block_on(task));
//!     }
//!
//!     fn sleep(&self, time: Duration) -> Task<'static, ()> {
//!         // A thread for each sleep is as good a timer as any, for a test.
//!         let (sender, slot) = suite::slot();
//!         thread::spawn(move || {
//!             thread::sleep(time);
//!             sender.fill(());
//!         });
//!         Box::pin(async move { slot.await.unwrap_or_default() })
//!     }
//!
//!     fn restart(&self) -> Task<'_, Able<Clients>> {
//!         Box::pin(async { Able::Cannot("the engine is in the process of the tests") })
//!     }
//!
//!     fn skewed_client<'a>(
//!         &'a self,
//!         _name: &'a str,
//!         _policy: Policy,
//!         _skew: Skew,
//!     ) -> Task<'a, Able<Result<AnyBackend>>> {
//!         Box::pin(async { Able::Cannot("all clients have the clock of the store") })
//!     }
//! }
//!
//! # let directory = tempfile::tempdir()?;
//! let harness = Embedded(Store::open(directory.path())?);
//! let report = block_on(suite::run_named(&harness, &["a_new_key_is_begun"]));
//! report.assert_passed();
//! assert_eq!(report.verdicts().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cases;
mod failure;
mod harness;
mod model;
mod random;
mod report;
mod tasks;
mod trial;

pub use cases::CASES;
pub use harness::{Able, Clients, Harness, Skew, Task, Time};
pub use report::{Case, Report, Verdict, run_all, run_named};
pub use tasks::{Filler, Slot, slot};
