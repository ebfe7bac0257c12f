//! How many chose what: counted from the records, and kept in memory between two counts.

use std::collections::{BTreeMap, HashMap};

use crate::answers::Lookups;
use crate::error::{Error, Result};
use crate::recipes::ballot::election_of;
use crate::scan::Scan;
use crate::store::Store;
use crate::sys::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keys that a count looks up at once.
const COUNTED_AT_ONCE: usize = 1024;

/// The counts of each choice, by election.
type Elections = HashMap<Box<[u8]>, HashMap<Box<[u8]>, u64>>;

/// What is counted of a store's ballots.
///
/// Who records ballots holds the gate, shared, until they are counted; who wants to know what is
/// recorded holds it alone.
#[derive(Debug, Default)]
pub(super) struct Counts {
    gate: RwLock<()>,
    /// `None` until somebody wants to know: then the records are counted.
    known: Mutex<Option<Elections>>,
}

/// How many chose what in an election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<Vec<u8>, u64>,
    total: u64,
}

impl Tally {
    /// Ballots with this choice.
    #[must_use]
    pub fn of(&self, choice: impl AsRef<[u8]>) -> u64 {
        self.counts.get(choice.as_ref()).copied().unwrap_or(0)
    }

    /// All ballots.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Every choice that somebody made, in the order of their bytes, with its ballots.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.counts.iter().map(|(choice, count)| (&choice[..], *count))
    }
}

impl Counts {
    /// To be held by who records ballots, until they are counted.
    pub(super) fn casting(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read()
    }

    /// Waits for the casts under way, and holds up those to come.
    pub(super) fn stop(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write()
    }

    /// Counts what was recorded by a call that ended so. The gate is held.
    pub(super) fn add<'c>(
        &self,
        election: &str,
        choices: impl Iterator<Item = &'c [u8]>,
        failure: Option<&Error>,
    ) {
        let mut known = self.known.lock();
        if failure.is_some_and(leaves_open) {
            *known = None;
        }
        if let Some(elections) = known.as_mut() {
            let mut choices = choices.peekable();
            if choices.peek().is_some() {
                let counts = of_key(elections, election.as_bytes());
                choices.for_each(|choice| count(counts, choice));
            }
        }
    }

    pub(super) fn tally(&self, store: &Store, election: &str) -> Result<Tally> {
        self.with_all(store, |elections| tally_of(elections, election))
    }

    pub(super) fn elections(&self, store: &Store) -> Result<Vec<String>> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let all = |all: &Elections| all.keys().map(|name| text(name)).collect::<Vec<_>>();
        let mut names = self.with_all(store, all)?;
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn recount(&self, store: &Store, election: &str) -> Result<Tally> {
        let _all = self.stop();
        Ok(tally_of(&read(store)?, election))
    }

    fn with_all<T>(&self, store: &Store, answer: impl FnOnce(&Elections) -> T) -> Result<T> {
        let _all = self.stop();
        let mut known = self.known.lock();
        let elections = match &mut *known {
            Some(elections) => elections,
            unknown => unknown.insert(read(store)?),
        };
        Ok(answer(elections))
    }
}

/// True for failures after which something may be recorded that the answers do not show.
fn leaves_open(error: &Error) -> bool {
    !matches!(
        error,
        Error::EmptyKey
            | Error::KeyTooLong { .. }
            | Error::OutcomeTooLong { .. }
            | Error::Full { .. }
            | Error::Corrupt { .. }
    )
}

fn tally_of(elections: &Elections, election: &str) -> Tally {
    let counts = elections.get(election.as_bytes()).into_iter().flatten();
    let counts: BTreeMap<_, _> = counts.map(|(choice, count)| (choice.to_vec(), *count)).collect();
    let total = counts.values().sum();
    Tally { counts, total }
}

/// Counts all records of the store. Nothing is recorded meanwhile.
fn read(store: &Store) -> Result<Elections> {
    let mut elections = Elections::new();
    let (mut keys, mut lookups) = (Vec::with_capacity(COUNTED_AT_ONCE), Lookups::new());
    for found in store.scan(Scan::new()) {
        let (key, _) = found?;
        keys.push(key);
        if keys.len() == COUNTED_AT_ONCE {
            read_some(store, &mut keys, &mut lookups, &mut elections)?;
        }
    }
    read_some(store, &mut keys, &mut lookups, &mut elections)?;
    Ok(elections)
}

fn read_some(
    store: &Store,
    keys: &mut Vec<Vec<u8>>,
    lookups: &mut Lookups,
    elections: &mut Elections,
) -> Result<()> {
    store.get_many(keys, lookups)?;
    for (key, record) in keys.iter().zip(lookups.iter()) {
        if let (Some(election), Some(record)) = (election_of(key), record) {
            count(of_key(elections, election), record.outcome());
        }
    }
    keys.clear();
    Ok(())
}

fn of_key<'e>(elections: &'e mut Elections, name: &[u8]) -> &'e mut HashMap<Box<[u8]>, u64> {
    elections.entry(name.into()).or_default()
}

fn count(counts: &mut HashMap<Box<[u8]>, u64>, choice: &[u8]) {
    match counts.get_mut(choice) {
        Some(count) => *count += 1,
        None => {
            counts.insert(choice.into(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Elections};
    use crate::error::Error;

    #[test]
    fn counts_are_kept_after_wild_input_and_not_after_a_failure_that_leaves_them_in_doubt() {
        let counts = Counts::default();
        let add = |failure: Option<&Error>| counts.add("e", [&b"x"[..]].into_iter(), failure);
        let of_x = || Some(*counts.known.lock().as_ref()?.get(&b"e"[..])?.get(&b"x"[..])?);
        add(None);
        assert!(counts.known.lock().is_none(), "nobody has asked yet");
        *counts.known.lock() = Some(Elections::new());
        let full = Error::Full { what: "disk space" };
        add(Some(&full));
        add(Some(&Error::EmptyKey));
        add(None);
        assert_eq!(of_x(), Some(3));
        add(Some(&Error::Indeterminate { reason: String::new() }));
        assert!(counts.known.lock().is_none());
    }
}
