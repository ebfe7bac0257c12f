//! What a call asks for, joined with the policy and checked: what a backend hands to its engine.

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::options::{CheckOptions, Kept};
use crate::policy::{AbandonPolicy, Anchor, BeginOptions, LongOutcomePolicy, Policy, Terms};
use crate::time::{Timestamp, Ttl};

/// What a check asks for, options before the policy, all of it checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTerms {
    /// How long the key is kept, in milliseconds, more than zero; `None` until it is removed.
    pub retention_ms: Option<u64>,
    /// From when on that is counted.
    pub anchor: Anchor,
    /// How long the outcome is replayed, in milliseconds; `None` as long as the key is kept.
    pub outcome_ms: Option<u64>,
    /// What happens to an outcome that is longer than the backend takes.
    pub on_long_outcome: LongOutcomePolicy,
    /// When the request was first sent, where the caller says so.
    pub sent_at: Option<Timestamp>,
}

/// What a `begin` asks for, options before the policy, all of it checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeginTerms {
    /// What the request asks for.
    pub fingerprint: Option<Fingerprint>,
    /// How long the lease lasts, in milliseconds, more than zero.
    pub lease_ms: u64,
    /// How many attempts the key has at most; [`u32::MAX`] for any number.
    pub attempts_max: u32,
    /// What follows when the lease runs out.
    pub on_abandon: AbandonPolicy,
    /// How the key is kept, from then on and when it is completed.
    pub kept: CheckTerms,
}

impl CheckTerms {
    /// Joins what a call asks for with the policy; `ttl` is how long keys are kept where neither
    /// says.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for what cannot work.
    pub fn new(policy: &Policy, options: &CheckOptions, ttl: Ttl) -> Result<Self> {
        policy.kept(options, ttl.millis()?).map(Self::from)
    }
}

impl BeginTerms {
    /// As [`CheckTerms::new`].
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl), [`InvalidLease`](crate::Error::InvalidLease),
    /// [`InvalidConfig`](crate::Error::InvalidConfig) or
    /// [`FingerprintRequired`](crate::Error::FingerprintRequired) for what cannot work.
    pub fn new(policy: &Policy, options: &BeginOptions, ttl: Ttl) -> Result<Self> {
        policy.terms(options, ttl.millis()?).map(Self::from)
    }
}

impl From<Kept> for CheckTerms {
    fn from(kept: Kept) -> Self {
        Self {
            retention_ms: (kept.retention_ms != u64::MAX).then_some(kept.retention_ms),
            anchor: kept.anchor,
            outcome_ms: (kept.outcome_ms != 0).then_some(kept.outcome_ms),
            on_long_outcome: kept.on_long_outcome,
            sent_at: kept.sent_at,
        }
    }
}

impl From<Terms> for BeginTerms {
    fn from(terms: Terms) -> Self {
        Self {
            fingerprint: terms.fingerprint,
            lease_ms: terms.lease_ms,
            attempts_max: terms.attempts_max,
            on_abandon: terms.on_abandon,
            kept: CheckTerms {
                retention_ms: (terms.retention_ms != u64::MAX).then_some(terms.retention_ms),
                anchor: terms.anchor,
                outcome_ms: (terms.outcome_ms != 0).then_some(terms.outcome_ms),
                on_long_outcome: terms.on_long_outcome,
                sent_at: terms.sent_at,
            },
        }
    }
}
