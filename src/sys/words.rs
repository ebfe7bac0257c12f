//! Shared bytes seen as little-endian 64-bit words, read and written atomically.
//!
//! Callers move byte strings in and out in whole words; a string's last word is padded with zero.

use crate::sys::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a word.
pub(crate) const WORD: usize = 8;

/// The word as the integer it stands for on any machine.
#[inline]
pub(crate) fn load(word: &AtomicU64) -> u64 {
    u64::from_le(word.load(Ordering::Relaxed))
}

/// As [`load`]; also makes visible what was written before the word was published.
#[inline]
pub(crate) fn load_acquire(word: &AtomicU64) -> u64 {
    u64::from_le(word.load(Ordering::Acquire))
}

#[inline]
pub(crate) fn store(word: &AtomicU64, value: u64) {
    word.store(value.to_le(), Ordering::Relaxed);
}

/// As [`store`]; everything written before it by this thread is visible to who loads it.
#[inline]
pub(crate) fn store_release(word: &AtomicU64, value: u64) {
    word.store(value.to_le(), Ordering::Release);
}

/// The words that `len` bytes occupy.
#[inline]
pub(crate) const fn words_for(len: usize) -> usize {
    len.div_ceil(WORD)
}

/// Word `index` of a byte string, padded with zeros.
pub(crate) fn word_at(bytes: &[u8], index: usize) -> u64 {
    let rest = bytes.get(index * WORD..).unwrap_or_default();
    from_bytes(rest.get(..WORD).unwrap_or(rest))
}

/// The bytes of words that were stored in little-endian order.
#[inline]
pub(crate) fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: the slice's memory is readable for as long as the result lives and not changed
    // meanwhile, as both borrow it; an integer's bytes are all initialised and valid as bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

#[inline]
fn from_bytes(bytes: &[u8]) -> u64 {
    let mut padded = [0; WORD];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(padded)
}

/// The last, incomplete word of a string; `rest` is what of it is in that word.
#[inline]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    match bytes.last_chunk::<WORD>() {
        // One load of the last eight bytes, of which the first belong to the word before.
        Some(last) => u64::from_le_bytes(*last) >> (8 * (WORD - rest.len())),
        None => from_bytes(rest),
    }
}

/// Writes `bytes` from the first word on, padding the last with zeros.
///
/// Callers have checked the room; without it nothing is written.
#[inline]
pub(crate) fn write_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    let Some((words, last)) = words.split_at_checked(whole.len()) else { return };
    for (word, chunk) in words.iter().zip(whole) {
        store(word, u64::from_le_bytes(*chunk));
    }
    if let (false, Some(word)) = (rest.is_empty(), last.first()) {
        store(word, last_word(bytes, rest));
    }
}

/// Fills `bytes` from the first word on.
#[inline]
pub(crate) fn read_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
    let (whole, rest) = bytes.as_chunks_mut::<WORD>();
    let count = whole.len();
    for (word, chunk) in words.iter().zip(whole) {
        *chunk = load(word).to_le_bytes();
    }
    if let (false, Some(word)) = (rest.is_empty(), words.get(count)) {
        let last = load(word).to_le_bytes();
        for (to, from) in rest.iter_mut().zip(last) {
            *to = from;
        }
    }
}

/// True when the words begin with `bytes`. What pads the last word does not count.
#[inline]
pub(crate) fn equal_bytes(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    let Some((words, last)) = words.split_at_checked(whole.len()) else {
        return false;
    };
    // Equal strings are the rule, so all words are looked at before the one branch.
    let differs =
        words.iter().zip(whole).fold(0, |d, (word, c)| d | (load(word) ^ u64::from_le_bytes(*c)));
    if rest.is_empty() || differs != 0 {
        return differs == 0;
    }
    let mask = (1_u64 << (rest.len() * 8)) - 1;
    last.first().is_some_and(|word| load(word) & mask == last_word(bytes, rest))
}

#[cfg(test)]
mod tests {
    use super::{equal_bytes, load, read_bytes, words_for, write_bytes};
    use crate::sys::sync::atomic::AtomicU64;

    #[test]
    fn bytes_of_every_length_come_back_and_the_padding_is_zero() {
        for len in 0..=40_usize {
            let words: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(0)).collect();
            let bytes: Vec<u8> = (1..=len as u8).collect();
            write_bytes(&words, &bytes);
            let mut back = vec![0; len];
            read_bytes(&words, &mut back);
            assert_eq!(back, bytes);
            assert!(equal_bytes(&words, &bytes));
            assert!(words[words_for(len)..].iter().all(|word| load(word) == 0));
            if len > 0 {
                let mut other = bytes.clone();
                other[len - 1] ^= 1;
                assert!(!equal_bytes(&words, &other));
            }
        }
    }

    #[test]
    fn padding_does_not_count() {
        let words = [AtomicU64::new(u64::from_le_bytes(*b"abcXXXXX"))];
        assert!(equal_bytes(&words, b"abc"));
        assert!(!equal_bytes(&words, b"abd"));
    }

    #[test]
    fn a_string_longer_than_the_words_is_not_equal() {
        let words = [AtomicU64::new(0)];
        assert!(!equal_bytes(&words, &[0; 9]));
    }
}
