//! The two clocks of the kernel that time is made of.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds by which the wall clock is ahead of [`monotonic_millis`], rounded down.
///
/// The same for all who ask, in whatever process and at whatever moment between two ticks, until
/// the wall clock is set or the machine suspended: two clocks that move in the same ticks are
/// compared, and their fractions of a millisecond too.
pub(crate) fn wall_ahead_millis() -> u64 {
    #[cfg(target_os = "linux")]
    const WALL: ClockId = ClockId::RealtimeCoarse;
    #[cfg(not(target_os = "linux"))]
    const WALL: ClockId = ClockId::Realtime;
    let mut monotonic = nanos(COARSE);
    let mut wall = nanos(WALL);
    // A tick may come in between; where there are none, the clocks are read within a moment.
    for _ in 0..TRIES {
        let after = nanos(COARSE);
        if after == monotonic {
            break;
        }
        (monotonic, wall) = (after, nanos(WALL));
    }
    let ahead = u64::try_from(wall.saturating_sub(monotonic) / 1_000_000).unwrap_or(u64::MAX);
    #[cfg(test)]
    let ahead = ahead + by_hand::ahead();
    ahead
}

/// Times that two clocks are read until no tick came in between.
const TRIES: usize = 8;

/// Milliseconds of a clock that only runs forwards, in the kernel's ticks where it offers that.
///
/// A thread that asks again within a millisecond may be told the same: see [`recent`].
#[inline]
pub(crate) fn monotonic_millis() -> u64 {
    recent::millis()
}

/// The kernel's coarse clock, which moves every 1 to 10 milliseconds; a call of some 80
/// instructions.
fn coarse_millis() -> u64 {
    millis(COARSE)
}

#[cfg(target_os = "linux")]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(target_os = "linux"))]
const COARSE: ClockId = ClockId::Monotonic;

/// Milliseconds that the machine was suspended since it was started; the monotonic clock stands
/// still meanwhile. Always zero where the system does not tell.
pub(crate) fn suspended_millis() -> u64 {
    #[cfg(target_os = "linux")]
    return millis(ClockId::Boottime).saturating_sub(millis(ClockId::Monotonic));
    #[cfg(not(target_os = "linux"))]
    0
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Before the epoch counts as the epoch; the kernel keeps nanoseconds below a second.
    let seconds = time.tv_sec.max(0).cast_unsigned();
    let nanos = time.tv_nsec.cast_unsigned() & 0x3fff_ffff;
    seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000)
}

/// Nanoseconds of a clock; before its epoch counts as the epoch.
fn nanos(clock: ClockId) -> u128 {
    let time = clock_gettime(clock);
    let seconds = u128::from(time.tv_sec.max(0).cast_unsigned());
    seconds * 1_000_000_000 + u128::from(time.tv_nsec.cast_unsigned() & 0x3fff_ffff)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod recent {
    //! What the clock said a moment ago, while the processor's counter shows that it was a moment.
    //!
    //! The time stamp counter measures nothing here; it only says for how long an answer of the
    //! clock may be given again. It does so where it runs at one rate and never stops, which the
    //! processor tells; with any other counter the clock is asked each time. A counter that has
    //! jumped, in whichever direction, makes a thread ask.

    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::cell::Cell;
    use std::sync::OnceLock;

    /// For so many ticks an answer is given again: 1 ms at 1 GHz, 0.2 ms at 5 GHz.
    const TICKS_MAX: u64 = 1 << 20;

    thread_local! {
        /// The counter when the clock was asked, and what it said.
        static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }

    #[inline]
    pub(super) fn millis() -> u64 {
        let ticks = ticks();
        let (asked, millis) = LAST.get();
        if ticks.wrapping_sub(asked) < TICKS_MAX { millis } else { ask(ticks) }
    }

    #[cold]
    fn ask(ticks: u64) -> u64 {
        let millis = super::coarse_millis();
        if is_steady() {
            LAST.set((ticks, millis));
        }
        millis
    }

    #[inline]
    fn ticks() -> u64 {
        // SAFETY: every x86-64 processor has the counter, and reading it changes nothing. (A
        // process can have itself forbidden to read it; nothing in this crate does.)
        unsafe { _rdtsc() }
    }

    /// True where the counter runs at one rate, also while the processor sleeps.
    fn is_steady() -> bool {
        const LEAF: u32 = 0x8000_0007;
        static STEADY: OnceLock<bool> = OnceLock::new();
        *STEADY.get_or_init(|| {
            #[expect(unused_unsafe, reason = "only older compilers want it")]
            // SAFETY: every x86-64 processor has the instruction, which only reads; a leaf is
            // asked for only where the highest one is not below it.
            let power = unsafe { (__cpuid(0x8000_0000).eax >= LEAF).then(|| __cpuid(LEAF)) };
            power.is_some_and(|power| power.edx & (1 << 8) != 0)
        })
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod recent {
    //! The clock itself.

    pub(super) fn millis() -> u64 {
        super::coarse_millis()
    }
}

/// The wall clock as a test moves it, for the test's own thread.
#[cfg(test)]
pub(crate) mod by_hand {
    use std::cell::Cell;

    thread_local! {
        static AHEAD: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn ahead() -> u64 {
        AHEAD.get()
    }

    /// Sets the wall clock on by so many milliseconds.
    pub(crate) fn advance_wall(millis: u64) {
        AHEAD.set(AHEAD.get() + millis);
    }

    /// Sets the wall clock right.
    pub(crate) fn reset() {
        AHEAD.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{coarse_millis, monotonic_millis};

    #[test]
    fn a_time_given_again_is_a_moment_old_at_most() {
        for _ in 0..2_000_000 {
            let before = coarse_millis();
            let told = monotonic_millis();
            assert!(told + 2 >= before.saturating_sub(10) && told <= coarse_millis());
        }
    }
}
