//! What the recipes share: where their keys are, and how what is recorded of one is changed.

use crate::begin::Begin;
use crate::calls::Claims;
use crate::error::{Error, Result};
use crate::meta::Meta;
use crate::namespace::Namespace;
use crate::policy::{BeginOptions, Policy};
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// The keys of one recipe under one name: in the namespace of that name, scoped by the recipe's
/// kind, so that recipes of several kinds can have one name, and the caller's own keys as well.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    namespace: Namespace,
    kind: Scope,
    store: Store,
}

/// What is to become of a key.
pub(crate) enum Step<T> {
    /// It stays as it is.
    Keep(T),
    /// It is recorded so, with the lifetime given or, without, to the end that it has.
    Set(Vec<u8>, Option<Ttl>, T),
}

impl Keys {
    /// # Errors
    /// As [`Store::namespace`].
    pub(crate) fn open(store: &Store, name: &str, kind: &str, policy: Policy) -> Result<Self> {
        let namespace = store.namespace(name, policy)?;
        let kind = Scope::new().operation(format!("oncelog.{kind}"));
        Ok(Self { namespace, kind, store: store.clone() })
    }

    /// The caller's key as it is recorded.
    pub(crate) fn key(&self, key: impl AsRef<[u8]>) -> Vec<u8> {
        self.kind.key(key)
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The calls beneath its namespace's, for keys as they are recorded.
    pub(crate) fn claims(&self) -> Claims<'_> {
        self.namespace.claims()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.namespace.now()
    }

    pub(crate) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>> {
        self.namespace.get(self.key(key))
    }

    pub(crate) fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Meta>> {
        self.namespace.peek(self.key(key))
    }

    pub(crate) fn begin(&self, key: impl AsRef<[u8]>, options: BeginOptions) -> Result<Begin> {
        self.namespace.begin_with(self.key(key), options)
    }

    /// Decides on a key by what is recorded of it, and again if that has changed meanwhile: as if
    /// all of it were one step. With the answer comes the version of what was recorded, if it was.
    ///
    /// Of callers who meet on one key one gets through in each round, so this ends.
    pub(crate) fn change<T>(
        &self,
        key: impl AsRef<[u8]>,
        mut decide: impl FnMut(Option<&Record>) -> Result<Step<T>>,
    ) -> Result<(T, Option<Version>)> {
        let key = self.key(key);
        loop {
            let seen = self.namespace.get(&key)?;
            match decide(seen.as_ref())? {
                Step::Keep(answer) => return Ok((answer, None)),
                Step::Set(outcome, ttl, answer) => {
                    let expected = seen.as_ref().map(Record::version);
                    let set = self.namespace.set_if(&key, expected, outcome, ttl)?;
                    if set.is_some() {
                        return Ok((answer, set));
                    }
                    self.refuse_begun(&key)?;
                }
            }
        }
    }

    /// A key that somebody has begun has no outcome to be changed, and waiting for its end would
    /// be for ever if nobody ends it. No recipe that changes its keys begins them.
    pub(crate) fn refuse_begun(&self, key: &[u8]) -> Result<()> {
        match self.namespace.peek(key)? {
            Some(meta) if !meta.status.is_final() => Err(self.foreign("a lease was begun on it")),
            _ => Ok(()),
        }
    }

    /// The record under a recipe's key was not written by the recipe.
    pub(crate) fn foreign(&self, what: &'static str) -> Error {
        Error::corrupt(self.store.path(), 0, what)
    }
}

/// An integer at the front of `bytes`, and what is behind it.
pub(crate) fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}
