//! Timestamps, lifetimes and when they end.

mod clock;

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

pub use clock::{Clock, JumpPolicy, ManualClock, SystemClock};
pub(crate) use clock::{EngineClock, Jumps};

/// The longest finite lifetime: 1000 years, in milliseconds.
pub(crate) const TTL_MS_MAX: u64 = 1_000 * 366 * 24 * 3_600_000;

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Stands for "without end" wherever an end is stored.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment so many milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment that a UUID of version 7 was made at, as it says itself; `None` for any other
    /// text. Hyphens may be left out, and digits be of either case.
    ///
    /// ```
    /// use oncelog::Timestamp;
    ///
    /// let made = Timestamp::of_uuid_v7("017F22E2-79B0-7CC3-98C4-DC0C0C07398F");
    /// assert_eq!(made, Some(Timestamp::from_millis(1_645_557_742_000)));
    /// assert_eq!(Timestamp::of_uuid_v7("919108f7-52d1-4320-9bac-f847db4148a8"), None);
    /// ```
    #[must_use]
    pub fn of_uuid_v7(text: &str) -> Option<Self> {
        let hyphens: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
        if !hyphens.is_empty() && hyphens != [8, 13, 18, 23] {
            return None;
        }
        let digits: Option<Vec<u32>> =
            text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 32)?;
        let is_seven = digits.get(12) == Some(&7) && digits.get(16).is_some_and(|v| v >> 2 == 2);
        let millis = digits.iter().take(12).fold(0, |sum, digit| sum << 4 | u64::from(*digit));
        is_seven.then_some(Self(millis))
    }

    /// The moment that a ULID was made at, as it says itself; `None` for any other text.
    ///
    /// ```
    /// use oncelog::Timestamp;
    ///
    /// let made = Timestamp::of_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    /// assert_eq!(made, Some(Timestamp::from_millis(1_469_922_850_259)));
    /// ```
    #[must_use]
    pub fn of_ulid(text: &str) -> Option<Self> {
        const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digit = |c: char| DIGITS.find(c.to_ascii_uppercase());
        let digits: Option<Vec<usize>> = text.chars().map(digit).collect();
        let digits = digits.filter(|digits| digits.len() == 26)?;
        // 26 digits have two bits more than a ULID.
        let in_range = digits.first().is_some_and(|first| *first < 8);
        let millis = digits.iter().take(10).fold(0, |sum, digit| sum << 5 | *digit as u64);
        in_range.then_some(Self(millis))
    }

    /// None where no end was set.
    pub(crate) fn finite(self) -> Option<Self> {
        (self != Self::NEVER).then_some(self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// How long a key is remembered, counted from the call that recorded it.
///
/// Kept with a precision of one millisecond; a fraction of a millisecond counts as a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// For this long: more than zero, at most 1000 years.
    After(Duration),
    /// Until it is removed.
    Never,
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

impl Ttl {
    /// The lifetime in milliseconds, `u64::MAX` for ever.
    pub(crate) fn millis(self) -> Result<u64> {
        let Self::After(duration) = self else {
            return Ok(u64::MAX);
        };
        if duration.is_zero() {
            return Err(Error::InvalidTtl { reason: "it is zero; give at least a millisecond" });
        }
        let fraction = u64::from(duration.subsec_nanos().div_ceil(1_000_000));
        let millis = duration.as_secs().saturating_mul(1000).saturating_add(fraction);
        match millis {
            ..=TTL_MS_MAX => Ok(millis),
            _ => Err(Error::InvalidTtl { reason: "it is over 1000 years; use Ttl::Never" }),
        }
    }
}

/// Adds a lifetime to a moment; the sum saturates just below "never".
pub(crate) fn expiry(created: Timestamp, lifetime_ms: u64) -> Timestamp {
    if lifetime_ms == u64::MAX {
        return Timestamp::NEVER;
    }
    Timestamp(created.0.saturating_add(lifetime_ms).min(u64::MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::{TTL_MS_MAX, Timestamp, Ttl, expiry};
    use std::time::Duration;

    #[test]
    fn a_lifetime_of_zero_or_beyond_a_thousand_years_is_refused() {
        assert!(Ttl::After(Duration::ZERO).millis().is_err());
        assert!(Ttl::After(Duration::from_millis(TTL_MS_MAX + 1)).millis().is_err());
        assert!(Ttl::After(Duration::MAX).millis().is_err());
        assert_eq!(Ttl::After(Duration::from_millis(TTL_MS_MAX)).millis().unwrap(), TTL_MS_MAX);
        assert_eq!(Ttl::Never.millis().unwrap(), u64::MAX);
    }

    #[test]
    fn a_fraction_of_a_millisecond_counts_as_a_whole_one() {
        assert_eq!(Ttl::After(Duration::from_nanos(1)).millis().unwrap(), 1);
        assert_eq!(Ttl::After(Duration::from_micros(1_001)).millis().unwrap(), 2);
    }

    #[test]
    fn an_expiry_never_overflows_and_never_turns_into_never() {
        let late = Timestamp::from_millis(u64::MAX - 5);
        assert_eq!(expiry(late, 100), Timestamp::from_millis(u64::MAX - 1));
        assert_eq!(expiry(late, u64::MAX), Timestamp::NEVER);
    }
}
