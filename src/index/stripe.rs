//! One lock and the lines it guards: finding, placing, clearing and growing.
//!
//! Invariants, whenever the lock is free:
//! - a slot that holds a location is in its home line or in a later line (the first follows the
//!   last) with no empty slot in any line from home to before it;
//! - `used` is the number of slots that are not empty, cleared ones included;
//! - at least one slot is empty, unless the stripe has no lines.

use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::index::shape::{BLOCKS_MAX, Shape};
use crate::index::slot::{Slot, Tag};
use crate::index::{Index, MOVING};
use crate::key::KeyHash;
use crate::sys::arena::{LINE_SLOTS, Line};
use crate::sys::sync::{Mutex, MutexGuard};

/// Share of used slots above which a stripe grows, in 64ths: 81 %.
const LOAD_MAX_64THS: u64 = 52;

/// A line without a free cell.
const FULL: u8 = 8;

const _: () = assert!(FULL as usize == LINE_SLOTS);

/// What a stripe is laid out anew from.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    slots: Vec<u64>,
    /// Cells used so far, by line.
    filled: Vec<u8>,
}

impl Moving {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), filled: Vec::new() }
    }
}

/// A lock, and what it guards.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Stripe {
    counts: Mutex<Counts>,
    pub(crate) shape: Shape,
}

const _: () = assert!(size_of::<Stripe>() == 64);

#[derive(Debug, Default)]
struct Counts {
    used: u32,
    /// Slots that hold a location.
    held: u32,
}

/// Where a slot is: its line in the stripe and its place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    line: u32,
    place: u32,
}

/// A locked stripe.
#[derive(Debug)]
pub(crate) struct StripeGuard<'a> {
    index: &'a Index,
    shape: &'a Shape,
    counts: MutexGuard<'a, Counts>,
}

impl<'a> StripeGuard<'a> {
    #[inline]
    pub(crate) fn new(index: &'a Index, stripe: &'a Stripe) -> Self {
        Self { index, shape: &stripe.shape, counts: stripe.counts.lock() }
    }

    /// Looks for the slot with the hash's tag whose location `is_key` accepts.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: KeyHash,
        mut is_key: impl FnMut(Location) -> bool,
    ) -> Option<(Cell, Location)> {
        let tag = Tag::of(hash);
        let lines = self.shape.lines();
        if lines == 0 {
            return None;
        }
        let mut number = tag.home(lines);
        if let Some(next) = self.shape.line(number + 1) {
            // Every third search goes on there; waiting for both lines at once is cheaper.
            self.index.prefetch_at(next);
        }
        for _ in 0..lines {
            let line = self.line(number)?;
            let mut matches = matches(line, tag);
            while matches != 0 {
                let place = matches.trailing_zeros();
                matches &= matches - 1;
                let Some(location) = slot_at(line, place).location() else { continue };
                if is_key(location) {
                    return Some((Cell { line: number, place }, location));
                }
            }
            if has_empty(line) {
                return None;
            }
            number = self.after(number);
        }
        None
    }

    /// Lets a slot that was found lead to `location` instead.
    #[inline]
    pub(crate) fn replace(&mut self, cell: Cell, hash: KeyHash, location: Location) {
        if let Some(line) = self.line(cell.line) {
            put(line, cell.place, Slot::new(Tag::of(hash), location));
        }
    }

    /// Makes sure that one more slot can be placed, by growing if need be.
    ///
    /// Slots for which `is_dead` holds are used again before memory is.
    ///
    /// # Errors
    /// `Full` when the reserved address space for lines is used up; nothing has changed then.
    #[inline]
    pub(crate) fn reserve(&mut self, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        if u64::from(self.counts.used) < self.capacity() {
            return Ok(());
        }
        self.make_room(is_dead)
    }

    /// Places a slot for a hash that [`find`](Self::find) did not find.
    ///
    /// [`reserve`](Self::reserve) has made room since the stripe was locked.
    #[inline]
    pub(crate) fn place(&mut self, hash: KeyHash, location: Location) {
        let tag = Tag::of(hash);
        let lines = self.shape.lines();
        let mut number = if lines == 0 { return } else { tag.home(lines) };
        for _ in 0..lines {
            let Some(line) = self.line(number) else { return };
            if let Some(cell) = line.0.iter().find(|cell| Slot::load(cell).is_free()) {
                self.counts.used += u32::from(Slot::load(cell).is_empty());
                self.counts.held += 1;
                Slot::new(tag, location).store(cell);
                return;
            }
            number = self.after(number);
        }
    }

    /// Frees every slot whose location is dead; returns how many.
    pub(crate) fn sweep(&mut self, is_dead: impl Fn(Location) -> bool) -> u64 {
        let mut swept = 0;
        for number in 0..self.shape.lines() {
            let Some(line) = self.index.line(self.shape.line(number).unwrap_or(usize::MAX)) else {
                break;
            };
            let ends_here = line.0.iter().any(|cell| Slot::load(cell).is_empty());
            for cell in &line.0 {
                if Slot::load(cell).location().is_some_and(&is_dead) {
                    // In a line without an empty slot, searches must go on to the next one.
                    let free = if ends_here { Slot::EMPTY } else { Slot::CLEARED };
                    free.store(cell);
                    self.counts.used -= u32::from(ends_here);
                    self.counts.held -= 1;
                    swept += 1;
                }
            }
        }
        swept
    }

    /// Visits every location that a slot leads to.
    pub(crate) fn each(&self, mut visit: impl FnMut(Location)) {
        for number in 0..self.shape.lines() {
            for cell in self.line(number).map_or(&[][..], |line| &line.0) {
                if let Some(location) = Slot::load(cell).location() {
                    visit(location);
                }
            }
        }
    }

    /// Slots that hold a location.
    pub(crate) fn held(&self) -> u64 {
        u64::from(self.counts.held)
    }

    /// Used slots allowed; one slot always stays empty.
    #[inline]
    fn capacity(&self) -> u64 {
        let slots = u64::from(self.shape.lines()) * LINE_SLOTS as u64;
        (slots * LOAD_MAX_64THS / 64).min(slots.saturating_sub(1))
    }

    /// The line that a search goes on to.
    #[inline]
    fn after(&self, number: u32) -> u32 {
        if number + 1 == self.shape.lines() { 0 } else { number + 1 }
    }

    #[inline]
    fn line(&self, number: u32) -> Option<&'a Line> {
        self.index.line(self.shape.line(number)?)
    }

    /// Lays the stripe out anew without its free and dead slots, larger if they were few.
    #[cold]
    fn make_room(&mut self, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        MOVING.with_borrow_mut(|moving| {
            moving.slots.clear();
            moving.slots.reserve(self.counts.held as usize);
            for number in 0..self.shape.lines() {
                let Some(line) = self.line(number) else { break };
                for slot in line.0.iter().map(Slot::load) {
                    if slot.location().is_some_and(|location| !is_dead(location)) {
                        moving.slots.push(slot.bits());
                    }
                }
            }
            let kept = moving.slots.len() as u64;
            if kept + kept / 16 + 1 > self.capacity() {
                self.grow()?;
            }
            self.lay_out(moving);
            Ok(())
        })
    }

    /// Clears all lines and places the slots again.
    ///
    /// As the home line grows with the tag, both the slots and the lines they go to are passed
    /// from front to back.
    fn lay_out(&mut self, moving: &mut Moving) {
        let lines = self.shape.lines();
        for number in 0..lines {
            for cell in self.line(number).map_or(&[][..], |line| &line.0) {
                Slot::EMPTY.store(cell);
            }
        }
        moving.filled.clear();
        moving.filled.resize(lines as usize, 0);
        for bits in &moving.slots {
            let slot = Slot::from_bits(*bits);
            let mut number = slot.tag().home(lines);
            // Ends, as there are fewer slots than cells.
            while moving.filled.get(number as usize).is_some_and(|filled| *filled == FULL) {
                number = self.after(number);
            }
            let Some(filled) = moving.filled.get_mut(number as usize) else { return };
            if let Some(line) = self.line(number) {
                put(line, u32::from(*filled), slot);
            }
            *filled += 1;
        }
        let count = u32::try_from(moving.slots.len()).unwrap_or(u32::MAX);
        self.counts.used = count;
        self.counts.held = count;
    }

    /// Adds a block, or moves to blocks of twice the size. The lines' contents are arbitrary after.
    fn grow(&mut self) -> Result<()> {
        let full = || Error::Full { what: "index space" };
        let (count, order) = (self.shape.block_count(), self.shape.order());
        let mut blocks: Vec<u32> = (0..count).map(|index| self.shape.block(index)).collect();
        if count < BLOCKS_MAX {
            blocks.push(self.index.blocks.take(order).ok_or_else(full)?);
            self.shape.set(order, &blocks);
            return Ok(());
        }
        let mut larger = Vec::with_capacity(BLOCKS_MAX);
        for _ in 0..BLOCKS_MAX / 2 + 1 {
            let Some(block) = self.index.blocks.take(order + 1) else {
                larger.iter().for_each(|block| self.index.blocks.give(*block, order + 1));
                return Err(full());
            };
            larger.push(block);
        }
        self.shape.set(order + 1, &larger);
        blocks.iter().for_each(|block| self.index.blocks.give(*block, order));
        Ok(())
    }
}

/// Which slots of a line have the tag, one bit a slot.
#[inline]
pub(crate) fn matches(line: &Line, tag: Tag) -> u32 {
    let bit = |(place, cell)| u32::from(Slot::load(cell).matches(tag)) << place;
    line.0.iter().enumerate().map(bit).fold(0, |mask, bit| mask | bit)
}

/// True when a search ends in this line at the latest.
#[inline]
pub(crate) fn has_empty(line: &Line) -> bool {
    line.0.iter().fold(false, |any, cell| any | Slot::load(cell).is_empty())
}

#[inline]
fn slot_at(line: &Line, place: u32) -> Slot {
    line.0.get(place as usize).map_or(Slot::EMPTY, Slot::load)
}

#[inline]
fn put(line: &Line, place: u32, slot: Slot) {
    if let Some(cell) = line.0.get(place as usize) {
        slot.store(cell);
    }
}

#[cfg(test)]
mod tests {
    use crate::format::location::Location;
    use crate::index::Index;
    use crate::key::KeyHash;
    use std::collections::{BTreeMap, BTreeSet};

    fn hash_of(i: u64) -> KeyHash {
        KeyHash::from_u64(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()))
    }

    fn insert(index: &Index, hash: KeyHash, at: Location, dead: &BTreeSet<u64>) {
        let is_dead = |location: Location| dead.contains(&location.units());
        let mut stripe = index.lock(hash);
        stripe.reserve(is_dead).unwrap();
        assert!(stripe.find(hash, |location| location == at).is_none());
        stripe.place(hash, at);
    }

    fn present(index: &Index, hash: KeyHash, at: Location) -> bool {
        index.lock(hash).find(hash, |location| location == at).is_some()
    }

    #[test]
    fn everything_placed_is_found_while_the_index_grows_a_thousandfold() {
        for stripes in [1, 8] {
            let index = Index::new(stripes).unwrap();
            let at = |i: u64| Location::from_units(i + 1);
            for i in 0..40_000 {
                insert(&index, hash_of(i), at(i), &BTreeSet::new());
            }
            assert!((0..40_000).all(|i| present(&index, hash_of(i), at(i))));
            assert!((40_000..50_000).all(|i| !present(&index, hash_of(i), at(i))));
            let per_key = index.bytes() / 40_000;
            assert!(per_key <= 12, "{per_key} bytes a key");
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_by_their_locations() {
        let index = Index::new(1).unwrap();
        for i in 1..500 {
            insert(&index, hash_of(7), Location::from_units(i), &BTreeSet::new());
        }
        assert!((1..500).all(|i| present(&index, hash_of(7), Location::from_units(i))));
        assert!(!present(&index, hash_of(7), Location::from_units(500)));
    }

    #[test]
    fn a_sweep_frees_the_dead_and_loses_nothing_that_lives() {
        let index = Index::new(2).unwrap();
        let mut model = BTreeMap::new();
        let mut next = 1;
        for round in 0..60 {
            for _ in 0..300 {
                let (hash, at) = (hash_of(next), Location::from_units(next));
                insert(&index, hash, at, &BTreeSet::new());
                model.insert(next, hash);
                next += 1;
            }
            let dead: BTreeSet<u64> = model.keys().copied().filter(|i| i % 60 <= round).collect();
            for stripe in 0..2 {
                index.lock_stripe(stripe).sweep(|location| dead.contains(&location.units()));
            }
            model.retain(|i, _| !dead.contains(i));
            assert!(model.iter().all(|(i, hash)| present(&index, *hash, Location::from_units(*i))));
            assert!(dead.iter().all(|i| !present(&index, hash_of(*i), Location::from_units(*i))));
            let held = index.lock_stripe(0).held() + index.lock_stripe(1).held();
            assert_eq!(held, model.len() as u64);
        }
    }

    #[test]
    fn an_index_at_constant_load_does_not_grow() {
        let index = Index::new(1).unwrap();
        let mut dead = BTreeSet::new();
        for i in 1..=1000 {
            insert(&index, hash_of(i), Location::from_units(i), &dead);
        }
        let bytes = index.bytes();
        for i in 1001..20_000 {
            dead.insert(i - 1000);
            insert(&index, hash_of(i), Location::from_units(i), &dead);
        }
        assert!(index.bytes() <= bytes * 5 / 4, "{} after {bytes}", index.bytes());
        assert!((19_000..20_000).all(|i| present(&index, hash_of(i), Location::from_units(i))));
    }
}
