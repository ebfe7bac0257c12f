//! Message consumers: each message is claimed, handled and marked, and the next offset with it.
//!
//! The pattern is the consumer of an at-least-once broker: the same message comes again after a
//! rebalance, a lost acknowledgement or a restart, or twice in one poll. The failures that it must
//! not have: a mark before the effect, which loses the message in a crash; and an offset ahead of
//! the marks, which loses all between. Here a poll is claimed, one lease for each message; the
//! caller has the effects; and one commit records, in one atomic step, the marks of what was
//! handled and how far the partition is: never beyond a message that is not marked. The broker's
//! own offset is committed after that, or never: after a restart [`Partition::position`] says where
//! to resume.
//!
//! Messages are known by their offset or, where a producer may send one twice, by an id. The
//! recipe knows no broker: what it takes are offsets and ids.
//!
//! Costs: two records for a message, one for a commit, and a lookup of the position for each poll.
//! Limits: a crash between an effect and the commit has that poll's effects repeated, after their
//! leases are over: pass [`Lease::version`] on, or let them bear it. Marks and positions are
//! remembered for the retention: longer than anything is delivered again.

mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::begin::{Begin, InProgress};
use crate::engine::bundle::{Act, Part, Refusal, Together};
use crate::error::{Error, Result};
use crate::key::BUNDLE_KEYS_MAX;
use crate::lease::Lease;
use crate::policy::{BeginOptions, Policy};
use crate::recipes::keys::{Keys, Step};
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::Ttl;
use crate::version::Version;

use self::progress::Progress;

/// The most messages of one poll.
pub const MESSAGES_MAX: usize = BUNDLE_KEYS_MAX - 1;

/// The consumers of one group.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::consumer::{Group, Message, Turn};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let day = Duration::from_secs(86_400);
/// let billing = Group::open(&store, "billing", Duration::from_secs(30), 7 * day)?;
/// let orders = billing.partition("orders", 3);
/// let from = orders.position()?.unwrap_or(0);
/// // A poll from there on. The second message was sent twice.
/// let polled = [(0, "order 1"), (1, "order 2"), (2, "order 2")];
/// let mut batch = orders.claim(from, polled.map(|(at, id)| Message::at(at).id(id)))?;
/// let mut effects = Vec::new();
/// for (index, (_, order)) in polled.iter().enumerate() {
///     if let Turn::Handle(lease) = batch.turn(index) {
///         effects.push((order, lease.version()));
///         batch.handled(index, "")?;
///     }
/// }
/// assert_eq!(batch.commit()?.next, Some(3));
/// assert_eq!((effects.len(), orders.position()?), (2, Some(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    keys: Keys,
    retention: Ttl,
}

/// A partition of a topic, as one group consumes it.
#[derive(Clone, Debug)]
pub struct Partition {
    group: Group,
    topic: Vec<u8>,
    number: u32,
}

/// A message as its consumer is handed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    offset: Option<u64>,
    id: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// The message at this offset of the partition that is polled.
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self { offset: Some(offset), id: None }
    }

    /// A message that has an id and no offset.
    #[must_use]
    pub fn of(id: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { offset: None, id: Some(id.as_ref()) }
    }

    /// The same, known by this id: one message in all partitions of its topic, however often and
    /// wherever it is sent.
    #[must_use]
    pub fn id(self, id: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { id: Some(id.as_ref()), ..self }
    }
}

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
    group: Group,
    /// The partition's key, and where the poll began.
    place: Option<(Vec<u8>, u64)>,
    entries: Vec<Entry>,
}

/// A message of a batch.
#[derive(Debug)]
struct Entry {
    key: Vec<u8>,
    offset: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Claimed(Lease),
    /// Its effect has happened, with this outcome.
    Handled(Lease, Vec<u8>),
    Done,
    Busy(InProgress),
    Repeated(usize),
    /// Given back, or taken by somebody else.
    Left,
}

impl Group {
    /// The consumers of this group in the store. A consumer that is gone keeps others from its
    /// messages for `lease`; marks, and positions from their latest commit on, are remembered for
    /// `retention`.
    ///
    /// # Errors
    /// As [`Store::namespace`], for times that cannot be used.
    pub fn open(
        store: &Store,
        name: &str,
        lease: Duration,
        retention: impl Into<Ttl>,
    ) -> Result<Self> {
        let retention = retention.into();
        let policy = Policy { lease, retention: Some(retention), ..Policy::default() };
        Ok(Self { keys: Keys::open(store, name, "consumer", policy)?, retention })
    }

    /// A partition of a topic.
    #[must_use]
    pub fn partition(&self, topic: impl AsRef<[u8]>, number: u32) -> Partition {
        Partition { group: self.clone(), topic: topic.as_ref().to_vec(), number }
    }

    /// Claims messages of a topic that has no offsets, or does not come in their order, by their
    /// ids. What [`Batch::is_marked`] after the commit can be acknowledged.
    ///
    /// # Errors
    /// As [`Partition::claim`].
    pub fn claim<'m>(
        &self,
        topic: impl AsRef<[u8]>,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Result<Batch> {
        self.claim_from(topic.as_ref(), None, messages)
    }

    fn claim_from<'m>(
        &self,
        topic: &[u8],
        place: Option<(u32, u64)>,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Result<Batch> {
        let messages: Vec<Message<'_>> = messages.into_iter().collect();
        if messages.len() > MESSAGES_MAX {
            let (what, len) = ("messages", messages.len());
            return Err(Error::TooLarge { what, len, max: MESSAGES_MAX });
        }
        let position = place.map(|(number, _)| position_key(topic, number));
        let progress = match position.as_ref().zip(place) {
            Some((key, (_, from))) => Some(self.begun(key, from)?),
            None => None,
        };
        let mut batch = Batch {
            group: self.clone(),
            place: position.zip(place.map(|(_, from)| from)),
            entries: Vec::with_capacity(messages.len()),
        };
        let (mut keys, mut asked) = (BTreeMap::new(), Vec::new());
        for (index, message) in messages.into_iter().enumerate() {
            let key = self.keys.key(message_key(topic, place.map(|(number, _)| number), message)?);
            let covered = message.offset.zip(progress.as_ref());
            let state = if covered.is_some_and(|(offset, progress)| progress.covers(offset)) {
                State::Done
            } else if let Some(first) = keys.get(&key) {
                State::Repeated(*first)
            } else {
                keys.insert(key.clone(), index);
                asked.push(index);
                State::Left
            };
            batch.entries.push(Entry { key, offset: message.offset, state });
        }
        batch.begin(&asked)?;
        Ok(batch)
    }

    /// How far a partition is, which is polled at the offset now. What was asked for is recorded
    /// before anything is claimed, or a later poll that is committed first would go beyond it.
    fn begun(&self, position: &[u8], from: u64) -> Result<Progress> {
        let (progress, _) = self.keys.change(position, |seen| {
            let seen = seen.map(|record| self.decode(record)).transpose()?;
            let is_new = seen.is_none();
            let mut progress = seen.unwrap_or_else(|| Progress::starting(from));
            Ok(if progress.begin_at(from) || is_new {
                Step::Set(progress.encode(), Some(self.retention), progress)
            } else {
                Step::Keep(progress)
            })
        })?;
        Ok(progress)
    }

    fn decode(&self, record: &Record) -> Result<Progress> {
        let foreign = || self.keys.foreign("the position of a partition is not a consumer's");
        Progress::decode(record.outcome()).ok_or_else(foreign)
    }

    /// True if less than half of the retention is left to the record.
    fn is_ageing(&self, record: &Record) -> Result<bool> {
        let (retention, now) = (self.retention.millis()?, self.keys.now().as_millis());
        let left = record.expires().map(|expires| expires.as_millis().saturating_sub(now));
        Ok(left.is_some_and(|left| left < retention / 2))
    }
}

impl Partition {
    /// Where to poll from after a restart: everything before is handled. `None` if nothing was
    /// committed, or not for as long as positions are remembered: then the broker says.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn position(&self) -> Result<Option<u64>> {
        let record = self.group.keys.get(position_key(&self.topic, self.number))?;
        Ok(record.map(|record| self.group.decode(&record)).transpose()?.map(|seen| seen.next))
    }

    /// Lets everything before `offset` count as handled, so that the position is at least there:
    /// for messages that are to be left out for good.
    ///
    /// # Errors
    /// As [`Store::set_if`].
    pub fn skip_to(&self, offset: u64) -> Result<()> {
        let position = position_key(&self.topic, self.number);
        self.group.keys.change(position, |seen| {
            let seen = seen.map(|record| self.group.decode(record)).transpose()?;
            let mut progress = seen.unwrap_or_else(|| Progress::starting(offset));
            progress.cover(0, offset);
            Ok(Step::Set(progress.encode(), Some(self.group.retention), ()))
        })?;
        Ok(())
    }

    /// Claims the messages of a poll that was begun at the offset `from`: everything from there to
    /// the last of them that is not among them is no message. They come in the order of their
    /// offsets. A broker that delivers what was not acknowledged again behind newer messages leaves
    /// messages out of a poll: there, claim by id with [`Group::claim`].
    ///
    /// # Errors
    /// As [`Store::begin`]: then none is claimed. [`TooLarge`](Error::TooLarge) for more than
    /// [`MESSAGES_MAX`]; [`InvalidConfig`](Error::InvalidConfig) for a message without an offset,
    /// before `from`, or out of order.
    pub fn claim<'m>(
        &self,
        from: u64,
        messages: impl IntoIterator<Item = Message<'m>>,
    ) -> Result<Batch> {
        let messages: Vec<Message<'_>> = messages.into_iter().collect();
        let mut next = from;
        for message in &messages {
            next = match message.offset {
                Some(offset) if offset >= next && offset < u64::MAX => offset + 1,
                offset => {
                    let reason = format!("a message at {offset:?} where {next} or more comes");
                    return Err(Error::InvalidConfig { reason });
                }
            };
        }
        self.group.claim_from(&self.topic, Some((self.number, from)), messages)
    }
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
    fn begin(&mut self, asked: &[usize]) -> Result<()> {
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
    fn of(answer: Begin, keys: &Keys) -> Result<Self> {
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

/// Where a partition's position is recorded.
fn position_key(topic: &[u8], number: u32) -> Vec<u8> {
    Scope::new().tenant(topic).principal(number.to_le_bytes()).key("")
}

/// Where a message is marked: by its id in the topic, or by its place in the partition.
fn message_key(topic: &[u8], number: Option<u32>, message: Message<'_>) -> Result<Vec<u8>> {
    let Message { offset, id } = message;
    match (id, number, offset) {
        (Some(id), ..) => Ok(Scope::new().tenant(topic).operation("id").key(id)),
        (None, Some(number), Some(offset)) => {
            let place = Scope::new().tenant(topic).principal(number.to_le_bytes());
            Ok(place.operation("at").key(offset.to_le_bytes()))
        }
        _ => {
            let reason = "a message has an id, or an offset in a partition".to_owned();
            Err(Error::InvalidConfig { reason })
        }
    }
}
