//! Sequences: per source, which numbers were accepted, over epochs and over crashes.
//!
//! The pattern is the sequence number of a producer, a device or a stream: a high-water mark, a
//! window of bits below it for numbers that come out of order, and an epoch that a producer raises
//! when it begins anew, so that its predecessor is fenced off. The failures that it must not have:
//! a number accepted twice because a crash took the mark back; and endless retries in strict order,
//! when the response to an early number was lost and its repetition is taken for a gap. Here a
//! number is recorded before it is answered *new*, and whatever was accepted is *duplicate* however
//! long ago, or *too old to tell*, which no source has reason to repeat.
//!
//! `check` answers without recording: authenticate a message between `check` and `accept`, so that
//! a forged number moves no window.
//!
//! Costs: a lookup and a record of some 120 bytes and an eighth of the window's numbers for a call,
//! also for a batch. Limits: one source's calls go one after another; a source is remembered for
//! ever unless it is given a retention, after which its numbers are new again.

mod window;

use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step};
use crate::record::Record;
use crate::store::Store;
use crate::time::Ttl;

use self::window::Window;

/// The widest window, in numbers.
pub const WINDOW_MAX: u32 = 65_536;

/// In which order a source's numbers are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In any order within so many numbers up to the highest: 1 to [`WINDOW_MAX`], rounded up to a
    /// multiple of 64.
    Window(u32),
    /// One after another, each epoch from this number on.
    Strict {
        /// The number that an epoch begins with.
        first: u64,
    },
}

/// The sequences of any number of sources.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::sequence::{Accept, Order, Sequences};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let sequences = Sequences::open(&store, "meters", Order::Window(64))?;
/// assert_eq!(sequences.accept("meter-7", 1, 10)?, Accept::New { skipped: 0 });
/// assert_eq!(sequences.accept("meter-7", 1, 12)?, Accept::New { skipped: 1 });
/// assert_eq!(sequences.accept("meter-7", 1, 11)?, Accept::New { skipped: 0 });
/// assert_eq!(sequences.accept("meter-7", 1, 11)?, Accept::Duplicate);
/// assert_eq!(sequences.accept("meter-7", 2, 0)?, Accept::New { skipped: 0 });
/// assert_eq!(sequences.accept("meter-7", 1, 13)?, Accept::Fenced { epoch: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sequences {
    keys: Keys,
    order: Order,
    retention: Ttl,
}

/// What came of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the answer says whether to handle the number"]
pub enum Accept {
    /// Not seen before: handle it.
    New {
        /// Numbers between the highest before and this one, which have not come yet.
        skipped: u64,
    },
    /// Accepted before.
    Duplicate,
    /// Below the window: whether it was accepted is not known any more.
    TooOld {
        /// The lowest number that is still told.
        low: u64,
    },
    /// Of an epoch that a later one has ended.
    Fenced {
        /// The source's epoch.
        epoch: u64,
    },
    /// In strict order: numbers before it have not come yet.
    Gap {
        /// The number that is to come.
        expected: u64,
    },
}

/// How far a source has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Its epoch.
    pub epoch: u64,
    /// The highest number accepted in it.
    pub high: u64,
    /// Numbers of the window, above the first one that came, that have not come.
    pub missing: Vec<u64>,
}

impl Sequences {
    /// The sequences of this name in the store.
    ///
    /// A source that was accepted with another order or width goes on: what the earlier one cannot
    /// tell counts as accepted.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidConfig`](Error::InvalidConfig) for a window of 0 or of
    /// more than [`WINDOW_MAX`] numbers.
    pub fn open(store: &Store, name: &str, order: Order) -> Result<Self> {
        if let Order::Window(width) = order
            && !(1..=WINDOW_MAX).contains(&width)
        {
            let reason = format!("a window of {width} numbers; it has 1 to {WINDOW_MAX}");
            return Err(Error::InvalidConfig { reason });
        }
        let keys = Keys::open(store, name, "sequence", Policy::default())?;
        Ok(Self { keys, order, retention: Ttl::Never })
    }

    /// The same, with sources forgotten that were not accepted from for so long. It must be longer
    /// than anything is repeated for: a forgotten source begins anew, at any number and epoch.
    #[must_use]
    pub fn retention(mut self, retention: impl Into<Ttl>) -> Self {
        self.retention = retention.into();
        self
    }

    /// What [`Sequences::accept`] would answer now; records nothing.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn check(&self, source: impl AsRef<[u8]>, epoch: u64, number: u64) -> Result<Accept> {
        let seen = self.keys.get(source)?;
        let mut window = seen.as_ref().map(|record| self.decode(record)).transpose()?;
        Ok(Window::accept(&mut window, self.order, epoch, number))
    }

    /// Accepts the number if it is new: of any number of callers one is answered [`Accept::New`].
    ///
    /// # Errors
    /// As [`Store::set_if`]; a number that could not be recorded is not accepted.
    pub fn accept(&self, source: impl AsRef<[u8]>, epoch: u64, number: u64) -> Result<Accept> {
        let answers = self.accept_many(source, epoch, &[number])?;
        // One answer for each number.
        answers.first().copied().ok_or_else(|| self.keys.foreign("no answer for a number"))
    }

    /// Accepts numbers of one source in their order, each as [`Sequences::accept`] would, in one
    /// step and one record: all of them are recorded or, after an error or a crash, none.
    ///
    /// # Errors
    /// As [`Sequences::accept`].
    pub fn accept_many(
        &self,
        source: impl AsRef<[u8]>,
        epoch: u64,
        numbers: &[u64],
    ) -> Result<Vec<Accept>> {
        let (answers, _) = self.keys.change(source, |seen| {
            let mut window = seen.map(|record| self.decode(record)).transpose()?;
            let accept = |number: &u64| Window::accept(&mut window, self.order, epoch, *number);
            let answers: Vec<Accept> = numbers.iter().map(accept).collect();
            let new = answers.iter().any(|answer| matches!(answer, Accept::New { .. }));
            Ok(match window.filter(|_| new) {
                Some(window) => Step::Set(window.encode(), Some(self.retention), answers),
                None => Step::Keep(answers),
            })
        })?;
        Ok(answers)
    }

    /// How far a source has come, if anything was accepted from it.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn progress(&self, source: impl AsRef<[u8]>) -> Result<Option<Progress>> {
        let seen = self.keys.get(source)?;
        let window = seen.map(|record| self.decode(&record)).transpose()?;
        Ok(window.map(|window| window.progress()))
    }

    fn decode(&self, record: &Record) -> Result<Window> {
        let foreign = || self.keys.foreign("the record of a source is not a sequence's");
        let window = Window::decode(record.outcome()).ok_or_else(foreign)?;
        Ok(match self.order {
            Order::Window(width) => window.widened(width),
            Order::Strict { .. } => window,
        })
    }
}
