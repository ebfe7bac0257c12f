//! States: guarded transitions, and updates by a version that never comes again.
//!
//! The pattern is the order that goes from *new* to *paid* to *sent*, and the document that is
//! written back with the version it was read with (an ETag). The failures that it must not have:
//! of two concurrent changes one is lost; and a change is made upon a state that was deleted and
//! created anew in between, because version numbers began again (ABA). Here a change is one
//! conditional step, and the version is the store's, which is given out once.
//!
//! Costs: a lookup and a record for a change, a lookup for one that is refused. Limits: a
//! transition that names a state accepts that state however often it was left and entered again;
//! name the version where that matters. A repeated transition is refused with the state that the
//! first one made; whether that one was the caller's own is for the caller to say in the state.

use std::fmt;

use crate::error::Result;
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step};
use crate::record::Record;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};
use crate::version::Version;

/// States, changed only as they are expected to be.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::state::{States, Transition};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let orders = States::open(&store, "orders")?;
/// assert!(orders.create("42", "new")?.is_made());
/// assert!(orders.transition("42", "new", "paid")?.is_made());
/// let Transition::Refused(Some(current)) = orders.transition("42", "new", "cancelled")? else {
///     panic!("it is paid")
/// };
/// assert_eq!(current.state(), b"paid");
/// assert!(orders.update("42", current.version(), "sent")?.is_made());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct States {
    keys: Keys,
    retention: Ttl,
}

/// A state, and the version that it was recorded with.
#[derive(Clone, PartialEq, Eq)]
pub struct Current {
    state: Vec<u8>,
    version: Version,
    since: Timestamp,
}

impl Current {
    fn of(record: &Record) -> Self {
        let state = record.outcome().to_vec();
        Self { state, version: record.version(), since: record.created() }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// Its version: greater than that of every earlier state of the key, also across deletion.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it was recorded.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }
}

/// A state may be confidential, so only its length is shown.
impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("state_bytes", &self.state.len())
            .field("version", &self.version)
            .field("since", &self.since)
            .finish()
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the answer says whether the state was changed"]
pub enum Transition {
    /// It was made; the version of the state now.
    Made(Version),
    /// The state was another one: this, or none at all. Nothing was changed.
    Refused(Option<Current>),
}

impl Transition {
    /// True if the change was made.
    #[must_use]
    pub fn is_made(&self) -> bool {
        matches!(self, Self::Made(_))
    }
}

impl States {
    /// The states of this name in the store, remembered until they are deleted.
    ///
    /// # Errors
    /// As [`Store::namespace`].
    pub fn open(store: &Store, name: &str) -> Result<Self> {
        let keys = Keys::open(store, name, "state", Policy::default())?;
        Ok(Self { keys, retention: Ttl::Never })
    }

    /// The same, with states forgotten when they were not changed for so long. One that was
    /// recorded without an end keeps none.
    #[must_use]
    pub fn retention(mut self, retention: impl Into<Ttl>) -> Self {
        self.retention = retention.into();
        self
    }

    /// The key's state, if it has one.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Current>> {
        Ok(self.keys.get(key)?.as_ref().map(Current::of))
    }

    /// Gives a key without a state its first one.
    ///
    /// # Errors
    /// As [`Store::set_if`]. After an error nothing was changed.
    pub fn create(&self, key: impl AsRef<[u8]>, state: impl AsRef<[u8]>) -> Result<Transition> {
        self.change(key.as_ref(), state.as_ref(), |current| current.is_none())
    }

    /// Changes the state to `next` if it is `expected`: of any number of callers who expect the
    /// same state, one is answered [`Transition::Made`].
    ///
    /// # Errors
    /// As [`States::create`].
    pub fn transition(
        &self,
        key: impl AsRef<[u8]>,
        expected: impl AsRef<[u8]>,
        next: impl AsRef<[u8]>,
    ) -> Result<Transition> {
        let expected = expected.as_ref();
        self.change(key.as_ref(), next.as_ref(), |current| {
            current.is_some_and(|record| record.outcome() == expected)
        })
    }

    /// Changes the state to `next` if its version is the one that the caller has read.
    ///
    /// # Errors
    /// As [`States::create`].
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
        next: impl AsRef<[u8]>,
    ) -> Result<Transition> {
        self.change(key.as_ref(), next.as_ref(), |current| {
            current.is_some_and(|record| record.version() == version)
        })
    }

    /// Deletes the state if its version is the one that the caller has read; true if it was.
    ///
    /// # Errors
    /// As [`Store::remove_if`].
    pub fn delete(&self, key: impl AsRef<[u8]>, version: Version) -> Result<bool> {
        self.keys.namespace().remove_if(self.keys.key(key), version)
    }

    fn change(
        &self,
        key: &[u8],
        next: &[u8],
        fits: impl Fn(Option<&Record>) -> bool,
    ) -> Result<Transition> {
        let (refused, made) = self.keys.change(key, |seen| {
            Ok(if fits(seen) {
                Step::Set(next.to_vec(), Some(self.retention), None)
            } else {
                Step::Keep(seen.map(Current::of))
            })
        })?;
        Ok(made.map_or(Transition::Refused(refused), Transition::Made))
    }
}
