//! Debouncing: of equal calls within a window the first is let through.
//!
//! The pattern is the repeated click and the burst of equal events: the leading edge acts, and what
//! follows within the window is dropped, or leaves a mark that there is more to do. The window is
//! fixed from the first call on, or refreshed by each repeat. The failure that it must not have: a
//! key without its user or route, so that one user's click swallows another's. Here every call says
//! its [`Scope`]. And a mark must not vanish with its window: it is kept until somebody takes it,
//! for [`MARK_KEPT`] at least.
//!
//! Costs: a lookup and a record for a call that is let through, a lookup for a repeat in a fixed
//! window, and a record as well where it refreshes the window or leaves the first mark. Limits: the
//! last state is seen only by who takes the marks; a window is a bound on how often something is
//! begun, and no lease: see [`begin`](crate::Store::begin) for that.

use std::time::Duration;

use crate::error::Result;
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step, split_u64};
use crate::record::Record;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};

/// How long a mark is kept after the latest repeat if nobody takes it: a day, or the window if that
/// is longer.
pub const MARK_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long repeats are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// For this long from the first call on.
    Fixed(Duration),
    /// Until there was no call for this long.
    Refreshed(Duration),
}

impl Window {
    fn length(self) -> Duration {
        let (Self::Fixed(length) | Self::Refreshed(length)) = self;
        length
    }
}

/// Lets the first of equal calls within a window through.
///
/// ```
/// use oncelog::recipes::debounce::{Admit, Debounce, Window};
/// use oncelog::{Scope, Store};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let clicks = Debounce::open(&store, "clicks", Window::Fixed(Duration::from_secs(5)))?;
/// let ann = Scope::new().principal("ann").operation("POST /orders");
/// let bob = Scope::new().principal("bob").operation("POST /orders");
/// assert_eq!(clicks.admit(&ann, "cart 7")?, Admit::First);
/// assert!(matches!(clicks.admit(&ann, "cart 7")?, Admit::Repeat { .. }));
/// assert_eq!(clicks.admit(&bob, "cart 7")?, Admit::First);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Debounce {
    keys: Keys,
    window: Window,
    length_ms: u64,
    marking: bool,
}

/// What came of [`Debounce::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the answer says whether to act"]
pub enum Admit {
    /// The first in its window: act.
    First,
    /// A repeat: do nothing.
    Repeat {
        /// From when on a call is let through, if none comes before that would refresh the window.
        until: Timestamp,
    },
}

/// What is recorded of a key: when its window ends, and whether there was a repeat in it.
#[derive(Clone, Copy)]
struct Seen {
    until: Timestamp,
    marked: bool,
}

impl Seen {
    fn encode(self) -> Vec<u8> {
        [&self.until.as_millis().to_le_bytes()[..], &[u8::from(self.marked)]].concat()
    }

    fn decode(record: &Record) -> Option<Self> {
        let (until, rest) = split_u64(record.outcome())?;
        let [marked @ 0..=1] = *rest else { return None };
        Some(Self { until: Timestamp::from_millis(until), marked: marked == 1 })
    }
}

impl Debounce {
    /// The windows of this name in the store.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidTtl`](crate::Error::InvalidTtl) for a window of zero or of
    /// more than 1000 years.
    pub fn open(store: &Store, name: &str, window: Window) -> Result<Self> {
        let length_ms = Ttl::After(window.length()).millis()?;
        let keys = Keys::open(store, name, "debounce", Policy::default())?;
        Ok(Self { keys, window, length_ms, marking: false })
    }

    /// The same, with a mark left by repeats: [`Debounce::take_mark`].
    #[must_use]
    pub fn with_marks(mut self) -> Self {
        self.marking = true;
        self
    }

    /// Says whether this is the first call with the key, in the scope, within a window. The scope
    /// says whose call it is and what it asks for; an empty one is for keys that say so themselves.
    ///
    /// # Errors
    /// As [`Store::set_if`]; a call that could not be recorded is not let through.
    pub fn admit(&self, scope: &Scope, key: impl AsRef<[u8]>) -> Result<Admit> {
        let (answer, _) = self.keys.change(scope.key(key), |seen| {
            let now = self.keys.now();
            let until = Timestamp::from_millis(now.as_millis().saturating_add(self.length_ms));
            let opened = Seen { until, marked: false };
            let open = seen.map(|record| self.decode(record)).transpose()?;
            let Some(open) = open.filter(|open| now < open.until) else {
                return Ok(Step::Set(opened.encode(), Some(self.kept(false)), Admit::First));
            };
            let until = match self.window {
                Window::Fixed(_) => open.until,
                Window::Refreshed(_) => open.until.max(until),
            };
            let answer = Admit::Repeat { until };
            let next = Seen { until, marked: open.marked || self.marking };
            if next.until == open.until && next.marked == open.marked {
                return Ok(Step::Keep(answer));
            }
            Ok(Step::Set(next.encode(), Some(self.kept(next.marked)), answer))
        })?;
        Ok(answer)
    }

    /// Takes the mark that repeats have left: true if there was one, and what was done for the key
    /// should be done again. Ask when the work is done; of several who ask, one is answered true.
    /// A call that is let through takes the mark as well, as it is about to act.
    ///
    /// # Errors
    /// As [`Store::set_if`].
    pub fn take_mark(&self, scope: &Scope, key: impl AsRef<[u8]>) -> Result<bool> {
        let (taken, _) = self.keys.change(scope.key(key), |seen| {
            let open = seen.map(|record| self.decode(record)).transpose()?;
            let Some(open) = open.filter(|open| open.marked) else {
                return Ok(Step::Keep(false));
            };
            Ok(Step::Set(Seen { marked: false, ..open }.encode(), None, true))
        })?;
        Ok(taken)
    }

    /// How long a record is kept. At its end the window is over.
    fn kept(&self, marked: bool) -> Ttl {
        let length = Duration::from_millis(self.length_ms);
        Ttl::After(if marked { length.max(MARK_KEPT) } else { length })
    }

    fn decode(&self, record: &Record) -> Result<Seen> {
        let foreign = || self.keys.foreign("the record of a window is not a window's");
        Seen::decode(record).ok_or_else(foreign)
    }
}
