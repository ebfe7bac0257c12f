//! One request's hold on its key: the calls of the backend, and what their answers mean.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{BeginOptions, Error, Meta, Record, Status, Timestamp, Version};

use crate::event::Event;
use crate::key::IdempotencyKey;
use crate::layer::Setup;
use crate::policy::{FailurePolicy, InProgressPolicy, RoutePolicy};
use crate::problem::Problem;
use crate::replay;
use crate::scope::StoreKey;
use crate::stored::StoredResponse;

/// A call of the backend under way.
pub(crate) type Call<T> = Pin<Box<dyn Future<Output = oncelog::Result<T>> + Send>>;

/// What the handler of a request with a key can know of it, in the extensions of the request.
///
/// A handler that works with other systems passes the token or the key on to them, so that those
/// recognise a repetition too. Where [attempts](Execution::attempt) are taken up again, it looks
/// there for what an earlier one has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Execution {
    /// What the client sent.
    pub key: IdempotencyKey,
    /// Under which the store keeps the request; the same in all attempts.
    pub store_key: StoreKey,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The fencing token: greater than that of every earlier attempt.
    pub token: Version,
    /// When the request was first begun.
    pub first_seen: Timestamp,
}

/// What a request does next.
pub(crate) enum Begun {
    Work(Version, Execution),
    /// Without a key being kept.
    WorkUnprotected,
    Wait(Duration),
    Replay(Response<Bytes>, Option<http::HeaderMap>),
    Refuse(Problem),
}

/// How a lease is ended.
pub(crate) enum Close {
    /// With what is stored.
    Complete {
        bytes: Vec<u8>,
        failed: bool,
        marked: bool,
    },
    Release,
}

impl Close {
    pub(crate) fn with(response: &StoredResponse) -> Self {
        let (failed, marked) = (response.is_failure(), response.body().is_none());
        Self::Complete { bytes: response.encode(), failed, marked }
    }
}

pub(crate) struct Claim<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) setup: Arc<Setup>,
    pub(crate) policy: Arc<RoutePolicy>,
    pub(crate) key: IdempotencyKey,
    pub(crate) store_key: StoreKey,
    pub(crate) options: BeginOptions,
    /// The client reads answers in gRPC.
    pub(crate) grpc: bool,
    /// Until when it waits for another request with the key, once it does.
    pub(crate) until: Option<Instant>,
}

impl<B: Backend + 'static> Claim<B> {
    pub(crate) fn begin(&self) -> Call<Begin> {
        let (backend, key, options) = (self.backend.clone(), self.store_key, self.options);
        Box::pin(async move { backend.begin(key.as_bytes(), options).await })
    }

    pub(crate) fn wait(&self, timeout: Duration) -> Call<Option<Meta>> {
        let (backend, key) = (self.backend.clone(), self.store_key);
        Box::pin(async move { backend.wait(key.as_bytes(), timeout).await })
    }

    pub(crate) fn renew(&self, version: Version) -> Call<Timestamp> {
        let (backend, key) = (self.backend.clone(), self.store_key);
        let length = self.policy.lease;
        Box::pin(async move { backend.renew(key.as_bytes(), version, length).await })
    }

    /// Ready when it is time to renew the lease, by the timer or, without one, by the backend.
    pub(crate) fn sleep(&self, length: Duration) -> Call<()> {
        if let Some(timer) = &self.setup.timer {
            let sleep = timer(length);
            return Box::pin(async move {
                sleep.await;
                Ok(())
            });
        }
        let wait = self.wait(length);
        Box::pin(async move { wait.await.map(|_| ()) })
    }

    /// Ends the lease.
    pub(crate) fn close(&self, version: Version, close: &mut Close) -> Call<()> {
        let (backend, key) = (self.backend.clone(), self.store_key);
        match close {
            Close::Release => {
                Box::pin(async move { backend.release(key.as_bytes(), version, None).await })
            }
            Close::Complete { bytes, failed, .. } => {
                let (bytes, failed) = (mem::take(bytes), *failed);
                Box::pin(async move {
                    let ended = match failed {
                        true => backend.fail(key.as_bytes(), version, &bytes).await,
                        false => backend.complete(key.as_bytes(), version, &bytes).await,
                    };
                    ended.map(|_| ())
                })
            }
        }
    }

    /// What the answer of `begin` means for the request.
    pub(crate) fn begun(&mut self, answer: oncelog::Result<Begin>) -> Begun {
        match answer {
            Ok(Begin::Started(grant)) => self.started(grant),
            Ok(Begin::Completed(record)) => self.completed(&record),
            Ok(Begin::InProgress(meta)) => self.in_progress(&meta),
            Ok(Begin::Mismatch(_)) => Begun::Refuse(Problem::Mismatch),
            Ok(Begin::Unknown(_)) => Begun::Refuse(Problem::Unknown),
            Ok(Begin::Exhausted(_)) => Begun::Refuse(Problem::Exhausted),
            Err(Error::Stale { .. }) => Begun::Refuse(Problem::Stale),
            Err(error) => self.failed(&error),
        }
    }

    fn started(&self, grant: Grant) -> Begun {
        let (key, attempt) = (self.store_key, grant.attempt);
        self.policy.tell(&Event::Started { key, attempt });
        let execution = Execution {
            key: self.key.clone(),
            store_key: key,
            attempt,
            token: grant.version,
            first_seen: grant.first_seen,
        };
        Begun::Work(grant.version, execution)
    }

    fn completed(&self, record: &Record) -> Begun {
        if record.outcome_gone().is_some() {
            return Begun::Refuse(Problem::OutcomeGone);
        }
        match StoredResponse::decode(record.outcome()) {
            Ok(stored) => {
                let status = stored.status();
                match replay::response(stored, &self.policy) {
                    Some((response, trailers)) => {
                        self.policy.tell(&Event::Replayed { status });
                        Begun::Replay(response, trailers)
                    }
                    None => Begun::Refuse(Problem::OutcomeGone),
                }
            }
            Err(_) => Begun::Refuse(Problem::Unreadable),
        }
    }

    fn in_progress(&mut self, meta: &Meta) -> Begun {
        let conflict = Begun::Refuse(Problem::InProgress(self.policy.retry_after));
        let InProgressPolicy::Wait(length) = self.policy.in_progress else { return conflict };
        // Given back for later, which is nobody's work: there is nothing to wait for.
        if meta.status == Status::Released {
            return conflict;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "bounds how long a request waits over several calls; decides about no record"
        )]
        let now = Instant::now();
        let until = *self.until.get_or_insert(now.checked_add(length).unwrap_or(now));
        let left = until.saturating_duration_since(now);
        if left.is_zero() { conflict } else { Begun::Wait(left) }
    }

    fn failed(&self, error: &Error) -> Begun {
        self.policy.tell(&Event::StoreFailed { call: "begin", error });
        // Settings that cannot work fail every time, and never open.
        let settings = matches!(
            error,
            Error::InvalidTtl { .. }
                | Error::InvalidLease { .. }
                | Error::InvalidConfig { .. }
                | Error::FingerprintRequired
                | Error::KeyTooLong { .. }
        );
        if self.policy.on_store_failure == FailurePolicy::Open && !settings {
            self.policy.tell(&Event::Unprotected);
            return Begun::WorkUnprotected;
        }
        Begun::Refuse(match error {
            Error::Full { .. } => Problem::StoreFull,
            _ => Problem::StoreUnavailable,
        })
    }

    /// The wait for another request failed: that one is still known to be under way.
    pub(crate) fn wait_failed(&self, error: &Error) -> Problem {
        self.policy.tell(&Event::StoreFailed { call: "wait", error });
        Problem::InProgress(self.policy.retry_after)
    }

    /// Tells how the lease was ended.
    pub(crate) fn closed(
        &self,
        close: &Close,
        status: http::StatusCode,
        ended: oncelog::Result<()>,
    ) {
        let call = if matches!(close, Close::Release) { "release" } else { "complete" };
        let event = match (&ended, close) {
            (Err(Error::LeaseLost), _) => Event::LeaseLost { key: self.store_key },
            (Err(error), _) => Event::StoreFailed { call, error },
            (Ok(()), Close::Release) => Event::Released { status },
            (Ok(()), Close::Complete { marked: true, .. }) => Event::Marked { status },
            (Ok(()), Close::Complete { .. }) => Event::Stored { status },
        };
        self.policy.tell(&event);
    }
}
