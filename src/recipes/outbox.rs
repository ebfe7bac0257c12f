//! Outboxes: work is completed together with the messages that it is to send, in one atomic step.
//!
//! The pattern is the table of outgoing messages beside the state that they tell of, and a
//! dispatcher that sends them on. The failures that it must not have: an effect recorded whose
//! message is lost, and a message sent of an effect that was never recorded. Here the outcome of a
//! lease and its messages are one frame of the log: after a crash both are there, or neither is.
//! Messages have numbers in the order of completion; a dispatcher reads them in that order from the
//! first that is not dispatched, sends, and marks them, which removes them.
//!
//! Costs: a completion is a record of its own, one for each message, and one for the place of the
//! outbox; the completions of one outbox go one after another. [`Outbox::pending`] begins where
//! dispatch has come to, with one lookup, and takes one for each number from there on, dispatched
//! out of order or not. Limits: a crash between sending and marking sends a message again, with the
//! same number: let the receiver drop numbers that it has seen. Several dispatchers send messages
//! several times; hold a lease while dispatching, if one is to do it at a time.

use std::collections::BTreeMap;
use std::fmt;

use crate::engine::bundle::{Act, Refusal, Together};
use crate::error::{Error, Result};
use crate::key::BUNDLE_KEYS_MAX;
use crate::lease::Lease;
use crate::policy::Policy;
use crate::recipes::keys::{Keys, split_u64};
use crate::record::Record;
use crate::store::Store;
use crate::time::Ttl;
use crate::version::Version;

/// The most messages that are sent together, or marked in one step.
pub const MESSAGES_MAX: usize = BUNDLE_KEYS_MAX - 2;

/// Numbers begin with the time, in milliseconds, so that an outbox that was forgotten does not
/// give a number out again; so many bits are left for counting.
const COUNT_BITS: u32 = 16;
/// How often the front is tried to be moved while others change the outbox.
const FRONT_TRIES: usize = 8;

/// Messages that were sent by completed work and not yet dispatched.
///
/// ```
/// use oncelog::{Begin, Store};
/// use oncelog::recipes::outbox::Outbox;
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let outbox = Outbox::open(&store, "orders", Duration::from_secs(7 * 86_400))?;
/// let Begin::Started(mut lease) = store.begin("order-42")? else { panic!("new order") };
/// outbox.complete(&mut lease, "charged", &["mail the receipt", "ship it"])?;
///
/// let mut sent = Vec::new();
/// for message in outbox.pending()? {
///     let message = message?;
///     sent.push(message.payload().to_vec());
///     assert!(outbox.dispatched(&message)?);
/// }
/// assert_eq!(sent, [&b"mail the receipt"[..], b"ship it"]);
/// assert_eq!(outbox.pending()?.count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Outbox {
    keys: Keys,
    keep: Ttl,
}

/// A message that was sent and not yet dispatched.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    number: u64,
    payload: Vec<u8>,
    version: Version,
}

/// The messages of an outbox that were pending at one moment, in the order of completion.
#[derive(Debug)]
pub struct Pending<'a> {
    outbox: &'a Outbox,
    next: u64,
    end: u64,
}

/// How far an outbox is: below `front` no message is left, below `next` all numbers are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    front: u64,
    next: u64,
}

/// Where an outbox's place is recorded.
const PLACE: &str = "place";

impl Place {
    fn encode(self) -> Vec<u8> {
        [self.front.to_le_bytes(), self.next.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (front, rest) = split_u64(bytes)?;
        let (next, rest) = split_u64(rest)?;
        (rest.is_empty() && front <= next).then_some(Self { front, next })
    }
}

impl Outbox {
    /// The outbox of this name in the store. Messages that are not dispatched are kept for `keep`,
    /// and anew when [`pending`](Outbox::pending) has found half of that over: longer than no
    /// dispatcher runs. What is completed with messages takes its room on disk for as long.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidTtl`](Error::InvalidTtl) for [`Ttl::Never`], as the room
    /// of completions would never come back.
    pub fn open(store: &Store, name: &str, keep: impl Into<Ttl>) -> Result<Self> {
        let keep = keep.into();
        if keep == Ttl::Never {
            let reason = "messages of an outbox are kept for a time; give it, however long";
            return Err(Error::InvalidTtl { reason });
        }
        let policy = Policy { retention: Some(keep), ..Policy::default() };
        let keys = Keys::open(store, name, "outbox", policy)?;
        Ok(Self { keys, keep })
    }

    /// Completes the lease, of any key of the store, and sends the messages, all or nothing.
    ///
    /// # Errors
    /// As [`Lease::complete`], and nothing was sent then. [`Full`](Error::Full) also for a short
    /// outcome, as no room is reserved for messages: the lease is as it was, and the call can be
    /// repeated. [`TooLarge`](Error::TooLarge) for more than [`MESSAGES_MAX`] messages or 32 MiB;
    /// [`InvalidConfig`](Error::InvalidConfig) for another store's lease.
    pub fn complete<M: AsRef<[u8]>>(
        &self,
        lease: &mut Lease,
        outcome: impl AsRef<[u8]>,
        messages: &[M],
    ) -> Result<Version> {
        let mut claims = self.keys.claims();
        if !lease.is_of(claims.engine) {
            let reason = "the lease is of another store than the outbox".to_owned();
            return Err(Error::InvalidConfig { reason });
        }
        if messages.len() > MESSAGES_MAX {
            let (what, len) = ("messages", messages.len());
            return Err(Error::TooLarge { what, len, max: MESSAGES_MAX });
        }
        if messages.is_empty() {
            return lease.complete(outcome);
        }
        // Whoever comes with an outcome has had the effect: the key is not to be given back.
        lease.hold();
        if lease.durability().is_synced() {
            claims.durability = lease.durability();
        }
        let (place_key, count) = (self.keys.key(PLACE), messages.len() as u64);
        let mut taken = 0;
        loop {
            let seen = self.place()?;
            let begun = || self.keys.now().as_millis() << COUNT_BITS;
            let first = seen.as_ref().map_or_else(begun, |(place, _)| place.next).max(taken);
            let front = seen.as_ref().map_or(first, |(place, _)| place.front);
            let version = seen.as_ref().map(|(_, record)| record.version());
            let after = Place { front, next: first + count }.encode();
            let mut parts = Vec::with_capacity(messages.len() + 2);
            parts.push(lease.part(outcome.as_ref()));
            for (number, message) in (first..).zip(messages) {
                let act = claims.set(None, message.as_ref(), Some(self.keep))?;
                parts.push(claims.part(&self.message_key(number), act)?);
            }
            let act = claims.set(version, &after, Some(self.keep))?;
            parts.push(claims.part(&place_key, act)?);
            match claims.together(&parts)? {
                Together::Done(versions) => {
                    lease.set_over();
                    return versions.first().copied().ok_or(Error::LeaseLost);
                }
                Together::Refused(refused) => {
                    for (index, refusal) in refused {
                        match refusal {
                            Refusal::LeaseLost => return Err(Error::LeaseLost),
                            // A number in use, of a message that outlived what told of it.
                            _ if index <= messages.len() => taken = first + index as u64,
                            _ => self.keys.refuse_begun(&place_key)?,
                        }
                    }
                }
            }
        }
    }

    /// The messages that are not dispatched, in the order of completion, up to this moment.
    ///
    /// # Errors
    /// As [`Store::get`], and as [`Store::set_if`], where what is old is to be kept longer.
    pub fn pending(&self) -> Result<Pending<'_>> {
        let Some((place, record)) = self.place()? else {
            return Ok(Pending { outbox: self, next: 0, end: 0 });
        };
        if self.is_ageing(&record)? {
            let key = self.keys.key(PLACE);
            // Where somebody has changed it meanwhile, it is kept longer by that.
            self.keep_longer(&key, &record)?;
        }
        Ok(Pending { outbox: self, next: place.front, end: place.next })
    }

    /// Marks a message that was sent on; false if it was marked before.
    ///
    /// # Errors
    /// As [`Store::remove`]: then it is pending still.
    pub fn dispatched(&self, message: &Message) -> Result<bool> {
        Ok(self.dispatched_many(std::slice::from_ref(message))? == 1)
    }

    /// Marks messages that were sent on, and says how many were not marked before. Each
    /// [`MESSAGES_MAX`] of them are marked in one atomic step.
    ///
    /// # Errors
    /// As [`Outbox::dispatched`].
    pub fn dispatched_many(&self, messages: &[Message]) -> Result<usize> {
        let mut marked = 0;
        for some in messages.chunks(MESSAGES_MAX) {
            let versions = some.iter().map(|message| (message.number, message.version));
            marked += self.mark(versions.collect())?;
        }
        Ok(marked)
    }

    /// Removes messages, and lets the front go past them; how many there were.
    fn mark(&self, mut left: BTreeMap<u64, Version>) -> Result<usize> {
        let (claims, place_key) = (self.keys.claims(), self.keys.key(PLACE));
        for tried in 0.. {
            let seen = self.place()?;
            let front = match &seen {
                // Others change the place all the time: the next who marks moves the front.
                Some((place, _)) if tried < FRONT_TRIES => self.front(*place, &left)?,
                Some((place, _)) => place.front,
                None => 0,
            };
            let mut parts = Vec::with_capacity(left.len() + 1);
            for (number, version) in &left {
                let act = Act::Remove { expected: *version };
                parts.push(claims.part(&self.message_key(*number), act)?);
            }
            let after = seen.as_ref().map(|(place, _)| Place { front, ..*place }.encode());
            if let (Some((place, record)), Some(after)) = (&seen, &after)
                && place.front != front
            {
                let act = claims.set(Some(record.version()), after, Some(self.keep))?;
                parts.push(claims.part(&place_key, act)?);
            }
            let refused = match claims.together(&parts)? {
                Together::Done(_) => return Ok(left.len()),
                Together::Refused(refused) => refused,
            };
            let numbers: Vec<u64> = left.keys().copied().collect();
            for number in refused.iter().filter_map(|(index, _)| numbers.get(*index)) {
                // Marked by somebody else, or kept longer, which gives it another version.
                match self.keys.get(message_name(*number))? {
                    Some(record) => left.insert(*number, record.version()),
                    None => left.remove(number),
                };
            }
        }
        Ok(0)
    }

    /// Where the front is once these are gone: at the first number with a message, or at the end.
    fn front(&self, place: Place, gone: &BTreeMap<u64, Version>) -> Result<u64> {
        let mut front = place.front;
        while front < place.next {
            if !gone.contains_key(&front) && self.keys.get(message_name(front))?.is_some() {
                break;
            }
            front += 1;
        }
        Ok(front)
    }

    fn place(&self) -> Result<Option<(Place, Record)>> {
        let Some(record) = self.keys.get(PLACE)? else { return Ok(None) };
        let foreign = || self.keys.foreign("the place of an outbox is not an outbox's");
        let place = Place::decode(record.outcome()).ok_or_else(foreign)?;
        Ok(Some((place, record)))
    }

    /// The message of this number, if it is pending.
    fn message(&self, number: u64) -> Result<Option<Message>> {
        let name = message_name(number);
        let Some(record) = self.keys.get(name)? else { return Ok(None) };
        let mut version = record.version();
        if self.is_ageing(&record)? {
            match self.keep_longer(&self.keys.key(name), &record)? {
                Some(later) => version = later,
                // Marked, or kept longer, by somebody else.
                None => return self.message(number),
            }
        }
        Ok(Some(Message { number, payload: record.outcome().to_vec(), version }))
    }

    /// True if less than half of its time is left to the record.
    fn is_ageing(&self, record: &Record) -> Result<bool> {
        let (keep, now) = (self.keep.millis()?, self.keys.now().as_millis());
        let left = record.expires().map(|expires| expires.as_millis().saturating_sub(now));
        Ok(left.is_some_and(|left| left < keep / 2))
    }

    /// Records the same again for the whole time; `None` if it has changed meanwhile.
    fn keep_longer(&self, key: &[u8], record: &Record) -> Result<Option<Version>> {
        let (namespace, version) = (self.keys.namespace(), Some(record.version()));
        match namespace.set_if(key, version, record.outcome(), Some(self.keep)) {
            // What is pending is sent all the same; there is half of the time left to make room.
            Err(Error::Full { .. }) => Ok(version),
            set => set,
        }
    }

    fn message_key(&self, number: u64) -> Vec<u8> {
        self.keys.key(message_name(number))
    }
}

impl Message {
    /// Its place in the order of completion, which no other message of the outbox has: for the
    /// receiver to drop what comes again. Some numbers are no message's.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Payloads may be confidential, so only their number is shown.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("number", &self.number)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl Iterator for Pending<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let number = self.next;
            self.next += 1;
            // Without one, it is dispatched, or a power cut has taken all that it was sent with.
            if let Some(message) = self.outbox.message(number).transpose() {
                return Some(message);
            }
        }
        None
    }
}

/// What is put before a message's number in its key.
fn message_name(number: u64) -> [u8; 9] {
    let mut name = [b'm'; 9];
    name[1..].copy_from_slice(&number.to_le_bytes());
    name
}
