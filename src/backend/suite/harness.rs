//! What the suite asks of whoever runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::backend::AnyBackend;
use crate::error::Result;
use crate::policy::Policy;

/// A future that can go to another thread.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a harness can do or, if it cannot, why.
#[derive(Clone, Debug)]
#[must_use = "what cannot be done is to be said"]
pub enum Able<T> {
    /// It was done.
    Done(T),
    /// It cannot be done, for this reason: what needs it is left out, and the reason is printed.
    Cannot(&'static str),
}

/// What becomes of clients when their server is killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those made before find it again by themselves, after some errors at most.
    GoOn,
    /// Those made before are of no use any more.
    Anew,
}

/// How the clock of a client is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// It is ahead by so much.
    Ahead(Duration),
    /// It is behind by so much.
    Behind(Duration),
}

/// How the time of the backend passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// By itself, as that of a server does.
    Runs,
    /// It stands still but for [`Harness::pass`]: ends are tested to the millisecond.
    StandsStill,
}

/// How the suite gets at a backend. See the [module](super) for an example.
///
/// A harness has its server to itself: nobody else restarts it, or moves its clock.
pub trait Harness: Send + Sync {
    /// A client of the namespace with this name, which is made where there is none yet.
    ///
    /// Clients of one name share their keys, and else as little as they can: where the backend has
    /// connections, each has its own. Names are ASCII, 1 to 64 bytes, and new in each run.
    fn client<'a>(&'a self, namespace: &'a str, policy: Policy) -> Task<'a, Result<AnyBackend>>;

    /// Runs a task at the same time as others: in a runtime, or on a thread of its own.
    fn spawn(&self, task: Task<'static, ()>);

    /// Is ready when so much time has really passed.
    fn sleep(&self, time: Duration) -> Task<'static, ()>;

    /// Kills the server as `kill -9` does, in the middle of whatever it does, starts it again on
    /// what it has stored, and is ready when it takes calls.
    fn restart(&self) -> Task<'_, Able<Clients>>;

    /// As [`client`](Harness::client), with a clock that is wrong.
    fn skewed_client<'a>(
        &'a self,
        namespace: &'a str,
        policy: Policy,
        skew: Skew,
    ) -> Task<'a, Able<Result<AnyBackend>>>;

    /// How the time of the backend passes; by itself unless the harness says otherwise.
    fn time(&self) -> Time {
        Time::Runs
    }

    /// Lets so much time pass for the backend: sleeps or, where its time stands still, moves its
    /// clock and wakes those whose time has come.
    fn pass(&self, time: Duration) -> Task<'_, ()> {
        self.sleep(time)
    }

    /// The lifetimes that are waited for are one or a few of these: 100 ms. Longer where a call
    /// may take nearly as long.
    fn unit(&self) -> Duration {
        Duration::from_millis(100)
    }
}

impl fmt::Debug for dyn Harness + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Harness")
    }
}
