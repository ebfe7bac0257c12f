//! How leases behave: their length, what follows when one is dropped or runs out, and limits.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::time::{Timestamp, Ttl};

/// How long a lease lasts unless the call or the namespace says otherwise: 30 seconds.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// The longest lease: 366 days.
pub const LEASE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// An outcome up to this many bytes can be completed even if the disk has filled up since the
/// `begin`, which has reserved the room.
pub const OUTCOME_BYTES_RESERVED: usize = 256;

/// What happens to the key when a [`Lease`](crate::Lease) is dropped without an ending: by `?`, by
/// a panic, or with a cancelled future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DropPolicy {
    /// The key stays in progress until the deadline, since the effect may have happened.
    #[default]
    Hold,
    /// The key is free at once, as after [`Lease::release`](crate::Lease::release). For work
    /// without effects, or with effects that bear repeating.
    Release,
}

/// What happens when a lease runs out under its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AbandonPolicy {
    /// The next `begin` gets the key, with the attempt counted.
    #[default]
    Reclaim,
    /// The key's effect counts as unknown until somebody says what came of it, with
    /// [`Store::resolve`](crate::Store::resolve): nobody gets the key before that.
    Hold,
}

/// From when on a key's retention is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Anchor {
    /// From its completion, or from the latest `begin` while it is not complete.
    #[default]
    Completion,
    /// From when it was first seen: further attempts and a late completion do not prolong it. A key
    /// is remembered at least until the deadline of its lease, and no shorter than the record that
    /// it follows said.
    FirstSeen,
    /// From the last check or `begin` that was answered with its outcome, so that a key in use is
    /// not forgotten; until it has one, as [`Completion`](Anchor::Completion).
    ///
    /// A duplicate that finds less than the retention left rewrites the record, outcome included,
    /// for the retention and an eighth: a key is remembered for at least the retention, and at most
    /// nine eighths of it, and is rewritten at most eight times a retention however often it is
    /// seen. A rewrite is a record of its own: it survives what any does, and the key's version
    /// rises with it. Where there is no room for one, the duplicate is answered all the same
    /// ([`Stats::refreshes_missed`](crate::Stats::refreshes_missed)). Lookups prolong nothing.
    LastSeen,
}

impl Anchor {
    /// How long a record with this retention is kept from when it is written.
    pub(crate) fn lifetime_ms(self, retention_ms: u64) -> u64 {
        match self {
            Self::Completion | Self::FirstSeen => retention_ms,
            Self::LastSeen => retention_ms.saturating_add(retention_ms / REFRESHES),
        }
    }
}

/// A key in use is written anew at most so often in its retention.
const REFRESHES: u64 = 8;

/// What happens to an outcome that is longer than the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LongOutcomePolicy {
    /// The call is refused with [`OutcomeTooLong`](crate::Error::OutcomeTooLong).
    #[default]
    Refuse,
    /// The key is recorded without it: its outcome is [gone](crate::Record::outcome_gone) from the
    /// start, and its length and digest are kept. It is never truncated.
    KeepMark,
}

/// How the keys of a namespace behave, or those outside of any
/// ([`Builder::policy`](crate::Builder::policy)). Nothing of it is stored, except what a begun key
/// needs.
///
/// ```
/// use oncelog::{AbandonPolicy, Policy};
/// use std::time::Duration;
///
/// let payments = Policy {
///     lease: Duration::from_secs(60),
///     on_abandon: AbandonPolicy::Hold,
///     require_fingerprint: true,
///     ..Policy::default()
/// };
/// assert_eq!(payments.attempts_max, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a key is remembered, counted from its completion, or from the latest `begin`
    /// while it is not complete. `None`: the store's lifetime.
    pub retention: Option<Ttl>,
    /// From when on the retention is counted.
    pub anchor: Anchor,
    /// How long an outcome is replayed, counted from when it was recorded; at most the retention.
    /// Afterwards the key is still known, and its record says what is gone:
    /// [`Record::outcome_gone`](crate::Record::outcome_gone). `None`: as long as the key is known.
    pub outcome_ttl: Option<Duration>,
    /// What happens to an outcome that is longer than
    /// [`outcome_bytes_max`](crate::Builder::outcome_bytes_max).
    pub on_long_outcome: LongOutcomePolicy,
    /// How long a lease lasts. More than zero, at most [`LEASE_MAX`].
    pub lease: Duration,
    /// What follows when a lease is dropped.
    pub on_drop: DropPolicy,
    /// What follows when a lease runs out.
    pub on_abandon: AbandonPolicy,
    /// How many attempts a key has at most. `None`: any number.
    pub attempts_max: Option<u32>,
    /// True refuses a `begin` without a fingerprint.
    pub require_fingerprint: bool,
    /// How many keys the namespace holds at most. `None`: as many as the store.
    ///
    /// At the limit its new keys are refused with [`Full`](crate::Error::Full), and all else goes
    /// on, here and in other namespaces. Counted are its keys, expired ones included until
    /// maintenance has reclaimed them; a removed key does not count. Never exceeded.
    pub max_keys: Option<u64>,
    /// How many bytes the latest records of its keys take at most in the log, headers included.
    /// `None`: as many as the store.
    ///
    /// As `max_keys`. A lease counts with room for an outcome of
    /// [`OUTCOME_BYTES_RESERVED`] bytes. Completions are never refused for it: longer outcomes
    /// exceed the limit, by what they have beyond that.
    pub max_bytes: Option<u64>,
}

/// What a namespace may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) max_keys: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
}

impl Policy {
    pub(crate) const DEFAULT: Self = Self {
        retention: None,
        anchor: Anchor::Completion,
        outcome_ttl: None,
        on_long_outcome: LongOutcomePolicy::Refuse,
        lease: LEASE_DEFAULT,
        on_drop: DropPolicy::Hold,
        on_abandon: AbandonPolicy::Reclaim,
        attempts_max: None,
        require_fingerprint: false,
        max_keys: None,
        max_bytes: None,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What one `begin` asks for; whatever is not set is as the namespace's [`Policy`] says.
///
/// ```
/// use oncelog::{BeginOptions, Fingerprint};
/// use std::time::Duration;
///
/// let options = BeginOptions::new()
///     .fingerprint(Fingerprint::of(b"{\"amount\": 100}"))
///     .lease(Duration::from_secs(5))
///     .attempts_max(3);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until they are passed to a begin"]
pub struct BeginOptions {
    fingerprint: Option<Fingerprint>,
    lease: Option<Duration>,
    retention: Option<Ttl>,
    attempts_max: Option<u32>,
    on_drop: Option<DropPolicy>,
    on_abandon: Option<AbandonPolicy>,
    anchor: Option<Anchor>,
    outcome_ttl: Option<Duration>,
    on_long_outcome: Option<LongOutcomePolicy>,
    sent_at: Option<Timestamp>,
}

impl BeginOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the request asks for, so that a key reused for something else is noticed.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// What the request asks for, where it was said.
    #[cfg(feature = "backend")]
    pub(crate) fn requested(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// How long the lease lasts. More than zero, at most [`LEASE_MAX`].
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = Some(length);
        self
    }

    /// How long the key is remembered, counted from its completion.
    pub fn retention(mut self, retention: impl Into<Ttl>) -> Self {
        self.retention = Some(retention.into());
        self
    }

    /// From when on the retention is counted.
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

    /// How many attempts the key has at most. At least 1.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// What follows when the lease is dropped.
    pub fn on_drop(mut self, policy: DropPolicy) -> Self {
        self.on_drop = Some(policy);
        self
    }

    /// When the request was first sent. If the key is not known, and this is longer ago than keys
    /// are remembered for certain, the answer is [`Stale`](crate::Error::Stale) and not a second
    /// execution. See [`Timestamp::of_uuid_v7`] and [`Timestamp::of_ulid`] for keys that say so.
    pub fn sent_at(mut self, sent: Timestamp) -> Self {
        self.sent_at = Some(sent);
        self
    }

    /// What follows when the lease runs out.
    pub fn on_abandon(mut self, policy: AbandonPolicy) -> Self {
        self.on_abandon = Some(policy);
        self
    }
}

/// What a `begin` was found to ask for, checked and complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) lease_ms: u64,
    /// `u64::MAX` for ever.
    pub(crate) retention_ms: u64,
    pub(crate) anchor: Anchor,
    /// Zero for as long as the key.
    pub(crate) outcome_ms: u64,
    pub(crate) on_long_outcome: LongOutcomePolicy,
    pub(crate) sent_at: Option<Timestamp>,
    pub(crate) attempts_max: u32,
    pub(crate) on_drop: DropPolicy,
    pub(crate) on_abandon: AbandonPolicy,
    pub(crate) room: Room,
}

impl Policy {
    /// Joins the policy with what a call asks for.
    pub(crate) fn terms(&self, options: &BeginOptions, lifetime_ms: u64) -> Result<Terms> {
        if self.require_fingerprint && options.fingerprint.is_none() {
            return Err(Error::FingerprintRequired);
        }
        let attempts_max = options.attempts_max.or(self.attempts_max).unwrap_or(u32::MAX);
        if attempts_max == 0 {
            let reason = "attempts_max is 0; a key has at least one attempt".into();
            return Err(Error::InvalidConfig { reason });
        }
        let retention = options.retention.or(self.retention);
        let retention_ms = retention.map_or(Ok(lifetime_ms), Ttl::millis)?;
        Ok(Terms {
            anchor: options.anchor.unwrap_or(self.anchor),
            outcome_ms: outcome_millis(options.outcome_ttl.or(self.outcome_ttl), retention_ms)?,
            on_long_outcome: options.on_long_outcome.unwrap_or(self.on_long_outcome),
            sent_at: options.sent_at,
            fingerprint: options.fingerprint,
            lease_ms: lease_millis(options.lease.unwrap_or(self.lease))?,
            retention_ms,
            attempts_max,
            on_drop: options.on_drop.unwrap_or(self.on_drop),
            on_abandon: options.on_abandon.unwrap_or(self.on_abandon),
            room: self.room(),
        })
    }
}

impl Policy {
    pub(crate) fn room(&self) -> Room {
        Room { max_keys: self.max_keys, max_bytes: self.max_bytes }
    }

    /// True if a check needs nothing of it: neither another lifetime nor a state in its record.
    pub(crate) fn is_plain(&self) -> bool {
        self.outcome_ttl.is_none()
            && self.anchor != Anchor::LastSeen
            && self.on_long_outcome == LongOutcomePolicy::Refuse
    }

    /// Refuses a policy for keys outside of any namespace that cannot work.
    pub(crate) fn validate_default(&self, lifetime_ms: u64) -> Result<()> {
        let instead = match self {
            Self { retention: Some(_), .. } => "retention of the policy; use Builder::ttl",
            Self { max_keys: Some(_), .. } => "max_keys of the policy; use Builder::max_keys",
            Self { max_bytes: Some(_), .. } => "max_bytes of the policy; use Builder::max_bytes",
            _ => {
                let checked = Self { require_fingerprint: false, ..*self };
                return checked.terms(&BeginOptions::new(), lifetime_ms).map(|_| ());
            }
        };
        let reason = format!("keys outside of any namespace have no {instead}");
        Err(Error::InvalidConfig { reason })
    }
}

/// How long outcomes are replayed, in milliseconds; zero for as long as their keys are known.
pub(crate) fn outcome_millis(ttl: Option<Duration>, retention_ms: u64) -> Result<u64> {
    let Some(ttl) = ttl else { return Ok(0) };
    let outcome_ms = Ttl::After(ttl).millis()?;
    if outcome_ms > retention_ms {
        let reason = "outcome_ttl is over the retention; an outcome cannot outlast its key";
        return Err(Error::InvalidTtl { reason });
    }
    Ok(outcome_ms)
}

/// A lease's length in whole milliseconds, rounded up.
///
/// Zero is refused and never means "without end": a key would stay in progress for good.
pub(crate) fn lease_millis(length: Duration) -> Result<u64> {
    if length.is_zero() {
        return Err(Error::InvalidLease { reason: "it is zero; give at least a millisecond" });
    }
    if length > LEASE_MAX {
        return Err(Error::InvalidLease { reason: "it is over 366 days; renew a shorter one" });
    }
    // No more than that many seconds, so nothing overflows.
    Ok(length.as_secs() * 1000 + u64::from(length.subsec_nanos().div_ceil(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::{BeginOptions, LEASE_MAX, Policy, lease_millis};
    use crate::error::Error;
    use std::time::Duration;

    #[test]
    fn a_lease_of_zero_or_of_more_than_a_year_is_refused() {
        for length in [Duration::ZERO, LEASE_MAX + Duration::from_millis(1), Duration::MAX] {
            assert!(matches!(lease_millis(length), Err(Error::InvalidLease { .. })));
        }
        assert_eq!(lease_millis(Duration::from_nanos(1)).unwrap(), 1);
    }

    #[test]
    fn an_option_goes_before_the_policy_and_the_policy_before_the_default() {
        let policy = Policy { attempts_max: Some(9), ..Policy::default() };
        let terms = policy.terms(&BeginOptions::new(), 77).unwrap();
        assert_eq!((terms.attempts_max, terms.retention_ms, terms.lease_ms), (9, 77, 30_000));
        let options = BeginOptions::new().attempts_max(2).retention(Duration::from_secs(1));
        let terms = policy.terms(&options, 77).unwrap();
        assert_eq!((terms.attempts_max, terms.retention_ms), (2, 1_000));
    }

    #[test]
    fn a_policy_that_needs_a_fingerprint_refuses_to_go_without() {
        let policy = Policy { require_fingerprint: true, ..Policy::default() };
        let refused = policy.terms(&BeginOptions::new(), 77);
        assert!(matches!(refused, Err(Error::FingerprintRequired)));
    }
}
