//! What finished work leaves behind for every later request with its key.

use crate::sys::sync::atomic::{AtomicU64, Ordering};

use crate::sys::copy;
use crate::sys::words::{WORD, bytes_of, word_at, words_for};

/// Words that an outcome is held in without an allocation of its own.
pub(crate) const INLINE_WORDS: usize = copy::WORDS;
/// So many bytes are read where an outcome begins, however few it has.
pub(crate) const INLINE_BYTES: usize = INLINE_WORDS * WORD;

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
    pub(crate) fn from_words(len: usize, words: &[AtomicU64]) -> Self {
        match words.first_chunk() {
            Some(words) if len <= INLINE_BYTES => Self::from_short(len, copy::load(words)),
            _ => Self { len, words: Words::Heap(boxed(words.get(..words_for(len)))) },
        }
    }

    /// The first `len` bytes of `words`, of which there are enough.
    #[inline(always)]
    pub(crate) fn from_short(len: usize, words: [u64; INLINE_WORDS]) -> Self {
        Self { len, words: Words::Inline(words) }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let len = bytes.len();
        let mut padded = [0; INLINE_BYTES];
        if let Some(front) = padded.get_mut(..len) {
            front.copy_from_slice(bytes);
            let mut words = [0; INLINE_WORDS];
            for (word, chunk) in words.iter_mut().zip(padded.as_chunks::<WORD>().0) {
                *word = u64::from_le_bytes(*chunk).to_le();
            }
            return Self { len, words: Words::Inline(words) };
        }
        let words = (0..words_for(len)).map(|index| word_at(bytes, index).to_le());
        Self { len, words: Words::Heap(words.collect()) }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // Each by itself: for the first, a length that is known to be short needs no other check.
        match &self.words {
            Words::Inline(words) => bytes_of(words).get(..self.len).unwrap_or_else(nothing),
            Words::Heap(words) => bytes_of(words).get(..self.len).unwrap_or_else(nothing),
        }
    }

    /// The same bytes, which [`as_bytes`](Outcome::as_bytes) shows no more of.
    pub(crate) fn hidden(self) -> Self {
        Self { len: 0, ..self }
    }

    /// What is [hidden](Outcome::hidden), and more.
    pub(crate) fn behind(&self) -> &[u8] {
        match &self.words {
            Words::Inline(words) => bytes_of(words),
            Words::Heap(words) => bytes_of(words),
        }
    }
}

#[cold]
fn nothing<'a>() -> &'a [u8] {
    &[]
}

#[cold]
fn boxed(words: Option<&[AtomicU64]>) -> Box<[u64]> {
    words.unwrap_or_default().iter().map(|word| word.load(Ordering::Relaxed)).collect()
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
