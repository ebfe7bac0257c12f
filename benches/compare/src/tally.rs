//! Counts an engine's answers and compares every outcome it gives.

use crate::bytes::Bytes;

/// The answers to check-and-set calls on one thread.
#[derive(Debug)]
pub struct Tally<V> {
    /// The outcomes recorded for the items made ahead.
    pub expected: Vec<V>,
    /// Which of them is the first item of the call being answered.
    pub first: usize,
    /// Answers that the key was new.
    pub new: u64,
    /// Answers that the key was known, with the recorded outcome.
    pub duplicate: u64,
    /// Answers that the key was known, with another outcome.
    pub mismatched: u64,
}

impl<V> Default for Tally<V> {
    fn default() -> Self {
        Tally {
            expected: Vec::new(),
            first: 0,
            new: 0,
            duplicate: 0,
            mismatched: 0,
        }
    }
}

impl<V: Bytes> Tally<V> {
    /// Counts the answer to item `at` of the call: `None` for new, or the outcome found.
    #[inline(always)]
    pub fn answer(&mut self, at: usize, found: Option<&[u8]>) {
        match found {
            None => self.new += 1,
            Some(outcome) => match self.expected.get(self.first + at) {
                Some(expected) if expected.is(outcome) => self.duplicate += 1,
                _ => self.mismatched += 1,
            },
        }
    }
}
