//! A batch: items gathered from one buffer, recorded with one call and delivered in their order.

use std::ops::Range;

use oncelog::{Answer, Answers, Error, Store};

use crate::exit::Failure;
use crate::key::{EMPTY, long};
use crate::output::Output;
use crate::report::Counts;
use crate::two_phase::TwoPhase;

/// Items recorded with one call.
const ITEMS_MAX: usize = 1024;

/// Where an item's key is.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// The item itself.
    Item,
    /// The item is empty.
    Empty,
    /// In the batch's buffer for fields, from here on up to there.
    Field(usize, usize),
    /// In the batch's list of long keys.
    Long(usize),
    /// There is none: the item is printed and not recorded.
    None,
}

/// An item: where it starts in the buffer, where its delimiter is, and its key.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    end: usize,
    key: Key,
}

/// A key that stands for content longer than a key can be.
#[derive(Debug)]
struct Long {
    key: [u8; long::KEY_BYTES],
    /// The content's place among the fields; the item itself when there is none.
    field: Option<Range<usize>>,
}

/// Why a batch stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The item that starts at this place of the buffer could not be recorded.
    Recording(usize, Error),
    /// What was recorded could not be printed.
    Printing(Failure),
}

/// Items whose places refer to one buffer, which is given to each call.
#[derive(Debug)]
pub(crate) struct Batch {
    slots: Vec<Slot>,
    fields: Vec<u8>,
    longs: Vec<Long>,
    answers: Answers,
    items_max: usize,
    two_phase: Option<TwoPhase>,
}

impl Batch {
    pub(crate) fn new(line_buffered: bool, two_phase: bool) -> Self {
        Self {
            slots: Vec::with_capacity(ITEMS_MAX),
            fields: Vec::new(),
            longs: Vec::new(),
            answers: Answers::new(),
            items_max: if line_buffered { 1 } else { ITEMS_MAX },
            two_phase: two_phase.then(TwoPhase::default),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.items_max
    }

    /// Adds an item that is its own key.
    pub(crate) fn push_line(&mut self, start: usize, item: &[u8]) {
        let key = match item.len() {
            0 => Key::Empty,
            1..=long::RAW_BYTES_MAX => Key::Item,
            _ => self.push_long(long::key(item), None),
        };
        self.slots.push(Slot { start, end: start + item.len(), key });
    }

    /// Adds an item whose key `extract` appends to the buffer that it is given.
    pub(crate) fn push_field<E>(
        &mut self,
        item: Range<usize>,
        extract: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.fields.len();
        if let Err(error) = extract(&mut self.fields) {
            self.fields.truncate(start);
            return Err(error);
        }
        let end = self.fields.len();
        let key = if end - start <= long::RAW_BYTES_MAX {
            Key::Field(start, end)
        } else {
            let digest = long::key(self.fields.get(start..end).unwrap_or_default());
            self.push_long(digest, Some(start..end))
        };
        self.slots.push(Slot { start: item.start, end: item.end, key });
        Ok(())
    }

    /// Adds an item that has no key and is to be printed all the same.
    pub(crate) fn push_keyless(&mut self, item: Range<usize>) {
        self.slots.push(Slot { start: item.start, end: item.end, key: Key::None });
    }

    fn push_long(&mut self, key: [u8; long::KEY_BYTES], field: Option<Range<usize>>) -> Key {
        self.longs.push(Long { key, field });
        Key::Long(self.longs.len() - 1)
    }

    /// Records the items, hands them to the output and empties the batch.
    ///
    /// On a failure, the items ahead of the failing one are recorded and handed over.
    pub(crate) fn settle(
        &mut self,
        store: &Store,
        buffer: &[u8],
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<(), Stop> {
        if self.slots.is_empty() {
            return Ok(());
        }
        if let Some(mut two_phase) = self.two_phase.take() {
            let settled = self.settle_in_two(&mut two_phase, store, buffer, output, counts);
            self.two_phase = Some(two_phase);
            self.clear();
            return settled;
        }
        let mut answers = std::mem::take(&mut self.answers);
        let pair = |slot| self.pair(slot, buffer);
        let pairs: Vec<(&[u8], &[u8])> = self.slots.iter().filter_map(pair).collect();
        let recorded = store.check_and_set_many(&pairs, &mut answers);
        let delivered = self.deliver(store, buffer, &answers, output, counts);
        let next = delivered.as_ref().ok().and_then(|delivered| self.slots.get(*delivered));
        let start = next.map_or(0, |slot| slot.start);
        self.answers = answers;
        self.clear();
        delivered?;
        recorded.map_err(|error| Stop::Recording(start, error))
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.fields.clear();
        self.longs.clear();
    }

    /// Claims the items, hands them to the output, flushes it, and records them then.
    fn settle_in_two(
        &self,
        two_phase: &mut TwoPhase,
        store: &Store,
        buffer: &[u8],
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<(), Stop> {
        let mut run = Run { is_new: true, start: 0, end: 0 };
        let mut stop = Ok(());
        for slot in &self.slots {
            let claimed = match self.pair(slot, buffer) {
                None => Ok(true),
                Some((key, content)) => two_phase.claim(store, key, content),
            };
            let is_new = match claimed {
                Ok(is_new) => is_new,
                Err(error) => {
                    stop = Err(Stop::Recording(slot.start, error));
                    break;
                }
            };
            if !matches!(slot.key, Key::None) {
                *if is_new { &mut counts.new } else { &mut counts.duplicates } += 1;
            }
            if is_new != run.is_new || slot.start != run.end {
                run.put(buffer, output)?;
                run = Run { is_new, start: slot.start, end: slot.start };
            }
            run.end = slot.end + 1;
        }
        run.put(buffer, output)?;
        output.flush().map_err(Stop::Printing)?;
        let start = self.slots.first().map_or(0, |slot| slot.start);
        two_phase.record().map_err(|error| Stop::Recording(start, error))?;
        stop
    }

    /// The key and the outcome to record for an item.
    fn pair<'b>(&'b self, slot: &Slot, buffer: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        Some(match slot.key {
            Key::Item => (buffer.get(slot.start..slot.end)?, &[]),
            Key::Empty => (EMPTY, &[]),
            Key::Field(start, end) => (self.fields.get(start..end)?, &[]),
            Key::Long(index) => {
                (self.longs.get(index)?.key.as_slice(), self.content(index, slot, buffer))
            }
            Key::None => return None,
        })
    }

    /// What a long key stands for.
    fn content<'b>(&'b self, index: usize, slot: &Slot, buffer: &'b [u8]) -> &'b [u8] {
        match self.longs.get(index).and_then(|long| long.field.clone()) {
            Some(field) => self.fields.get(field).unwrap_or_default(),
            None => buffer.get(slot.start..slot.end).unwrap_or_default(),
        }
    }

    /// Hands over every item that was answered; neighbours of one kind go together. Returns how
    /// many items that were.
    fn deliver(
        &self,
        store: &Store,
        buffer: &[u8],
        answers: &Answers,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<usize, Stop> {
        let mut run = Run { is_new: true, start: 0, end: 0 };
        let (mut answered, mut delivered) = (0, 0);
        let mut stop = Ok(());
        for slot in &self.slots {
            let is_new = match self.verdict(store, buffer, slot, answers.get(answered)) {
                None => break,
                Some(Err(error)) => {
                    stop = Err(Stop::Recording(slot.start, error));
                    break;
                }
                Some(Ok(is_new)) => is_new,
            };
            if !matches!(slot.key, Key::None) {
                answered += 1;
                *if is_new { &mut counts.new } else { &mut counts.duplicates } += 1;
            }
            delivered += 1;
            if is_new != run.is_new || slot.start != run.end {
                run.put(buffer, output)?;
                run = Run { is_new, start: slot.start, end: slot.start };
            }
            run.end = slot.end + 1;
        }
        run.put(buffer, output)?;
        stop.map(|()| delivered)
    }

    /// Whether an item is new; `None` when it was not answered.
    fn verdict(
        &self,
        store: &Store,
        buffer: &[u8],
        slot: &Slot,
        answer: Option<Answer<'_>>,
    ) -> Option<Result<bool, Error>> {
        match (slot.key, answer) {
            (Key::None, _) | (_, Some(Answer::New)) => Some(Ok(true)),
            (Key::Long(index), Some(Answer::Duplicate(record))) => {
                let content = self.content(index, slot, buffer);
                if record.outcome() == content {
                    return Some(Ok(false));
                }
                Some(long::record_next(store, content))
            }
            (_, Some(Answer::Duplicate(_))) => Some(Ok(false)),
            (_, None) => None,
        }
    }
}

/// Neighbouring items of one kind.
struct Run {
    is_new: bool,
    start: usize,
    end: usize,
}

impl Run {
    fn put(&self, buffer: &[u8], output: &mut Output) -> Result<(), Stop> {
        match buffer.get(self.start..self.end) {
            Some(items) if !items.is_empty() => {
                output.put(self.is_new, items).map_err(Stop::Printing)
            }
            _ => Ok(()),
        }
    }
}
