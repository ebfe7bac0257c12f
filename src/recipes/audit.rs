//! Audits: what a duplicate check would have refused, counted beside a service left alone.
//!
//! The pattern is the shadow mode before keys are enforced: every request is observed with its key
//! and what came of it, and the counts say how many would have been duplicates, and how many of
//! those were answered differently and so were no duplicates but have a bad key. The failure that
//! it must not have is to change the service that it watches: nothing is refused, nothing is
//! replayed, and an error of the store is an answer that can be passed over.
//!
//! Costs: a record for the first observation, a lookup and a record for each further one. Limits:
//! of an outcome its digest is kept, which tells different ones apart and does not show them;
//! counts are kept for the retention from the first observation on, as a check's record would be.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::fingerprint::{FINGERPRINT_BYTES, Fingerprint};
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step, split_u64};
use crate::record::Record;
use crate::scan::Scan;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};

/// Observations of keys and of what came of them.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::audit::{Audit, Observe};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let audit = Audit::open(&store, "orders", Duration::from_secs(24 * 3600))?;
/// assert!(matches!(audit.observe("k", "201"), Observe::First));
/// assert!(matches!(audit.observe("k", "201"), Observe::Same { repeats: 1 }));
/// assert!(matches!(audit.observe("k", "500"), Observe::Diverged { repeats: 2 }));
/// let report = audit.report()?;
/// assert_eq!((report.keys, report.repeats, report.diverged), (1, 2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Audit {
    keys: Keys,
    retention: Ttl,
}

/// What an observation was.
#[derive(Debug)]
pub enum Observe {
    /// The first of its key.
    First,
    /// A check would have been answered *duplicate*, with an equal outcome.
    Same {
        /// Observations of the key after the first.
        repeats: u64,
    },
    /// A check would have been answered *duplicate*, with another outcome than the one observed.
    Diverged {
        /// Observations of the key after the first.
        repeats: u64,
    },
    /// It could not be recorded. The service has no reason to care.
    Unrecorded(Error),
}

impl Observe {
    /// True for the first observation of a key.
    #[must_use]
    pub fn is_first(&self) -> bool {
        matches!(self, Self::First)
    }
}

/// What was observed of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Observations after the first: requests that a check would have refused.
    pub repeats: u64,
    /// Of those, observations whose outcome differed from the first one's.
    pub diverged: u64,
    /// When the latest was.
    pub latest: Timestamp,
}

/// What was observed of all keys that are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Keys observed.
    pub keys: u64,
    /// Keys observed more than once.
    pub keys_repeated: u64,
    /// Keys with an outcome that differed from the first one's.
    pub keys_diverged: u64,
    /// Observations after the first of their key.
    pub repeats: u64,
    /// Of those, observations whose outcome differed from the first one's.
    pub diverged: u64,
}

/// A tally as it is recorded, with the digest of the first outcome.
struct Seen {
    first: Fingerprint,
    repeats: u64,
    diverged: u64,
}

impl Seen {
    fn encode(&self) -> Vec<u8> {
        let (repeats, diverged) = (self.repeats.to_le_bytes(), self.diverged.to_le_bytes());
        [&self.first.as_bytes()[..], &repeats, &diverged].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk::<FINGERPRINT_BYTES>()?;
        let (repeats, rest) = split_u64(rest)?;
        let (diverged, rest) = split_u64(rest)?;
        let first = Fingerprint::from_bytes(*first);
        rest.is_empty().then_some(Self { first, repeats, diverged })
    }
}

impl Audit {
    /// The observations of this name in the store, remembered for `retention` from the first of
    /// their key on.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidTtl`](Error::InvalidTtl) for a retention that cannot be
    /// used.
    pub fn open(store: &Store, name: &str, retention: Duration) -> Result<Self> {
        let retention = Ttl::After(retention);
        retention.millis()?;
        Ok(Self { keys: Keys::open(store, name, "audit", Policy::default())?, retention })
    }

    /// Records that a request with this key came out so. Never refuses and never fails: what stands
    /// against recording it is an answer.
    pub fn observe(&self, key: impl AsRef<[u8]>, outcome: impl AsRef<[u8]>) -> Observe {
        self.try_observe(key.as_ref(), Fingerprint::of(outcome.as_ref()))
            .unwrap_or_else(Observe::Unrecorded)
    }

    fn try_observe(&self, key: &[u8], outcome: Fingerprint) -> Result<Observe> {
        let (answer, _) = self.keys.change(key, |seen| {
            let Some(record) = seen else {
                let first = Seen { first: outcome, repeats: 0, diverged: 0 };
                return Ok(Step::Set(first.encode(), Some(self.retention), Observe::First));
            };
            let Seen { first, repeats, diverged } = self.decode(record)?;
            let (repeats, differs) = (repeats.saturating_add(1), first != outcome);
            let diverged = diverged.saturating_add(u64::from(differs));
            let answer =
                if differs { Observe::Diverged { repeats } } else { Observe::Same { repeats } };
            // It ends when the first one's record would have ended.
            Ok(Step::Set(Seen { first, repeats, diverged }.encode(), None, answer))
        })?;
        Ok(answer)
    }

    /// What was observed of a key, if anything was.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn tally(&self, key: impl AsRef<[u8]>) -> Result<Option<Tally>> {
        self.keys.get(key)?.map(|record| self.tally_of(&record)).transpose()
    }

    /// What was observed of each key, in no order. Reads every record of the store.
    pub fn tallies(&self) -> impl Iterator<Item = Result<(Vec<u8>, Tally)>> + '_ {
        let front = self.keys.key([]);
        self.keys.namespace().scan(Scan::new()).filter_map(move |found| {
            let key = match found {
                Ok((key, _)) => key,
                Err(error) => return Some(Err(error)),
            };
            let own = key.strip_prefix(&front[..])?.to_vec();
            // It may have ended since.
            let record = self.keys.namespace().get(&key).transpose()?;
            let tally = record.and_then(|record| self.tally_of(&record));
            Some(tally.map(|tally| (own, tally)))
        })
    }

    /// The sums over all keys. Reads every record of the store.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn report(&self) -> Result<Report> {
        let mut report = Report::default();
        for found in self.tallies() {
            let (_, tally) = found?;
            report.keys += 1;
            report.keys_repeated += u64::from(tally.repeats != 0);
            report.keys_diverged += u64::from(tally.diverged != 0);
            report.repeats += tally.repeats;
            report.diverged += tally.diverged;
        }
        Ok(report)
    }

    fn tally_of(&self, record: &Record) -> Result<Tally> {
        let Seen { repeats, diverged, .. } = self.decode(record)?;
        Ok(Tally { repeats, diverged, latest: record.created() })
    }

    fn decode(&self, record: &Record) -> Result<Seen> {
        let foreign = || self.keys.foreign("the record of an observation is not an audit's");
        Seen::decode(record.outcome()).ok_or_else(foreign)
    }
}
