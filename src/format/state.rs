//! What a record of a lease says besides key and outcome: a block of 64 bytes before the outcome.
//!
//! ```text
//!  0 deadline     8 first seen    16 token     24 retention
//! 32 fingerprint (16)             48 attempts  52 flags  53 outcome (8)  61 zero (3)
//! ```
//!
//! The record's digest covers the block, as it covers the outcome.

use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint};
use crate::format::reader::Reader;
use crate::policy::{AbandonPolicy, Anchor};
use crate::time::{Timestamp, expiry};
use crate::version::Version;

/// Bytes of the block.
pub(crate) const STATE_BYTES: usize = 64;

const RESERVED_BYTES: usize = 3;
const HAS_FINGERPRINT: u8 = 1;
const HOLD: u8 = 2;
const FIRST_SEEN: u8 = 4;
const KNOWN: u8 = HAS_FINGERPRINT | HOLD | FIRST_SEEN;

const _: () = assert!(4 * 8 + FINGERPRINT_BYTES + 4 + 1 + 8 + RESERVED_BYTES == STATE_BYTES);

/// The bytes of a block.
pub(crate) type StateBytes = [u8; STATE_BYTES];

/// Where a key is on its way to an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// When the lease ends or, of a released key, from when on it can be begun.
    pub(crate) deadline: Timestamp,
    pub(crate) first_seen: Timestamp,
    /// The version that `begin` gave out; `None` where it is the record's own.
    pub(crate) token: Option<Version>,
    /// How long to remember from the completion on, in milliseconds; `u64::MAX` for ever.
    pub(crate) retention_ms: u64,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) attempts: u32,
    pub(crate) on_abandon: AbandonPolicy,
    pub(crate) anchor: Anchor,
    /// How long the outcome is replayed from its record on, in milliseconds; zero for as long as
    /// the key is known.
    pub(crate) outcome_ms: u64,
}

impl State {
    /// Of a key that was recorded at once, without a lease.
    pub(crate) fn of_unleased(created: Timestamp) -> Self {
        Self {
            deadline: Timestamp::default(),
            first_seen: created,
            token: None,
            retention_ms: 0,
            fingerprint: None,
            attempts: 0,
            on_abandon: AbandonPolicy::Reclaim,
            anchor: Anchor::Completion,
            outcome_ms: 0,
        }
    }

    /// When a key is forgotten whose record is written at `now`.
    pub(crate) fn expires(&self, now: Timestamp) -> Timestamp {
        let from = if self.anchor == Anchor::FirstSeen { self.first_seen } else { now };
        expiry(from, self.retention_ms)
    }

    /// True when an outcome recorded then is not replayed any more.
    pub(crate) fn outcome_is_gone(&self, recorded: Timestamp, now: Timestamp) -> bool {
        self.outcome_ms != 0 && expiry(recorded, self.outcome_ms) <= now
    }

    pub(crate) fn encode(&self) -> StateBytes {
        let fingerprint = self.fingerprint.map_or([0; FINGERPRINT_BYTES], |f| *f.as_bytes());
        let mut flags = if self.fingerprint.is_some() { HAS_FINGERPRINT } else { 0 };
        flags |= if self.on_abandon == AbandonPolicy::Hold { HOLD } else { 0 };
        flags |= if self.anchor == Anchor::FirstSeen { FIRST_SEEN } else { 0 };
        // No version is zero, so zero is left for "the record's own".
        let token = self.token.map_or(0, Version::as_u64);
        let numbers = [self.deadline.as_millis(), self.first_seen.as_millis(), token];
        let mut bytes = [0; STATE_BYTES];
        let (words, rest) = bytes.as_chunks_mut::<8>();
        let values = numbers.into_iter().chain([self.retention_ms]);
        for (word, value) in words.iter_mut().zip(values) {
            *word = value.to_le_bytes();
        }
        debug_assert!(rest.is_empty());
        bytes[32..48].copy_from_slice(&fingerprint);
        bytes[48..52].copy_from_slice(&self.attempts.to_le_bytes());
        bytes[52] = flags;
        bytes[53..61].copy_from_slice(&self.outcome_ms.to_le_bytes());
        bytes
    }

    /// `None` for anything that [`State::encode`] did not make.
    pub(crate) fn decode(bytes: &StateBytes) -> Option<Self> {
        let mut reader = Reader(bytes);
        let deadline = Timestamp::from_millis(reader.u64()?);
        let first_seen = Timestamp::from_millis(reader.u64()?);
        let token = reader.u64()?;
        let retention_ms = reader.u64()?;
        let fingerprint = Fingerprint::from_bytes(reader.array()?);
        let attempts = reader.u32()?;
        let [flags] = reader.array()?;
        let outcome_ms = reader.u64()?;
        if flags & !KNOWN != 0 || reader.array()? != [0; RESERVED_BYTES] {
            return None;
        }
        Some(Self {
            deadline,
            first_seen,
            token: (token != 0).then_some(Version::from_u64(token)),
            retention_ms,
            fingerprint: (flags & HAS_FINGERPRINT != 0).then_some(fingerprint),
            attempts,
            on_abandon: if flags & HOLD != 0 {
                AbandonPolicy::Hold
            } else {
                AbandonPolicy::Reclaim
            },
            anchor: if flags & FIRST_SEEN != 0 { Anchor::FirstSeen } else { Anchor::Completion },
            outcome_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use crate::fingerprint::Fingerprint;
    use crate::policy::{AbandonPolicy, Anchor};
    use crate::time::Timestamp;
    use crate::version::Version;

    fn sample() -> State {
        State {
            deadline: Timestamp::from_millis(1_000),
            first_seen: Timestamp::from_millis(900),
            token: Some(Version::from_u64(1 << 33)),
            retention_ms: u64::MAX,
            fingerprint: Some(Fingerprint::of(b"body")),
            attempts: 3,
            on_abandon: AbandonPolicy::Hold,
            anchor: Anchor::FirstSeen,
            outcome_ms: 1 << 40,
        }
    }

    #[test]
    fn a_state_comes_back_in_every_form() {
        let plain = State {
            token: None,
            fingerprint: None,
            on_abandon: AbandonPolicy::Reclaim,
            anchor: Anchor::Completion,
            ..sample()
        };
        for state in [sample(), plain, State { fingerprint: None, ..sample() }] {
            assert_eq!(State::decode(&state.encode()), Some(state));
        }
    }

    #[test]
    fn unknown_flags_and_reserved_bytes_that_are_not_zero_are_refused() {
        for (at, value) in [52, 61, 62, 63].map(|at| (at, 0x80)) {
            let mut bytes = sample().encode();
            bytes[at] |= value;
            assert_eq!(State::decode(&bytes), None, "byte {at}");
        }
    }
}
