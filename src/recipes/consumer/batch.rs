//! The messages of one poll: whose turn each is, what was handled, and the commit of both.

use std::time::Duration;

use crate::begin::{Begin, InProgress};
use crate::engine::bundle::{Act, Part, Refusal, Together};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::policy::BeginOptions;
use crate::recipes::consumer::Group;
use crate::recipes::consumer::progress::Progress;
use crate::recipes::keys::Keys;
use crate::record::Record;
use crate::version::Version;

/// Whose turn it is with a message.
#[derive(Debug)]
#[must_use = "the answer says whether to handle the message"]
pub enum Turn<'a> {
    /// This caller's, under this lease: have the effect, then say so with [`Batch::handled`].
    Handle(&'a Lease),
    /// Nobody's here: it was handled, or this batch has given it back or lost it.
    /// [`Batch::is_marked`] tells them apart.
    Done,
    /// Somebody else's at this time.
    Busy(&'a InProgress),
    /// It is the same message as an earlier one of the batch, with this index.
    Repeated(usize),
}

/// What a commit has recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Where the partition is to be polled from after a restart, and what its broker may be told:
    /// everything before is handled and marked. `None` without a partition, or while there is no
    /// position yet.
    pub next: Option<u64>,
    /// Indexes of messages that were handled and not marked, as their leases had run out and
    /// others have them now.
    pub lost: Vec<usize>,
}

/// The messages of one poll. Dropped, what was not committed is held until the leases are over.
#[derive(Debug)]
#[must_use = "a poll that is not committed is delivered again"]
pub struct Batch {
    pub(super) group: Group,
    /// The partition's key, and where the poll began.
    pub(super) place: Option<(Vec<u8>, u64)>,
    pub(super) entries: Vec<Entry>,
}

/// A message of a batch.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) offset: Option<u64>,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Claimed(Lease),
    /// Its effect has happened, with this outcome.
    Handled(Lease, Vec<u8>),
    Done,
    Busy(InProgress),
    Repeated(usize),
    /// Given back, or taken by somebody else.
    Left,
}

impl Batch {
    /// How many messages it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whose turn it is with a message; one that there is not counts as done.
    pub fn turn(&self, index: usize) -> Turn<'_> {
        match self.entries.get(index).map(|entry| &entry.state) {
            Some(State::Claimed(lease)) => Turn::Handle(lease),
            Some(State::Busy(other)) => Turn::Busy(other),
            Some(State::Repeated(first)) => Turn::Repeated(*first),
            Some(State::Handled(..) | State::Done | State::Left) | None => Turn::Done,
        }
    }

    /// True if the message is marked as handled, by this batch's commit or before: a broker that is
    /// told of each message may be told of this one. False for one that was handled and is not
    /// committed, is held elsewhere, was given back or lost, and for one that there is not.
    #[must_use]
    pub fn is_marked(&self, index: usize) -> bool {
        match self.entries.get(index).map(|entry| &entry.state) {
            Some(State::Done) => true,
            Some(State::Repeated(first)) => self.is_marked(*first),
            _ => false,
        }
    }

    /// The message's effect has happened: it is marked with this outcome by the next commit.
    ///
    /// # Errors
    /// [`LeaseLost`](Error::LeaseLost) for a message whose turn is not this caller's.
    pub fn handled(&mut self, index: usize, outcome: impl AsRef<[u8]>) -> Result<()> {
        let entry = self.entries.get_mut(index).ok_or(Error::LeaseLost)?;
        match std::mem::replace(&mut entry.state, State::Left) {
            State::Claimed(mut lease) => {
                lease.hold();
                entry.state = State::Handled(lease, outcome.as_ref().to_vec());
                Ok(())
            }
            other => {
                entry.state = other;
                Err(Error::LeaseLost)
            }
        }
    }

    /// The message was not handled: it can be claimed again, after `retry_after` if that is given.
    /// The position stays before it.
    ///
    /// # Errors
    /// As [`Lease::release`], also for a message whose turn is not this caller's.
    pub fn release(&mut self, index: usize, retry_after: Option<Duration>) -> Result<()> {
        let entry = self.entries.get_mut(index).ok_or(Error::LeaseLost)?;
        let State::Claimed(lease) = &mut entry.state else { return Err(Error::LeaseLost) };
        lease.release(retry_after)?;
        entry.state = State::Left;
        Ok(())
    }

    /// Holds all messages that are still to be handled or committed for the length of the group's
    /// leases from now on.
    ///
    /// # Errors
    /// As [`Lease::renew`], for the first that fails.
    pub fn renew(&mut self) -> Result<()> {
        let length = self.group.keys.namespace().policy().lease;
        for entry in &mut self.entries {
            if let State::Claimed(lease) | State::Handled(lease, _) = &mut entry.state {
                lease.renew(length)?;
            }
        }
        Ok(())
    }

    /// Waits for messages that others are busy with, each for up to `timeout`: they are done then,
    /// or this caller's turn.
    ///
    /// # Errors
    /// As [`InProgress::wait`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        for entry in &mut self.entries {
            entry.state = match std::mem::replace(&mut entry.state, State::Left) {
                State::Busy(other) => State::of(other.wait(timeout)?, &self.group.keys)?,
                state => state,
            };
        }
        Ok(())
    }

    /// Records what was handled, and how far the partition is, in one atomic step. More can be
    /// handled, and committed again, after that.
    ///
    /// Where there is no room for that, or the outcomes are too long for one step, what was handled
    /// is marked one by one, in the room that was reserved for it, and the position stays where it
    /// was: when these messages are delivered again, they are done.
    ///
    /// # Errors
    /// As [`Lease::complete`]. After any error the batch can be committed again.
    pub fn commit(&mut self) -> Result<Committed> {
        let mut lost = Vec::new();
        loop {
            let place = self.place.as_ref().map(|(key, _)| self.group.keys.get(key));
            let before = place.transpose()?.flatten();
            let seen = before.as_ref().map(|record| self.group.decode(record)).transpose()?;
            let after = self.progressed(seen.as_ref());
            let unchanged = seen == after && self.handled_count() == 0;
            let ageing = before.as_ref().map(|record| self.group.is_ageing(record));
            if unchanged && !ageing.transpose()?.unwrap_or(false) {
                return Ok(Committed { next: after.map(|progress| progress.next), lost });
            }
            match self.record(after.as_ref(), before.as_ref().map(Record::version)) {
                Ok(refused) if refused.is_empty() => {
                    return Ok(Committed { next: after.map(|progress| progress.next), lost });
                }
                Ok(refused) => lost.extend(refused.into_iter().filter(|index| self.lose(*index))),
                Err(Error::Full { .. } | Error::TooLarge { .. }) if self.handled_count() > 0 => {
                    lost.extend(self.mark_each()?);
                    return Ok(Committed { next: seen.map(|progress| progress.next), lost });
                }
                Err(error) => return Err(error),
            }
            if let Some((key, _)) = &self.place {
                self.group.keys.refuse_begun(&self.group.keys.key(key))?;
            }
        }
    }

    /// Begins these messages, all or none.
    pub(super) fn begin(&mut self, asked: &[usize]) -> Result<()> {
        let keys: Vec<&[u8]> =
            asked.iter().filter_map(|index| Some(&self.entries.get(*index)?.key[..])).collect();
        let mut answers = Vec::new();
        let namespace = self.group.keys.namespace();
        if let Err(error) = namespace.begin_many(&keys, BeginOptions::new(), &mut answers) {
            // Nothing was done about them yet.
            for mut lease in answers.into_iter().filter_map(Begin::started) {
                let _ = lease.release(None);
            }
            return Err(error);
        }
        for (index, answer) in asked.iter().zip(answers) {
            let state = State::of(answer, &self.group.keys)?;
            if let Some(entry) = self.entries.get_mut(*index) {
                entry.state = state;
            }
        }
        Ok(())
    }

    fn handled_count(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Handled(..))).count()
    }

    /// True for a message that is marked, or will be by the commit under way.
    fn is_done(&self, entry: &Entry) -> bool {
        match &entry.state {
            State::Handled(..) | State::Done => true,
            State::Repeated(first) => {
                self.entries.get(*first).is_some_and(|first| self.is_done(first))
            }
            State::Claimed(_) | State::Busy(_) | State::Left => false,
        }
    }

    /// How far the partition is once everything handled is marked.
    fn progressed(&self, before: Option<&Progress>) -> Option<Progress> {
        let (_, from) = self.place.as_ref()?;
        let mut progress = before.cloned().unwrap_or_else(|| Progress::starting(*from));
        let mut next = *from;
        for entry in &self.entries {
            let Some(offset) = entry.offset else { continue };
            if self.is_done(entry) {
                // What lies between it and the message before is no message.
                progress.cover(next, offset + 1);
            }
            next = offset + 1;
        }
        Some(progress)
    }

    /// Records marks and position; what stands against it, by index, that of the position being
    /// the number of messages.
    fn record(&mut self, after: Option<&Progress>, version: Option<Version>) -> Result<Vec<usize>> {
        let claims = self.group.keys.claims();
        let position = self.place.as_ref().map(|(key, _)| self.group.keys.key(key));
        let bytes = after.map(Progress::encode);
        let (mut parts, mut indexes) = (Vec::<Part<'_>>::new(), Vec::new());
        for (index, entry) in self.entries.iter().enumerate() {
            if let State::Handled(lease, outcome) = &entry.state {
                let act = Act::Complete { token: lease.version(), outcome };
                parts.push(claims.part(&entry.key, act)?);
                indexes.push(index);
            }
        }
        if let (Some(key), Some(bytes)) = (&position, &bytes) {
            let act = claims.set(version, bytes, Some(self.group.retention))?;
            parts.push(claims.part(key, act)?);
            indexes.push(self.entries.len());
        }
        let refused = match claims.together(&parts)? {
            Together::Done(_) => Vec::new(),
            Together::Refused(refused) => refused,
        };
        if !refused.is_empty() {
            let index = |(part, _): &(usize, Refusal)| indexes.get(*part).copied();
            return Ok(refused.iter().filter_map(index).collect());
        }
        for entry in &mut self.entries {
            if let State::Handled(lease, _) = &mut entry.state {
                lease.set_over();
                entry.state = State::Done;
            }
        }
        Ok(Vec::new())
    }

    /// Takes a message whose lease is lost out of what is to be marked; false for the position.
    fn lose(&mut self, index: usize) -> bool {
        let entry = self.entries.get_mut(index);
        entry.map(|entry| entry.state = State::Left).is_some()
    }

    /// Marks what was handled one by one; the indexes of those whose leases are lost.
    fn mark_each(&mut self) -> Result<Vec<usize>> {
        let mut lost = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let State::Handled(lease, outcome) = &mut entry.state else { continue };
            entry.state = match lease.complete(outcome) {
                Ok(_) => State::Done,
                Err(Error::LeaseLost) => {
                    lost.push(index);
                    State::Left
                }
                Err(error) => return Err(error),
            };
        }
        Ok(lost)
    }
}

impl State {
    pub(super) fn of(answer: Begin, keys: &Keys) -> Result<Self> {
        Ok(match answer {
            Begin::Started(lease) => Self::Claimed(lease),
            Begin::InProgress(other) => Self::Busy(other),
            Begin::Completed(_) => Self::Done,
            Begin::Mismatch(_) | Begin::Unknown(_) | Begin::Exhausted(_) => {
                return Err(keys.foreign("the lease of a message was begun by something else"));
            }
        })
    }
}
