//! What finished work leaves behind for every later request with its key.

use crate::sys::sync::atomic::{AtomicU64, Ordering};

use crate::sys::words::{WORD, bytes_of, word_at, words_for};

/// Words that an outcome is held in without an allocation of its own.
const INLINE_WORDS: usize = 6;
/// So many bytes are read where an outcome begins, however few it has.
pub(crate) const INLINE_BYTES: u64 = (INLINE_WORDS * WORD) as u64;

/// An outcome's bytes, in place where they are few: up to 48.
#[derive(Clone)]
pub(crate) struct Outcome {
    len: usize,
    words: Words,
}

#[derive(Clone)]
enum Words {
    Inline([u64; INLINE_WORDS]),
    Heap(Box<[u64]>),
}

impl Outcome {
    /// The first `len` bytes of `words`, of which there are enough, and perhaps more.
    #[inline(always)]
    pub(crate) fn from_words(len: usize, words: &[AtomicU64]) -> Self {
        if len <= INLINE_WORDS * WORD
            && let Some(words) = words.first_chunk::<INLINE_WORDS>()
        {
            // All of them, needed or not, is faster than asking how many.
            let inline = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            return Self { len, words: Words::Inline(inline) };
        }
        Self { len, words: Words::Heap(boxed(words.get(..words_for(len)).unwrap_or_default())) }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let words = |index: usize| word_at(bytes, index).to_le();
        let len = bytes.len();
        if len <= INLINE_WORDS * WORD {
            return Self { len, words: Words::Inline(std::array::from_fn(words)) };
        }
        Self { len, words: Words::Heap((0..words_for(len)).map(words).collect()) }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let words: &[u64] = match &self.words {
            Words::Inline(words) => words,
            Words::Heap(words) => words,
        };
        bytes_of(words).get(..self.len).unwrap_or_default()
    }
}

#[cold]
fn boxed(words: &[AtomicU64]) -> Box<[u64]> {
    words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn an_outcome_keeps_its_bytes_on_both_sides_of_the_inline_limit() {
        for len in [0, 1, 7, 8, 47, 48, 49, 300] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8 | 1).collect();
            assert_eq!(Outcome::from_bytes(&bytes).as_bytes(), bytes);
        }
    }
}
