//! A backend that is wrong in one way, over one that is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog::backend::{AnyBackend, Backend, Begin, Profile};
use oncelog::{
    AbandonPolicy, Anchor, BeginOptions, Check, CheckOptions, Error, Meta, Record, Result, Status,
    Timestamp, Version,
};

use crate::threads::sleep;

/// How it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ReplaysOnMismatch,
    LooksAtTheStatusBeforeTheFingerprint,
    CompletesWhateverTheVersion,
    FailsWhateverTheVersion,
    ReleasesWhateverTheVersion,
    RenewsWhateverTheVersion,
    RemovesWhateverTheVersion,
    ChecksThenSets,
    ChecksThenBegins,
    CompletesInTwoSteps,
    ExpiresLate,
    ExpiresEarly,
    EndsLeasesLate,
    ForgetsAttempts,
    CountsNoAttempts,
    NeverWakes,
    DoesNotWait,
    StartsVersionsAnew,
    CutsZerosOffOutcomes,
    HasNoEmptyOutcomes,
    CutsKeysAtZeros,
    TakesKeysForText,
    JoinsNamesAndKeys,
    SeesNoDuplicatesInBatches,
    EndsBatchesAtTheFirstError,
    IgnoresAnchors,
    CountsFromFirstSight,
    ReplaysForEver,
    CutsLongOutcomes,
    IgnoresWhenItWasSent,
    ResolvesWhatIsHeld,
    ReclaimsWhatIsUnknown,
    RefusesOverdueHolders,
    RenewsNothing,
    ForgetsOnRelease,
    TakesFailureForSuccess,
    TrustsTheClient,
    ForgetsOnRestart,
}

#[derive(Clone)]
pub(crate) struct Wrong {
    pub(crate) inner: AnyBackend,
    pub(crate) fault: Fault,
    /// What is put before each key.
    pub(crate) prefix: Vec<u8>,
    pub(crate) state: Arc<State>,
}

/// What clients have in common.
#[derive(Default)]
pub(crate) struct State {
    /// Records as they were seen last.
    seen: Mutex<HashMap<Vec<u8>, Record>>,
    /// What is taken off the versions of a key, since it was removed.
    base: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Wrong {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        if self.is(Fault::CutsKeysAtZeros) {
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            return key[..end.max(1).min(key.len())].to_vec();
        }
        if self.is(Fault::TakesKeysForText) {
            return String::from_utf8_lossy(key).into_owned().into_bytes();
        }
        [&self.prefix, key].concat()
    }

    fn outcome<'a>(&self, outcome: &'a [u8]) -> &'a [u8] {
        let max = self.inner.profile().outcome_bytes_max;
        match self.fault {
            Fault::CutsZerosOffOutcomes => {
                let end = outcome.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                &outcome[..end]
            }
            Fault::CutsLongOutcomes => &outcome[..outcome.len().min(max)],
            _ => outcome,
        }
    }

    fn options(&self, options: BeginOptions) -> BeginOptions {
        match self.fault {
            Fault::IgnoresAnchors => options.anchor(Anchor::Completion),
            Fault::CountsFromFirstSight => options.anchor(Anchor::FirstSeen),
            Fault::ReplaysForEver => options.outcome_ttl(Duration::from_secs(3600)),
            Fault::IgnoresWhenItWasSent => options.sent_at(Timestamp::from_millis(u64::MAX)),
            Fault::ReclaimsWhatIsUnknown => options.on_abandon(AbandonPolicy::Reclaim),
            _ => options,
        }
    }

    fn checks(&self, options: CheckOptions) -> CheckOptions {
        match self.fault {
            Fault::IgnoresAnchors => options.anchor(Anchor::Completion),
            Fault::ReplaysForEver => options.outcome_ttl(Duration::from_secs(3600)),
            Fault::IgnoresWhenItWasSent => options.sent_at(Timestamp::from_millis(u64::MAX)),
            _ => options,
        }
    }

    /// A version as callers see it.
    fn shown(&self, key: &[u8], version: Version) -> Version {
        let base = self.state.base.lock().unwrap().get(key).copied().unwrap_or(0);
        Version::from_u64(version.as_u64().wrapping_sub(base))
    }

    /// The version that a caller means.
    async fn meant(&self, fault: Fault, key: &[u8], version: Version) -> Version {
        if self.is(fault)
            && let Ok(Some(meta)) = self.inner.peek(key).await
        {
            return meta.version;
        }
        let base = self.state.base.lock().unwrap().get(key).copied().unwrap_or(0);
        Version::from_u64(version.as_u64().wrapping_add(base))
    }

    fn meta(&self, key: &[u8], mut meta: Meta) -> Meta {
        meta.version = self.shown(key, meta.version);
        meta
    }

    async fn is_over(&self, key: &[u8]) -> bool {
        let meta = self.inner.peek(key).await.ok().flatten();
        meta.is_some_and(|meta| meta.status != Status::InProgress)
    }
}

impl Backend for Wrong {
    fn profile(&self) -> Profile {
        let profile = self.inner.profile();
        Profile { key_bytes_max: profile.key_bytes_max - self.prefix.len(), ..profile }
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn check_and_set(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: CheckOptions,
    ) -> Result<Check> {
        let (key, outcome, options) = (self.key(key), self.outcome(outcome), self.checks(options));
        if self.is(Fault::ChecksThenSets) {
            if let Some(record) = self.inner.get(&key).await? {
                return Ok(Check::Duplicate(record));
            }
            sleep(Duration::from_millis(2)).await;
            let _ = self.inner.check_and_set(&key, outcome, options).await?;
            return Ok(Check::New);
        }
        self.inner.check_and_set(&key, outcome, options).await
    }

    async fn check_and_set_many(
        &self,
        items: &[(&[u8], &[u8])],
        options: CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        let keys: Vec<Vec<u8>> = items.iter().map(|(key, _)| self.key(key)).collect();
        let mut known = Vec::new();
        for key in &keys {
            known.push(self.inner.get(key).await.ok().flatten().is_some());
        }
        let items: Vec<(&[u8], &[u8])> =
            keys.iter().zip(items).map(|(key, (_, outcome))| (&key[..], *outcome)).collect();
        let mut checks = self.inner.check_and_set_many(&items, self.checks(options)).await?;
        if self.is(Fault::SeesNoDuplicatesInBatches) {
            for (check, known) in checks.iter_mut().zip(known) {
                if check.as_ref().is_ok_and(|check| !known && check.is_duplicate()) {
                    *check = Ok(Check::New);
                }
            }
        }
        if self.is(Fault::EndsBatchesAtTheFirstError) {
            return checks
                .into_iter()
                .collect::<Result<Vec<_>>>()
                .map(|checks| checks.into_iter().map(Ok).collect());
        }
        Ok(checks)
    }

    async fn begin(&self, key: &[u8], options: BeginOptions) -> Result<Begin> {
        let (key, mut options) = (self.key(key), self.options(options));
        if self.is(Fault::TrustsTheClient) && self.prefix == b"ahead" {
            options = options.lease(Duration::from_secs(7200));
        }
        if self.is(Fault::ChecksThenBegins) && self.inner.peek(&key).await?.is_none() {
            sleep(Duration::from_millis(2)).await;
            let _ = self.inner.begin(&key, options).await?;
            let _ = self.inner.remove(&key, None).await?;
        }
        let begun = self.inner.begin(&key, options).await?;
        Ok(match begun {
            Begin::Started(mut grant) => {
                grant.version = self.shown(&key, grant.version);
                if self.is(Fault::ForgetsAttempts) {
                    grant.attempt = 1;
                }
                Begin::Started(grant)
            }
            Begin::Mismatch(meta) if self.is(Fault::ReplaysOnMismatch) => {
                let record = self.inner.get(&key).await?;
                record.map_or(Begin::Mismatch(meta), Begin::Completed)
            }
            Begin::Mismatch(meta)
                if self.is(Fault::LooksAtTheStatusBeforeTheFingerprint)
                    && meta.status == Status::InProgress =>
            {
                Begin::InProgress(meta)
            }
            Begin::Exhausted(_) if self.is(Fault::CountsNoAttempts) => {
                let _ = self.inner.remove(&key, None).await?;
                return self.inner.begin(&key, options).await;
            }
            Begin::InProgress(meta) => Begin::InProgress(self.meta(&key, meta)),
            begun => begun,
        })
    }

    async fn complete(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let (key, outcome) = (self.key(key), self.outcome(outcome));
        if self.is(Fault::RefusesOverdueHolders) && self.is_over(&key).await {
            return Err(Error::LeaseLost);
        }
        if self.is(Fault::CompletesInTwoSteps) {
            let held = self.inner.peek(&key).await?.is_some_and(|meta| meta.version == version);
            if !held {
                return Err(Error::LeaseLost);
            }
            sleep(Duration::from_millis(2)).await;
            // Whoever has it by now.
            let Some(meta) = self.inner.peek(&key).await? else { return Err(Error::LeaseLost) };
            return self.inner.complete(&key, meta.version, outcome).await;
        }
        let version = self.meant(Fault::CompletesWhateverTheVersion, &key, version).await;
        let version = self.inner.complete(&key, version, outcome).await?;
        Ok(self.shown(&key, version))
    }

    async fn fail(&self, key: &[u8], version: Version, outcome: &[u8]) -> Result<Version> {
        let (key, outcome) = (self.key(key), self.outcome(outcome));
        let version = self.meant(Fault::FailsWhateverTheVersion, &key, version).await;
        if self.is(Fault::TakesFailureForSuccess) {
            return self.inner.complete(&key, version, outcome).await;
        }
        let version = self.inner.fail(&key, version, outcome).await?;
        Ok(self.shown(&key, version))
    }

    async fn release(
        &self,
        key: &[u8],
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let key = self.key(key);
        let version = self.meant(Fault::ReleasesWhateverTheVersion, &key, version).await;
        if self.is(Fault::ForgetsOnRelease) {
            return if self.inner.remove(&key, Some(version)).await? {
                Ok(())
            } else {
                Err(Error::LeaseLost)
            };
        }
        self.inner.release(&key, version, retry_after).await
    }

    async fn renew(&self, key: &[u8], version: Version, length: Duration) -> Result<Timestamp> {
        let key = self.key(key);
        let version = self.meant(Fault::RenewsWhateverTheVersion, &key, version).await;
        if self.is(Fault::RenewsNothing) {
            let now = self.inner.now().await?.as_millis();
            let length = u64::try_from(length.as_millis()).unwrap_or(0);
            return Ok(Timestamp::from_millis(now + length));
        }
        self.inner.renew(&key, version, length).await
    }

    async fn resolve(&self, key: &[u8], outcome: &[u8]) -> Result<bool> {
        let (key, outcome) = (self.key(key), self.outcome(outcome));
        if self.is(Fault::ResolvesWhatIsHeld)
            && let Some(meta) = self.inner.peek(&key).await?
            && meta.status == Status::InProgress
        {
            return self.inner.complete(&key, meta.version, outcome).await.map(|_| true);
        }
        self.inner.resolve(&key, outcome).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        let key = self.key(key);
        let found = self.inner.get(&key).await?;
        if self.is(Fault::HasNoEmptyOutcomes) {
            return Ok(found.filter(|record| !record.outcome().is_empty()));
        }
        let now = self.inner.now().await?.as_millis();
        let ends = |record: &Record| record.expires().map_or(u64::MAX, Timestamp::as_millis);
        if self.is(Fault::ExpiresEarly) {
            return Ok(found.filter(|record| now + 2 < ends(record)));
        }
        if !self.is(Fault::ExpiresLate) {
            return Ok(found);
        }
        let mut seen = self.state.seen.lock().unwrap();
        if let Some(record) = found {
            seen.insert(key, record.clone());
            return Ok(Some(record));
        }
        Ok(seen.get(&key).filter(|record| now < ends(record).saturating_add(3)).cloned())
    }

    async fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        let key = self.key(key);
        let mut found = self.inner.peek(&key).await?;
        if let Some(meta) = found.as_mut().filter(|_| self.is(Fault::EndsLeasesLate)) {
            let now = self.inner.now().await?.as_millis();
            let late = meta.deadline.is_some_and(|end| now < end.as_millis() + 3);
            if meta.status == Status::Overdue && late {
                meta.status = Status::InProgress;
            }
        }
        Ok(found.map(|meta| self.meta(&key, meta)))
    }

    async fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        let key = self.key(key);
        let mut meant = None;
        if let Some(version) = version {
            let fault = Fault::RemovesWhateverTheVersion;
            meant = Some(self.meant(fault, &key, version).await);
        }
        let before = self.inner.peek(&key).await?;
        let removed = self.inner.remove(&key, meant).await?;
        if let Some(before) = before.filter(|_| removed && self.is(Fault::StartsVersionsAnew)) {
            self.state.base.lock().unwrap().insert(key, before.version.as_u64());
        }
        Ok(removed)
    }

    async fn wait(&self, key: &[u8], timeout: Duration) -> Result<Option<Meta>> {
        let key = self.key(key);
        if self.is(Fault::NeverWakes) {
            sleep(timeout).await;
        }
        if self.is(Fault::NeverWakes) || self.is(Fault::DoesNotWait) {
            return self.inner.peek(&key).await;
        }
        Ok(self.inner.wait(&key, timeout).await?.map(|meta| self.meta(&key, meta)))
    }
}
