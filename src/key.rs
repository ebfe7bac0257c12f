//! Keys as callers give them, their limits, and the hash that stands for them inside.
//!
//! The hash is XXH3-64 with a secret drawn at random for each store, so that nobody outside can
//! choose keys that crowd one stripe. It only narrows the search: a key is called a duplicate
//! after all of its bytes were compared, never because hashes agree.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64_with_secret, xxh3_64_with_seed};

use crate::error::{Error, Result};

/// The default limit on a key's length, in bytes.
pub const KEY_BYTES_MAX_DEFAULT: usize = 1024;
/// The highest limit on a key's length that can be configured, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;
/// The default limit on an outcome's length, in bytes.
pub const OUTCOME_BYTES_MAX_DEFAULT: usize = 1 << 20;
/// The highest limit on an outcome's length that can be configured, in bytes.
pub const OUTCOME_BYTES_MAX: usize = 16 << 20;
/// The most keys that one call records together.
pub const BUNDLE_KEYS_MAX: usize = 4096;
/// The most bytes that one call records together, with some 112 a key beside key and outcome.
pub const BUNDLE_BYTES_MAX: usize = 32 << 20;

/// Bytes of a store's secret: the length XXH3 uses by default.
pub(crate) const SECRET_BYTES: usize = 192;

/// Stands for a key's bytes inside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

/// Hash bits that a run keeps: enough for every bit that the index uses.
const RUN_BITS_MASK: u64 = !0xffff;

impl KeyHash {
    pub(crate) const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }

    /// The upper 48 bits; the index uses no others.
    pub(crate) const fn run_bits(self) -> u64 {
        self.0 & RUN_BITS_MASK
    }

    /// Digest of the key and its outcome, for the record's checksum.
    ///
    /// The key is in it through its own hash, so its bytes are read once per call.
    #[inline]
    pub(crate) fn digest(self, outcome: &[u8]) -> u64 {
        if outcome.is_empty() { self.0 } else { xxh3_64_with_seed(outcome, self.0) }
    }
}

/// Turns keys into hashes, with the store's secret.
#[derive(Clone)]
pub(crate) struct KeyHasher {
    secret: Box<[u8; SECRET_BYTES]>,
    /// Every key gets the same hash: the answers must still be right.
    #[cfg(test)]
    pub(crate) constant: bool,
}

impl KeyHasher {
    pub(crate) fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            secret: Box::new(secret),
            #[cfg(test)]
            constant: false,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        #[cfg(test)]
        if self.constant {
            return KeyHash(0x5555_5555_5555_5555);
        }
        KeyHash(xxh3_64_with_secret(key, self.secret.as_slice()))
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

/// The limits that keys and outcomes are checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) key_bytes_max: usize,
    pub(crate) outcome_bytes_max: usize,
}

impl Limits {
    #[inline]
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        if key.len() > self.key_bytes_max {
            return Err(Error::KeyTooLong { len: key.len(), max: self.key_bytes_max });
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn check_outcome(&self, outcome: &[u8]) -> Result<()> {
        if outcome.len() > self.outcome_bytes_max {
            let max = self.outcome_bytes_max;
            return Err(Error::OutcomeTooLong { len: outcome.len(), max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::KeyHasher;

    #[test]
    fn keys_chosen_to_meet_in_one_store_are_spread_in_another() {
        let [known, other] = [3, 4].map(|seed: u64| {
            let mut state = seed;
            let secret = [(); super::SECRET_BYTES].map(|()| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()[7]
            });
            KeyHasher::new(secret)
        });
        // A stripe is chosen by the upper bits of 12: whoever knows a secret can fill one.
        let stripe = |hasher: &KeyHasher, key: &[u8]| hasher.hash(key).as_u64() >> 52;
        let all = (0..4_000_000_u32).map(u32::to_le_bytes);
        let chosen: Vec<_> = all.filter(|key| stripe(&known, key) == 7).collect();
        assert!(chosen.len() > 800, "{}", chosen.len());
        let mut met = std::collections::HashMap::<u64, usize>::new();
        for key in &chosen {
            *met.entry(stripe(&other, key)).or_default() += 1;
        }
        let most = met.values().max().unwrap();
        assert!(*most <= 6, "{most} of {} keys meet", chosen.len());
    }
}
