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
//! leases are over: pass [`Lease::version`](crate::Lease::version) on, or let them bear it. Marks
//! and positions are remembered for the retention: longer than anything is delivered again.

mod batch;
mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::BUNDLE_KEYS_MAX;
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step};
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::Ttl;

pub use self::batch::{Batch, Committed, Turn};
use self::batch::{Entry, State};
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
