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
use crate::policy::{AbandonPolicy, Anchor, LongOutcomePolicy};
use crate::time::{Timestamp, expiry};
use crate::version::Version;

/// Bytes of the block.
pub(crate) const STATE_BYTES: usize = 64;

const RESERVED_BYTES: usize = 3;
const HAS_FINGERPRINT: u8 = 1;
const HOLD: u8 = 2;
const FIRST_SEEN: u8 = 4;
const LAST_SEEN: u8 = 8;
const KEEP_MARK: u8 = 16;
const MARK_ONLY: u8 = 32;
const KNOWN: u8 = HAS_FINGERPRINT | HOLD | FIRST_SEEN | LAST_SEEN | KEEP_MARK | MARK_ONLY;

const _: () = assert!(4 * 8 + FINGERPRINT_BYTES + 4 + 1 + 8 + RESERVED_BYTES == STATE_BYTES);

/// The bytes of a block.
pub(crate) type StateBytes = [u8; STATE_BYTES];

/// Where a key is on its way to an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// When the lease ends or, of a released key, from when on it can be begun. Of a completed or
    /// failed one, when its outcome was recorded, or zero if this is the record of that.
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
    pub(crate) on_long_outcome: LongOutcomePolicy,
    /// What follows is not the outcome, but its length and digest.
    pub(crate) mark_only: bool,
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
            on_long_outcome: LongOutcomePolicy::Refuse,
            mark_only: false,
        }
    }

    /// When a key is forgotten whose record is written at `now`.
    pub(crate) fn expires(&self, now: Timestamp) -> Timestamp {
        let from = if self.anchor == Anchor::FirstSeen { self.first_seen } else { now };
        expiry(from, self.anchor.lifetime_ms(self.retention_ms))
    }

    /// True when an outcome recorded then is not replayed any more.
    pub(crate) fn outcome_is_gone(&self, recorded: Timestamp, now: Timestamp) -> bool {
        self.mark_only || (self.outcome_ms != 0 && expiry(recorded, self.outcome_ms) <= now)
    }

    /// True when an outcome may not be replayed some day.
    pub(crate) fn outcome_ends(&self) -> bool {
        self.mark_only || self.outcome_ms != 0
    }

    /// When the outcome of a key was recorded, whose record was written then.
    pub(crate) fn recorded(&self, written: Timestamp) -> Timestamp {
        if self.deadline == Timestamp::default() { written } else { self.deadline }
    }

    pub(crate) fn encode(&self) -> StateBytes {
        let fingerprint = self.fingerprint.map_or([0; FINGERPRINT_BYTES], |f| *f.as_bytes());
        let mut flags = if self.fingerprint.is_some() { HAS_FINGERPRINT } else { 0 };
        flags |= if self.on_abandon == AbandonPolicy::Hold { HOLD } else { 0 };
        flags |= match self.anchor {
            Anchor::Completion => 0,
            Anchor::FirstSeen => FIRST_SEEN,
            Anchor::LastSeen => LAST_SEEN,
        };
        flags |= if self.on_long_outcome == LongOutcomePolicy::KeepMark { KEEP_MARK } else { 0 };
        flags |= if self.mark_only { MARK_ONLY } else { 0 };
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
        let anchor = match flags & (FIRST_SEEN | LAST_SEEN) {
            0 => Anchor::Completion,
            FIRST_SEEN => Anchor::FirstSeen,
            LAST_SEEN => Anchor::LastSeen,
            _ => return None,
        };
        let keeps_mark = flags & KEEP_MARK != 0;
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
            anchor,
            outcome_ms,
            on_long_outcome: if keeps_mark {
                LongOutcomePolicy::KeepMark
            } else {
                LongOutcomePolicy::Refuse
            },
            mark_only: flags & MARK_ONLY != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use crate::fingerprint::Fingerprint;
    use crate::policy::{AbandonPolicy, Anchor, LongOutcomePolicy};
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
            on_long_outcome: LongOutcomePolicy::KeepMark,
            mark_only: true,
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
        let last = State { anchor: Anchor::LastSeen, mark_only: false, ..sample() };
        let refuses = State { on_long_outcome: LongOutcomePolicy::Refuse, ..sample() };
        let without = State { fingerprint: None, ..sample() };
        for state in [sample(), plain, last, refuses, without] {
            assert_eq!(State::decode(&state.encode()), Some(state));
        }
    }

    #[test]
    fn unknown_flags_and_reserved_bytes_that_are_not_zero_are_refused() {
        // Two anchors at a time are none.
        for (at, value) in [(52, 0x80), (52, 0x40), (52, 8), (61, 1), (62, 1), (63, 0x80)] {
            let mut bytes = sample().encode();
            bytes[at] |= value;
            assert_eq!(State::decode(&bytes), None, "byte {at}");
        }
    }
}
