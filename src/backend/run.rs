//! Work under a lease of a backend, from begin to outcome, with everybody else waiting for it.

use std::fmt;
use std::time::Duration;

use super::answers::Begin;
use super::contract::Backend;
use super::lease::Lease;
use crate::meta::Status;
use crate::policy::BeginOptions;
use crate::record::Record;
use crate::run::RunError;
use crate::version::Version;

/// How long one wait lasts before the key is looked at again, whatever happens.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What came of a [`run`].
#[derive(Clone)]
pub struct Run<O> {
    /// This call's own outcome, and the version that it was recorded with, or another's.
    ran: Result<(O, Version), Record>,
}

impl<O: AsRef<[u8]>> Run<O> {
    /// The outcome, as this or another call has recorded it; empty if another's is
    /// [gone](Record::outcome_gone).
    #[must_use]
    pub fn outcome(&self) -> &[u8] {
        match &self.ran {
            Ok((outcome, _)) => outcome.as_ref(),
            Err(record) => record.outcome(),
        }
    }

    /// The record that was found, where the outcome is another's: it says whether that was a
    /// failure, when it was recorded, and what is gone.
    #[must_use]
    pub fn replayed(&self) -> Option<&Record> {
        self.ran.as_ref().err()
    }

    /// The version that the outcome was recorded with.
    #[must_use]
    pub fn version(&self) -> Version {
        match &self.ran {
            Ok((_, version)) => *version,
            Err(record) => record.version(),
        }
    }

    /// True when this call did the work; false when the outcome is another's.
    #[must_use]
    pub fn worked(&self) -> bool {
        self.ran.is_ok()
    }
}

/// Outcomes may be confidential, so only their length is shown.
impl<O: AsRef<[u8]>> fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("worked", &self.worked())
            .field("version", &self.version().as_u64())
            .field("outcome_bytes", &self.outcome().len())
            .finish_non_exhaustive()
    }
}

/// Does the work once per key, over any backend and in any runtime: the first caller works, others
/// wait for it, in whatever process they are, and all get the same outcome, now and later.
///
/// When the work answers with an error, the key is released and one of those who wait works. When
/// this future is dropped, or the work panics, the key stays in progress until the deadline of its
/// lease, whatever the policy says of dropped leases. The work should take less than its lease, or
/// renew it: past the deadline another caller may begin, and of the two outcomes one is recorded.
///
/// ```
/// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}, thread};
/// use oncelog::backend::{AnyBackend, run};
/// use oncelog::{BeginOptions, Policy, Store};
///
/// # struct Unpark(thread::Thread);
/// # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let waker = Waker::from(Arc::new(Unpark(thread::current())));
/// #     let mut future = pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
/// #             Poll::Ready(output) => return output,
/// #             Poll::Pending => thread::park(),
/// #         }
/// #     }
/// # }
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let invoices = AnyBackend::new(store.namespace("invoices", Policy::default())?);
/// for worked in [true, false] {
///     let run = block_on(run(&invoices, "invoice-7", BeginOptions::new(), async |lease| {
///         Ok::<_, std::io::Error>(format!("sent in attempt {}", lease.attempt()))
///     }))?;
///     assert_eq!((run.outcome(), run.worked()), (&b"sent in attempt 1"[..], worked));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RunError`]: the work's own error; an answer of `begin` that leaves nothing to do, of which
/// [`Later`](RunError::Later) is one; or an error of the backend. Where that is
/// [indeterminate](crate::Error::is_indeterminate), the key may be begun by a lease that nobody
/// knows, which ends by its deadline, or the work be done and its outcome recorded: running again
/// waits for the one, and replays the other.
pub async fn run<B: Backend, O: AsRef<[u8]>, E>(
    backend: &B,
    key: impl AsRef<[u8]>,
    options: BeginOptions,
    work: impl AsyncFnOnce(&mut Lease<'_, B>) -> Result<O, E>,
) -> Result<Run<O>, RunError<E>> {
    let key = key.as_ref();
    let grant = loop {
        match backend.begin(key, options).await? {
            Begin::Started(grant) => break grant,
            Begin::Completed(record) => return Ok(Run { ran: Err(record) }),
            Begin::Mismatch(meta) => return Err(RunError::Mismatch(meta)),
            Begin::Unknown(meta) => return Err(RunError::Unknown(meta)),
            Begin::Exhausted(meta) => return Err(RunError::Exhausted(meta)),
            // Nobody works on it, so that there is nobody to wait for.
            Begin::InProgress(meta) if meta.status == Status::Released => {
                return Err(RunError::Later(meta));
            }
            Begin::InProgress(_) => drop(backend.wait(key, LOOK_AGAIN).await?),
        }
    };
    let mut lease = Lease::new(backend, key, grant);
    match work(&mut lease).await {
        Ok(outcome) => {
            let version = backend.complete(key, grant.version, outcome.as_ref()).await?;
            Ok(Run { ran: Ok((outcome, version)) })
        }
        Err(error) => {
            // Where it cannot be released, the lease ends by its deadline.
            let _ = backend.release(key, grant.version, None).await;
            Err(RunError::Work(error))
        }
    }
}
