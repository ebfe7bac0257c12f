//! Bloom filters over the keys of each expiry bucket, which can say *certainly not seen*.
//!
//! Every key that has a slot in the index is in the filter of the bucket that its record lies in;
//! it is added before the slot is set. A filter begins small. When it has as many keys as it was
//! made for, a layer twice as large is added, so that it is sized by what arrives; when that one is
//! half full or its bucket has come to rest, the filter is laid out anew from the index, as one
//! layer of the size that it turned out to need. It goes with its bucket.
//!
//! Questions take no lock (see [`layers`]). A key that is added late to a layer that was given up,
//! or has become another bucket's, can do no more than make some other key look as if it was seen.

pub(crate) mod forecast;
pub(crate) mod layers;
pub(crate) mod line;
pub(crate) mod room;

#[cfg(all(test, oncelog_shuttle))]
mod models;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use crate::filter::forecast::{KEYS_MAX, ORDER_FIRST, order_for};
use crate::filter::layers::{LAYERS_MAX, Layers, Place};
use crate::filter::line::Print;
use crate::filter::room::{ORDER_MAX, Room};
use crate::stats::FilterStats;
use crate::sys::arena::{Arena, LINE_SLOTS, Line};
use crate::sys::sync::Mutex;
use crate::sys::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::time::Timestamp;

/// Buckets that there can be: each has a layer at least.
const BUCKETS_MAX: usize = LAYERS_MAX;
/// By how much the next layer is larger.
const ORDER_STEP: u32 = 1;
/// A bucket that still grows is laid out anew when it has so many layers.
const LAYERS_GROWING: usize = 3;

/// The filters of one store.
#[derive(Debug)]
pub(crate) struct Filter {
    layers: Layers,
    /// For each chunk of the log, one and the number of its bucket; zero where that is not known.
    chunks: Arena,
    /// The layer that each bucket's keys are added to.
    targets: Box<[AtomicUsize]>,
    /// There was no room for a bucket: nothing can be said any more.
    blind: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    room: Room,
    buckets: BTreeMap<Timestamp, Bucket>,
    free_buckets: BTreeSet<usize>,
    free_layers: BTreeSet<usize>,
}

#[derive(Debug)]
struct Bucket {
    number: usize,
    layers: Vec<usize>,
    /// Keys added at the last look.
    seen: u64,
}

/// Layers of a bucket that is being laid out anew, which go when that is done.
#[derive(Debug)]
pub(crate) struct Outgoing(Vec<usize>);

impl Filter {
    /// Filters without keys, for a log of so many chunks.
    pub(crate) fn new(chunks: usize) -> io::Result<Self> {
        let layers = Layers::new()?;
        let chunk_lines = chunks.div_ceil(LINE_SLOTS);
        let state = State {
            room: Room::new(layers.line_count()),
            buckets: BTreeMap::new(),
            free_buckets: (0..BUCKETS_MAX).collect(),
            free_layers: (0..LAYERS_MAX).collect(),
        };
        Ok(Self {
            layers,
            chunks: Arena::reserve(chunk_lines, chunk_lines)?,
            targets: (0..BUCKETS_MAX).map(|_| AtomicUsize::new(0)).collect(),
            blind: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// True when no key with this imprint has a slot.
    #[inline]
    pub(crate) fn excludes(&self, imprint: u64) -> bool {
        !self.blind.load(Ordering::Relaxed) && self.layers.exclude(Print::of(imprint))
    }

    /// Adds a key whose record lies in the chunk; false if the chunk must be adopted first.
    ///
    /// The key's stripe is locked, and its slot not set yet.
    #[inline]
    pub(crate) fn add(&self, chunk: u64, imprint: u64) -> bool {
        let Some(bucket) = self.bucket_of(chunk) else {
            return self.blind.load(Ordering::Relaxed);
        };
        let Some(target) = self.targets.get(bucket) else { return true };
        let layer = target.load(Ordering::Acquire);
        if let Some(order) = self.layers.add(layer, Print::of(imprint)) {
            self.extend(bucket, layer, order);
        }
        true
    }

    /// The bucket of a chunk's records.
    #[inline]
    pub(crate) fn bucket_of(&self, chunk: u64) -> Option<usize> {
        let number = self.chunk(chunk)?.load(Ordering::Acquire);
        usize::try_from(number).ok()?.checked_sub(1)
    }

    /// The chunks hold records of the bucket ending at `ends`.
    #[cold]
    pub(crate) fn adopt(&self, ends: Timestamp, chunks: Range<u64>) {
        let mut state = self.state.lock();
        let known = state.buckets.get(&ends).map(|bucket| bucket.number);
        let Some(number) = known.or_else(|| self.begin_bucket(&mut state, ends)) else {
            self.blind.store(true, Ordering::SeqCst);
            return;
        };
        for chunk in chunks {
            if let Some(cell) = self.chunk(chunk) {
                cell.store(number as u64 + 1, Ordering::Release);
            }
        }
    }

    /// The chunks hold nothing any more.
    pub(crate) fn release(&self, chunks: Range<u64>) {
        for cell in chunks.filter_map(|chunk| self.chunk(chunk)) {
            cell.store(0, Ordering::Release);
        }
    }

    /// Drops the filters of all buckets that have ended.
    pub(crate) fn drop_ended(&self, now: Timestamp) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        while let Some(first) = state.buckets.first_entry() {
            if *first.key() > now || *first.key() == Timestamp::NEVER {
                break;
            }
            let bucket = first.remove();
            gone.extend(bucket.layers);
            state.free_buckets.insert(bucket.number);
        }
        drop(state);
        self.give_up(&gone);
    }

    /// Buckets to be laid out anew: of many layers, or of several and with as many keys in the last
    /// as the one before takes, or with no new keys since the last call; but none with more keys
    /// than one layer takes.
    pub(crate) fn due(&self) -> Vec<usize> {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        for bucket in state.buckets.values_mut() {
            let added = bucket.layers.iter().map(|layer| self.layers.added_to(*layer)).sum::<u64>();
            let rests = bucket.seen == added;
            bucket.seen = added;
            if added > KEYS_MAX {
                continue;
            }
            let [.., before, last] = bucket.layers.as_slice() else { continue };
            let grown = self.layers.added_to(*last) >= self.layers.added_to(*before);
            if rests || grown || bucket.layers.len() >= LAYERS_GROWING {
                due.push(bucket.number);
            }
        }
        due
    }

    /// Begins a new layer for a bucket with so many keys, which are then to be added once more;
    /// after that, the others may go.
    pub(crate) fn begin_anew(&self, number: usize, keys: u64) -> Option<Outgoing> {
        let order = order_for(keys);
        let mut state = self.state.lock();
        let state = &mut *state;
        let bucket = state.buckets.values_mut().find(|bucket| bucket.number == number)?;
        let layer = self.begin_layer(&mut state.room, &mut state.free_layers, order)?;
        let outgoing = std::mem::replace(&mut bucket.layers, vec![layer]);
        self.target(number, layer);
        Some(Outgoing(outgoing))
    }

    /// Every key that is in the layers is elsewhere as well.
    pub(crate) fn end_anew(&self, outgoing: &Outgoing) {
        self.give_up(&outgoing.0);
    }

    pub(crate) fn stats(&self) -> FilterStats {
        let (buckets, lines) = {
            let state = self.state.lock();
            (state.buckets.len(), state.room.lines_in_use())
        };
        let bytes = (lines * size_of::<Line>()) as u64;
        let mut stats = FilterStats { buckets: buckets as u64, bytes, ..FilterStats::default() };
        let mut right = 1.0;
        for (layer, chance) in self.layers.chances() {
            stats.layers += 1;
            stats.keys += self.layers.added_to(layer);
            right *= 1.0 - chance;
        }
        stats.false_positive_ppm = ((1.0 - right) * 1e6).round() as u64;
        stats
    }

    /// Adds a layer after the one that is full, if nobody has done so.
    #[cold]
    fn extend(&self, number: usize, full: usize, order: u32) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let bucket = state.buckets.values_mut().find(|bucket| bucket.number == number);
        let Some(bucket) = bucket.filter(|bucket| bucket.layers.last() == Some(&full)) else {
            return;
        };
        let order = (order + ORDER_STEP).min(ORDER_MAX);
        // Without room the layer goes on, and is wrong more often.
        if let Some(layer) = self.begin_layer(&mut state.room, &mut state.free_layers, order) {
            bucket.layers.push(layer);
            self.target(number, layer);
        }
    }

    fn begin_bucket(&self, state: &mut State, ends: Timestamp) -> Option<usize> {
        let number = state.free_buckets.pop_first()?;
        let layer = self.begin_layer(&mut state.room, &mut state.free_layers, ORDER_FIRST)?;
        self.target(number, layer);
        state.buckets.insert(ends, Bucket { number, layers: vec![layer], seen: 0 });
        Some(number)
    }

    fn begin_layer(
        &self,
        room: &mut Room,
        free: &mut BTreeSet<usize>,
        order: u32,
    ) -> Option<usize> {
        let first = room.take(order)?;
        let Some(layer) = free.pop_first() else {
            room.give(first, order);
            return None;
        };
        self.layers.begin(layer, Place { first, order });
        Some(layer)
    }

    fn target(&self, bucket: usize, layer: usize) {
        if let Some(target) = self.targets.get(bucket) {
            target.store(layer, Ordering::Release);
        }
    }

    /// Takes layers out of every question, and their lines back once they are empty.
    fn give_up(&self, layers: &[usize]) {
        if layers.is_empty() {
            return;
        }
        let place = |layer: &usize| Some((*layer, self.layers.place(*layer)?));
        let places: Vec<_> = layers.iter().filter_map(place).collect();
        {
            let _state = self.state.lock();
            self.layers.end(layers);
        }
        // Not under the lock, which a caller may wait for.
        places.iter().for_each(|(_, place)| self.layers.clear(*place));
        let mut state = self.state.lock();
        for (layer, place) in places {
            state.room.give(place.first, place.order);
            state.free_layers.insert(layer);
        }
    }

    /// The numbers of all buckets.
    #[cfg(all(test, oncelog_shuttle))]
    pub(crate) fn buckets(&self) -> Vec<usize> {
        self.state.lock().buckets.values().map(|bucket| bucket.number).collect()
    }

    #[cfg(test)]
    fn lines_used_ever(&self) -> usize {
        self.state.lock().room.end()
    }

    #[inline]
    fn chunk(&self, chunk: u64) -> Option<&AtomicU64> {
        let chunk = usize::try_from(chunk).ok()?;
        self.chunks.line(chunk / LINE_SLOTS)?.0.get(chunk % LINE_SLOTS)
    }
}
