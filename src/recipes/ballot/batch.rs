//! The answers of batches of ballots and of lookups, whose buffers are used again.

use crate::answers::{Answer, Answers, Lookups};
use crate::error::Result;
use crate::recipes::ballot::{Ballot, Cast, append_key};

/// The answers of one [`Election::cast_many`](super::Election::cast_many), in the order of its
/// ballots.
///
/// Keep one and pass it again: its buffers are reused.
#[derive(Debug, Default)]
pub struct Casts {
    pub(super) keys: Joined,
    pub(super) answers: Answers,
}

impl Casts {
    /// No answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of ballots answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// True when none was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// How many were counted; the others' voters had voted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.answers.new_count()
    }

    /// The answer to the ballot `index`, if it was answered.
    pub fn get(&self, index: usize) -> Option<Cast> {
        Some(match self.answers.get(index)? {
            Answer::New => Cast::Counted,
            Answer::Duplicate(record) => Cast::AlreadyVoted(Ballot::of(&record.to_owned())),
        })
    }

    /// All answers, in the order of the ballots.
    pub fn iter(&self) -> impl Iterator<Item = Cast> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// The results of one [`Election::find_many`](super::Election::find_many), in the order of its
/// voters.
///
/// Keep one and pass it again: its buffers are reused.
#[derive(Debug, Default)]
pub struct Found {
    pub(super) keys: Joined,
    pub(super) lookups: Lookups,
}

impl Found {
    /// No results.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of voters looked up.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lookups.len()
    }

    /// True when none was looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lookups.is_empty()
    }

    /// How many of them have voted.
    #[must_use]
    pub fn voted(&self) -> u64 {
        self.lookups.iter().flatten().count() as u64
    }

    /// The ballot of the voter `index`, or `None` for one who has not voted; if it was looked up.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Option<Ballot>> {
        let record = self.lookups.get(index)?;
        Some(record.map(|record| Ballot::of(&record.to_owned())))
    }

    /// All results, in the order of the voters.
    pub fn iter(&self) -> impl Iterator<Item = Option<Ballot>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// The keys of a batch, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Joined {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Joined {
    /// Joins the election's name and each voter, up to the first one that has no key.
    pub(super) fn join<'a>(
        &mut self,
        election: &str,
        voters: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        self.bytes.clear();
        self.ends.clear();
        for voter in voters {
            append_key(&mut self.bytes, election, voter)?;
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends.iter().copied());
        ranges.map(|(start, end)| self.bytes.get(start..end).unwrap_or_default())
    }
}
