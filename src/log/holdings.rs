//! What each namespace holds: how many keys, and bytes of their latest records; and its limits.
//!
//! Counted are keys whose latest record is no removal, expired ones included until their segment is
//! given back. The totals are kept exactly, under the limits of whoever adds a key. Beside them
//! stands how much of each lies in which chunk of the address space, so that a segment that is
//! dropped takes its part along without a look at its records. What is added to a chunk is added
//! under the lock of the key's stripe; the chunk is free for another segment only after every
//! stripe was swept, so that nobody adds to what was taken away.

use crate::sys::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::format::record::{Header, Kind};
use crate::format::run::SpaceHeld;
use crate::format::state::STATE_BYTES;
use crate::policy::{OUTCOME_BYTES_RESERVED, Room};
use crate::sys::sync::Mutex;

/// Bytes promised for the completion of a key of this length.
pub(crate) fn promised_bytes(key_len: u64) -> u64 {
    Header::record_bytes_max(key_len, (STATE_BYTES + OUTCOME_BYTES_RESERVED) as u64)
}

/// Keys, and bytes of their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

impl Held {
    pub(crate) const NONE: Self = Self { keys: 0, bytes: 0 };

    /// What a key holds whose latest record has this header.
    ///
    /// A lease holds what its completion is promised, so that completing takes no more.
    pub(crate) fn by(header: &Header) -> Self {
        let own = header.record_bytes();
        match header.kind {
            Kind::Removed => Self::NONE,
            Kind::Started => {
                Self { keys: 1, bytes: own.max(promised_bytes(u64::from(header.key_len))) }
            }
            Kind::Completed | Kind::Failed | Kind::Released => Self { keys: 1, bytes: own },
        }
    }

    /// The most that a key's next record of such lengths can hold.
    pub(crate) fn at_most(kind: Kind, key_len: u64, outcome_len: u64) -> Self {
        let own = Header::record_bytes_max(key_len, outcome_len);
        match kind {
            Kind::Removed => Self::NONE,
            Kind::Started => Self { keys: 1, bytes: own.max(promised_bytes(key_len)) },
            Kind::Completed | Kind::Failed | Kind::Released => Self { keys: 1, bytes: own },
        }
    }
}

/// What one namespace holds.
#[derive(Debug, Default)]
struct Holding {
    keys: AtomicU64,
    bytes: AtomicU64,
    /// By chunk, added up modulo 2^64: a record may be counted in one chunk of its segment and
    /// taken away in another.
    by_chunk: Mutex<BTreeMap<u64, Held>>,
}

impl Holding {
    /// Adds to the total, if it stays within `max`.
    fn grow(total: &AtomicU64, by: u64, max: Option<u64>) -> bool {
        let Some(max) = max else {
            total.fetch_add(by, Ordering::Relaxed);
            return true;
        };
        let more = |now: u64| now.checked_add(by).filter(|sum| *sum <= max);
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn change(&self, chunk: u64, plus: Held, minus: Held) {
        let mut by_chunk = self.by_chunk.lock();
        let held = by_chunk.entry(chunk).or_default();
        held.keys = held.keys.wrapping_add(plus.keys).wrapping_sub(minus.keys);
        held.bytes = held.bytes.wrapping_add(plus.bytes).wrapping_sub(minus.bytes);
        if *held == Held::NONE {
            by_chunk.remove(&chunk);
        }
    }
}

/// What all namespaces hold, by their numbers.
#[derive(Debug)]
pub(crate) struct Holdings {
    spaces: Box<[OnceLock<Box<Holding>>]>,
}

impl Holdings {
    /// For namespaces with numbers up to `max`.
    pub(crate) fn new(max: u32) -> Self {
        Self { spaces: (0..=max).map(|_| OnceLock::new()).collect() }
    }

    fn holding(&self, space: u32) -> Option<&Holding> {
        let holding = self.spaces.get(usize::try_from(space).ok()?)?;
        Some(holding.get_or_init(Box::default))
    }

    /// Takes room for a new key, which is then to be [settled](Self::settle) or
    /// [given back](Self::give).
    ///
    /// # Errors
    /// `Full` if it would exceed a limit; nothing is taken then.
    pub(crate) fn take(&self, space: u32, most: Held, room: Room) -> Result<()> {
        let Some(holding) = self.holding(space) else { return Ok(()) };
        if !Holding::grow(&holding.keys, most.keys, room.max_keys) {
            return Err(Error::Full { what: "max_keys of the namespace" });
        }
        if !Holding::grow(&holding.bytes, most.bytes, room.max_bytes) {
            holding.keys.fetch_sub(most.keys, Ordering::Relaxed);
            return Err(Error::Full { what: "max_bytes of the namespace" });
        }
        Ok(())
    }

    /// Gives back what was taken for a key that was not recorded.
    pub(crate) fn give(&self, space: u32, most: Held) {
        self.replace(space, most, Held::NONE);
    }

    /// What counted as `before` counts as `after`, in the totals alone.
    pub(crate) fn replace(&self, space: u32, before: Held, after: Held) {
        let Some(holding) = self.holding(space) else { return };
        holding.keys.fetch_add(after.keys.wrapping_sub(before.keys), Ordering::Relaxed);
        holding.bytes.fetch_add(after.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
    }

    /// A record lies in the chunk that holds so much, in the chunks alone.
    pub(crate) fn put(&self, space: u32, chunk: u64, held: Held) {
        if let Some(holding) = self.holding(space) {
            holding.change(chunk, held, Held::NONE);
        }
    }

    /// A record in the chunk holds nothing any more, in the chunks alone.
    pub(crate) fn take_away(&self, space: u32, chunk: u64, held: Held) {
        if let Some(holding) = self.holding(space) {
            holding.change(chunk, Held::NONE, held);
        }
    }

    /// Counts what was found at open.
    pub(crate) fn found(&self, chunk: u64, found: &[SpaceHeld]) {
        for one in found {
            let held = Held { keys: one.keys, bytes: one.bytes };
            self.replace(one.space, Held::NONE, held);
            self.put(one.space, chunk, held);
        }
    }

    /// Takes away what lies in the chunks of a dropped segment.
    pub(crate) fn forget(&self, chunks: &Range<u64>) {
        for holding in self.spaces.iter().filter_map(OnceLock::get) {
            let mut by_chunk = holding.by_chunk.lock();
            let gone: Vec<u64> = by_chunk.range(chunks.clone()).map(|(chunk, _)| *chunk).collect();
            for chunk in gone {
                let Some(held) = by_chunk.remove(&chunk) else { continue };
                holding.keys.fetch_sub(held.keys, Ordering::Relaxed);
                holding.bytes.fetch_sub(held.bytes, Ordering::Relaxed);
            }
        }
    }

    /// What the namespace holds.
    pub(crate) fn of(&self, space: u32) -> Held {
        let holding = usize::try_from(space).ok().and_then(|space| self.spaces.get(space)?.get());
        holding.map_or(Held::NONE, |holding| Held {
            keys: holding.keys.load(Ordering::Relaxed),
            bytes: holding.bytes.load(Ordering::Relaxed),
        })
    }
}

/// Adds what a record of a namespace holds to a list of sums.
pub(crate) fn add_held(sums: &mut Vec<SpaceHeld>, space: u32, held: Held) {
    if held == Held::NONE {
        return;
    }
    let at = sums.binary_search_by_key(&space, |sum| sum.space);
    let at = at.unwrap_or_else(|at| {
        sums.insert(at, SpaceHeld { space, keys: 0, bytes: 0 });
        at
    });
    if let Some(sum) = sums.get_mut(at) {
        sum.keys += held.keys;
        sum.bytes += held.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Holdings, add_held};
    use crate::error::Error;
    use crate::policy::Room;

    const ONE: Held = Held { keys: 1, bytes: 100 };

    #[test]
    fn a_limit_is_reached_exactly_and_what_is_given_back_can_be_taken_again() {
        let holdings = Holdings::new(3);
        let room = Room { max_keys: Some(3), max_bytes: Some(250) };
        holdings.take(1, ONE, room).unwrap();
        holdings.take(1, ONE, room).unwrap();
        let refused = holdings.take(1, ONE, room);
        assert!(matches!(refused, Err(Error::Full { what }) if what.starts_with("max_bytes")));
        assert_eq!(holdings.of(1), Held { keys: 2, bytes: 200 });
        holdings.take(1, Held { keys: 1, bytes: 50 }, room).unwrap();
        let refused = holdings.take(1, Held { keys: 1, bytes: 0 }, room);
        assert!(matches!(refused, Err(Error::Full { what }) if what.starts_with("max_keys")));
        holdings.take(2, ONE, room).unwrap();
        holdings.give(1, ONE);
        assert_eq!(holdings.of(1), Held { keys: 2, bytes: 150 });
        holdings.take(1, ONE, room).unwrap();
    }

    #[test]
    fn a_dropped_segment_takes_its_part_along_wherever_in_it_that_was_counted() {
        let holdings = Holdings::new(3);
        let mut sums = Vec::new();
        for _ in 0..4 {
            add_held(&mut sums, 2, ONE);
        }
        add_held(&mut sums, 1, ONE);
        holdings.found(10, &sums);
        // A record that was counted with the segment's first chunk and lies in its second.
        holdings.take_away(2, 11, ONE);
        holdings.put(2, 30, ONE);
        assert_eq!(holdings.of(2), Held { keys: 4, bytes: 400 });
        holdings.forget(&(10..12));
        assert_eq!(holdings.of(2), ONE);
        assert_eq!(holdings.of(1), Held::NONE);
        holdings.forget(&(30..31));
        assert_eq!(holdings.of(2), Held::NONE);
    }
}
