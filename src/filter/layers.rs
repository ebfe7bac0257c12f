//! The layers of all buckets: which there are, and what is in them, for everybody at any time.
//!
//! Where each layer lies is read under a sequence number, which is odd while layers come or go.
//! Whoever reads it, looks at every layer and finds it unchanged afterwards has seen all layers of
//! one moment; whoever finds it changed has no answer, and does not try again. (This is the
//! sequence lock of the Linux kernel, without its loop.) Lines are atomic integers that stay
//! mapped, so that what a layer given up meanwhile contains is merely not used.

use std::io;

use crossbeam_utils::CachePadded;

use crate::filter::line::{KEYS_PER_LINE, Print, chance};
use crate::sys::arena::{Arena, Line};
use crate::sys::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Lines reserved: 16 GiB of address space.
const LINES: usize = 1 << 28;
const LINES_MIN: usize = 1 << 20;
/// Layers that there can be.
pub(crate) const LAYERS_MAX: usize = 4096;
/// Lines looked at for the rate of wrong answers, of each layer.
const LINES_SAMPLED: usize = 64;
/// How often it is looked whether a layer is full, in keys added; capacities are multiples.
const KEYS_PER_LOOK: u64 = 64;

/// Where a layer lies, in one integer; zero for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) first: usize,
    pub(crate) order: u32,
}

impl Place {
    #[inline]
    fn from_bits(bits: u64) -> Option<Self> {
        let first = usize::try_from(bits >> 8).ok()?;
        (bits != 0).then_some(Self { first, order: (bits & 0x7f) as u32 })
    }

    fn bits(self) -> u64 {
        (self.first as u64) << 8 | 0x80 | u64::from(self.order)
    }

    /// Keys it is made for.
    const fn capacity(self) -> u64 {
        KEYS_PER_LINE << self.order
    }
}

/// All layers of a filter.
#[derive(Debug)]
pub(crate) struct Layers {
    lines: Arena,
    /// Where each layer lies.
    places: Box<[AtomicU64]>,
    /// Keys added to each.
    added: Box<[CachePadded<AtomicU64>]>,
    /// Layers from here on were never used.
    end: AtomicUsize,
    /// Odd while layers come or go.
    sequence: AtomicU64,
}

impl Layers {
    pub(crate) fn new() -> io::Result<Self> {
        let zeros = || (0..LAYERS_MAX).map(|_| AtomicU64::new(0));
        Ok(Self {
            lines: Arena::reserve(LINES, LINES_MIN)?,
            places: zeros().collect(),
            added: zeros().map(CachePadded::new).collect(),
            end: AtomicUsize::new(0),
            sequence: AtomicU64::new(0),
        })
    }

    /// Lines that layers can be made of.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// True when the key is in no layer, and no layer has come or gone meanwhile.
    #[inline]
    pub(crate) fn exclude(&self, print: Print) -> bool {
        let before = self.sequence.load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return false;
        }
        let end = self.end.load(Ordering::Relaxed);
        for place in self.places.iter().take(end) {
            let place = Place::from_bits(place.load(Ordering::Relaxed));
            let line = place.and_then(|place| self.line(place, print));
            if line.is_some_and(|line| print.is_set(line)) {
                return false;
            }
        }
        // What was read before is not read later than the sequence.
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == before
    }

    /// Adds a key; the layer's order, if it is to be followed by another.
    ///
    /// A layer that is gone by now was that of a bucket whose time has passed, or was laid out anew
    /// under the lock of the key's stripe: its key need not be added.
    #[inline]
    pub(crate) fn add(&self, layer: usize, print: Print) -> Option<u32> {
        let place = self.place(layer)?;
        print.set(self.line(place, print)?);
        let added = self.added.get(layer)?.fetch_add(1, Ordering::Relaxed) + 1;
        // Not only at the moment at which it gets full: that may be passed by a thread that comes
        // late, from before the layer was used anew, and there may be no room for another then.
        let is_full = added >= place.capacity() && added.is_multiple_of(KEYS_PER_LOOK);
        is_full.then_some(place.order)
    }

    /// The layer lies there from now on. There is one change at a time.
    pub(crate) fn begin(&self, layer: usize, place: Place) {
        if let Some(added) = self.added.get(layer) {
            added.store(0, Ordering::Relaxed);
        }
        self.end.fetch_max(layer + 1, Ordering::Relaxed);
        self.change(&[layer], place.bits());
    }

    /// There are no such layers any more. There is one change at a time.
    pub(crate) fn end(&self, layers: &[usize]) {
        self.change(layers, 0);
        // Who reads what follows, above all zeros, sees that the sequence has changed.
        fence(Ordering::Release);
    }

    /// Zeroes the lines of a layer that has ended.
    pub(crate) fn clear(&self, place: Place) {
        for word in self.lines.lines(place.first, 1 << place.order).iter().flat_map(|l| &l.0) {
            word.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn place(&self, layer: usize) -> Option<Place> {
        Place::from_bits(self.places.get(layer)?.load(Ordering::Relaxed))
    }

    /// Keys added to the layer.
    pub(crate) fn added_to(&self, layer: usize) -> u64 {
        self.added.get(layer).map_or(0, |added| added.load(Ordering::Relaxed))
    }

    /// Layers that there are now, with the chance of each that it has an unknown key.
    pub(crate) fn chances(&self) -> impl Iterator<Item = (usize, f64)> {
        let end = self.end.load(Ordering::Relaxed);
        (0..end).filter_map(|layer| {
            let place = self.place(layer)?;
            let lines = self.lines.lines(place.first, 1 << place.order);
            let sample = lines.iter().step_by((lines.len() / LINES_SAMPLED).max(1));
            let count = sample.len().max(1) as f64;
            Some((layer, sample.map(chance).sum::<f64>() / count))
        })
    }

    fn change(&self, layers: &[usize], bits: u64) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for place in layers.iter().filter_map(|layer| self.places.get(*layer)) {
            place.store(bits, Ordering::Relaxed);
        }
        self.sequence.store(before + 2, Ordering::Release);
    }

    #[inline]
    fn line(&self, place: Place, print: Print) -> Option<&Line> {
        self.lines.line(place.first + print.line(place.order))
    }
}

const _: () =
    assert!((KEYS_PER_LINE << super::forecast::ORDER_FIRST).is_multiple_of(KEYS_PER_LOOK));
