//! The number that orders a key's records and fences late holders.

use std::fmt;

/// Bits of the counter below the epoch.
pub(crate) const COUNTER_BITS: u32 = 32;

/// The number that orders the records of one key.
///
/// For one key, a later record always has a greater version, also across removal, expiry, a crash
/// and reopening, and no version is ever given out twice. Between different keys the order of
/// versions says nothing. The upper 32 bits are the store's epoch, which rises durably at every
/// open; the lower 32 bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version as one integer, in its natural order.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The version that [`as_u64`](Version::as_u64) was taken of, where it was kept elsewhere.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The first version of an epoch.
    pub(crate) const fn first_of_epoch(epoch: u32) -> Self {
        Self((epoch as u64) << COUNTER_BITS)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> COUNTER_BITS, self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn an_epoch_orders_before_every_version_of_the_next() {
        let last = Version::from_u64(Version::first_of_epoch(8).as_u64() - 1);
        assert!(Version::first_of_epoch(7) < last);
        assert_eq!(last.to_string(), format!("7.{}", u32::MAX));
    }
}
