//! Ballots: choices made once, never changed and never forgotten, counted, under a hash chain.
//!
//! The pattern is the vote: one ballot for each voter of an election, whoever asks and however
//! often. The failures that it must not have: a ballot is overwritten, a voter votes twice, and
//! what was counted is not what was recorded. Here a ballot is a record that only the first check
//! of its key writes; there is no call that replaces or removes one, and none expires.
//!
//! **A store of its own.** Ballots open a directory that holds nothing else, and keep the store
//! behind it to themselves, so that no other handle can remove or replace anything: the lock keeps
//! other processes out, and a store with other records is refused. Nothing is ever superseded
//! there, so compaction has no reason to run, and it is off: it would join small segments.
//!
//! **Counts.** The records are the one truth. The first tally after opening reads them all, some
//! 0.3 us each, and holds up casting meanwhile; from then on each ballot is counted in memory when
//! it is recorded. A tally waits for the casts under way, and casts that follow wait for it, so
//! that it has each ballot that any caller was told of, and no other. After an error that leaves
//! open what was recorded, the counts are thrown away, and the next tally reads again.
//!
//! **The chain.** A sealed segment's file never changes. Its digest is BLAKE3 of the file as it
//! lies there; each link is the digest of the link before, the segment's number, its length and its
//! digest, in order of the numbers; the first link is that of the store's identity, and the last
//! one is the root. [`Ballots::export`] seals all that was recorded, so that its root covers every
//! ballot that any caller was told of by then, and every later export begins with the same links.
//! Publish the root where nobody can change it. [`verify_root`] reads the files again and says
//! which segment was changed, removed, inserted or put elsewhere since.
//!
//! Costs: casting and finding are checks and lookups, in batches at the engine's full speed, plus a
//! shared lock for each call and some 30 ns for each ballot that is counted. A key is the voter and
//! the election's name, and one byte. An export reads every segment, a second for each one or two
//! thousand million bytes, and begins a new segment of 1 MiB; so does each opening.
//!
//! Not promised: secrecy, as whoever reads the files learns who chose what, and when; who may vote,
//! which is for the caller to know; and anything against whoever can write the files or runs the
//! program, for ballots that no published root covers yet.

mod batch;
mod chain;
mod tally;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::answers::Check;
use crate::builder::Builder;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::recipes::ballot::tally::Counts;
use crate::record::Record;
use crate::stats::{Maintained, Stats};
use crate::store::Store;
use crate::time::Timestamp;
use crate::version::Version;

pub use crate::recipes::ballot::batch::{Casts, Found};
pub use crate::recipes::ballot::chain::{DIGEST_BYTES, Digest, Export, Link, ParseExportError};
pub use crate::recipes::ballot::tally::Tally;
pub use crate::recipes::ballot::verify::{Change, Difference, Verified, verify_root};

/// The longest name of an election, in bytes: its length is one byte of each key.
pub const ELECTION_BYTES_MAX: usize = 255;

/// Says in the store that it is one of ballots. No election's keys begin with a zero.
const MARK: &[u8] = b"\0oncelog.ballot";
/// How ballots are recorded.
const MARK_VERSION: &[u8] = b"1";

/// Elections in a store of their own.
///
/// Cheap to clone; all clones are the same ballots.
///
/// ```
/// use oncelog::recipes::ballot::{Ballots, Cast, verify_root};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("ballots");
/// let ballots = Ballots::open(&path)?;
/// let mayor = ballots.election("mayor")?;
/// assert!(mayor.cast("voter 1", "yes")?.is_counted());
/// match mayor.cast("voter 1", "no")? {
///     Cast::Counted => unreachable!("voter 1 has voted"),
///     Cast::AlreadyVoted(ballot) => assert_eq!(ballot.choice(), b"yes"),
/// }
/// let tally = mayor.tally()?;
/// assert_eq!((tally.of("yes"), tally.of("no"), tally.total()), (1, 0, 1));
///
/// let export = ballots.close()?;
/// // To be published; the export itself is kept beside the store.
/// println!("{}", export.root());
/// assert!(verify_root(&path, &export)?.is_unchanged());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Ballots {
    store: Store,
    counts: Arc<Counts>,
}

/// One election: the voters and choices of one name.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Election {
    store: Store,
    counts: Arc<Counts>,
    name: Arc<str>,
}

/// What came of [`Election::cast`].
#[derive(Clone, Debug)]
#[must_use = "the answer says whether the ballot counts"]
pub enum Cast {
    /// The ballot is recorded, and counts.
    Counted,
    /// The voter has voted before; nothing was changed. With the ballot that counts.
    AlreadyVoted(Ballot),
}

impl Cast {
    /// True when the ballot was recorded by this call.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Counted)
    }
}

/// A recorded ballot. Its choice is told to who asks for it, and not shown otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Ballot {
    choice: Vec<u8>,
    cast_at: Timestamp,
    version: Version,
}

impl Ballot {
    fn of(record: &Record) -> Self {
        let (cast_at, version) = (record.created(), record.version());
        Self { choice: record.outcome().to_vec(), cast_at, version }
    }

    /// What the voter chose.
    #[must_use]
    pub fn choice(&self) -> &[u8] {
        &self.choice
    }

    /// When it was cast.
    #[must_use]
    pub fn cast_at(&self) -> Timestamp {
        self.cast_at
    }

    /// The number of its record, which no other one has: a receipt.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ballot")
            .field("cast_at", &self.cast_at)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Ballots {
    /// Opens the ballots in the directory, creating them where it is missing or empty.
    ///
    /// # Errors
    /// As [`Ballots::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(Store::builder(), path)
    }

    /// As [`Ballots::open`], with settings of the store. Its lifetime is for ever and its policy
    /// the default one, whatever the settings say.
    ///
    /// # Errors
    /// As [`Builder::open`](crate::Builder::open), and
    /// [`InvalidConfig`](crate::Error::InvalidConfig) for a store that holds other records.
    pub fn open_with(settings: Builder, path: impl AsRef<Path>) -> Result<Self> {
        let store = settings.write_once().open(path)?;
        let marked = store.get(MARK)?;
        match marked.as_ref().map(Record::outcome) {
            Some(MARK_VERSION) => {}
            None if store.stats().keys == 0 => {
                let _ = store.check_and_set(MARK, MARK_VERSION)?;
                // No ballot may outlive a power loss that the mark does not.
                store.sync()?;
            }
            _ => {
                let reason = format!(
                    "{} is a store of something else; ballots need a directory of their own",
                    store.path().display()
                );
                return Err(Error::InvalidConfig { reason });
            }
        }
        Ok(Self { store, counts: Arc::default() })
    }

    /// The same ballots through a handle whose calls return at another level; see
    /// [`Store::with_durability`]. At [`Durability::Synced`] a ballot is on stable storage when its
    /// cast returns.
    ///
    /// # Errors
    /// As there.
    pub fn with_durability(&self, durability: Durability) -> Result<Self> {
        Ok(Self { store: self.store.with_durability(durability)?, counts: self.counts.clone() })
    }

    /// The election of this name, of 1 to [`ELECTION_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`InvalidNamespace`](crate::Error::InvalidNamespace) for a name that cannot be used.
    pub fn election(&self, name: &str) -> Result<Election> {
        if name.is_empty() || name.len() > ELECTION_BYTES_MAX {
            let reason = "an election's name has 1 to 255 bytes";
            return Err(Error::InvalidNamespace { reason });
        }
        Ok(Election { store: self.store.clone(), counts: self.counts.clone(), name: name.into() })
    }

    /// The names of all elections with a ballot, in order. Costs what a tally does.
    ///
    /// # Errors
    /// As [`Election::tally`].
    pub fn elections(&self) -> Result<Vec<String>> {
        self.counts.elections(&self.store)
    }

    /// Seals everything recorded so far, and returns the chain over it. Casting waits meanwhile
    /// for the seal, and not for the reading of the segments.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) if there is no room to seal;
    /// [`Poisoned`](crate::Error::Poisoned) or [`Closed`](crate::Error::Closed);
    /// [`Io`](crate::Error::Io) and [`Corrupt`](crate::Error::Corrupt) as the files are read.
    pub fn export(&self) -> Result<Export> {
        {
            let _all = self.counts.stop();
            self.store.engine().seal_all()?;
        }
        Export::read(self.store.path())
    }

    /// Seals and syncs everything, gives the directory up, and returns the chain over all of it.
    ///
    /// # Errors
    /// As [`Store::close`] and [`Ballots::export`]. Once closed, [`Export::read`] gives the same.
    pub fn close(self) -> Result<Export> {
        let path = self.store.path().to_path_buf();
        self.store.close()?;
        Export::read(path)
    }

    /// As [`Store::sync`].
    ///
    /// # Errors
    /// As there.
    pub fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    /// As [`Store::maintain`].
    ///
    /// # Errors
    /// As there.
    pub fn maintain(&self, budget: Duration) -> Result<Maintained> {
        self.store.maintain(budget)
    }

    /// As [`Store::stats`]. One key is not a ballot's.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }
}

impl fmt::Debug for Ballots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ballots").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Election {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records the voter's choice, unless the voter has voted. Of any number of callers with one
    /// voter, one is answered [`Cast::Counted`].
    ///
    /// # Errors
    /// [`EmptyKey`](crate::Error::EmptyKey) for a voter without a name; else as
    /// [`Store::check_and_set`], where voter, name and one byte are the key and the choice is the
    /// outcome. After [`Indeterminate`](crate::Error::Indeterminate) the ballot may be recorded;
    /// after any other error it is not.
    pub fn cast(&self, voter: impl AsRef<[u8]>, choice: impl AsRef<[u8]>) -> Result<Cast> {
        let key = self.key(voter.as_ref())?;
        let choice = choice.as_ref();
        let _casting = self.counts.casting();
        let answer = self.store.check_and_set(key, choice);
        let counted = answer.as_ref().is_ok_and(Check::is_new).then_some(choice);
        self.counts.add(&self.name, counted.into_iter(), answer.as_ref().err());
        Ok(match answer? {
            Check::New => Cast::Counted,
            Check::Duplicate(record) => Cast::AlreadyVoted(Ballot::of(&record)),
        })
    }

    /// Casts many ballots in their order, each as a single call would, several times faster.
    /// `casts` is cleared first; of two ballots of one voter the first one counts.
    ///
    /// # Errors
    /// As [`Election::cast`], for the first ballot that fails. `casts` then holds the answers of
    /// those before it, which are recorded; if the failure is the store's it may hold none.
    pub fn cast_many<V: AsRef<[u8]>, C: AsRef<[u8]>>(
        &self,
        ballots: &[(V, C)],
        casts: &mut Casts,
    ) -> Result<()> {
        casts.answers.clear();
        let joined = casts.keys.join(&self.name, ballots.iter().map(|(voter, _)| voter.as_ref()));
        let keys = casts.keys.iter();
        // All of the caller's code runs before the gate is held.
        let choices = ballots.iter().map(|(_, choice)| choice.as_ref());
        let items: Vec<_> = keys.zip(choices).collect();
        let _casting = self.counts.casting();
        let answer = self.store.check_and_set_many(&items, &mut casts.answers);
        let answered = casts.answers.iter().zip(&items);
        let counted = answered.filter(|(answer, _)| answer.is_new());
        let counted = counted.map(|(_, (_, choice))| *choice);
        self.counts.add(&self.name, counted, answer.as_ref().err());
        answer.and(joined)
    }

    /// The voter's ballot, if there is one.
    ///
    /// # Errors
    /// As [`Store::get`]; [`EmptyKey`](crate::Error::EmptyKey) for a voter without a name.
    pub fn find(&self, voter: impl AsRef<[u8]>) -> Result<Option<Ballot>> {
        let record = self.store.get(self.key(voter.as_ref())?)?;
        Ok(record.as_ref().map(Ballot::of))
    }

    /// True if the voter has voted.
    ///
    /// # Errors
    /// As [`Election::find`].
    pub fn has_voted(&self, voter: impl AsRef<[u8]>) -> Result<bool> {
        self.store.contains(self.key(voter.as_ref())?)
    }

    /// The ballots of many voters, in their order, several times faster than single calls. `found`
    /// is cleared first.
    ///
    /// # Errors
    /// As [`Election::find`], for the first voter that fails; `found` holds the results before it.
    pub fn find_many<V: AsRef<[u8]>>(&self, voters: &[V], found: &mut Found) -> Result<()> {
        found.lookups.clear();
        let joined = found.keys.join(&self.name, voters.iter().map(AsRef::as_ref));
        let keys: Vec<_> = found.keys.iter().collect();
        self.store.get_many(&keys, &mut found.lookups)?;
        joined
    }

    /// How many chose what: each ballot that any caller was told of before this call, and none
    /// that is recorded after it. Costs a copy of the counts; the first one after opening reads
    /// all ballots of the store, and casting waits for it.
    ///
    /// # Errors
    /// As [`Store::get`], if the ballots have to be read.
    pub fn tally(&self) -> Result<Tally> {
        self.counts.tally(&self.store, &self.name)
    }

    /// As [`Election::tally`], with all ballots of the store read anew: for who wants to see it.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn recount(&self) -> Result<Tally> {
        self.counts.recount(&self.store, &self.name)
    }

    fn key(&self, voter: &[u8]) -> Result<Vec<u8>> {
        let mut key = Vec::with_capacity(1 + self.name.len() + voter.len());
        append_key(&mut key, &self.name, voter)?;
        Ok(key)
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Appends the key of an election's voter: the length of the name, the name, the voter.
fn append_key(key: &mut Vec<u8>, election: &str, voter: &[u8]) -> Result<()> {
    if voter.is_empty() {
        return Err(Error::EmptyKey);
    }
    key.push(u8::try_from(election.len()).unwrap_or(0));
    key.extend_from_slice(election.as_bytes());
    key.extend_from_slice(voter);
    Ok(())
}

/// The election that a key is of; `None` for the store's mark.
fn election_of(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first()?;
    rest.get(..usize::from(*length)).filter(|name| !name.is_empty())
}
