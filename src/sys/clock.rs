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

/// Milliseconds that the machine was suspended since it was started; the monotonic clock stands
/// still meanwhile. Always zero where the system does not tell.
pub(crate) fn suspended_millis() -> u64 {
    #[cfg(target_os = "linux")]
    return millis(ClockId::Boottime).saturating_sub(millis(ClockId::Monotonic));
    #[cfg(not(target_os = "linux"))]
    0
}

#[inline]
fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Before the epoch counts as the epoch; the kernel keeps nanoseconds below a second.
    let seconds = time.tv_sec.max(0).cast_unsigned();
    let nanos = time.tv_nsec.cast_unsigned() & 0x3fff_ffff;
    seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000)
}
