//! The window of one source: a high-water mark, and a ring of bits for the numbers below it.
//!
//! A number's bit is at its remainder by the ring's length, so that moving the mark clears the bits
//! of the numbers that it passes and shifts nothing. In strict order all numbers up to the mark
//! were accepted, and there is no ring.

use crate::recipes::keys::split_u64;
use crate::recipes::sequence::{Accept, Order, Progress};

const WORD_BITS: u64 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    epoch: u64,
    /// The first number that came in the epoch.
    first: u64,
    high: u64,
    ring: Vec<u64>,
}

impl Window {
    /// Decides on a number; the window is as it is afterwards.
    pub(super) fn accept(
        window: &mut Option<Self>,
        order: Order,
        epoch: u64,
        number: u64,
    ) -> Accept {
        match window {
            Some(known) if epoch < known.epoch => Accept::Fenced { epoch: known.epoch },
            Some(known) if epoch == known.epoch => match order {
                Order::Window(_) => known.accept_in_window(number),
                Order::Strict { first } => known.accept_next(first, number),
            },
            // A new source, or an epoch that ends the one before.
            _ => {
                let words = match order {
                    Order::Window(width) => words_of(width),
                    Order::Strict { first } if number < first => {
                        return Accept::TooOld { low: first };
                    }
                    Order::Strict { first } if number > first => {
                        return Accept::Gap { expected: first };
                    }
                    Order::Strict { .. } => 0,
                };
                let mut begun = Self { epoch, first: number, high: number, ring: vec![0; words] };
                begun.mark(number);
                *window = Some(begun);
                Accept::New { skipped: 0 }
            }
        }
    }

    fn accept_in_window(&mut self, number: u64) -> Accept {
        if number > self.high {
            let skipped = number - self.high - 1;
            if skipped >= self.width() {
                self.ring.fill(0);
            } else {
                (self.high + 1..=number).for_each(|passed| self.set(passed, false));
            }
            self.high = number;
            self.mark(number);
            return Accept::New { skipped };
        }
        if number < self.low() {
            return Accept::TooOld { low: self.low() };
        }
        if self.is_marked(number) {
            return Accept::Duplicate;
        }
        self.mark(number);
        self.first = self.first.min(number);
        Accept::New { skipped: 0 }
    }

    fn accept_next(&mut self, first: u64, number: u64) -> Accept {
        if number < first {
            Accept::TooOld { low: first }
        } else if number <= self.high {
            Accept::Duplicate
        } else if number == self.high + 1 {
            self.high = number;
            // What a window told before is told by the mark from now on.
            self.ring.clear();
            Accept::New { skipped: 0 }
        } else {
            Accept::Gap { expected: self.high + 1 }
        }
    }

    /// With a ring for so many numbers. What the ring before does not tell counts as accepted.
    pub(super) fn widened(self, width: u32) -> Self {
        let words = words_of(width);
        if words == self.ring.len() {
            return self;
        }
        let mut wide = Self { ring: vec![0; words], ..self.clone() };
        for number in wide.low()..=self.high {
            let told = self.width() != 0 && number >= self.low();
            wide.set(number, !told || self.is_marked(number));
        }
        wide
    }

    pub(super) fn progress(&self) -> Progress {
        let from = if self.width() == 0 { self.high } else { self.low().max(self.first) };
        let missing = (from..self.high).filter(|number| !self.is_marked(*number)).collect();
        Progress { epoch: self.epoch, high: self.high, missing }
    }

    fn width(&self) -> u64 {
        self.ring.len() as u64 * WORD_BITS
    }

    /// The lowest number of the window.
    fn low(&self) -> u64 {
        self.high.saturating_sub(self.width().saturating_sub(1))
    }

    /// The word of a number's bit, and the bit in it.
    fn place(&self, number: u64) -> Option<(usize, u64)> {
        let bit = number.checked_rem(self.width())?;
        Some((usize::try_from(bit / WORD_BITS).ok()?, 1 << (bit % WORD_BITS)))
    }

    fn is_marked(&self, number: u64) -> bool {
        let place = self.place(number);
        place.is_some_and(|(word, bit)| self.ring.get(word).is_some_and(|word| word & bit != 0))
    }

    fn mark(&mut self, number: u64) {
        self.set(number, true);
    }

    fn set(&mut self, number: u64, accepted: bool) {
        let Some((word, bit)) = self.place(number) else { return };
        if let Some(word) = self.ring.get_mut(word) {
            *word = if accepted { *word | bit } else { *word & !bit };
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.epoch, self.first, self.high];
        numbers.iter().chain(&self.ring).flat_map(|number| number.to_le_bytes()).collect()
    }

    /// `None` for anything that [`Window::encode`] did not make.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = split_u64(bytes)?;
        let (first, rest) = split_u64(rest)?;
        let (high, rest) = split_u64(rest)?;
        let (words, odd) = rest.as_chunks::<8>();
        let ring = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (odd.is_empty() && first <= high).then_some(Self { epoch, first, high, ring })
    }
}

fn words_of(width: u32) -> usize {
    usize::try_from(u64::from(width).div_ceil(WORD_BITS)).unwrap_or(1)
}
