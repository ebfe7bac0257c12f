//! The clocks that time is taken from, and the one time that a store makes of them.
//!
//! The engine's time never runs backwards: in a process it follows the kernel's monotonic clock,
//! anchored to the wall clock; across restarts it starts at the later of the wall clock and the
//! latest time the store has recorded. A wall clock set back therefore makes records live longer,
//! never shorter. What is done about a wall clock that jumps far ahead is a policy.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::clock;
use crate::time::Timestamp;

/// Where a store gets the time from.
///
/// The default is [`SystemClock`]; [`ManualClock`] is moved by hand, for tests. A clock that goes
/// backwards is tolerated: the store's own time stands still until the clock has caught up.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// What is done about a clock that is found far ahead of the store's time: by more than
/// [`Builder::clock_jump_max`](crate::Builder::clock_jump_max), 24 hours by default.
///
/// What has expired by the clock is dropped for good, so a clock that is wrong by years would empty
/// the store. Time that the machine was suspended is no jump, however long it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum JumpPolicy {
    /// While the store is open the clock is not followed, but reported:
    /// [`Stats::clock_ahead_ms`](crate::Stats::clock_ahead_ms). The next open follows it.
    #[default]
    UntilReopened,
    /// It is followed at the next maintenance, and by each open.
    Follow,
    /// It is not followed, and not by opening either, until
    /// [`Store::follow_clock`](crate::Store::follow_clock) says that it is right. A store that was
    /// not used for that long is held back as well: records live longer by the time that it was
    /// not open.
    Hold,
}

/// The policy on jumps, and what counts as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jumps {
    pub(crate) policy: JumpPolicy,
    pub(crate) max_ms: u64,
}

impl Jumps {
    pub(crate) const DEFAULT: Self =
        Self { policy: JumpPolicy::UntilReopened, max_ms: 24 * 3_600_000 };
}

/// The system's time: the wall clock read once, then followed by the kernel's monotonic clock.
///
/// It advances in the kernel's ticks (1 to 10 ms), which makes reading it cost about 3 ns.
#[derive(Debug)]
pub struct SystemClock {
    /// Wall time minus monotonic time; only ever grows.
    offset_ms: AtomicU64,
    /// Time suspended that is in the offset.
    suspended_ms: AtomicU64,
}

impl SystemClock {
    /// A clock that agrees with the wall clock now.
    #[must_use]
    pub fn new() -> Self {
        let offset = clock::wall_ahead_millis();
        let suspended = clock::suspended_millis();
        Self { offset_ms: AtomicU64::new(offset), suspended_ms: AtomicU64::new(suspended) }
    }

    /// Counts suspends, and follows the wall clock forwards, for slow adjustment; never backwards.
    fn follow_wall(&self, jumps: Jumps) -> Drift {
        let suspended = clock::suspended_millis();
        let before = self.suspended_ms.fetch_max(suspended, Ordering::Relaxed);
        let suspended_ms = suspended.saturating_sub(before);
        // Of one moment, so that what lies between two readings is taken for no difference.
        let monotonic = clock::monotonic_millis();
        let own = Timestamp(monotonic + self.offset_ms.load(Ordering::Relaxed));
        let wall = Timestamp(monotonic + clock::wall_ahead_millis());
        let drift = Drift::between(own, wall, suspended_ms, jumps);
        self.offset_ms.fetch_add(drift.suspended_ms + drift.followed_ms, Ordering::Relaxed);
        drift
    }
}

/// How the wall clock stands to a store's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    /// The machine was suspended for so much, which counts as time passed.
    pub(crate) suspended_ms: u64,
    /// The wall clock is ahead by so much beyond that, and followed.
    pub(crate) followed_ms: u64,
    /// It is ahead by so much, and not followed.
    pub(crate) ahead_ms: u64,
}

impl Drift {
    fn between(own: Timestamp, wall: Timestamp, suspended_ms: u64, jumps: Jumps) -> Self {
        let by = wall.0.saturating_sub(own.0.saturating_add(suspended_ms));
        if by > jumps.max_ms && jumps.policy != JumpPolicy::Follow {
            return Self { suspended_ms, followed_ms: 0, ahead_ms: by };
        }
        Self { suspended_ms, followed_ms: by, ahead_ms: 0 }
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
    jumps: Jumps,
    floor_ms: AtomicU64,
    /// By how much the time is held back behind the clock; of the system's clock in its offset.
    held_ms: AtomicU64,
    /// What was followed so far, and how far the wall clock was ahead at the last look.
    suspended_ms: AtomicU64,
    followed_ms: AtomicU64,
    ahead_ms: AtomicU64,
}

#[derive(Debug)]
enum Source {
    System(SystemClock),
    Custom(Arc<dyn Clock>),
}

impl EngineClock {
    /// Starts at the later of the clock and `floor`, or at `floor` where the clock has jumped and
    /// is to be held back.
    pub(crate) fn new(custom: Option<Arc<dyn Clock>>, floor: Timestamp, jumps: Jumps) -> Self {
        let source = match custom {
            Some(clock) => Source::Custom(clock),
            None => Source::System(SystemClock::new()),
        };
        let floor_ms = AtomicU64::new(floor.0);
        let [held_ms, suspended_ms, followed_ms, ahead_ms] = Default::default();
        let time = Self { source, jumps, floor_ms, held_ms, suspended_ms, followed_ms, ahead_ms };
        time.settle();
        time
    }

    /// Holds the time back if the clock has jumped since the latest time known to have passed, and
    /// lets it go on if not. Returns by how much it is held back.
    pub(crate) fn settle(&self) -> u64 {
        let floor = self.floor_ms.load(Ordering::SeqCst);
        let held_before = self.held_ms.load(Ordering::SeqCst);
        let now = match &self.source {
            Source::System(clock) => clock.now().0.saturating_add(held_before),
            Source::Custom(clock) => clock.now().0,
        };
        let by = now.saturating_sub(floor);
        let jumped = self.jumps.policy == JumpPolicy::Hold && by > self.jumps.max_ms;
        let held_ms = if jumped { by } else { 0 };
        self.held_ms.store(held_ms, Ordering::SeqCst);
        if let Source::System(clock) = &self.source {
            clock.offset_ms.fetch_add(held_before.wrapping_sub(held_ms), Ordering::SeqCst);
        }
        self.ahead_ms.store(held_ms, Ordering::Relaxed);
        held_ms
    }

    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        match &self.source {
            // A thread may be told a time that is a moment old, and then not before what others
            // were told: the floor is where the time stands for all.
            Source::System(clock) => {
                let (now, floor) = (clock.now().0, self.floor_ms.load(Ordering::Relaxed));
                Timestamp(if now > floor { self.raised(now) } else { floor })
            }
            Source::Custom(clock) => {
                let now = clock.now().0.saturating_sub(self.held_ms.load(Ordering::Relaxed));
                // The last moment stands for "never", which never comes.
                let now = now.min(Timestamp::NEVER.0 - 1);
                Timestamp(self.floor_ms.fetch_max(now, Ordering::SeqCst).max(now))
            }
        }
    }

    /// Moves the time on, as the first thread of each tick does.
    #[cold]
    fn raised(&self, now: u64) -> u64 {
        self.floor_ms.fetch_max(now, Ordering::SeqCst).max(now)
    }

    /// Time will never again be reported before `floor`.
    pub(crate) fn raise_floor(&self, floor: Timestamp) {
        self.floor_ms.fetch_max(floor.0, Ordering::SeqCst);
    }

    pub(crate) fn follow_wall(&self) {
        if let Source::System(clock) = &self.source {
            self.add(clock.follow_wall(self.jumps));
        }
    }

    /// The clock is right: from now on the time follows it, however far it is ahead.
    pub(crate) fn follow_all(&self) {
        let held_ms = self.held_ms.swap(0, Ordering::SeqCst);
        match &self.source {
            Source::System(clock) => {
                let policy = JumpPolicy::Follow;
                self.add(clock.follow_wall(Jumps { policy, ..self.jumps }));
            }
            Source::Custom(_) => {
                self.add(Drift { followed_ms: held_ms, ..Drift::default() });
            }
        }
    }

    fn add(&self, drift: Drift) {
        self.suspended_ms.fetch_add(drift.suspended_ms, Ordering::Relaxed);
        self.followed_ms.fetch_add(drift.followed_ms, Ordering::Relaxed);
        self.ahead_ms.store(drift.ahead_ms, Ordering::Relaxed);
    }

    /// All that was followed, and how far the clock is ahead without being followed.
    pub(crate) fn drift(&self) -> Drift {
        Drift {
            suspended_ms: self.suspended_ms.load(Ordering::Relaxed),
            followed_ms: self.followed_ms.load(Ordering::Relaxed),
            ahead_ms: self.ahead_ms.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Drift, EngineClock, JumpPolicy, Jumps, ManualClock, SystemClock};
    use crate::time::Timestamp;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn the_wall_clock_is_followed_over_a_suspend_and_not_over_a_wild_jump_or_backwards() {
        let day = Jumps::DEFAULT.max_ms;
        for policy in [JumpPolicy::UntilReopened, JumpPolicy::Hold, JumpPolicy::Follow] {
            let jumps = Jumps { policy, ..Jumps::DEFAULT };
            for own in [0, 1 << 31, 1 << 32, (1_u64 << 32) * 1_000, 1 << 63] {
                let drift = |wall: u64, suspended: u64| {
                    Drift::between(Timestamp(own), Timestamp(wall), suspended, jumps)
                };
                assert_eq!(drift(own, 0), Drift::default());
                assert_eq!(drift(own.saturating_sub(1), 0), Drift::default());
                for suspended_ms in [0, 5_000, 30 * day] {
                    let wall = own + suspended_ms;
                    for followed_ms in [0, 1, 3_600_000, day] {
                        let expected = Drift { suspended_ms, followed_ms, ahead_ms: 0 };
                        assert_eq!(drift(wall + followed_ms, suspended_ms), expected);
                    }
                    let by = day + 1;
                    let (followed_ms, ahead_ms) =
                        if policy == JumpPolicy::Follow { (by, 0) } else { (0, by) };
                    let expected = Drift { suspended_ms, followed_ms, ahead_ms };
                    assert_eq!(drift(wall + by, suspended_ms), expected);
                }
            }
            let last = Timestamp(u64::MAX);
            assert_eq!(Drift::between(last, last, day, jumps).followed_ms, 0);
        }
    }

    #[test]
    fn a_clock_that_has_jumped_is_held_back_until_it_is_said_to_be_right() {
        let hold = Jumps { policy: JumpPolicy::Hold, ..Jumps::DEFAULT };
        for floor in [1, 1 << 31, 1 << 32, (1_u64 << 32) * 1_000, 1 << 63] {
            let jump = hold.max_ms + 1;
            let clock = Arc::new(ManualClock::new(Timestamp(floor + jump)));
            let time = EngineClock::new(Some(clock.clone()), Timestamp(floor), hold);
            assert_eq!((time.now().0, time.drift().ahead_ms), (floor, jump));
            clock.advance(Duration::from_secs(1));
            assert_eq!(time.now().0, floor + 1_000);
            time.raise_floor(Timestamp(floor + 5_000));
            assert_eq!(time.now().0, floor + 5_000);
            // As close as this it has not jumped after all.
            assert_eq!((time.settle(), time.now().0), (0, floor + jump + 1_000));
            let time = EngineClock::new(Some(clock.clone()), Timestamp(floor), hold);
            assert_eq!(time.now().0, floor);
            time.follow_all();
            assert_eq!((time.now().0, time.drift().ahead_ms), (floor + jump + 1_000, 0));
            let time = EngineClock::new(Some(clock), Timestamp(floor), Jumps::DEFAULT);
            assert_eq!(time.now().0, floor + jump + 1_000);
        }
    }

    #[test]
    fn the_systems_clock_is_held_back_in_the_same_way() {
        let hold = Jumps { policy: JumpPolicy::Hold, ..Jumps::DEFAULT };
        let year = 365 * 24 * 3_600_000;
        let wall = SystemClock::new().now().0;
        let long_ago = wall - year;
        let near = |time: &EngineClock, at: u64| time.now().0.abs_diff(at) < 600_000;
        let time = EngineClock::new(None, Timestamp(long_ago), hold);
        time.follow_wall();
        assert!(near(&time, long_ago) && time.drift().ahead_ms.abs_diff(year) < 600_000);
        assert!(time.settle() > 0 && near(&time, long_ago), "settling twice holds once");
        time.raise_floor(Timestamp(wall - 3_600_000));
        assert_eq!(time.settle(), 0);
        assert!(near(&time, wall));
        let time = EngineClock::new(None, Timestamp(long_ago), hold);
        time.follow_all();
        assert!(near(&time, wall) && time.drift().ahead_ms == 0);
        time.follow_wall();
        assert!(near(&time, wall));
    }

    /// Else a process that opens the store would begin before what the one before it was told.
    #[test]
    fn clocks_made_at_any_moment_between_two_ticks_agree() {
        let first = SystemClock::new();
        let mut ticks = 0;
        let mut last = first.now().0;
        while ticks < 20 {
            let clock = SystemClock::new();
            let own = first.offset_ms.load(Ordering::Relaxed);
            assert_eq!(clock.offset_ms.load(Ordering::Relaxed), own);
            assert_eq!(first.follow_wall(Jumps::DEFAULT), Drift::default());
            let now = clock.now().0;
            ticks += u64::from(now > last);
            last = now;
        }
    }

    #[test]
    fn engine_time_stands_still_while_the_clock_is_behind() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(5_000)));
        let time = EngineClock::new(Some(clock.clone()), Timestamp::from_millis(0), Jumps::DEFAULT);
        assert_eq!(time.now().as_millis(), 5_000);
        clock.set(Timestamp::from_millis(1_000));
        assert_eq!(time.now().as_millis(), 5_000);
        clock.set(Timestamp::from_millis(5_001));
        assert_eq!(time.now().as_millis(), 5_001);
    }

    #[test]
    fn no_thread_is_told_an_earlier_time_than_another_was_told_before() {
        let time = EngineClock::new(None, Timestamp(0), Jumps::DEFAULT);
        let (latest, start) = (AtomicU64::new(0), time.now().0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // Over many ticks of the kernel's clock.
                    while latest.load(Ordering::SeqCst) < start + 300 {
                        let before = latest.load(Ordering::SeqCst);
                        let now = time.now().0;
                        assert!(now >= before, "{now} after {before}");
                        latest.fetch_max(now, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
