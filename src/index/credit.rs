//! The limit on the number of keys, of which stripes take shares ahead.
//!
//! A stripe that has used its share up takes another from the total, and gives back what it has to
//! spare. So stripes meet at one counter once a share, and the limit is never exceeded; new keys
//! may be refused while shares of other stripes are not used up, which are a sixteenth of all at
//! most, or one key a stripe.

use crate::sys::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// Shares that stripes hold without using them are at most this part of the limit.
const UNUSED: u64 = 16;
const SHARE_MAX: u64 = 64;

/// What is left to stripes.
#[derive(Debug)]
pub(crate) struct Credit {
    max: Option<u64>,
    share: u32,
    taken: CachePadded<AtomicU64>,
}

impl Credit {
    pub(crate) fn new(max: Option<u64>, stripes: usize) -> Self {
        let share = max.unwrap_or(u64::MAX) / (stripes as u64 * UNUSED);
        let share = u32::try_from(share.clamp(1, SHARE_MAX)).unwrap_or(1);
        Self { max, share, taken: CachePadded::default() }
    }

    /// What a stripe has before it takes anything.
    pub(crate) fn at_first(&self) -> u32 {
        if self.max.is_some() { 0 } else { u32::MAX }
    }

    /// A share, or what is left of it; `None` if nothing is.
    pub(crate) fn take(&self) -> Option<u32> {
        let max = self.max?;
        let more = |taken: u64| (taken < max).then(|| (taken + u64::from(self.share)).min(max));
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        u32::try_from((max - before).min(u64::from(self.share))).ok()
    }

    /// A share, though it may exceed the limit.
    pub(crate) fn take_beyond(&self) -> u32 {
        self.taken.fetch_add(u64::from(self.share), Ordering::Relaxed);
        self.share
    }

    /// What a stripe gives back of `spare` that it does not use.
    pub(crate) fn give(&self, spare: u32) -> u32 {
        if self.max.is_none() || spare < self.share.saturating_mul(2) {
            return 0;
        }
        let given = spare - self.share;
        self.taken.fetch_sub(u64::from(given), Ordering::Relaxed);
        given
    }
}

#[cfg(test)]
mod tests {
    use super::Credit;

    #[test]
    fn no_more_is_given_out_than_the_limit_and_what_comes_back_is_given_out_again() {
        let credit = Credit::new(Some(1_000), 4);
        let mut taken = Vec::new();
        while let Some(share) = credit.take() {
            taken.push(share);
        }
        assert_eq!(taken.iter().sum::<u32>(), 1_000);
        assert!(credit.take().is_none());
        let given = credit.give(100);
        assert!(given > 0);
        let again: u32 = std::iter::from_fn(|| credit.take()).sum();
        assert_eq!(again, given);
    }

    #[test]
    fn without_a_limit_a_stripe_never_asks() {
        let credit = Credit::new(None, 4);
        assert_eq!((credit.at_first(), credit.give(7)), (u32::MAX, 0));
    }
}
