//! The two clocks of the kernel that time is made of.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the Unix epoch by the wall clock; zero before it.
pub(crate) fn wall_millis() -> u64 {
    millis(ClockId::Realtime)
}

/// Milliseconds of a clock that only runs forwards, in the kernel's ticks where it offers that.
#[inline]
pub(crate) fn monotonic_millis() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    millis(CLOCK)
}

#[inline]
fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(millis)
}
