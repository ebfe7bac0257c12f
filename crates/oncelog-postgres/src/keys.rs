//! The verbs on the keys of one namespace, whoever asks the server.

use std::time::Duration;

use oncelog::backend::{Begin, BeginTerms, CheckTerms};
use oncelog::{
    AbandonPolicy, Anchor, BeginOptions, Check, CheckOptions, Error, Fingerprint, LEASE_MAX,
    LongOutcomePolicy, Meta, Policy, Record, Result, Timestamp, Ttl, Version,
};
use tokio_postgres::Row;

use crate::answer::{Answer, HOLD, Verdict, column, ending, moment, version};
use crate::trouble::strange;
use crate::verbs::{self, Ask};

/// The flag of a key that is kept from when it was first seen.
const FROM_FIRST_SEEN: i16 = 2;
/// The flag of a key whose outcome may be left out.
const KEEP_MARK: i16 = 4;
/// How often a retention a record is prolonged at most: as in the engine.
const REFRESHES: u64 = 8;

/// The keys of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) space: i32,
    /// When the namespace was made.
    pub(crate) born: i64,
    pub(crate) policy: Policy,
    pub(crate) ttl: Ttl,
    pub(crate) key_bytes_max: usize,
    pub(crate) outcome_bytes_max: usize,
}

/// How a key is kept, as functions want it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) retention: Option<i64>,
    /// How long a record is kept, from when it is written.
    pub(crate) lifetime: Option<i64>,
    pub(crate) outcome_ms: Option<i64>,
    pub(crate) last_seen: bool,
    pub(crate) sent_at: Option<i64>,
    flags: i16,
}

/// An outcome as functions want it: without it where it is too long, with what is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) outcome: Option<&'a [u8]>,
    pub(crate) bytes: Option<i32>,
    digest: Option<Fingerprint>,
}

impl<'a> Payload<'a> {
    pub(crate) fn digest(&self) -> Option<&[u8]> {
        self.digest.as_ref().map(|digest| &digest.as_bytes()[..])
    }
}

/// What ends a lease, or keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending<'a> {
    Renew(i64),
    Release(i64),
    Complete(&'a [u8]),
    Fail(&'a [u8]),
}

/// What finishing has left: the version, and the end of the lease or of the pause after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) version: Version,
    pub(crate) deadline: Timestamp,
}

fn stored(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A version as a parameter. One that no record has fits none.
fn raw(version: Version) -> i64 {
    i64::try_from(version.as_u64()).unwrap_or(0)
}

impl Kept {
    pub(crate) fn new(terms: &CheckTerms) -> Result<Self> {
        let last_seen = terms.anchor == Anchor::LastSeen;
        let mut flags = match terms.anchor {
            Anchor::Completion | Anchor::LastSeen => 0,
            Anchor::FirstSeen => FROM_FIRST_SEEN,
            _ => return Err(unsupported("anchor")),
        };
        flags |= match terms.on_long_outcome {
            LongOutcomePolicy::Refuse => 0,
            LongOutcomePolicy::KeepMark => KEEP_MARK,
            _ => return Err(unsupported("on_long_outcome")),
        };
        let lifetime = terms.retention_ms.map(|retention| {
            let longer = if last_seen { retention / REFRESHES } else { 0 };
            stored(retention.saturating_add(longer))
        });
        Ok(Self {
            retention: terms.retention_ms.map(stored),
            lifetime,
            outcome_ms: terms.outcome_ms.map(stored),
            last_seen,
            sent_at: terms.sent_at.map(|sent| stored(sent.as_millis())),
            flags,
        })
    }
}

fn unsupported(what: &str) -> Error {
    Error::InvalidConfig { reason: format!("this version of oncelog-postgres has no such {what}") }
}

fn one(rows: &[Row]) -> Result<&Row> {
    rows.first().ok_or_else(|| strange("a function answered nothing"))
}

/// A lease's length, or a pause after it, in whole milliseconds, rounded up.
fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

pub(crate) fn lease_millis(length: Duration) -> Result<i64> {
    if length.is_zero() {
        return Err(Error::InvalidLease { reason: "it is zero; give at least a millisecond" });
    }
    if length > LEASE_MAX {
        return Err(Error::InvalidLease { reason: "it is over 366 days; renew a shorter one" });
    }
    Ok(millis(length))
}

/// A pause of more than a thousand years is refused, as a lifetime is.
pub(crate) fn release_millis(retry_after: Option<Duration>) -> Result<i64> {
    let pause = retry_after.unwrap_or_default();
    let policy = Policy { retention: Some(Ttl::After(pause)), ..Policy::default() };
    if !pause.is_zero() {
        CheckTerms::new(&policy, &CheckOptions::new(), Ttl::Never)?;
    }
    Ok(millis(pause))
}

impl Keys {
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        match key.len() {
            0 => Err(Error::EmptyKey),
            len if len > self.key_bytes_max => {
                Err(Error::KeyTooLong { len, max: self.key_bytes_max })
            }
            _ => Ok(()),
        }
    }

    fn too_long(&self, outcome: &[u8]) -> Error {
        Error::OutcomeTooLong { len: outcome.len(), max: self.outcome_bytes_max }
    }

    pub(crate) fn check_terms(&self, options: &CheckOptions) -> Result<CheckTerms> {
        CheckTerms::new(&self.policy, options, self.ttl)
    }

    /// With length and digest where they may be needed: without the outcome, or after it.
    fn payload<'a>(&self, outcome: &'a [u8], marked: bool) -> Payload<'a> {
        let fits = outcome.len() <= self.outcome_bytes_max;
        let marked = marked || !fits;
        Payload {
            outcome: fits.then_some(outcome),
            bytes: marked.then(|| i32::try_from(outcome.len()).unwrap_or(i32::MAX)),
            digest: marked.then(|| Fingerprint::of(outcome)),
        }
    }

    /// Of a check, whose terms are known.
    pub(crate) fn checked<'a>(&self, outcome: &'a [u8], terms: &CheckTerms) -> Result<Payload<'a>> {
        let payload = self.payload(outcome, terms.outcome_ms.is_some());
        if payload.outcome.is_none() && terms.on_long_outcome != LongOutcomePolicy::KeepMark {
            return Err(self.too_long(outcome));
        }
        Ok(payload)
    }

    pub(crate) async fn check(
        &self,
        server: &impl Ask,
        key: &[u8],
        outcome: &[u8],
        options: &CheckOptions,
    ) -> Result<Check> {
        let terms = self.check_terms(options)?;
        self.check_key(key)?;
        let (kept, payload) = (Kept::new(&terms)?, self.checked(outcome, &terms)?);
        let values: &verbs::Values<'_> = &[
            &self.space,
            &self.born,
            &key,
            &payload.outcome,
            &payload.bytes,
            &payload.digest(),
            &kept.retention,
            &kept.lifetime,
            &kept.outcome_ms,
            &kept.last_seen,
            &kept.sent_at,
        ];
        let rows = server.ask(&verbs::CHECK, values).await?;
        let check = Answer::new(one(&rows)?, 0).check()?;
        check.ok_or_else(|| strange("a check is to be made again, which only batches are"))
    }

    pub(crate) async fn begin(
        &self,
        server: &impl Ask,
        key: &[u8],
        options: &BeginOptions,
    ) -> Result<Begin> {
        let terms = BeginTerms::new(&self.policy, options, self.ttl)?;
        self.check_key(key)?;
        let kept = Kept::new(&terms.kept)?;
        let hold = if terms.on_abandon == AbandonPolicy::Hold { HOLD } else { 0 };
        let values: &verbs::Values<'_> = &[
            &self.space,
            &self.born,
            &key,
            &terms.fingerprint.as_ref().map(|fingerprint| &fingerprint.as_bytes()[..]),
            &stored(terms.lease_ms),
            &i64::from(terms.attempts_max),
            &(kept.flags | hold),
            &kept.retention,
            &kept.lifetime,
            &kept.outcome_ms,
            &kept.last_seen,
            &kept.sent_at,
        ];
        let rows = server.ask(&verbs::BEGIN, values).await?;
        Answer::new(one(&rows)?, 0).begin()
    }

    pub(crate) async fn finish(
        &self,
        server: &impl Ask,
        key: &[u8],
        token: Version,
        ending: Ending<'_>,
    ) -> Result<Ended> {
        self.check_key(key)?;
        let (kind, length, outcome): (i16, _, _) = match ending {
            Ending::Renew(length) => (1, Some(length), None),
            Ending::Release(length) => (2, Some(length), None),
            Ending::Complete(outcome) => (3, None, Some(outcome)),
            Ending::Fail(outcome) => (4, None, Some(outcome)),
        };
        let payload = outcome.map(|outcome| self.payload(outcome, true));
        let payload = payload.unwrap_or(Payload { outcome: None, bytes: None, digest: None });
        let values: &verbs::Values<'_> = &[
            &self.space,
            &key,
            &raw(token),
            &kind,
            &length,
            &payload.outcome,
            &payload.bytes,
            &payload.digest(),
        ];
        let rows = server.ask(&verbs::FINISH, values).await?;
        match ending_of(&rows)? {
            (Verdict::Done, Some(now), deadline) => Ok(Ended {
                version: version(now)?,
                deadline: moment(deadline.unwrap_or_default())?,
            }),
            (Verdict::TooLong, ..) => Err(self.too_long(outcome.unwrap_or_default())),
            (Verdict::Lost, ..) => Err(Error::LeaseLost),
            _ => Err(strange("a lease was ended with an answer that is none")),
        }
    }

    pub(crate) async fn resolve(
        &self,
        server: &impl Ask,
        key: &[u8],
        outcome: &[u8],
    ) -> Result<bool> {
        self.check_key(key)?;
        let payload = self.payload(outcome, true);
        let values: &verbs::Values<'_> =
            &[&self.space, &key, &payload.outcome, &payload.bytes, &payload.digest()];
        let rows = server.ask(&verbs::RESOLVE, values).await?;
        match ending_of(&rows)? {
            (Verdict::Done, ..) => Ok(true),
            (Verdict::Nothing, ..) => Ok(false),
            (Verdict::Busy, _, Some(deadline)) => {
                Err(Error::InProgress { deadline_ms: moment(deadline)?.as_millis() })
            }
            (Verdict::TooLong, ..) => Err(self.too_long(outcome)),
            _ => Err(strange("a key was resolved with an answer that is none")),
        }
    }

    pub(crate) async fn remove(
        &self,
        server: &impl Ask,
        key: &[u8],
        expected: Option<Version>,
    ) -> Result<bool> {
        self.check_key(key)?;
        let values: &verbs::Values<'_> = &[&self.space, &key, &expected.map(raw)];
        let rows = server.ask(&verbs::REMOVE, values).await?;
        match ending_of(&rows)? {
            (Verdict::Done, ..) => Ok(true),
            (Verdict::Nothing, ..) => Ok(false),
            _ => Err(strange("a key was removed with an answer that is none")),
        }
    }

    /// The row of a key, if it is remembered.
    async fn look(&self, server: &impl Ask, key: &[u8], outcome: bool) -> Result<Option<Row>> {
        self.check_key(key)?;
        let mut rows = server.ask(&verbs::LOOK, &[&self.space, &key, &outcome]).await?;
        let Some(row) = rows.pop() else { return Ok(None) };
        Ok(if Answer::new(&row, 0).is_expired()? { None } else { Some(row) })
    }

    /// The server's time, as verbs take it.
    pub(crate) async fn now(server: &impl Ask) -> Result<Timestamp> {
        let rows = server.ask(&verbs::NOW, &[]).await?;
        moment(column(one(&rows)?, 0)?)
    }

    pub(crate) async fn get(&self, server: &impl Ask, key: &[u8]) -> Result<Option<Record>> {
        let Some(row) = self.look(server, key, true).await? else { return Ok(None) };
        let answer = Answer::new(&row, 0);
        if answer.meta()?.status.is_final() { answer.record().map(Some) } else { Ok(None) }
    }

    pub(crate) async fn peek(&self, server: &impl Ask, key: &[u8]) -> Result<Option<Meta>> {
        Ok(self.peek_at(server, key).await?.map(|(meta, _)| meta))
    }

    /// As [`Keys::peek`], with the server's time of the look.
    pub(crate) async fn peek_at(
        &self,
        server: &impl Ask,
        key: &[u8],
    ) -> Result<Option<(Meta, Timestamp)>> {
        let Some(row) = self.look(server, key, false).await? else { return Ok(None) };
        let answer = Answer::new(&row, 0);
        Ok(Some((answer.meta()?, moment(answer.now()?)?)))
    }
}

fn ending_of(rows: &[Row]) -> Result<(Verdict, Option<i64>, Option<i64>)> {
    ending(one(rows)?)
}
