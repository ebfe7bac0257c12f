//! Compares the upper bits of all eight integers of a line with one number, at once.
//!
//! Whoever searches a line wants one decision from eight integers that have just come from memory.
//! Eight comparisons with a branch each would be guessed wrong half of the time; a bit mask costs a
//! dozen instructions and one branch.

use crate::sys::arena::Line;

/// The upper bits of a line's eight integers, as they were when it was loaded.
#[derive(Clone, Copy)]
pub(crate) struct Upper(imp::Upper);

impl Upper {
    /// Loads the bits from `SHIFT` on, of which there are at most 32.
    ///
    /// The line may be written at the same time: each integer counts as it was at some moment
    /// during the call.
    #[inline]
    pub(crate) fn load<const SHIFT: u32>(line: &Line) -> Self {
        const { assert!(SHIFT >= 32 && SHIFT < 64) };
        Self(imp::load::<SHIFT>(line))
    }

    /// Which of the eight are `wanted`, one bit for each.
    #[inline]
    pub(crate) fn equal(self, wanted: u32) -> u32 {
        imp::equal(self.0, self.0, wanted) & 0xff
    }

    /// Which are `wanted` of these eight and, in the bits above, of eight others.
    #[inline]
    pub(crate) fn equal_in_both(self, above: Self, wanted: u32) -> u32 {
        imp::equal(self.0, above.0, wanted)
    }
}

#[cfg(any(not(target_arch = "x86_64"), miri, test))]
mod portable {
    //! Integer by integer.

    use crate::sys::sync::atomic::Ordering;

    use crate::sys::arena::{LINE_SLOTS, Line};

    pub(super) type Upper = [u64; LINE_SLOTS];

    pub(super) fn load<const SHIFT: u32>(line: &Line) -> Upper {
        line.0.each_ref().map(|integer| integer.load(Ordering::Relaxed) >> SHIFT)
    }

    pub(super) fn equal(low: Upper, high: Upper, wanted: u32) -> u32 {
        let all = low.into_iter().chain(high).enumerate();
        all.fold(0, |bits, (place, upper)| bits | u32::from(upper == u64::from(wanted)) << place)
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle)))))]
use portable as imp;
#[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
use sse2 as imp;

#[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
mod sse2 {
    //! With SSE2, which every x86-64 processor has: no detection, and it is inlined.

    use std::arch::asm;
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi32, _mm_cvtsi32_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set1_epi32, _mm_srl_epi32,
    };

    use crate::sys::arena::Line;

    /// Four integers, and four.
    pub(super) type Upper = (__m128i, __m128i);

    #[inline]
    pub(super) fn load<const SHIFT: u32>(line: &Line) -> Upper {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { shifted::<SHIFT>(line) }
    }

    #[inline]
    pub(super) fn equal(low: Upper, high: Upper, wanted: u32) -> u32 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { equal_sse2(low, high, wanted) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal_sse2(low: Upper, high: Upper, wanted: u32) -> u32 {
        let wanted = _mm_set1_epi32(wanted.cast_signed());
        let eight = |(first, second): Upper| {
            let (first, second) = (_mm_cmpeq_epi32(first, wanted), _mm_cmpeq_epi32(second, wanted));
            _mm_packs_epi32(first, second)
        };
        _mm_movemask_epi8(_mm_packs_epi16(eight(low), eight(high))).cast_unsigned()
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn shifted<const SHIFT: u32>(line: &Line) -> Upper {
        let (low, high) = upper_halves(line);
        let shift = _mm_cvtsi32_si128((SHIFT - 32).cast_signed());
        (_mm_srl_epi32(low, shift), _mm_srl_epi32(high, shift))
    }

    /// The upper 32 bits of the line's integers, in order.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn upper_halves(line: &Line) -> Upper {
        let (low, high): Upper;
        // SAFETY: the four loads read the 64 bytes of `line`, which is aligned to 64, and nothing
        // is written but the two registers named. Loads in assembly are opaque to the compiler, so
        // other threads may store to the line meanwhile, as with atomic loads; the processor
        // loads each aligned half of 8 bytes at once.
        unsafe {
            asm!(
                "movaps {low}, [{line}]",
                "shufps {low}, [{line} + 16], 0xdd",
                "movaps {high}, [{line} + 32]",
                "shufps {high}, [{line} + 48], 0xdd",
                line = in(reg) line.0.as_ptr(),
                low = out(xmm_reg) low,
                high = out(xmm_reg) high,
                options(readonly, nostack, preserves_flags),
            );
        }
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::{Upper, portable};
    use crate::sys::arena::Line;
    use crate::sys::sync::atomic::AtomicU64;

    fn line(integers: [u64; 8]) -> Line {
        Line(integers.map(AtomicU64::new))
    }

    #[test]
    fn equal_ones_are_told_place_by_place() {
        let (tag, other) = (0x0abc_def1_u32, 0x0abc_def0_u64);
        let without = Upper::load::<36>(&line([other << 36; 8]));
        for place in 0..8 {
            let mut integers = [(other << 36) | 7; 8];
            integers[place] = (u64::from(tag) << 36) | ((1 << 36) - 1);
            let upper = Upper::load::<36>(&line(integers));
            assert_eq!((upper.equal(tag), upper.equal(0)), (1 << place, 0));
            assert_eq!(upper.equal_in_both(without, tag), 1 << place);
            assert_eq!(without.equal_in_both(upper, tag), 1 << (place + 8));
            integers[place] = (1 << 36) - 1;
            let upper = Upper::load::<36>(&line(integers));
            assert_eq!((upper.equal(tag), upper.equal(0)), (0, 1 << place));
        }
    }

    #[test]
    fn both_ways_of_comparing_agree() {
        let mut state = 1_u64;
        let mut random_line = || {
            line(std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // Few different upper bits, so that equal and zero ones are common.
                ((state >> 61) << 36) | ((state >> 20) & ((1 << 36) - 1))
            }))
        };
        for _ in 0..20_000 {
            let (a, b) = (random_line(), random_line());
            for wanted in [0, 1, 3, u32::MAX >> 4] {
                let one_by_one =
                    portable::equal(portable::load::<36>(&a), portable::load::<36>(&b), wanted);
                let (a, b) = (Upper::load::<36>(&a), Upper::load::<36>(&b));
                assert_eq!(a.equal_in_both(b, wanted), one_by_one);
                assert_eq!(a.equal(wanted), one_by_one & 0xff);
            }
        }
    }
}
