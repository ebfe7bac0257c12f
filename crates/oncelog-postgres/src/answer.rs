//! The rows that functions answer, as what callers get to see.

use oncelog::backend::Begin;
use oncelog::{
    Check, Error, Fingerprint, Meta, OutcomeGone, Record, Result, Status, Timestamp, Version,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::trouble::strange;

/// What a verb came to: the numbers that the migrations explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    Known,
    Busy,
    Mismatch,
    Unknown,
    Exhausted,
    Stale,
    Lost,
    TooLong,
    Nothing,
    Again,
}

impl Verdict {
    fn of(number: i16) -> Result<Self> {
        Ok(match number {
            0 => Self::Done,
            1 => Self::Known,
            2 => Self::Busy,
            3 => Self::Mismatch,
            4 => Self::Unknown,
            5 => Self::Exhausted,
            6 => Self::Stale,
            7 => Self::Lost,
            8 => Self::TooLong,
            9 => Self::Nothing,
            10 => Self::Again,
            _ => return Err(strange("a function gave an answer that this crate does not know")),
        })
    }
}

/// "Never", where an end is stored.
const NEVER: i64 = i64::MAX;
/// The flag of a key that is held when its lease runs out.
pub(crate) const HOLD: i16 = 1;

/// A row that tells of a record; its columns begin at `at`.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    row: &'a Row,
    at: usize,
}

/// Reads a column.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| strange(&error.to_string()))
}

/// A moment as it is stored.
pub(crate) fn moment(millis: i64) -> Result<Timestamp> {
    let millis = u64::try_from(millis).map_err(|_| strange("a time lies before 1970"))?;
    Ok(Timestamp::from_millis(millis))
}

/// A version as it is stored.
pub(crate) fn version(raw: i64) -> Result<Version> {
    let raw = u64::try_from(raw).map_err(|_| strange("a version is negative"))?;
    Ok(Version::from_u64(raw))
}

impl<'a> Answer<'a> {
    pub(crate) fn new(row: &'a Row, at: usize) -> Self {
        Self { row, at }
    }

    fn get<T: FromSql<'a>>(self, column_at: usize) -> Result<T> {
        column(self.row, self.at + column_at)
    }

    pub(crate) fn verdict(self) -> Result<Verdict> {
        Verdict::of(self.get(0)?)
    }

    /// When the server decided.
    pub(crate) fn now(self) -> Result<i64> {
        self.get(1)
    }

    pub(crate) fn version(self) -> Result<Version> {
        version(self.get(2)?)
    }

    pub(crate) fn attempts(self) -> Result<u32> {
        u32::try_from(self.get::<i32>(4)?).map_err(|_| strange("attempts are negative"))
    }

    pub(crate) fn first_seen(self) -> Result<Timestamp> {
        moment(self.get(5)?)
    }

    pub(crate) fn deadline(self) -> Result<Timestamp> {
        moment(self.get(7)?)
    }

    fn expires(self) -> Result<i64> {
        self.get(8)
    }

    pub(crate) fn stale(self) -> Result<Error> {
        Ok(Error::Stale { horizon_ms: moment(self.expires()?)?.as_millis() })
    }

    /// True for a record that is forgotten, though it is not swept yet.
    pub(crate) fn is_expired(self) -> Result<bool> {
        Ok(self.expires()? <= self.now()?)
    }

    fn status(self) -> Result<Status> {
        let is_over = self.get::<i64>(7)? <= self.now()?;
        Ok(match self.get::<i16>(3)? {
            1 if !is_over => Status::InProgress,
            1 if self.get::<i16>(9)? & HOLD != 0 => Status::Unknown,
            1 => Status::Overdue,
            2 => Status::Released,
            3 => Status::Completed,
            4 => Status::Failed,
            _ => return Err(strange("a record is of an unknown kind")),
        })
    }

    pub(crate) fn meta(self) -> Result<Meta> {
        let status = self.status()?;
        let expires = self.expires()?;
        let updated = moment(self.get(6)?)?;
        let mut meta = Meta::new(status, self.version()?);
        meta.attempts = self.attempts()?;
        meta.first_seen = self.first_seen()?;
        meta.updated = updated;
        meta.expires = if expires == NEVER { None } else { Some(moment(expires)?) };
        meta.has_fingerprint = self.get::<Option<&[u8]>>(10)?.is_some();
        if status.is_final() {
            let bytes = self.get::<Option<i32>>(12)?.unwrap_or(0);
            meta.outcome_bytes = usize::try_from(bytes).unwrap_or(0);
            meta.outcome_gone = self.get::<Option<bool>>(11)? == Some(true);
            meta.completed_at = Some(updated);
        } else {
            meta.deadline = Some(self.deadline()?);
        }
        Ok(meta)
    }

    /// The record of a key whose outcome stands, with the outcome or what is left of it.
    pub(crate) fn record(self) -> Result<Record> {
        let meta = self.meta()?;
        if !meta.outcome_gone {
            let outcome = self.get::<Option<&[u8]>>(13)?;
            let outcome = outcome.ok_or_else(|| strange("a record has no outcome"))?;
            return Ok(Record::from_parts(&meta, Ok(outcome)));
        }
        let digest = self.get::<Option<&[u8]>>(14)?.and_then(|digest| digest.try_into().ok());
        let digest = digest.ok_or_else(|| strange("an outcome that is gone left no digest"))?;
        let gone = OutcomeGone::new(meta.outcome_bytes as u64, Fingerprint::from_bytes(digest));
        Ok(Record::from_parts(&meta, Err(gone)))
    }

    /// As the answer of a check; `None` if it has to be made again.
    pub(crate) fn check(self) -> Result<Option<Check>> {
        Ok(Some(match self.verdict()? {
            Verdict::Done => Check::New,
            Verdict::Known => Check::Duplicate(self.record()?),
            Verdict::Busy => {
                let deadline_ms = self.deadline()?.as_millis();
                return Err(Error::InProgress { deadline_ms });
            }
            Verdict::Unknown => return Err(Error::Unresolved),
            Verdict::Stale => return Err(self.stale()?),
            Verdict::Again => return Ok(None),
            _ => return Err(strange("a check had an answer that is none of its")),
        }))
    }

    /// As the answer of a begin.
    pub(crate) fn begin(self) -> Result<Begin> {
        Ok(match self.verdict()? {
            Verdict::Done => Begin::Started(oncelog::backend::Grant {
                version: self.version()?,
                attempt: self.attempts()?,
                first_seen: self.first_seen()?,
                deadline: self.deadline()?,
            }),
            Verdict::Known => Begin::Completed(self.record()?),
            Verdict::Busy => Begin::InProgress(self.meta()?),
            Verdict::Mismatch => Begin::Mismatch(self.meta()?),
            Verdict::Unknown => Begin::Unknown(self.meta()?),
            Verdict::Exhausted => Begin::Exhausted(self.meta()?),
            Verdict::Stale => return Err(self.stale()?),
            _ => return Err(strange("a begin had an answer that is none of its")),
        })
    }
}

/// What finish, resolve and remove answer.
pub(crate) fn ending(row: &Row) -> Result<(Verdict, Option<i64>, Option<i64>)> {
    Ok((Verdict::of(column(row, 0)?)?, column(row, 1)?, column(row, 2)?))
}
