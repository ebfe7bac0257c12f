//! One lock and the lines it guards: finding, placing, clearing and growing.
//!
//! Invariants, whenever the lock is free:
//! - a slot that holds a location is in its home line or in a later line (the first follows the
//!   last) with no empty slot in any line from home to before it;
//! - at least one slot is empty, unless the stripe has no lines;
//! - `left` slots may be taken from the empty ones before the stripe is laid out anew;
//! - the sequence is even, and differs from what it was before any slot changed.

use crate::sys::sync::atomic::{AtomicU32, Ordering, fence};

use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::index::search::Search;
use crate::index::shape::{BLOCKS_MAX, Shape};
use crate::index::slot::{Slot, TAG_SHIFT, Tag};
use crate::index::{Index, MOVING};
use crate::key::KeyHash;
use crate::sys::arena::{LINE_SLOTS, Line};
use crate::sys::compare::Upper;
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
    /// Changes with every change of a slot; odd while slots are moved.
    pub(crate) sequence: AtomicU32,
    pub(crate) shape: Shape,
}

const _: () = assert!(size_of::<Stripe>() == 64 || cfg!(all(test, oncelog_shuttle)));

impl Stripe {
    /// An empty stripe that may hold so many slots before it asks for more.
    pub(crate) fn new(granted: u32) -> Self {
        let counts = Mutex::new(Counts { granted, ..Counts::default() });
        Self { counts, ..Self::default() }
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Empty slots that may still be taken.
    left: u32,
    /// Slots that hold a location.
    held: u32,
    /// Slots that may hold one, as far as the limit on keys is concerned.
    granted: u32,
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
    stripe: &'a Stripe,
    counts: MutexGuard<'a, Counts>,
}

impl<'a> StripeGuard<'a> {
    #[inline]
    pub(crate) fn new(index: &'a Index, stripe: &'a Stripe) -> Self {
        Self { index, stripe, counts: stripe.counts.lock() }
    }

    /// Looks for the slot with the hash's tag whose location `is_key` accepts.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: KeyHash,
        mut is_key: impl FnMut(Location) -> bool,
    ) -> Option<(Cell, Location)> {
        let tag = Tag::of(hash);
        let lines = self.shape().lines();
        if lines == 0 {
            return None;
        }
        let mut number = tag.home(lines);
        for _ in 0..lines {
            let line = self.line(number);
            let tags = tags_of(line);
            let mut equal = tags.equal(tag.bits());
            while equal != 0 {
                let place = equal.trailing_zeros();
                equal &= equal - 1;
                let Some(location) = slot_at(line, place).location() else { continue };
                if is_key(location) {
                    return Some((Cell { line: number, place }, location));
                }
            }
            if tags.equal(Tag::NONE_BITS) != 0 {
                return None;
            }
            number = self.after(number);
        }
        None
    }

    /// True when nothing in the stripe has changed since the search began.
    #[inline]
    pub(crate) fn is_as_in(&self, search: &Search<'_>) -> bool {
        self.stripe.sequence.load(Ordering::Relaxed) == search.sequence()
    }

    /// Lets a slot that was found lead to `location` instead.
    #[inline]
    pub(crate) fn replace(&mut self, cell: Cell, hash: KeyHash, location: Location) {
        put(self.line(cell.line), cell.place, Slot::new(Tag::of(hash), location));
        self.changed();
    }

    /// Makes sure that one more slot can be placed, by growing if need be.
    ///
    /// Slots for which `is_dead` holds are used again before memory is.
    ///
    /// # Errors
    /// `Full` when the limit on keys is reached, or the reserved address space for lines is used
    /// up; no key has changed then.
    #[inline]
    pub(crate) fn reserve(&mut self, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        if self.counts.held >= self.counts.granted {
            self.ask_for_more(&is_dead)?;
        }
        if self.counts.left > 0 { Ok(()) } else { self.make_room(1, is_dead) }
    }

    /// As [`reserve`](Self::reserve), for `new` keys, of `all` that slots will be set for: those
    /// that have a slot may have lost it by then, if it was dead.
    pub(crate) fn reserve_many(
        &mut self,
        new: u32,
        all: u32,
        is_dead: impl Fn(Location) -> bool,
    ) -> Result<()> {
        // Room first: to make it gives back what was granted and is not used.
        if self.counts.left < all {
            self.make_room(all, &is_dead)?;
        }
        while self.counts.granted.saturating_sub(self.counts.held) < new {
            self.ask_for_many(new, &is_dead)?;
        }
        Ok(())
    }

    /// Lets other stripes have what was granted for keys that were not placed after all.
    pub(crate) fn give_up(&mut self) {
        self.give_back();
    }

    /// Lets no search without the lock hold until [`show`](Self::show): several slots change, here
    /// and in other stripes, and who sees one changed is to see all.
    ///
    /// In between the stripe is not laid out anew: [`reserve_many`](Self::reserve_many) comes
    /// before.
    pub(crate) fn hide(&mut self) {
        let sequence = self.stripe.sequence.load(Ordering::Relaxed);
        debug_assert!(sequence.is_multiple_of(2));
        self.stripe.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A search that sees any slot that is set from here on sees this, or a later sequence.
        fence(Ordering::Release);
    }

    /// Ends what [`hide`](Self::hide) began; every stripe's slots are set by now.
    pub(crate) fn show(&mut self) {
        let sequence = self.stripe.sequence.load(Ordering::Relaxed);
        self.stripe.sequence.store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// As [`reserve`](Self::reserve), for a key that is known already, whatever the limit is now.
    pub(crate) fn reserve_known(&mut self) -> Result<()> {
        if self.counts.held >= self.counts.granted {
            self.counts.granted += self.index.credit.take_beyond();
        }
        if self.counts.left > 0 { Ok(()) } else { self.make_room(1, |_| false) }
    }

    /// Gets leave for one more key, if need be for the room of a dead one.
    #[cold]
    fn ask_for_more(&mut self, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        if let Some(share) = self.index.credit.take() {
            self.counts.granted += share;
            return Ok(());
        }
        self.sweep(is_dead);
        let refused = self.counts.held >= self.counts.granted;
        if refused { Err(Error::Full { what: "max_keys" }) } else { Ok(()) }
    }

    /// As [`ask_for_more`](Self::ask_for_more); an error where `new` keys have no leave after that.
    fn ask_for_many(&mut self, new: u32, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        if let Some(share) = self.index.credit.take() {
            self.counts.granted += share;
            return Ok(());
        }
        self.free_dead(is_dead);
        let refused = self.counts.granted.saturating_sub(self.counts.held) < new;
        if refused { Err(Error::Full { what: "max_keys" }) } else { Ok(()) }
    }

    /// Lets other stripes have what this one does not use of the limit.
    fn give_back(&mut self) {
        let spare = self.counts.granted.saturating_sub(self.counts.held);
        self.counts.granted -= self.index.credit.give(spare);
    }

    /// Places a slot where a search found an empty one and not the hash.
    ///
    /// [`reserve`](Self::reserve) has made room, and the stripe [is as](Self::is_as_in) the search
    /// found it; where `reserve` has changed it, the slot is placed as by [`place`](Self::place).
    #[inline]
    pub(crate) fn place_in(&mut self, search: &Search<'_>, hash: KeyHash, location: Location) {
        match search.empty_cell() {
            Some(cell) if self.is_as_in(search) => {
                Slot::new(Tag::of(hash), location).store(cell);
                self.counts.left -= 1;
                self.counts.held += 1;
                self.changed();
            }
            _ => self.place(hash, location),
        }
    }

    /// Places a slot for a hash that [`find`](Self::find) did not find.
    ///
    /// [`reserve`](Self::reserve) has made room since the stripe was locked.
    pub(crate) fn place(&mut self, hash: KeyHash, location: Location) {
        let tag = Tag::of(hash);
        let lines = self.shape().lines();
        let mut number = if lines == 0 { return } else { tag.home(lines) };
        for _ in 0..lines {
            let line = self.line(number);
            if let Some(cell) = line.0.iter().find(|cell| Slot::load(cell).is_free()) {
                self.counts.left -= u32::from(Slot::load(cell).is_empty());
                self.counts.held += 1;
                Slot::new(tag, location).store(cell);
                self.changed();
                return;
            }
            number = self.after(number);
        }
    }

    /// Frees every slot whose location is dead, and lets other stripes have what that gives;
    /// returns how many.
    pub(crate) fn sweep(&mut self, is_dead: impl Fn(Location) -> bool) -> u64 {
        let swept = self.free_dead(is_dead);
        self.give_back();
        swept
    }

    fn free_dead(&mut self, is_dead: impl Fn(Location) -> bool) -> u64 {
        let mut swept = 0;
        for number in 0..self.shape().lines() {
            let line = self.line(number);
            let ends_here = line.0.iter().any(|cell| Slot::load(cell).is_empty());
            for cell in &line.0 {
                if Slot::load(cell).location().is_some_and(&is_dead) {
                    // In a line without an empty slot, searches must go on to the next one.
                    let free = if ends_here { Slot::EMPTY } else { Slot::CLEARED };
                    free.store(cell);
                    self.counts.left += u32::from(ends_here);
                    self.counts.held -= 1;
                    swept += 1;
                }
            }
        }
        if swept > 0 {
            self.changed();
        }
        swept
    }

    /// Visits every location that a slot leads to.
    pub(crate) fn each(&self, mut visit: impl FnMut(Location)) {
        self.each_tagged(|_, location| visit(location));
    }

    /// Visits every slot that leads to a location.
    pub(crate) fn each_tagged(&self, mut visit: impl FnMut(Tag, Location)) {
        for slot in self.blocks().flatten().flat_map(|line| line.0.iter().map(Slot::load)) {
            if let Some(location) = slot.location() {
                visit(slot.tag(), location);
            }
        }
    }

    /// Slots that hold a location.
    pub(crate) fn held(&self) -> u64 {
        u64::from(self.counts.held)
    }

    #[inline]
    fn shape(&self) -> &'a Shape {
        &self.stripe.shape
    }

    /// Searches that began before this moment hold no longer.
    ///
    /// One slot set is one atomic store, so that a search sees it or not; the sequence is odd only
    /// where several change together, see [`make_room`](Self::make_room).
    #[inline]
    fn changed(&self) {
        let sequence = self.stripe.sequence.load(Ordering::Relaxed);
        self.stripe.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Used slots allowed; one slot always stays empty.
    fn capacity(&self) -> u64 {
        let slots = u64::from(self.shape().lines()) * LINE_SLOTS as u64;
        (slots * LOAD_MAX_64THS / 64).min(slots.saturating_sub(1))
    }

    /// The line that a search goes on to.
    #[inline]
    fn after(&self, number: u32) -> u32 {
        if number + 1 == self.shape().lines() { 0 } else { number + 1 }
    }

    #[inline]
    fn line(&self, number: u32) -> &'a Line {
        self.index.line(self.shape().line(self.shape().sizes(), number))
    }

    /// Lays the stripe out anew without its free and dead slots, larger if they were few, so that
    /// so many more can be placed.
    #[cold]
    fn make_room(&mut self, more: u32, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        let sequence = self.stripe.sequence.load(Ordering::Relaxed);
        self.stripe.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A search that sees any of what follows sees an odd sequence, or a later one.
        fence(Ordering::Release);
        let result = self.move_slots(more, is_dead);
        self.stripe.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        result
    }

    fn move_slots(&mut self, more: u32, is_dead: impl Fn(Location) -> bool) -> Result<()> {
        MOVING.with(|moving| {
            let moving = &mut *moving.borrow_mut();
            // One more, as every slot is first written and then counted or not. What is left there
            // of other stripes is written over.
            let most = self.counts.held as usize + 1;
            if moving.slots.len() < most {
                moving.slots.resize(most, 0);
            }
            let mut kept = 0;
            for lines in self.blocks() {
                for line in lines {
                    for cell in &line.0 {
                        let slot = Slot::load(cell);
                        if let Some(to) = moving.slots.get_mut(kept) {
                            *to = slot.bits();
                        }
                        kept += usize::from(slot.location().is_some_and(|at| !is_dead(at)));
                    }
                }
            }
            let spare = (kept as u64 / 16 + 1).max(u64::from(more));
            let mut grown = Ok(());
            while grown.is_ok() && kept as u64 + spare > self.capacity() {
                grown = self.grow();
            }
            // Also where it has not grown enough: after the first step the lines hold nothing.
            self.lay_out(moving, kept);
            grown
        })
    }

    /// The stripe's lines, block by block.
    fn blocks(&self) -> impl Iterator<Item = &'a [Line]> + use<'a> {
        let (shape, index, order) = (self.shape(), self.index, self.shape().order());
        (0..shape.block_count()).map(move |block| index.lines(shape.block(block), order))
    }

    /// Clears all lines and places the first `count` slots again.
    ///
    /// As the home line grows with the tag, both the slots and the lines they go to are passed
    /// from front to back.
    fn lay_out(&mut self, moving: &mut Moving, count: usize) {
        let (shape, sizes) = (self.shape(), self.shape().sizes());
        for line in self.blocks().flatten() {
            line.0.iter().for_each(|cell| Slot::EMPTY.store(cell));
        }
        let Moving { slots, filled } = moving;
        filled.clear();
        filled.resize(sizes.lines() as usize, 0);
        for bits in slots.get(..count).unwrap_or_default() {
            let slot = Slot::from_bits(*bits);
            let mut number = slot.tag().home(sizes.lines());
            // Ends, as there are fewer slots than cells.
            while filled.get(number as usize) == Some(&FULL) {
                number = self.after(number);
            }
            let Some(used) = filled.get_mut(number as usize) else { return };
            let line = self.index.line(shape.line(sizes, number));
            slot.store(&line.0[usize::from(*used) % LINE_SLOTS]);
            *used += 1;
        }
        let count = count as u64;
        let left = self.capacity().saturating_sub(count);
        self.counts.left = u32::try_from(left).unwrap_or(u32::MAX);
        self.counts.held = u32::try_from(count).unwrap_or(u32::MAX);
        self.give_back();
    }

    /// Adds a block, or moves to blocks of twice the size. The lines' contents are arbitrary after.
    fn grow(&mut self) -> Result<()> {
        let full = || Error::Full { what: "index space" };
        let (count, order) = (self.shape().block_count(), self.shape().order());
        let mut blocks: Vec<u32> = (0..count).map(|index| self.shape().block(index)).collect();
        if count < BLOCKS_MAX {
            blocks.push(self.index.blocks.take(order).ok_or_else(full)?);
            self.shape().set(order, &blocks);
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
        self.shape().set(order + 1, &larger);
        blocks.iter().for_each(|block| self.index.blocks.give(*block, order));
        Ok(())
    }
}

/// The tags of a line's slots.
#[inline]
pub(crate) fn tags_of(line: &Line) -> Upper {
    Upper::load::<TAG_SHIFT>(line)
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
            assert!(per_key <= 13, "{per_key} bytes a key");
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
