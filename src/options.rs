//! What one check asks for.

use std::time::Duration;

use crate::error::Result;
use crate::policy::{Anchor, LongOutcomePolicy, Policy, Room, outcome_millis};
use crate::time::{Timestamp, Ttl};

/// What one check asks for; whatever is not set is as the [`Policy`] of its namespace says or,
/// outside of any, that of the store.
///
/// ```
/// use oncelog::{Anchor, CheckOptions, Store};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let options = CheckOptions::new()
///     .retention(week)
///     .outcome_ttl(Duration::from_secs(3600))
///     .anchor(Anchor::LastSeen);
/// assert!(store.check_and_set_with("order-42", "accepted", options)?.is_new());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until they are passed to a check"]
pub struct CheckOptions {
    retention: Option<Ttl>,
    anchor: Option<Anchor>,
    outcome_ttl: Option<Duration>,
    on_long_outcome: Option<LongOutcomePolicy>,
    sent_at: Option<Timestamp>,
}

impl CheckOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the key is remembered.
    pub fn retention(mut self, retention: impl Into<Ttl>) -> Self {
        self.retention = Some(retention.into());
        self
    }

    /// From when on the retention is counted. With [`Anchor::LastSeen`] a duplicate prolongs what
    /// is recorded, by the retention of its own call.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = Some(anchor);
        self
    }

    /// How long the outcome is replayed, counted from when it is recorded; at most the retention.
    pub fn outcome_ttl(mut self, ttl: Duration) -> Self {
        self.outcome_ttl = Some(ttl);
        self
    }

    /// What happens to an outcome that is longer than the store takes.
    pub fn on_long_outcome(mut self, policy: LongOutcomePolicy) -> Self {
        self.on_long_outcome = Some(policy);
        self
    }

    /// When the request was first sent; see
    /// [`check_and_set_sent`](crate::Store::check_and_set_sent).
    pub fn sent_at(mut self, sent: Timestamp) -> Self {
        self.sent_at = Some(sent);
        self
    }
}

/// What a check was found to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// `u64::MAX` for ever.
    pub(crate) retention_ms: u64,
    pub(crate) anchor: Anchor,
    /// How long the outcome is replayed; zero for as long as the key is known.
    pub(crate) outcome_ms: u64,
    pub(crate) on_long_outcome: LongOutcomePolicy,
    pub(crate) sent_at: Option<Timestamp>,
    /// What a new key may take.
    pub(crate) room: Room,
}

impl Policy {
    /// Joins the policy with what a check asks for.
    pub(crate) fn kept(&self, options: &CheckOptions, lifetime_ms: u64) -> Result<Kept> {
        let retention = options.retention.or(self.retention);
        let retention_ms = retention.map_or(Ok(lifetime_ms), Ttl::millis)?;
        Ok(Kept {
            retention_ms,
            anchor: options.anchor.unwrap_or(self.anchor),
            outcome_ms: outcome_millis(options.outcome_ttl.or(self.outcome_ttl), retention_ms)?,
            on_long_outcome: options.on_long_outcome.unwrap_or(self.on_long_outcome),
            sent_at: options.sent_at,
            room: self.room(),
        })
    }
}
