//! The verbs, each one atomic step.

use std::future::Future;
use std::time::Duration;

use super::answers::Begin;
use super::profile::Profile;
use crate::answers::Check;
use crate::error::Result;
use crate::meta::Meta;
use crate::options::CheckOptions;
use crate::policy::BeginOptions;
use crate::record::Record;
use crate::time::Timestamp;
use crate::version::Version;

/// Keys under one policy, in whatever engine keeps them.
///
/// Every call is one atomic step at the engine: of any number of callers at a time, in any number
/// of processes that the backend is [fenced](Profile::fenced) for, it is as if they had come one
/// after another. All ends are decided when a key is read, from the times stored with it, by the
/// [clock](Profile::clocked) of the backend; that something was not swept yet is never seen.
///
/// Errors mean that the engine could not do what was asked. One that is
/// [indeterminate](crate::Error::is_indeterminate) leaves open whether the call has taken effect or
/// still will: the connection ended, or time ran out, between question and answer. After any other
/// error nothing was changed.
///
/// Dropping a future before it is ready leaves it open in the same way; the key is in no state that
/// a finished call could not have left.
pub trait Backend: Send + Sync {
    /// What this backend may differ in from others.
    fn profile(&self) -> Profile;

    /// The time by the [clock](Profile::clocked) that decides about ends: what deadlines and
    /// expiries are counted in. How far off one is, no other clock can tell.
    ///
    /// # Errors
    /// Trouble.
    fn now(&self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Records the key with its outcome if it is not known, and answers what is recorded if it is.
    ///
    /// # Errors
    /// [`InProgress`](crate::Error::InProgress) or [`Unresolved`](crate::Error::Unresolved) for a
    /// key that is begun and has no outcome; [`Stale`](crate::Error::Stale); limits; trouble.
    fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> impl Future<Output = Result<Check>> + Send;

    /// As [`check_and_set`](Backend::check_and_set) for each item, as if one after another; a
    /// backend pays for the way there and back once.
    ///
    /// Each item has an answer of its own, in the order of the items, and none keeps the others
    /// from being handled.
    ///
    /// # Errors
    /// Trouble that leaves the answers of all items unknown: any of them may be recorded.
    fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> impl Future<Output = Result<Vec<Result<Check>>>> + Send;

    /// Claims the key for work, if nobody else has it and it has no outcome.
    ///
    /// # Errors
    /// [`FingerprintRequired`](crate::Error::FingerprintRequired),
    /// [`InvalidLease`](crate::Error::InvalidLease), [`Stale`](crate::Error::Stale); limits;
    /// trouble.
    fn begin(
        &self,
        key: &[u8],
        options: BeginOptions,
    ) -> impl Future<Output = Result<Begin>> + Send;

    /// Ends the lease with an outcome that is replayed from now on, and answers the version that
    /// the key has now. Waiting callers wake.
    ///
    /// A lease whose time is over can be completed as long as nobody else got the key.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::Error::LeaseLost) if the lease is not the key's current one: nothing
    /// was changed; [`OutcomeTooLong`](crate::Error::OutcomeTooLong); trouble.
    fn complete(
        &self,
        key: &[u8],
        version: Version,
        outcome: &[u8],
    ) -> impl Future<Output = Result<Version>> + Send;

    /// As [`complete`](Backend::complete), for work that failed for good.
    ///
    /// # Errors
    /// As there.
    fn fail(
        &self,
        key: &[u8],
        version: Version,
        outcome: &[u8],
    ) -> impl Future<Output = Result<Version>> + Send;

    /// Gives the key back: the next `begin` gets it, once `retry_after` is over. Attempts stay
    /// counted.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::Error::LeaseLost); trouble.
    fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Sets the end of the lease to `length` from now, and answers it.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::Error::LeaseLost), [`InvalidLease`](crate::Error::InvalidLease);
    /// trouble.
    fn renew(
        &self,
        key: &[u8],
        version: Version,
        length: Duration,
    ) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Says what came of a key whose lease ran out and whose effect is unknown; true if it was in
    /// that state and is completed now.
    ///
    /// # Errors
    /// As [`Store::resolve`](crate::Store::resolve); trouble.
    fn resolve(&self, key: &[u8], outcome: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// The record of a key that has an outcome; changes nothing.
    ///
    /// # Errors
    /// Trouble.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// The state of a key, whatever it is; changes nothing.
    ///
    /// # Errors
    /// Trouble.
    fn peek(&self, key: &[u8]) -> impl Future<Output = Result<Option<Meta>>> + Send;

    /// Forgets the key, if `version` is `None` or that of its latest record; true if it was known
    /// and is not any more. Its lease, if it had one, is lost, and versions given for it later are
    /// greater than all before.
    ///
    /// # Errors
    /// Trouble.
    fn remove(
        &self,
        key: &[u8],
        version: Option<Version>,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until nobody works on the key: it has an outcome, can be begun, is unknown or gone;
    /// at most for `timeout`. Answers its state then, which is
    /// [in progress](crate::Status::InProgress) still if time ran out.
    ///
    /// A key that was released for later is nobody's work, so it is answered at once, as released.
    /// Woken by completion, failure, release and removal, from whichever process they come, and by
    /// the end of the lease; backends may notice late, by up to a second.
    ///
    /// # Errors
    /// Trouble.
    fn wait(
        &self,
        key: &[u8],
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<Meta>>> + Send;
}
