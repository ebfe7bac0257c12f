//! Compares the upper bits of all eight integers of a line with one number, at once.
//!
//! Whoever searches a line wants one decision from eight integers that have just come from memory.
//! Eight comparisons with a branch each would be guessed wrong half of the time; two bit masks
//! cost a dozen instructions and one branch.

use crate::sys::arena::Line;

/// What a line's integers say, one bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    /// The upper bits are those asked for.
    pub(crate) equal: u32,
    /// The upper bits are zero.
    pub(crate) zero: u32,
}

/// Compares the bits from `SHIFT` on, of which there are at most 32, with `wanted`.
///
/// The line may be written at the same time: each integer counts as it was at some moment during
/// the call.
#[inline]
pub(crate) fn compare_upper<const SHIFT: u32>(line: &Line, wanted: u32) -> Compared {
    const { assert!(SHIFT >= 32 && SHIFT < 64) };
    #[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
    // SAFETY: every x86-64 processor has SSE2.
    return unsafe { x86_64::compare::<SHIFT>(line, wanted) };
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle)))))]
    return compare_one_by_one::<SHIFT>(line, wanted);
}

#[cfg(any(not(target_arch = "x86_64"), miri, test))]
fn compare_one_by_one<const SHIFT: u32>(line: &Line, wanted: u32) -> Compared {
    let mut compared = Compared { equal: 0, zero: 0 };
    for (place, integer) in line.0.iter().enumerate() {
        let upper = integer.load(crate::sys::sync::atomic::Ordering::Relaxed) >> SHIFT;
        compared.equal |= u32::from(upper == u64::from(wanted)) << place;
        compared.zero |= u32::from(upper == 0) << place;
    }
    compared
}

#[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
mod x86_64 {
    //! With SSE2, which every x86-64 processor has: no detection, and it is inlined.

    use std::arch::asm;
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi32, _mm_cvtsi32_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128, _mm_srl_epi32,
    };

    use super::Compared;
    use crate::sys::arena::Line;

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn compare<const SHIFT: u32>(line: &Line, wanted: u32) -> Compared {
        let (low, high) = upper_halves(line);
        let shift = _mm_cvtsi32_si128((SHIFT - 32).cast_signed());
        let (low, high) = (_mm_srl_epi32(low, shift), _mm_srl_epi32(high, shift));
        let wanted = _mm_set1_epi32(wanted.cast_signed());
        let equal = _mm_packs_epi32(_mm_cmpeq_epi32(low, wanted), _mm_cmpeq_epi32(high, wanted));
        let none = _mm_setzero_si128();
        let zero = _mm_packs_epi32(_mm_cmpeq_epi32(low, none), _mm_cmpeq_epi32(high, none));
        // Eight bytes of answers to the first question, then eight to the second.
        let both = _mm_movemask_epi8(_mm_packs_epi16(equal, zero)).cast_unsigned();
        Compared { equal: both & 0xff, zero: both >> 8 }
    }

    /// The upper 32 bits of the line's integers, in order.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn upper_halves(line: &Line) -> (__m128i, __m128i) {
        let (low, high): (__m128i, __m128i);
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
    use super::{compare_one_by_one, compare_upper};
    use crate::sys::arena::Line;
    use crate::sys::sync::atomic::AtomicU64;

    fn line(integers: [u64; 8]) -> Line {
        Line(integers.map(AtomicU64::new))
    }

    #[test]
    fn equal_and_zero_are_told_place_by_place() {
        let (tag, other) = (0x0abc_def1_u64, 0x0abc_def0_u64);
        for place in 0..8 {
            let mut integers = [(other << 36) | 7; 8];
            integers[place] = (tag << 36) | ((1 << 36) - 1);
            let compared = compare_upper::<36>(&line(integers), tag as u32);
            assert_eq!((compared.equal, compared.zero), (1 << place, 0));
            integers[place] = (1 << 36) - 1;
            let compared = compare_upper::<36>(&line(integers), tag as u32);
            assert_eq!((compared.equal, compared.zero), (0, 1 << place));
        }
    }

    #[test]
    fn both_ways_of_comparing_agree() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let integers = std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // Few different upper bits, so that equal and zero ones are common.
                ((state >> 61) << 36) | ((state >> 20) & ((1 << 36) - 1))
            });
            let line = line(integers);
            for wanted in [1, 3, u32::MAX >> 4] {
                let one_by_one = compare_one_by_one::<36>(&line, wanted);
                assert_eq!(compare_upper::<36>(&line, wanted), one_by_one);
            }
            assert_eq!(compare_upper::<32>(&line, 16), compare_one_by_one::<32>(&line, 16));
        }
    }
}
