//! Records as the scripts write them: what is known of a key, from its bytes and the server's time.

use oncelog::{Fingerprint, Meta, OutcomeGone, Record, Result, Status, Timestamp, Version};

use crate::trouble;

/// Bytes before the outcome of a key that was recorded at once.
const PLAIN_BYTES: usize = 36;
/// Bytes before the outcome of a key that was begun.
const LEASED_BYTES: usize = 74;
/// Bytes that stand for an outcome: its length and its digest.
pub(crate) const MARK_BYTES: usize = 24;

const MAGIC: u8 = 0xC1;
const STARTED: u8 = 0x11;
const RELEASED: u8 = 0x12;
/// The kind of a record with the outcome of work that is done.
pub(crate) const COMPLETED: u8 = 0x13;
/// The kind of a record with the outcome of work that failed for good.
pub(crate) const FAILED: u8 = 0x14;
const REMOVED: u8 = 0x15;

const FINGERPRINT: u8 = 1;
const HOLD: u8 = 2;
/// The outcome is a mark alone.
pub(crate) const MARK_ONLY: u8 = 32;
const BEGUN: u8 = 128;
/// Stands for "without end" wherever an end is stored.
const NEVER: u64 = (1 << 48) - 1;

/// What a record says besides its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    kind: u8,
    flags: u8,
    version: u64,
    written: u64,
    expires: u64,
    /// Of a record with an outcome, from when on that is gone; 0 for as long as the key is known.
    outcome_end: u64,
    first_seen: u64,
    attempts: u32,
    deadline: u64,
}

/// The little-endian number in the `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + len)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn finite(time: u64) -> Option<Timestamp> {
    (time < NEVER).then(|| Timestamp::from_millis(time))
}

impl Header {
    /// What the bytes of a record, or the first ones of them, say.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let foreign = || trouble::unprepared("a key holds what this crate has not written");
        let (magic, kind) = match bytes {
            [magic, kind, ..] => (*magic, *kind),
            _ => return Err(foreign()),
        };
        if magic != MAGIC || bytes.len() < PLAIN_BYTES {
            return Err(foreign());
        }
        if !(STARTED..=REMOVED).contains(&kind) {
            return Err(trouble::unprepared(format!(
                "a key holds a record of format {} and kind {}, which this version does not read",
                kind >> 4,
                kind & 15
            )));
        }
        let at = |at, len| number(bytes, at, len).ok_or_else(foreign);
        let mut header = Self {
            kind,
            flags: bytes.get(2).copied().unwrap_or(0),
            version: at(3, 7)?,
            written: at(10, 6)?,
            expires: at(16, 6)?,
            outcome_end: at(22, 6)?,
            first_seen: at(10, 6)?,
            attempts: 0,
            deadline: 0,
        };
        if header.flags & BEGUN != 0 {
            header.first_seen = at(36, 6)?;
            header.attempts = u32::try_from(at(42, 4)?).unwrap_or(u32::MAX);
            header.deadline = at(46, 6)?;
            at(LEASED_BYTES - 1, 1)?;
        }
        Ok(header)
    }

    /// Bytes before the outcome.
    fn len(&self) -> usize {
        if self.flags & BEGUN == 0 { PLAIN_BYTES } else { LEASED_BYTES }
    }

    /// True if the record counts at this time.
    fn is_live(&self, now: u64) -> bool {
        self.kind != REMOVED && now < self.expires
    }

    fn is_mark(&self) -> bool {
        self.flags & MARK_ONLY != 0
    }

    fn status(&self, now: u64) -> Status {
        match self.kind {
            FAILED => Status::Failed,
            RELEASED => Status::Released,
            STARTED if now < self.deadline => Status::InProgress,
            STARTED if self.flags & HOLD != 0 => Status::Unknown,
            STARTED => Status::Overdue,
            _ => Status::Completed,
        }
    }

    /// What is known of the key, whose outcome has or had so many bytes.
    fn meta(&self, now: u64, outcome_bytes: usize) -> Meta {
        let status = self.status(now);
        let done = status.is_final();
        let written = Timestamp::from_millis(self.written);
        let ended = self.outcome_end != 0 && self.outcome_end <= now;
        let mut meta = Meta::new(status, Version::from_u64(self.version));
        meta.attempts = self.attempts;
        meta.first_seen = Timestamp::from_millis(self.first_seen);
        meta.updated = written;
        meta.completed_at = done.then_some(written);
        meta.deadline = (!done).then(|| Timestamp::from_millis(self.deadline));
        meta.expires = finite(self.expires);
        meta.has_fingerprint = self.flags & FINGERPRINT != 0;
        meta.outcome_bytes = outcome_bytes;
        meta.outcome_gone = done && (self.is_mark() || ended);
        meta
    }
}

/// What is known of a key by the first bytes of its record, `len` bytes long in all; `None` if it
/// does not count.
pub(crate) fn meta(bytes: &[u8], len: usize, now: u64) -> Result<Option<Meta>> {
    let header = Header::decode(bytes)?;
    if !header.is_live(now) {
        return Ok(None);
    }
    let mut outcome_bytes = len.saturating_sub(header.len());
    if header.is_mark() {
        let length = number(bytes, header.len(), 8).unwrap_or(0);
        outcome_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    }
    Ok(Some(header.meta(now, outcome_bytes)))
}

/// The record of a key that has an outcome; `None` if it has none, or does not count.
pub(crate) fn record(bytes: &[u8], now: u64) -> Result<Option<Record>> {
    let header = Header::decode(bytes)?;
    if !header.is_live(now) || !header.status(now).is_final() {
        return Ok(None);
    }
    let outcome = bytes.get(header.len()..).unwrap_or_default();
    let meta = header.meta(now, outcome.len());
    if header.is_mark() {
        let gone = decode_mark(outcome);
        let gone = gone.ok_or_else(|| trouble::unprepared("a record's mark was cut off"))?;
        return Ok(Some(Record::from_parts(&meta, Err(gone))));
    }
    if meta.outcome_gone {
        let gone = OutcomeGone::new(outcome.len() as u64, Fingerprint::of(outcome));
        return Ok(Some(Record::from_parts(&meta, Err(gone))));
    }
    Ok(Some(Record::from_parts(&meta, Ok(outcome))))
}

/// The bytes that stand for an outcome which is longer than it may be.
pub(crate) fn encode_mark(outcome: &[u8]) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    let (length, digest) = mark.split_at_mut(8);
    length.copy_from_slice(&(outcome.len() as u64).to_le_bytes());
    digest.copy_from_slice(Fingerprint::of(outcome).as_bytes());
    mark
}

fn decode_mark(mark: &[u8]) -> Option<OutcomeGone> {
    let digest = Fingerprint::from_bytes(*mark.get(8..)?.first_chunk()?);
    Some(OutcomeGone::new(number(mark, 0, 8)?, digest))
}

#[cfg(test)]
mod tests {
    use super::{Header, encode_mark, meta, record};
    use oncelog::{Error, Fingerprint, Status};

    /// A record that was begun and completed at 1000, and counts until 9000.
    fn sample(kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0xC1, kind, flags, 7, 0, 0, 0, 0, 0, 0];
        for time in [1_000_u64, 9_000, 0] {
            bytes.extend(&time.to_le_bytes()[..6]);
        }
        bytes.extend(b"callcall");
        if flags & 128 != 0 {
            bytes.extend(&500_u64.to_le_bytes()[..6]);
            bytes.extend(2_u32.to_le_bytes());
            bytes.extend(&1_500_u64.to_le_bytes()[..6]);
            bytes.extend(&8_000_u64.to_le_bytes()[..6]);
            bytes.extend([0; 16]);
        }
        bytes
    }

    #[test]
    fn a_record_counts_until_the_very_moment_of_its_end() {
        let bytes = [&sample(0x13, 0)[..], b"paid"].concat();
        assert_eq!(record(&bytes, 8_999).unwrap().unwrap().outcome(), b"paid");
        assert!(record(&bytes, 9_000).unwrap().is_none());
        assert!(meta(&bytes, bytes.len(), 9_000).unwrap().is_none());
    }

    #[test]
    fn a_lease_is_overdue_or_unknown_from_the_very_moment_of_its_deadline() {
        let status = |flags, now| {
            let bytes = sample(0x11, flags);
            meta(&bytes, bytes.len(), now).unwrap().unwrap().status
        };
        assert_eq!(status(128, 1_499), Status::InProgress);
        assert_eq!(status(128, 1_500), Status::Overdue);
        assert_eq!(status(128 | 2, 1_500), Status::Unknown);
    }

    #[test]
    fn a_mark_says_what_the_outcome_was() {
        let mark = encode_mark(b"too long");
        let bytes = [&sample(0x13, 32)[..], &mark].concat();
        let found = record(&bytes, 2_000).unwrap().unwrap();
        let gone = found.outcome_gone().unwrap();
        assert_eq!((gone.bytes, gone.digest), (8, Fingerprint::of(b"too long")));
        assert_eq!(found.meta().outcome_bytes, 8);
        assert_eq!(meta(&bytes, bytes.len(), 2_000).unwrap().unwrap().outcome_bytes, 8);
    }

    #[test]
    fn bytes_of_another_kind_or_format_are_refused_and_never_read_as_absent() {
        let newer = sample(0x23, 0);
        let short = &sample(0x13, 128)[..50];
        for bytes in [&b""[..], b"x", b"a string of some other program, quite long", &newer, short]
        {
            assert!(matches!(Header::decode(bytes), Err(Error::Unprepared { .. })), "{bytes:?}");
        }
    }
}
