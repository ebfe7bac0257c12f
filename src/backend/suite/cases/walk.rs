//! Thousands of calls at random, each held against a model of the contract.

use std::time::Duration;

use crate::answers::Check;
use crate::backend::suite::failure::{Step, Stop, ensure, ensure_eq, got};
use crate::backend::suite::harness::Time;
use crate::backend::suite::model::{Asked, Decision, Ending, Model};
use crate::backend::suite::random::{self, Random};
use crate::backend::suite::trial::{Space, Trial, after, lasting};
use crate::backend::{AnyBackend, Backend, Begin};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::meta::Meta;
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, Anchor, BeginOptions, LongOutcomePolicy};
use crate::record::Record;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// Keys; few, so that they meet.
const KEYS: u8 = 6;
/// An outcome that is too long is tried up to this length.
const LONG_OUTCOME: usize = 1 << 17;
const LONG_MS: u64 = 3_600_000;

struct Walk<'h> {
    space: Space<'h>,
    /// Time stands still, so that all of it is known.
    exact: bool,
    random: Random,
    model: Model,
    /// Of each key, the greatest version so far, and all that were seen.
    highest: [Version; KEYS as usize],
    seen: Vec<Version>,
    /// Something of the latest step ends in a moment.
    brief: bool,
}

pub(super) async fn calls_at_random_are_answered_as_the_model_says(trial: &Trial<'_>) -> Step {
    let seed = random::seed();
    let exact = trial.harness.time() == Time::StandsStill;
    let steps = if exact { 20_000 } else { 2_000 };
    let space = trial.space(lasting()).await?;
    let now = space.now().await?;
    let model = Model::new(now, space.one.profile().outcome_bytes_max);
    let none = Version::from_u64(0);
    let mut walk = Walk {
        space,
        exact,
        random: Random::new(seed),
        model,
        highest: [none; KEYS as usize],
        seen: vec![none],
        brief: false,
    };
    for step in 0..steps {
        let key = u8::try_from(walk.random.below(KEYS.into())).unwrap_or(0);
        walk.step(trial, key).await.map_err(|stop| match stop {
            Stop::Failed(what) => {
                Stop::Failed(format!("step {step}, ONCELOG_SUITE_SEED={seed}: {what}"))
            }
            Stop::LeftOut(_) => stop,
        })?;
    }
    Ok(())
}

impl Walk<'_> {
    /// One call and, if it changes the key, what the other client says of it afterwards.
    async fn step(&mut self, trial: &Trial<'_>, key: u8) -> Step {
        self.brief = false;
        let clients = [self.space.one.clone(), self.space.two.clone()];
        let [client, other] = clients;
        let (client, other) =
            if self.random.once_in(2) { (client, other) } else { (other, client) };
        if self.exact && self.random.once_in(3) {
            let by = Duration::from_millis(self.time_to_pass(key));
            trial.harness.pass(by).await;
            self.model.now = after(self.model.now, by);
            if self.random.once_in(2) {
                self.look(&other, key).await?;
            }
        }
        match self.random.below(16) {
            0..4 => self.begin(&client, &other, key).await,
            4..6 => self.check(&client, &other, key).await,
            6..12 => self.finish(&client, &other, key).await,
            12 => self.resolve(&client, &other, key).await,
            13 => self.remove(&client, &other, key).await,
            14 => self.batch(&client, key).await,
            _ => self.look(&client, key).await,
        }
    }

    /// To the moment that something of the key ends, to the one before, or to any other.
    fn time_to_pass(&mut self, key: u8) -> u64 {
        let now = self.model.now.as_millis();
        let ends = self.model.get(key).map(|entry| entry.ends()).unwrap_or_default();
        let left = ends.into_iter().flatten().map(|end| end.as_millis().saturating_sub(now));
        let soonest = left.filter(|left| (2..1_000).contains(left)).min();
        match soonest {
            Some(left) if !self.random.once_in(4) => left - self.random.below(2),
            _ => 1 + self.random.below(15),
        }
    }

    /// A length of time that ends in a moment, or not during the run.
    fn span(&mut self) -> u64 {
        if self.random.once_in(2) {
            return LONG_MS * (1 + self.random.below(3));
        }
        self.brief = true;
        if self.exact { 1 + self.random.below(30) } else { 1 }
    }

    fn asked(&mut self) -> Asked {
        let fingerprint = match self.random.below(6) {
            0 => Some(Fingerprint::of(b"another")),
            1 | 2 => Some(Fingerprint::of(b"request")),
            _ => None,
        };
        let lease = self.span();
        let retention = match self.random.below(8) {
            0 => None,
            1 | 2 => Some(self.span()),
            more => Some(LONG_MS * more),
        };
        let anchor = match self.random.below(4) {
            0 => Anchor::FirstSeen,
            1 if retention.is_none_or(|retention| retention >= LONG_MS) => Anchor::LastSeen,
            _ => Anchor::Completion,
        };
        let outcome_ttl = if self.random.once_in(3) { Some(self.span()) } else { None };
        let fits = |ttl: &u64| retention.is_none_or(|retention| *ttl <= retention);
        Asked {
            fingerprint,
            lease,
            retention,
            attempts_max: self.random.once_in(3).then_some(2),
            on_abandon: match self.random.below(3) {
                0 => AbandonPolicy::Hold,
                _ => AbandonPolicy::Reclaim,
            },
            anchor,
            outcome_ttl: outcome_ttl.filter(fits),
            on_long_outcome: match self.random.below(2) {
                0 => LongOutcomePolicy::KeepMark,
                _ => LongOutcomePolicy::Refuse,
            },
        }
    }

    fn outcome(&mut self) -> Vec<u8> {
        let max = self.model.outcome_bytes_max;
        if max < LONG_OUTCOME && self.random.once_in(30) {
            return vec![self.random.next().to_le_bytes()[0]; max + 1];
        }
        let most = if self.random.once_in(10) { 300 } else { 12 };
        let length = self.random.below(most);
        (0..length).map(|_| self.random.next().to_le_bytes()[0]).collect()
    }

    /// The key's version, one that it or another key had before, or one that nobody had.
    fn version(&mut self, key: u8) -> Version {
        let current = self.model.get(key).map(|entry| entry.version);
        match (current, self.random.below(8)) {
            (Some(version), 0..6) => version,
            (_, 6) => Version::from_u64(self.random.next()),
            _ => {
                let at = self.random.below(self.seen.len() as u64);
                let seen = usize::try_from(at).ok().and_then(|at| self.seen.get(at));
                seen.copied().unwrap_or(Version::from_u64(0))
            }
        }
    }

    /// A version that a key was given has to be above all before it.
    fn rise(&mut self, key: u8, version: Version) -> Step {
        if let Some(highest) = self.highest.get_mut(usize::from(key)) {
            ensure!(version > *highest, "version {version:?} is not above {highest:?}");
            *highest = version;
        }
        self.seen.push(version);
        Ok(())
    }

    /// What the other client says of a key that was changed; `None` if it is forgotten already.
    async fn changed(&mut self, other: &AnyBackend, key: u8) -> Step<Option<Meta>> {
        if self.brief && !self.exact {
            // What ends in a moment has ended from here on.
            let now = self.space.now().await?;
            self.space.until(after(now, Duration::from_millis(2))).await?;
        }
        Ok(other.peek(&[key]).await?)
    }

    /// The time that the backend has stamped a change with.
    fn stamp(&self, meta: Option<Meta>) -> Timestamp {
        if self.exact { self.model.now } else { meta.map_or(self.model.now, |meta| meta.updated) }
    }

    /// Holds what the backend says of a key, after it was changed, against the model.
    async fn settle(&mut self, key: u8, found: Option<Meta>) -> Step {
        if self.brief && !self.exact {
            self.model.now = self.space.now().await?;
        }
        let now = self.model.now;
        let Some(entry) = self.model.get_mut(key) else {
            ensure_eq!(found, None, "a key that is forgotten");
            return Ok(());
        };
        let found = got!(found, Some(meta) => meta);
        let is_new = entry.version == Version::from_u64(0);
        if is_new {
            entry.version = found.version;
        }
        if entry.prolongs() {
            adopt_longer(&mut entry.expires, found.expires)?;
        }
        ensure_eq!(found, entry.meta(now), "what peek says");
        if is_new { self.rise(key, found.version) } else { Ok(()) }
    }

    async fn begin(&mut self, client: &AnyBackend, other: &AnyBackend, key: u8) -> Step {
        let asked = self.asked();
        let decision = self.model.decide_begin(key, &asked);
        let answer = client.begin(&[key], begin_options(&asked)).await?;
        match (decision, answer) {
            (Decision::Done, Begin::Started(grant)) => {
                self.rise(key, grant.version)?;
                let found = self.changed(other, key).await?;
                let now = self.stamp(found);
                self.model.begin(key, &asked, grant.version, now);
                if found.is_some() || self.exact {
                    let deadline = after(now, Duration::from_millis(asked.lease));
                    ensure_eq!(grant.deadline, deadline, "deadline");
                }
                self.settle(key, found).await
            }
            (Decision::Known, Begin::Completed(record)) => {
                self.is_record(key, &record, &asked).await
            }
            (Decision::InProgress, Begin::InProgress(meta))
            | (Decision::Mismatch, Begin::Mismatch(meta))
            | (Decision::Unknown, Begin::Unknown(meta))
            | (Decision::Exhausted, Begin::Exhausted(meta)) => {
                let wanted = self.model.get(key).map(|entry| entry.meta(self.model.now));
                ensure_eq!(Some(meta), wanted, "what begin says: {decision:?}");
                Ok(())
            }
            (wanted, answer) => {
                Err(Stop::failed(format_args!("{answer:?} in place of {wanted:?}")))
            }
        }
    }

    /// Holds a record that a duplicate was answered with against the model.
    async fn is_record(&mut self, key: u8, record: &Record, asked: &Asked) -> Step {
        let now = self.model.now;
        let entry = got!(self.model.get_mut(key), Some(entry) => entry);
        let meta = record.meta();
        if asked.anchor == Anchor::LastSeen {
            // It may have been written again, to be kept for longer.
            let least = asked.retention.map(|ms| after(now, Duration::from_millis(ms)));
            let kept = meta.expires.is_none_or(|end| least.is_some_and(|least| end >= least));
            ensure!(kept, "{meta:?}, seen at {now}, and kept to {least:?} at least");
            adopt_longer(&mut entry.expires, meta.expires)?;
            ensure!(meta.version >= entry.version, "{:?} after {:?}", meta.version, entry.version);
            entry.version = meta.version;
        }
        ensure_eq!(meta, entry.meta(now), "what the record says");
        if entry.is_gone(now) {
            let gone = got!(record.outcome_gone(), Some(gone) => gone);
            let wanted = (entry.outcome().len() as u64, Fingerprint::of(entry.outcome()));
            ensure_eq!((gone.bytes, gone.digest), wanted, "what is known of the outcome");
        } else {
            ensure_eq!(record.outcome(), entry.outcome(), "outcome");
        }
        let version = meta.version;
        if let Some(highest) = self.highest.get_mut(usize::from(key)) {
            *highest = version.max(*highest);
        }
        Ok(())
    }

    async fn check(&mut self, client: &AnyBackend, other: &AnyBackend, key: u8) -> Step {
        let (asked, outcome) = (self.asked(), self.outcome());
        let answer = client.check_and_set(&[key], &outcome, check_options(&asked)).await;
        if self.checked(key, &asked, &outcome, answer).await? {
            let found = self.changed(other, key).await?;
            let now = self.stamp(found);
            self.model.check(key, &asked, &outcome, now);
            return self.settle(key, found).await;
        }
        Ok(())
    }

    /// Holds the answer of a check against the model; true if the key is new.
    async fn checked(
        &mut self,
        key: u8,
        asked: &Asked,
        outcome: &[u8],
        answer: Result<Check>,
    ) -> Step<bool> {
        match (self.model.decide_check(key, asked, outcome), answer) {
            (Decision::Done, Ok(Check::New)) => return Ok(true),
            (Decision::Known, Ok(Check::Duplicate(record))) => {
                self.is_record(key, &record, asked).await?;
            }
            (Decision::InProgress, Err(Error::InProgress { deadline_ms })) => {
                let deadline = Some(Timestamp::from_millis(deadline_ms));
                let wanted = self.model.get(key).map(|entry| entry.meta(self.model.now).deadline);
                ensure_eq!(Some(deadline), wanted, "deadline");
            }
            (Decision::Unknown, Err(Error::Unresolved))
            | (Decision::TooLong, Err(Error::OutcomeTooLong { .. })) => {}
            (wanted, answer) => {
                return Err(Stop::failed(format_args!("{answer:?} in place of {wanted:?}")));
            }
        }
        Ok(false)
    }

    /// A batch in which keys repeat; lifetimes are long, so that none ends in the middle.
    async fn batch(&mut self, client: &AnyBackend, key: u8) -> Step {
        let asked = Asked {
            retention: Some(9 * LONG_MS),
            anchor: Anchor::Completion,
            outcome_ttl: None,
            ..self.asked()
        };
        self.brief = false;
        let keys = [key, (key + 1) % KEYS, key, (key + 2) % KEYS].map(|key| [key]);
        let outcomes = keys.map(|_| self.outcome());
        let items: Vec<(&[u8], &[u8])> =
            keys.iter().zip(&outcomes).map(|(key, outcome)| (&key[..], &outcome[..])).collect();
        let answers = client.check_and_set_many(&items, check_options(&asked)).await?;
        ensure_eq!(answers.len(), items.len(), "answers");
        let mut new = Vec::new();
        for (([key], outcome), answer) in keys.iter().zip(&outcomes).zip(answers) {
            if self.checked(*key, &asked, outcome, answer).await? {
                // Its stamp and version are learned first, as later items may answer with them.
                let found = client.peek(&[*key]).await?;
                let now = self.stamp(found);
                self.model.check(*key, &asked, outcome, now);
                if let (Some(entry), Some(found)) = (self.model.get_mut(*key), found) {
                    entry.version = found.version;
                    self.rise(*key, found.version)?;
                }
                new.push((*key, found));
            }
        }
        for (key, found) in new {
            self.settle(key, found).await?;
        }
        Ok(())
    }

    fn ending(&mut self) -> Ending {
        match self.random.below(8) {
            0 | 1 => Ending::Complete(self.outcome()),
            2 => Ending::Fail(self.outcome()),
            3 => Ending::Release(0),
            4 => Ending::Release(self.span()),
            _ => Ending::Renew(self.span()),
        }
    }

    async fn finish(&mut self, client: &AnyBackend, other: &AnyBackend, key: u8) -> Step {
        let (version, ending) = (self.version(key), self.ending());
        let decision = self.model.decide_finish(key, version, &ending);
        let bytes = [key];
        // What the lifetimes of the key's begin have left may end in a moment as well.
        self.brief |= decision == Decision::Done;
        let answer = match &ending {
            Ending::Complete(outcome) => client.complete(&bytes, version, outcome).await.map(Some),
            Ending::Fail(outcome) => client.fail(&bytes, version, outcome).await.map(Some),
            Ending::Release(0) => client.release(&bytes, version, None).await.map(|()| None),
            Ending::Release(ms) => {
                let time = Some(Duration::from_millis(*ms));
                client.release(&bytes, version, time).await.map(|()| None)
            }
            Ending::Renew(ms) => {
                let length = Duration::from_millis(*ms);
                client.renew(&bytes, version, length).await.map(|_| None)
            }
        };
        let told = match (decision, answer) {
            (Decision::Done, Ok(told)) => told,
            (Decision::LeaseLost, Err(Error::LeaseLost))
            | (Decision::TooLong, Err(Error::OutcomeTooLong { .. })) => return Ok(()),
            (wanted, answer) => {
                let what = format_args!("{ending:?}: {answer:?} in place of {wanted:?}");
                return Err(Stop::failed(what));
            }
        };
        let found = self.changed(other, key).await?;
        let now = self.stamp(found);
        self.model.finish(key, &ending, now);
        if let (Some(told), Some(found)) = (told, found) {
            ensure_eq!(told, found.version, "the version that the caller was told");
        }
        self.settle(key, found).await
    }

    async fn resolve(&mut self, client: &AnyBackend, other: &AnyBackend, key: u8) -> Step {
        let outcome = self.outcome();
        let ending = Ending::Complete(outcome.clone());
        match (self.model.decide_resolve(key, &ending), client.resolve(&[key], &outcome).await) {
            (Decision::Done, Ok(true)) => {
                self.brief = true;
                let found = self.changed(other, key).await?;
                let now = self.stamp(found);
                self.model.finish(key, &ending, now);
                self.settle(key, found).await
            }
            (Decision::Nothing, Ok(false))
            | (Decision::InProgress, Err(Error::InProgress { .. }))
            | (Decision::TooLong, Err(Error::OutcomeTooLong { .. })) => Ok(()),
            (wanted, answer) => {
                Err(Stop::failed(format_args!("{answer:?} in place of {wanted:?}")))
            }
        }
    }

    async fn remove(&mut self, client: &AnyBackend, other: &AnyBackend, key: u8) -> Step {
        let version = if self.random.once_in(2) { None } else { Some(self.version(key)) };
        let wanted = self.model.decide_remove(key, version);
        ensure_eq!(client.remove(&[key], version).await?, wanted, "removed");
        if wanted {
            self.model.remove(key);
            ensure_eq!(other.peek(&[key]).await?, None, "a removed key");
        }
        Ok(())
    }

    /// Asks what changes nothing.
    async fn look(&mut self, client: &AnyBackend, key: u8) -> Step {
        let now = self.model.now;
        let meta = self.model.get(key).map(|entry| entry.meta(now));
        ensure_eq!(client.peek(&[key]).await?, meta, "what peek says");
        let waited = client.wait(&[key], Duration::ZERO).await?;
        ensure_eq!(waited, meta, "what wait says");
        match (client.get(&[key]).await?, meta.filter(|meta| meta.status.is_final())) {
            (Some(record), Some(_)) => {
                let (anchor, retention) = (Anchor::Completion, None);
                let seen = Asked { anchor, retention, ..self.asked() };
                self.is_record(key, &record, &seen).await
            }
            (record, wanted) => {
                ensure_eq!(record.map(|record| record.meta()), wanted, "what get says");
                Ok(())
            }
        }
    }
}

/// What prolongs itself may be kept for an eighth of its retention longer than the least.
fn adopt_longer(least: &mut Option<Timestamp>, found: Option<Timestamp>) -> Step {
    let kept = found.is_none_or(|found| least.is_some_and(|least| found >= least));
    ensure!(kept, "kept to {found:?}, and to {least:?} at least");
    *least = found;
    Ok(())
}

fn ttl(retention: Option<u64>) -> Ttl {
    retention.map_or(Ttl::Never, |ms| Ttl::After(Duration::from_millis(ms)))
}

fn begin_options(asked: &Asked) -> BeginOptions {
    let mut options = BeginOptions::new()
        .lease(Duration::from_millis(asked.lease))
        .retention(ttl(asked.retention))
        .on_abandon(asked.on_abandon)
        .anchor(asked.anchor)
        .on_long_outcome(asked.on_long_outcome);
    if let Some(fingerprint) = asked.fingerprint {
        options = options.fingerprint(fingerprint);
    }
    if let Some(attempts) = asked.attempts_max {
        options = options.attempts_max(attempts);
    }
    if let Some(ms) = asked.outcome_ttl {
        options = options.outcome_ttl(Duration::from_millis(ms));
    }
    options
}

fn check_options(asked: &Asked) -> CheckOptions {
    let options = CheckOptions::new()
        .retention(ttl(asked.retention))
        .anchor(asked.anchor)
        .on_long_outcome(asked.on_long_outcome);
    match asked.outcome_ttl {
        Some(ms) => options.outcome_ttl(Duration::from_millis(ms)),
        None => options,
    }
}
