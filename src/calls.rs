//! The calls of the lease protocol, for the store as a whole.

use std::sync::Arc;
use std::time::Duration;

use crate::answers::{Answers, Check, CheckAll, Checked};
use crate::begin::{Begin, begin_full, begin_unsettled};
use crate::config::Durability;
use crate::engine::Engine;
#[cfg(feature = "backend")]
use crate::engine::begin::Begun;
use crate::engine::bundle::{Act, Part, Refusal, Together};
use crate::engine::check::GROUP;
use crate::engine::claim::FullKey;
use crate::engine::commit::is_answer;
use crate::engine::finish::{Ending, Written};
#[cfg(feature = "backend")]
use crate::engine::waiters::Registration;
use crate::error::{Error, Result};
use crate::lease::{Lease, release_millis};
use crate::meta::Meta;
use crate::options::CheckOptions;
use crate::policy::{BeginOptions, Policy, Terms, lease_millis};
use crate::record::{Receive, Record};
use crate::store::Store;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// The keys of one namespace, or those outside of any, under a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) space: Option<u32>,
    pub(crate) policy: &'a Policy,
    pub(crate) durability: Durability,
}

impl Claims<'_> {
    fn with_key<T>(&self, key: &[u8], then: impl FnOnce(FullKey<'_>) -> Result<T>) -> Result<T> {
        self.engine.with_key(self.space, key, |full| {
            self.engine.settled(self.durability, full.hash, then(full))
        })
    }

    /// Hands an answer about the key on, once what it rests on is as durable as asked for.
    pub(crate) fn settled<T>(&self, key: &[u8], answer: Result<T>) -> Result<T> {
        match &answer {
            // What a key that is none rests on is nothing.
            Err(Error::EmptyKey | Error::KeyTooLong { .. }) => answer,
            _ => self.with_key(key, |_| answer),
        }
    }

    pub(crate) fn begin(&self, key: &[u8], options: &BeginOptions) -> Result<Begin> {
        self.begin_on(key, &self.policy.terms(options, self.engine.lifetime())?)
    }

    /// As [`Claims::begin`], on terms that are checked and complete.
    fn begin_on(&self, key: &[u8], terms: &Terms) -> Result<Begin> {
        let now = self.engine.clock.now();
        let level = self.durability;
        self.engine
            .with_key(self.space, key, |full| begin_full(self.engine, full, terms, now, level))
    }

    /// As [`Claims::begin`], without a handle of the lease.
    #[cfg(feature = "backend")]
    pub(crate) fn begun(&self, key: &[u8], options: &BeginOptions) -> Result<Begun> {
        let terms = self.policy.terms(options, self.engine.lifetime())?;
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.begin(full, &terms, now))
    }

    /// A place among those who wait for the key.
    #[cfg(feature = "backend")]
    pub(crate) fn register(&self, key: &[u8]) -> Result<Registration> {
        self.engine.with_key(self.space, key, |full| Ok(self.engine.waiters.register(full.hash)))
    }

    pub(crate) fn begin_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        options: &BeginOptions,
        answers: &mut Vec<Begin>,
    ) -> Result<()> {
        answers.clear();
        let begun = self.begin_each(keys, options, answers);
        // Leases whose begin is indeterminate are nobody's.
        self.settle_batch(answers.is_empty(), &begun).inspect_err(|_| answers.clear())?;
        begun
    }

    /// As [`Claims::settled`], in one round for all answers of a batch.
    fn settle_batch(&self, empty: bool, batch: &Result<()>) -> Result<()> {
        let answered = !empty || is_answer(batch);
        if self.durability.is_synced() && answered { self.engine.settle_all() } else { Ok(()) }
    }

    fn begin_each<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        options: &BeginOptions,
        answers: &mut Vec<Begin>,
    ) -> Result<()> {
        let terms = self.policy.terms(options, self.engine.lifetime())?;
        let now = self.engine.clock.now();
        let level = self.durability;
        let begin = |full: FullKey<'_>| begin_unsettled(self.engine, full, &terms, now, level);
        answers.reserve(keys.len());
        let mut buffer = Vec::new();
        keys.chunks(GROUP).try_for_each(|group| {
            let group = group.iter().map(AsRef::as_ref);
            self.engine.with_group(self.space, group, &mut buffer, |full| {
                answers.push(begin(full)?);
                Ok(())
            })
        })
    }

    pub(crate) fn finish(
        &self,
        key: &[u8],
        version: Version,
        ending: Ending<'_>,
    ) -> Result<Written> {
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.finish(full, version, ending, now))
    }

    pub(crate) fn resolve(&self, key: &[u8], ending: Ending<'_>) -> Result<bool> {
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.resolve(full, ending, now))
    }

    pub(crate) fn peek(&self, key: &[u8]) -> Result<Option<Meta>> {
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.peek(full, now))
    }

    pub(crate) fn check<R: Receive>(
        &self,
        key: &[u8],
        outcome: &[u8],
        options: &CheckOptions,
        receive: &mut R,
    ) -> Result<R::Answer> {
        let kept = self.policy.kept(options, self.engine.lifetime())?;
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.check_full(full, outcome, kept, now, receive))
    }

    pub(crate) fn check_many<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        answers: &mut Answers,
    ) -> Result<()> {
        answers.clear();
        let checked = self.check_each(items, answers);
        self.settle_batch(answers.is_empty(), &checked).inspect_err(|_| answers.clear())?;
        checked
    }

    fn check_each<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        answers: &mut Answers,
    ) -> Result<()> {
        let kept = self.policy.kept(&CheckOptions::new(), self.engine.lifetime())?;
        let now = self.engine.clock.now();
        for (key, outcome) in items {
            let (outcome, receive) = (outcome.as_ref(), answers.receiver());
            self.engine.with_key(self.space, key.as_ref(), |full| {
                self.engine.check_full(full, outcome, kept, now, receive)
            })?;
        }
        Ok(())
    }

    /// A key, for a part of what is done [together](Claims::together).
    pub(crate) fn part<'a>(&self, key: &[u8], act: Act<'a>) -> Result<Part<'a>> {
        let key = self.engine.with_key(self.space, key, |full| Ok(full.to_owned()))?;
        Ok(Part { key, act })
    }

    /// What sets an outcome, in the terms of [`Claims::set_if`].
    pub(crate) fn set<'a>(
        &self,
        expected: Option<Version>,
        outcome: &'a [u8],
        ttl: Option<Ttl>,
    ) -> Result<Act<'a>> {
        let kept = self.policy.kept(&CheckOptions::new(), self.engine.lifetime())?;
        let lifetime_ms = ttl.map(Ttl::millis).transpose()?;
        Ok(Act::Set { expected, outcome, lifetime_ms, kept })
    }

    /// Does to every key what its part says, or nothing to any.
    pub(crate) fn together(&self, parts: &[Part<'_>]) -> Result<Together> {
        let answer = self.engine.together(parts, self.engine.clock.now());
        if self.durability.is_synced() && is_answer(&answer) {
            let done = matches!(answer, Ok(Together::Done(_)));
            let keys = parts.iter().map(|part| part.key.full().bytes);
            self.engine.settle_many(done, keys)?;
        }
        answer
    }

    pub(crate) fn check_all<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        options: &CheckOptions,
    ) -> Result<CheckAll> {
        let kept = self.policy.kept(options, self.engine.lifetime())?;
        let mut parts = Vec::with_capacity(items.len());
        for (key, outcome) in items {
            parts.push(self.part(key.as_ref(), Act::New { outcome: outcome.as_ref(), kept })?);
        }
        Ok(match self.together(&parts)? {
            Together::Done(_) => CheckAll::New,
            Together::Refused(refused) => {
                CheckAll::Known(refused.into_iter().filter_map(known).collect())
            }
        })
    }

    pub(crate) fn get<R: Receive>(&self, key: &[u8], receive: &mut R) -> Result<R::Answer> {
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.get_full(full, now, receive))
    }

    pub(crate) fn remove(&self, key: &[u8], version: Option<Version>) -> Result<bool> {
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.remove(full, version, now))
    }

    pub(crate) fn set_if(
        &self,
        key: &[u8],
        expected: Option<Version>,
        outcome: &[u8],
        ttl: Option<Ttl>,
    ) -> Result<Option<Version>> {
        let kept = self.policy.kept(&CheckOptions::new(), self.engine.lifetime())?;
        let terms = (ttl.map(Ttl::millis).transpose()?, kept);
        let now = self.engine.clock.now();
        self.with_key(key, |full| self.engine.set_if(full, expected, outcome, terms, now))
    }
}

/// Of a key that was to be new, its record.
fn known((index, refusal): (usize, Refusal)) -> Option<(usize, Record)> {
    match refusal {
        Refusal::Known(record) => Some((index, record)),
        Refusal::LeaseLost | Refusal::Changed => None,
    }
}

impl Store {
    pub(crate) fn claims(&self) -> Claims<'_> {
        let (engine, durability) = (self.engine(), self.durability());
        Claims { engine, space: None, policy: &engine.config.policy, durability }
    }

    /// As [`check_and_set`](Store::check_and_set), for a request that was first sent at `sent`.
    ///
    /// If the key is not known, and was sent before the store's horizon (the later of the store's
    /// creation and now minus its lifetime), it may have been handled and forgotten: that is
    /// answered with [`Stale`](crate::Error::Stale) and not with *new*. Takes the stripe's lock
    /// also for a duplicate.
    ///
    /// ```
    /// use oncelog::{Error, Store, Timestamp};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let id = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    /// let sent = Timestamp::of_uuid_v7(id).ok_or("no UUID with a time")?;
    /// assert!(matches!(store.check_and_set_sent(id, "", sent), Err(Error::Stale { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As there, and [`Stale`](crate::Error::Stale).
    pub fn check_and_set_sent(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        sent: Timestamp,
    ) -> Result<Check> {
        let options = CheckOptions::new().sent_at(sent);
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// As [`check_and_set`](Store::check_and_set), with options of its own. Takes the stripe's lock
    /// also for a duplicate.
    ///
    /// # Errors
    /// As there, [`InvalidTtl`](crate::Error::InvalidTtl) for options that cannot work, and
    /// [`Stale`](crate::Error::Stale).
    pub fn check_and_set_with(
        &self,
        key: impl AsRef<[u8]>,
        outcome: impl AsRef<[u8]>,
        options: CheckOptions,
    ) -> Result<Check> {
        self.claims().check(key.as_ref(), outcome.as_ref(), &options, &mut Checked)
    }

    /// Records all keys with their outcomes if none of them is known, and nothing if one is; then
    /// the answer says which.
    ///
    /// Atomic: a crash or a power cut leaves all or none, no caller sees some of them recorded and
    /// others not, and of several callers whose keys overlap one gets them all. All are written as
    /// one, for one lifetime. At most [`BUNDLE_KEYS_MAX`](crate::BUNDLE_KEYS_MAX) keys and
    /// [`BUNDLE_BYTES_MAX`](crate::BUNDLE_BYTES_MAX) bytes; costs about as much as a single check
    /// for each key, and locks the stripes of all meanwhile.
    ///
    /// ```
    /// use oncelog::{CheckAll, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let seats = [("seat 12A", "ada"), ("seat 12B", "ada")];
    /// assert!(store.check_and_set_all(&seats)?.is_new());
    /// match store.check_and_set_all(&[("seat 12B", "bob"), ("seat 12C", "bob")])? {
    ///     CheckAll::New => unreachable!("12B was taken above"),
    ///     CheckAll::Known(taken) => {
    ///         let (index, record) = &taken[0];
    ///         assert_eq!((*index, record.outcome()), (0, &b"ada"[..]));
    ///     }
    /// }
    /// assert!(!store.contains("seat 12C")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`check_and_set`](Store::check_and_set), for any of the keys: one that is in progress
    /// refuses all; [`TooLarge`](crate::Error::TooLarge) for more than can be recorded together;
    /// [`RepeatedKey`](crate::Error::RepeatedKey) if two items have one key. After any error all
    /// keys are as they were.
    pub fn check_and_set_all<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
    ) -> Result<CheckAll> {
        self.claims().check_all(items, &CheckOptions::new())
    }

    /// As [`check_and_set_all`](Store::check_and_set_all), with options, which hold for every key.
    ///
    /// # Errors
    /// As there, and as [`check_and_set_with`](Store::check_and_set_with).
    pub fn check_and_set_all_with<K: AsRef<[u8]>, O: AsRef<[u8]>>(
        &self,
        items: &[(K, O)],
        options: CheckOptions,
    ) -> Result<CheckAll> {
        self.claims().check_all(items, &options)
    }

    /// Claims the key for work, or says what stands against it: in progress elsewhere, done,
    /// unknown. With the default policy: leases of 30 seconds, the store's lifetime as retention.
    ///
    /// Of any number of callers with one key, one gets a lease at a time; when it runs out, the
    /// next caller gets the key with the attempt counted. When the call returns, the claim survives
    /// `kill -9`. Costs about as much as a [`check_and_set`](Store::check_and_set).
    ///
    /// ```
    /// use oncelog::{Begin, Store};
    /// use std::time::Duration;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let Begin::Started(mut lease) = store.begin("job-1")? else { panic!("new key") };
    /// assert!(matches!(store.begin("job-1")?, Begin::InProgress(_)));
    /// lease.complete("done")?;
    /// let Begin::Completed(record) = store.begin("job-1")? else { panic!("done") };
    /// assert_eq!(record.outcome(), b"done");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EmptyKey`](crate::Error::EmptyKey) or [`KeyTooLong`](crate::Error::KeyTooLong) for a key
    /// beyond the limits; [`Full`](crate::Error::Full) when there is no room for the claim and for
    /// its completion; [`Corrupt`](crate::Error::Corrupt) if the key's record is damaged;
    /// [`Poisoned`](crate::Error::Poisoned) or [`Closed`](crate::Error::Closed).
    pub fn begin(&self, key: impl AsRef<[u8]>) -> Result<Begin> {
        match self.engine().terms() {
            Some(terms) => self.claims().begin_on(key.as_ref(), terms),
            None => self.begin_with(key, BeginOptions::new()),
        }
    }

    /// As [`Store::begin`], with options of its own.
    ///
    /// # Errors
    /// As there, and [`InvalidLease`](crate::Error::InvalidLease),
    /// [`InvalidTtl`](crate::Error::InvalidTtl) or [`InvalidConfig`](crate::Error::InvalidConfig)
    /// for options that cannot work.
    pub fn begin_with(&self, key: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        self.claims().begin(key.as_ref(), &options)
    }

    /// Begins many keys in their order, each as a single call would. `answers` is cleared first.
    ///
    /// # Errors
    /// As [`Store::begin_with`], for the first key that fails; `answers` holds the answers before
    /// it, which took effect.
    pub fn begin_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        options: BeginOptions,
        answers: &mut Vec<Begin>,
    ) -> Result<()> {
        self.claims().begin_many(keys, &options, answers)
    }

    /// Completes many leases in their order, each as [`Lease::complete`] would, with memory fetched
    /// for many at once.
    ///
    /// ```
    /// use oncelog::{Begin, BeginOptions, Store};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let mut answers = Vec::new();
    /// store.begin_many(&["a", "b"], BeginOptions::new(), &mut answers)?;
    /// let leases = answers.into_iter().filter_map(Begin::started);
    /// let mut work: Vec<_> = leases.map(|lease| (lease, "done")).collect();
    /// store.complete_many(&mut work)?;
    /// assert!(work.iter().all(|(lease, _)| lease.is_over()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Lease::complete`], for the first lease that fails. Those before it are completed, and
    /// [`Lease::is_over`] tells them from the others; those after it were not tried.
    pub fn complete_many<O: AsRef<[u8]>>(&self, items: &mut [(Lease, O)]) -> Result<()> {
        let mut synced = self.durability().is_synced();
        let completed = self.complete_each(items, &mut synced);
        if synced {
            self.engine().settle_all()?;
        }
        completed
    }

    /// Completes one lease after the other; `synced` becomes true with the first of that level.
    fn complete_each<O: AsRef<[u8]>>(
        &self,
        items: &mut [(Lease, O)],
        synced: &mut bool,
    ) -> Result<()> {
        for group in items.chunks_mut(GROUP) {
            group.iter().for_each(|(lease, _)| lease.fetch());
            for (lease, outcome) in group {
                *synced |= lease.durability().is_synced();
                lease.complete_unsettled(outcome.as_ref())?;
                if *synced {
                    // One round does for all leases of this store, and not for another one's.
                    lease.settle_elsewhere(self.engine())?;
                }
            }
        }
        Ok(())
    }

    /// Completes the lease with this version, from another thread or after a restart.
    ///
    /// # Errors
    /// As [`Lease::complete`].
    pub fn complete_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        outcome: impl AsRef<[u8]>,
    ) -> Result<Version> {
        let ending = Ending::Complete(outcome.as_ref());
        Ok(self.claims().finish(key.as_ref(), version, ending)?.meta.version)
    }

    /// Fails the lease with this version, as [`Lease::fail`].
    ///
    /// # Errors
    /// As [`Lease::complete`].
    pub fn fail_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        outcome: impl AsRef<[u8]>,
    ) -> Result<Version> {
        let ending = Ending::Fail(outcome.as_ref());
        Ok(self.claims().finish(key.as_ref(), version, ending)?.meta.version)
    }

    /// Releases the lease with this version, as [`Lease::release`].
    ///
    /// # Errors
    /// As [`Lease::release`].
    pub fn release_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let ending = Ending::Release(release_millis(retry_after)?);
        self.claims().finish(key.as_ref(), version, ending).map(|_| ())
    }

    /// Renews the lease with this version, as [`Lease::renew`]: the work may
    /// go on in one thread while another keeps its lease alive.
    ///
    /// # Errors
    /// As [`Lease::renew`].
    pub fn renew_by(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        length: Duration,
    ) -> Result<()> {
        let ending = Ending::Renew(lease_millis(length)?);
        self.claims().finish(key.as_ref(), version, ending).map(|_| ())
    }

    /// Records what came of a key that was begun and that nobody holds: its lease ran out, or it
    /// was released. True if the outcome was recorded; false if there is nothing to resolve.
    ///
    /// # Errors
    /// [`InProgress`](crate::Error::InProgress) while somebody holds a lease; else as
    /// [`Lease::complete`].
    pub fn resolve(&self, key: impl AsRef<[u8]>, outcome: impl AsRef<[u8]>) -> Result<bool> {
        self.claims().resolve(key.as_ref(), Ending::Complete(outcome.as_ref()))
    }

    /// What is known of a key, without changing anything; `None` if nothing is.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Meta>> {
        self.claims().peek(key.as_ref())
    }

    /// Sets the key's outcome if its version is the expected one, or if nothing is known of the key
    /// where `None` is expected; the version of the new outcome, or `None` if it was not set.
    ///
    /// Atomic: of any number of callers who expect one version, one is answered with a version. A
    /// key that somebody has begun and not ended is not set. With `ttl` the key is remembered for
    /// that long from now on, but no shorter than it was to be; without, it ends when it would have
    /// ended, and a new one after the store's lifetime.
    ///
    /// Read, compute, set, and begin anew if it was not set: then no change is lost, and none is
    /// made upon an outcome that was not the latest. Versions never come again, so that holds also
    /// for a key that was removed and recorded anew in between.
    ///
    /// ```
    /// use oncelog::Store;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// let packed = store.set_if("order-42", None, "packed", None)?;
    /// assert!(packed.is_some());
    /// assert!(store.set_if("order-42", packed, "sent", None)?.is_some());
    /// assert!(store.set_if("order-42", packed, "lost", None)?.is_none());
    /// assert_eq!(store.get("order-42")?.ok_or("known")?.outcome(), b"sent");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::check_and_set_for`], without those of leases. After any error the key is as it
    /// was.
    pub fn set_if(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<Version>,
        outcome: impl AsRef<[u8]>,
        ttl: Option<Ttl>,
    ) -> Result<Option<Version>> {
        self.claims().set_if(key.as_ref(), expected, outcome.as_ref(), ttl)
    }

    /// The store's time: what its records are created and expire by. Never runs backwards.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.engine().clock.now()
    }

    /// As [`Store::remove`], if the key's version is still [`Meta::version`] as it was peeked.
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn remove_if(&self, key: impl AsRef<[u8]>, version: Version) -> Result<bool> {
        self.claims().remove(key.as_ref(), Some(version))
    }
}
