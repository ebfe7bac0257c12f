//! The verbs, each one script.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncelog::backend::{
    Backend, Begin, BeginTerms, CheckTerms, Clocked, Fenced, Grant, Profile, Survives,
};
use oncelog::{
    AbandonPolicy, Anchor, BeginOptions, Check, CheckOptions, Error, LongOutcomePolicy, Meta,
    Policy, Record, Result, Timestamp, Ttl, Version,
};
use redis::{Cmd, Value};

use crate::answer::{self, Parts};
use crate::builder::Builder;
use crate::call::{Acknowledged, Caller, Effect};
use crate::connect::Connect;
use crate::layout::{COMPLETED, FAILED, MARK_ONLY, encode_mark};
use crate::names::Names;
use crate::script::SCRIPTS;
use crate::trouble::{self, NAME};
use crate::wake::{Board, Listener};

/// Bits of the flags that a `begin` sends, as in a record.
const HOLD: u8 = 2;
const FIRST_SEEN: u8 = 4;
const LAST_SEEN: u8 = 8;
const KEEP_MARK: u8 = 16;

/// Keys of one namespace in a Redis server or cluster. Cheap to clone.
///
/// Wants a Tokio runtime. Each call is one script and one round trip, and one more where it says
/// when the request was [sent](BeginOptions::sent_at); a call that writes has one more on a cluster
/// with [replicas](Builder::replicas).
pub struct RedisBackend<S> {
    pub(crate) shared: Arc<Shared<S>>,
}

/// What all clones share.
pub(crate) struct Shared<S> {
    pub(crate) caller: Caller<S>,
    pub(crate) names: Names,
    pub(crate) policy: Policy,
    pub(crate) ttl: Ttl,
    pub(crate) outcome_bytes_max: usize,
    pub(crate) skew_ms: u64,
    pub(crate) survives: Survives,
    /// Draws a number for each call, of which no other process draws the same ones.
    pub(crate) calls: RandomState,
    pub(crate) calls_made: AtomicU64,
    pub(crate) board: Option<Arc<Board>>,
    pub(crate) _listener: Option<Listener>,
}

impl RedisBackend<()> {
    /// Settings for the keys of this namespace: 1 to 255 bytes.
    pub fn builder(namespace: impl Into<String>) -> Builder {
        Builder::new(namespace.into())
    }
}

impl<S> Clone for RedisBackend<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for RedisBackend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("names", &self.shared.names)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

/// What stands for "for ever" where a script takes a lifetime.
pub(crate) fn lifetime(ms: Option<u64>) -> i64 {
    ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(-1)
}

impl<S: Connect> RedisBackend<S> {
    /// A number that no other call has.
    pub(crate) fn draw(&self) -> [u8; 8] {
        let shared = &self.shared;
        shared.calls.hash_one(shared.calls_made.fetch_add(1, Ordering::Relaxed)).to_le_bytes()
    }

    /// When the namespace was first used, in milliseconds since the epoch.
    pub(crate) async fn born(&self) -> Result<u64> {
        let script = &SCRIPTS.born;
        let command = script.on(self.shared.names.space());
        match self.shared.caller.ask(script, command, Effect::Reads).await?.0 {
            Value::Int(born) if born > 0 => Ok(born.unsigned_abs()),
            _ => Err(trouble::unprepared(
                "the namespace's own key holds what this crate has not written; use another prefix",
            )),
        }
    }

    /// When the request was sent and the namespace first used, for the scripts that compare them.
    pub(crate) async fn sent(&self, sent_at: Option<Timestamp>) -> Result<(i64, u64)> {
        let Some(sent) = sent_at else { return Ok((-1, 0)) };
        let sent = i64::try_from(sent.as_millis()).unwrap_or(i64::MAX);
        // Asked for each time: a server that has lost its keys has lost this too.
        Ok((sent, self.born().await?))
    }

    /// The outcome, or what is kept of one that is longer than it may be, and the flag of that.
    pub(crate) fn kept<'a>(&self, outcome: &'a [u8]) -> (Cow<'a, [u8]>, u8) {
        if outcome.len() <= self.shared.outcome_bytes_max {
            return (Cow::Borrowed(outcome), 0);
        }
        (Cow::Owned(encode_mark(outcome).to_vec()), MARK_ONLY)
    }

    pub(crate) fn too_long(&self, outcome: &[u8]) -> Error {
        Error::OutcomeTooLong { len: outcome.len(), max: self.shared.outcome_bytes_max }
    }

    async fn finish(
        &self,
        key: &[u8],
        version: Version,
        (kind, outcome): (u8, &[u8]),
    ) -> Result<Version> {
        let shared = &self.shared;
        let name = shared.names.key(key)?;
        let (body, flag) = self.kept(outcome);
        let script = &SCRIPTS.complete;
        let mut command = script.on(&name);
        command.arg(&self.draw()).arg(version.as_u64()).arg(kind).arg(flag);
        command.arg(shared.names.space()).arg(shared.skew_ms).arg(&*body);
        let (value, acknowledged) = shared.caller.ask(script, command, Effect::Writes).await?;
        match answer::signed(value)? {
            0 => Err(Error::LeaseLost),
            -1 => Err(self.too_long(outcome)),
            version => {
                acknowledged.confirm()?;
                Ok(Version::from_u64(version.unsigned_abs()))
            }
        }
    }

    fn begin_command(&self, name: &[u8], terms: &BeginTerms, (sent, born): (i64, u64)) -> Cmd {
        let mut flags = match terms.kept.anchor {
            Anchor::FirstSeen => FIRST_SEEN,
            Anchor::LastSeen => LAST_SEEN,
            _ => 0,
        };
        if terms.on_abandon == AbandonPolicy::Hold {
            flags |= HOLD;
        }
        if terms.kept.on_long_outcome == LongOutcomePolicy::KeepMark {
            flags |= KEEP_MARK;
        }
        let fingerprint = terms.fingerprint.as_ref().map(|print| &print.as_bytes()[..]);
        let mut command = SCRIPTS.begin.on(name);
        command.arg(&self.draw()).arg(lifetime(terms.kept.retention_ms));
        command.arg(terms.kept.outcome_ms.unwrap_or(0)).arg(flags).arg(terms.lease_ms);
        command.arg(terms.attempts_max).arg(fingerprint.unwrap_or_default());
        command.arg(sent).arg(born).arg(self.shared.skew_ms);
        command
    }

    async fn found(&self, key: &[u8]) -> Result<Option<Record>> {
        let name = self.shared.names.key(key)?;
        let script = &SCRIPTS.get;
        let (value, _) = self.shared.caller.ask(script, script.on(&name), Effect::Reads).await?;
        match value {
            Value::Nil => Ok(None),
            value => {
                let mut parts = Parts::of(value)?;
                let now = parts.number()?;
                crate::layout::record(&parts.bytes()?, now)
            }
        }
    }
}

/// The answer to a `begin`, which is the caller's lease or says why not.
fn begun((value, acknowledged): (Value, Acknowledged)) -> Result<Begin> {
    let mut parts = Parts::of(value)?;
    let answer: fn(Meta) -> Begin = match parts.number()? {
        0 => {
            acknowledged.confirm()?;
            return Ok(Begin::Started(Grant {
                version: Version::from_u64(parts.number()?),
                attempt: u32::try_from(parts.number()?).unwrap_or(u32::MAX),
                first_seen: Timestamp::from_millis(parts.number()?),
                deadline: Timestamp::from_millis(parts.number()?),
            }));
        }
        1 => return Ok(Begin::Completed(parts.record()?)),
        4 => return Err(Error::Stale { horizon_ms: parts.number()? }),
        5 => Begin::InProgress,
        6 => Begin::Mismatch,
        7 => Begin::Unknown,
        8 => Begin::Exhausted,
        _ => return Err(trouble::strange("a state that is none")),
    };
    let (_, meta) = parts.meta()?;
    meta.map(answer).ok_or_else(|| trouble::strange("a state of a key that is not known"))
}

impl<S: Connect> Backend for RedisBackend<S> {
    fn profile(&self) -> Profile {
        Profile {
            name: NAME,
            survives: self.shared.survives,
            fenced: Fenced::Primary,
            clocked: Clocked::Server,
            key_bytes_max: self.shared.names.key_bytes_max(),
            outcome_bytes_max: self.shared.outcome_bytes_max,
            limits_room: false,
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        let (shared, script) = (&self.shared, &SCRIPTS.now);
        let command = script.on(shared.names.space());
        let (value, _) = shared.caller.ask(script, command, Effect::Reads).await?;
        answer::number(value).map(Timestamp::from_millis)
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        let terms = CheckTerms::new(&self.shared.policy, &options, self.shared.ttl)?;
        self.check(key, outcome, &terms).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        let terms = || CheckTerms::new(&self.shared.policy, &options, self.shared.ttl);
        match terms() {
            Ok(terms) => self.check_many(items, &terms).await,
            Err(_) => Ok(items.iter().filter_map(|_| terms().err().map(Err)).collect()),
        }
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        let terms = BeginTerms::new(&self.shared.policy, &options, self.shared.ttl)?;
        let name = self.shared.names.key(key)?;
        let sent = self.sent(terms.kept.sent_at).await?;
        let command = self.begin_command(&name, &terms, sent);
        begun(self.shared.caller.ask(&SCRIPTS.begin, command, Effect::Writes).await?)
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.finish(key, version, (COMPLETED, outcome)).await
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        self.finish(key, version, (FAILED, outcome)).await
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let shared = &self.shared;
        let after = match retry_after {
            None | Some(Duration::ZERO) => 0,
            Some(time) => {
                let options = CheckOptions::new().retention(time);
                CheckTerms::new(&Policy::default(), &options, shared.ttl)?.retention_ms.unwrap_or(0)
            }
        };
        let name = shared.names.key(key)?;
        let script = &SCRIPTS.release;
        let mut command = script.on(&name);
        command.arg(&self.draw()).arg(version.as_u64()).arg(after);
        command.arg(shared.names.space()).arg(shared.skew_ms);
        let (value, acknowledged) = shared.caller.ask(script, command, Effect::Writes).await?;
        match answer::number(value)? {
            0 => Err(Error::LeaseLost),
            _ => acknowledged.confirm(),
        }
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        let shared = &self.shared;
        let options = BeginOptions::new().lease(length);
        let length = BeginTerms::new(&Policy::default(), &options, shared.ttl)?.lease_ms;
        let name = shared.names.key(key)?;
        let script = &SCRIPTS.renew;
        let mut command = script.on(&name);
        command.arg(version.as_u64()).arg(length).arg(shared.skew_ms);
        let (value, acknowledged) = shared.caller.ask(script, command, Effect::Writes).await?;
        match answer::number(value)? {
            0 => Err(Error::LeaseLost),
            deadline => acknowledged.confirm().map(|()| Timestamp::from_millis(deadline)),
        }
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        let shared = &self.shared;
        let name = shared.names.key(key)?;
        let (body, flag) = self.kept(outcome);
        let script = &SCRIPTS.resolve;
        let mut command = script.on(&name);
        command.arg(&self.draw()).arg(flag).arg(shared.names.space());
        command.arg(shared.skew_ms).arg(&*body);
        let (value, acknowledged) = shared.caller.ask(script, command, Effect::Writes).await?;
        match value {
            Value::Int(0) => Ok(false),
            Value::Int(1) => acknowledged.confirm().map(|()| true),
            Value::Int(-1) => Err(self.too_long(outcome)),
            value => {
                let mut parts = Parts::of(value)?;
                parts.number()?;
                Err(Error::InProgress { deadline_ms: parts.number()? })
            }
        }
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        self.found(key).await
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        let name = self.shared.names.key(key)?;
        self.look(&name, false).await.map(|(_, meta)| meta)
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        let shared = &self.shared;
        let name = shared.names.key(key)?;
        let script = &SCRIPTS.remove;
        let mut command = script.on(&name);
        command.arg(&self.draw());
        match version {
            Some(version) => command.arg(version.as_u64()),
            None => command.arg(""),
        };
        command.arg(shared.names.space()).arg(shared.skew_ms);
        let (value, acknowledged) = shared.caller.ask(script, command, Effect::Writes).await?;
        match answer::number(value)? {
            0 => Ok(false),
            _ => acknowledged.confirm().map(|()| true),
        }
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        self.wait_for(key, timeout).await
    }
}
