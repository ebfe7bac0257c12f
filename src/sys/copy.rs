//! Copies a few words at once.
//!
//! Word by word, a copy that is not to count unless something has not changed meanwhile needs as
//! many registers as words, and so goes to the stack and back. In vectors it is half the loads, and
//! stays in registers.

use crate::sys::sync::atomic::AtomicU64;

/// Words that are copied at once.
pub(crate) const WORDS: usize = 6;

/// The words' contents, each as it was at some moment during the call.
#[inline(always)]
pub(crate) fn load(words: &[AtomicU64; WORDS]) -> [u64; WORDS] {
    imp::load(words)
}

#[cfg(any(not(target_arch = "x86_64"), miri, test))]
mod portable {
    //! Word by word.

    use super::WORDS;
    use crate::sys::sync::atomic::{AtomicU64, Ordering};

    pub(super) fn load(words: &[AtomicU64; WORDS]) -> [u64; WORDS] {
        words.each_ref().map(|word| word.load(Ordering::Relaxed))
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle)))))]
use portable as imp;
#[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
use sse2 as imp;

#[cfg(all(target_arch = "x86_64", not(miri), not(all(test, oncelog_shuttle))))]
mod sse2 {
    //! With SSE2, which every x86-64 processor has.

    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    use super::WORDS;
    use crate::sys::sync::atomic::AtomicU64;

    #[inline(always)]
    pub(super) fn load(words: &[AtomicU64; WORDS]) -> [u64; WORDS] {
        let (a, b, c): (__m128i, __m128i, __m128i);
        // SAFETY: the three loads read the 48 bytes of `words`, and nothing is written but the
        // registers named. Loads in assembly are opaque to the compiler, so other threads may store
        // to the words meanwhile, as with atomic loads; the processor loads each aligned half of
        // 8 bytes at once.
        unsafe {
            asm!(
                "movdqu {a}, [{words}]",
                "movdqu {b}, [{words} + 16]",
                "movdqu {c}, [{words} + 32]",
                words = in(reg) words.as_ptr(),
                a = out(xmm_reg) a,
                b = out(xmm_reg) b,
                c = out(xmm_reg) c,
                options(readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: vectors and integers are both plain bits, and of one size together.
        unsafe { std::mem::transmute([a, b, c]) }
    }
}

#[cfg(test)]
mod tests {
    use super::{WORDS, load, portable};
    use crate::sys::sync::atomic::AtomicU64;

    #[test]
    fn words_come_in_order_from_wherever_they_begin() {
        let words: [AtomicU64; WORDS + 2] = std::array::from_fn(|i| AtomicU64::new(i as u64 * 3));
        for from in 0..=2 {
            let part = words[from..].first_chunk().unwrap();
            assert_eq!(load(part), std::array::from_fn(|i| (from + i) as u64 * 3));
            assert_eq!(load(part), portable::load(part));
        }
    }
}
