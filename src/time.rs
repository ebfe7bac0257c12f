//! Timestamps, lifetimes, and the one clock they come from.
//!
//! The engine's time never runs backwards: in a process it follows the kernel's monotonic clock,
//! anchored to the wall clock; across restarts it starts at the later of the wall clock and the
//! latest time the store has recorded. A wall clock set back therefore makes records live longer,
//! never shorter. A wall clock that jumps far ahead while the store is open is not followed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::clock;

/// The longest finite lifetime: 1000 years, in milliseconds.
pub(crate) const TTL_MS_MAX: u64 = 1_000 * 366 * 24 * 3_600_000;

/// A forward jump of the wall clock above this is not followed while the store is open.
const WALL_JUMP_MS_MAX: u64 = 24 * 3_600_000;

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
        let millis = duration.as_nanos().div_ceil(1_000_000);
        match u64::try_from(millis) {
            Ok(millis) if millis <= TTL_MS_MAX => Ok(millis),
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

/// Where a store gets the time from.
///
/// The default is [`SystemClock`]; [`ManualClock`] is moved by hand, for tests. A clock that goes
/// backwards is tolerated: the store's own time stands still until the clock has caught up.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The system's time: the wall clock read once, then followed by the kernel's monotonic clock.
///
/// It advances in the kernel's ticks (1 to 10 ms), which makes reading it cost about 3 ns.
#[derive(Debug)]
pub struct SystemClock {
    /// Wall time minus monotonic time; only ever grows.
    offset_ms: AtomicU64,
}

impl SystemClock {
    /// A clock that agrees with the wall clock now.
    #[must_use]
    pub fn new() -> Self {
        let offset = clock::wall_millis().saturating_sub(clock::monotonic_millis());
        Self { offset_ms: AtomicU64::new(offset) }
    }

    /// Follows the wall clock forwards, for suspends and slow adjustment; never backwards.
    pub(crate) fn follow_wall(&self) -> Drift {
        let drift = Drift::between(self.now(), Timestamp(clock::wall_millis()));
        self.offset_ms.fetch_add(drift.followed_ms, Ordering::Relaxed);
        drift
    }
}

/// How the wall clock stands to a store's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    /// It is ahead by so much, and followed.
    pub(crate) followed_ms: u64,
    /// It is ahead by so much, which is too far to be followed.
    pub(crate) ahead_ms: u64,
}

impl Drift {
    fn between(own: Timestamp, wall: Timestamp) -> Self {
        match wall.0.saturating_sub(own.0) {
            by if by > WALL_JUMP_MS_MAX => Self { followed_ms: 0, ahead_ms: by },
            by => Self { followed_ms: by, ahead_ms: 0 },
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Timestamp {
        Timestamp(clock::monotonic_millis() + self.offset_ms.load(Ordering::Relaxed))
    }
}

/// A clock that stands still until it is moved, for tests.
///
/// ```
/// use oncelog::{Clock, ManualClock, Timestamp};
/// use std::time::Duration;
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp::from_millis(3_000));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `now`.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { now_ms: AtomicU64::new(now.0) }
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.now_ms.store(now.0, Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.now_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::SeqCst))
    }
}

/// The engine's time: a clock that is never seen to go backwards.
#[derive(Debug)]
pub(crate) struct EngineClock {
    source: Source,
    floor_ms: AtomicU64,
    /// What was followed so far, and how far the wall clock was ahead at the last look.
    followed_ms: AtomicU64,
    ahead_ms: AtomicU64,
}

#[derive(Debug)]
enum Source {
    System(SystemClock),
    Custom(Arc<dyn Clock>),
}

impl EngineClock {
    /// Starts at the later of the clock and `floor`.
    pub(crate) fn new(custom: Option<Arc<dyn Clock>>, floor: Timestamp) -> Self {
        let source = match custom {
            Some(clock) => Source::Custom(clock),
            None => Source::System(SystemClock::new()),
        };
        let floor_ms = AtomicU64::new(floor.0);
        Self { source, floor_ms, followed_ms: AtomicU64::new(0), ahead_ms: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        match &self.source {
            // Monotonic by itself, so the floor is only where it started.
            Source::System(clock) => {
                Timestamp(clock.now().0.max(self.floor_ms.load(Ordering::Relaxed)))
            }
            Source::Custom(clock) => {
                let now = clock.now().0;
                Timestamp(self.floor_ms.fetch_max(now, Ordering::SeqCst).max(now))
            }
        }
    }

    /// Time will never again be reported before `floor`.
    pub(crate) fn raise_floor(&self, floor: Timestamp) {
        self.floor_ms.fetch_max(floor.0, Ordering::SeqCst);
    }

    pub(crate) fn follow_wall(&self) {
        if let Source::System(clock) = &self.source {
            let drift = clock.follow_wall();
            self.followed_ms.fetch_add(drift.followed_ms, Ordering::Relaxed);
            self.ahead_ms.store(drift.ahead_ms, Ordering::Relaxed);
        }
    }

    /// All that the wall clock was followed by, and how far it is ahead without being followed.
    pub(crate) fn drift(&self) -> Drift {
        Drift {
            followed_ms: self.followed_ms.load(Ordering::Relaxed),
            ahead_ms: self.ahead_ms.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Drift, EngineClock, ManualClock, TTL_MS_MAX, Timestamp, Ttl, WALL_JUMP_MS_MAX, expiry,
    };
    use std::sync::Arc;
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

    #[test]
    fn the_wall_clock_is_followed_over_a_suspend_and_not_over_a_wild_jump_or_backwards() {
        for own in [0, 1 << 31, 1 << 32, (1_u64 << 32) * 1_000, 1 << 63] {
            let drift = |wall: u64| Drift::between(Timestamp(own), Timestamp(wall));
            assert_eq!(drift(own), Drift::default());
            assert_eq!(drift(own.saturating_sub(1)), Drift::default());
            for by in [1, 3_600_000, WALL_JUMP_MS_MAX] {
                assert_eq!(drift(own + by), Drift { followed_ms: by, ahead_ms: 0 });
            }
            let ahead_ms = WALL_JUMP_MS_MAX + 1;
            assert_eq!(drift(own + ahead_ms), Drift { followed_ms: 0, ahead_ms });
        }
    }

    #[test]
    fn engine_time_stands_still_while_the_clock_is_behind() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(5_000)));
        let time = EngineClock::new(Some(clock.clone()), Timestamp::from_millis(0));
        assert_eq!(time.now().as_millis(), 5_000);
        clock.set(Timestamp::from_millis(1_000));
        assert_eq!(time.now().as_millis(), 5_000);
        clock.set(Timestamp::from_millis(5_001));
        assert_eq!(time.now().as_millis(), 5_001);
    }
}
