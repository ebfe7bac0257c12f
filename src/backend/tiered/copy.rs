//! The near copy of a record: its bytes, and whom it may answer.
//!
//! ```text
//!  0 tier    8 ends   16 version  24 created  32 expires  40 first seen
//! 48 attempts   52 flags   53 zero (3)   56 fingerprint (16)   72 outcome, or what is left of it
//! ```
//!
//! It is the outcome of a record of the near store. The tier is a number that each one has of its
//! own, so that what another one has kept, in another life of the process for example, is nothing
//! to it: nobody says how the near clock went on in between.

use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint};
use crate::meta::{Meta, Status};
use crate::record::{OutcomeGone, Record};
use crate::time::Timestamp;
use crate::version::Version;

/// Bytes before the outcome.
pub(super) const HEAD_BYTES: usize = 72;
const FAILED: u8 = 1;
const HAS_FINGERPRINT: u8 = 2;
const KNOWS_FINGERPRINT: u8 = 4;
const GONE: u8 = 8;

/// A record that was copied from the far side.
#[derive(Clone, Debug)]
pub(super) struct NearCopy {
    pub(super) record: Record,
    /// What the key was first begun with, where that is known here.
    pub(super) fingerprint: Option<Fingerprint>,
    /// From when on it answers nobody, by the near clock.
    pub(super) ends: Timestamp,
}

impl NearCopy {
    /// True if a request with this fingerprint would be answered with the record.
    ///
    /// False says nothing: the far side knows.
    pub(super) fn is_of(&self, fingerprint: Option<Fingerprint>) -> bool {
        let Some(given) = fingerprint else { return true };
        !self.record.meta().has_fingerprint || self.fingerprint == Some(given)
    }

    pub(super) fn encode(&self, tier: u64) -> Vec<u8> {
        let meta = self.record.meta();
        let gone = self.record.outcome_gone();
        let mut flags = if self.record.is_failure() { FAILED } else { 0 };
        flags |= if meta.has_fingerprint { HAS_FINGERPRINT } else { 0 };
        flags |= if self.fingerprint.is_some() { KNOWS_FINGERPRINT } else { 0 };
        flags |= if gone.is_some() { GONE } else { 0 };
        let expires = meta.expires.unwrap_or(Timestamp::NEVER);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.record.outcome().len() + 24);
        for word in [
            tier,
            self.ends.as_millis(),
            meta.version.as_u64(),
            self.record.created().as_millis(),
            expires.as_millis(),
            meta.first_seen.as_millis(),
        ] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&meta.attempts.to_le_bytes());
        bytes.extend_from_slice(&[flags, 0, 0, 0]);
        let fingerprint = self.fingerprint.map_or([0; FINGERPRINT_BYTES], |f| *f.as_bytes());
        bytes.extend_from_slice(&fingerprint);
        match gone {
            None => bytes.extend_from_slice(self.record.outcome()),
            Some(gone) => {
                bytes.extend_from_slice(&gone.bytes.to_le_bytes());
                bytes.extend_from_slice(gone.digest.as_bytes());
            }
        }
        bytes
    }

    /// `None` for what this tier has not kept.
    pub(super) fn decode(bytes: &[u8], tier: u64) -> Option<Self> {
        let (head, outcome) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let word = |at: usize| {
            let bytes = head.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        if word(0)? != tier {
            return None;
        }
        let flags = *head.get(52)?;
        let has = |flag| flags & flag != 0;
        let status = if has(FAILED) { Status::Failed } else { Status::Completed };
        let created = Timestamp::from_millis(word(24)?);
        let meta = Meta {
            attempts: u32::from_le_bytes(*head.get(48..)?.first_chunk()?),
            first_seen: Timestamp::from_millis(word(40)?),
            updated: created,
            completed_at: Some(created),
            expires: Timestamp::from_millis(word(32)?).finite(),
            has_fingerprint: has(HAS_FINGERPRINT),
            ..Meta::new(status, Version::from_u64(word(16)?))
        };
        let fingerprint = Fingerprint::from_bytes(*head.get(56..)?.first_chunk()?);
        let outcome = if has(GONE) {
            let (length, digest) = outcome.split_first_chunk::<8>()?;
            let digest = Fingerprint::from_bytes(*digest.first_chunk()?);
            Err(OutcomeGone::new(u64::from_le_bytes(*length), digest))
        } else {
            Ok(outcome)
        };
        Some(Self {
            record: Record::from_parts(&meta, outcome),
            fingerprint: has(KNOWS_FINGERPRINT).then_some(fingerprint),
            ends: Timestamp::from_millis(word(8)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::NearCopy;
    use crate::fingerprint::Fingerprint;
    use crate::meta::{Meta, Status};
    use crate::record::{OutcomeGone, Record};
    use crate::time::Timestamp;
    use crate::version::Version;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_copy_says_all_that_the_record_says() {
        let gone = OutcomeGone::new(9, Fingerprint::of(b"outcome"));
        for (status, expires) in [(Status::Completed, Some(at(9))), (Status::Failed, None)] {
            for outcome in [Ok(&b""[..]), Ok(b"\0\xff"), Ok(&[7; 100]), Err(gone)] {
                for fingerprint in [None, Some(Fingerprint::of(b"request"))] {
                    let meta = Meta {
                        attempts: 3,
                        first_seen: at(5),
                        updated: at(7),
                        completed_at: Some(at(7)),
                        expires,
                        has_fingerprint: fingerprint.is_some(),
                        ..Meta::new(status, Version::from_u64(11 << 32))
                    };
                    let record = Record::from_parts(&meta, outcome);
                    let copy = NearCopy { record, fingerprint, ends: at(13) };
                    let bytes = copy.encode(17);
                    let found = NearCopy::decode(&bytes, 17).unwrap();
                    assert_eq!(found.record.meta(), copy.record.meta());
                    assert_eq!(found.record.outcome(), copy.record.outcome());
                    assert_eq!(found.record.outcome_gone(), copy.record.outcome_gone());
                    assert_eq!((found.fingerprint, found.ends), (fingerprint, at(13)));
                    assert!(NearCopy::decode(&bytes, 18).is_none());
                    assert!(NearCopy::decode(&bytes[..71], 17).is_none());
                }
            }
        }
    }
}
