//! A lease on a key of a backend, held by a handle.

use std::fmt;
use std::time::Duration;

use super::answers::Grant;
use super::contract::Backend;
use crate::error::Result;
use crate::time::Timestamp;
use crate::version::Version;

/// The right to produce a key's outcome, and where: a [`Grant`] with its key and backend.
///
/// Dropping it changes nothing, whatever the policy says of dropped leases, since that would be a
/// call: the key stays in progress until the deadline. The endings take the handle by reference,
/// so that one that failed can be repeated; after one that was answered, others answer
/// [`LeaseLost`](crate::Error::LeaseLost).
///
/// ```
/// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}, thread};
/// use oncelog::backend::{Backend, Begin, Lease};
/// use oncelog::{BeginOptions, Policy, Result, Store};
///
/// async fn charge(payments: &impl Backend, order: &[u8]) -> Result<Vec<u8>> {
///     match payments.begin(order, BeginOptions::new()).await? {
///         Begin::Started(grant) => {
///             let lease = Lease::new(payments, order, grant);
///             let receipt = format!("receipt for token {}", lease.version().as_u64());
///             lease.complete(receipt.as_bytes()).await?;
///             Ok(receipt.into_bytes())
///         }
///         Begin::Completed(record) => Ok(record.outcome().to_vec()),
///         other => panic!("not now: {other:?}"),
///     }
/// }
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
/// let payments = store.namespace("payments", Policy::default())?;
/// let first = block_on(charge(&payments, b"order-42"))?;
/// assert_eq!(block_on(charge(&payments, b"order-42"))?, first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lease<'b, B: Backend> {
    backend: &'b B,
    key: Box<[u8]>,
    grant: Grant,
}

impl<'b, B: Backend> Lease<'b, B> {
    /// The lease that a `begin` of this key has given.
    #[must_use]
    pub fn new(backend: &'b B, key: &[u8], grant: Grant) -> Self {
        Self { backend, key: key.into(), grant }
    }

    /// The fencing token: hand it to the systems that the work changes.
    #[must_use]
    pub fn version(&self) -> Version {
        self.grant.version
    }

    /// Which attempt at the key this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.grant.attempt
    }

    /// When the key was first begun, in any attempt that is still remembered.
    #[must_use]
    pub fn first_seen(&self) -> Timestamp {
        self.grant.first_seen
    }

    /// From when on somebody else may get the key, by the clock of the backend.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.grant.deadline
    }

    /// The key, as it was given to `begin`.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// As [`Backend::complete`].
    ///
    /// # Errors
    /// As there.
    pub async fn complete(&self, outcome: impl AsRef<[u8]> + Send) -> Result<Version> {
        self.backend.complete(&self.key, self.grant.version, outcome.as_ref()).await
    }

    /// As [`Backend::fail`].
    ///
    /// # Errors
    /// As there.
    pub async fn fail(&self, outcome: impl AsRef<[u8]> + Send) -> Result<Version> {
        self.backend.fail(&self.key, self.grant.version, outcome.as_ref()).await
    }

    /// As [`Backend::release`].
    ///
    /// # Errors
    /// As there.
    pub async fn release(&self, retry_after: Option<Duration>) -> Result<()> {
        self.backend.release(&self.key, self.grant.version, retry_after).await
    }

    /// As [`Backend::renew`]; [`deadline`](Lease::deadline) follows.
    ///
    /// # Errors
    /// As there.
    pub async fn renew(&mut self, length: Duration) -> Result<()> {
        let renewed = self.backend.renew(&self.key, self.grant.version, length).await;
        self.grant.deadline = renewed?;
        Ok(())
    }
}

/// Keys may be confidential, so only their length is shown.
impl<B: Backend> fmt::Debug for Lease<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("grant", &self.grant)
            .field("key_bytes", &self.key.len())
            .finish_non_exhaustive()
    }
}
