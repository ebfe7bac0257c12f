//! Whether the store may still write: open, poisoned by a failure, or closed.

use crate::sys::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};
use crate::sys::sync::Mutex;

const OPEN: u8 = 0;
const POISONED: u8 = 1;
const CLOSED: u8 = 2;

/// The state, and the failure behind it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    reason: Mutex<String>,
}

impl Health {
    /// Refuses what would write.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.state.load(Ordering::Acquire) == OPEN { Ok(()) } else { Err(self.refusal()) }
    }

    /// Refuses everything once the store is closed.
    #[inline]
    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.state.load(Ordering::Acquire) == CLOSED { Err(Error::Closed) } else { Ok(()) }
    }

    /// Refuses what relies on the disk once it has failed; not because the store is closed.
    pub(crate) fn check_sound(&self) -> Result<()> {
        if self.reason.lock().is_empty() { Ok(()) } else { Err(self.poisoned()) }
    }

    /// Ends all writing if the error says that what reached the disk is unknown.
    pub(crate) fn judge(&self, error: Error) -> Error {
        if error.is_final() { self.poison(error) } else { error }
    }

    /// Ends all writing because of a failure whose extent is unknown.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let mut reason = self.reason.lock();
        if reason.is_empty() {
            *reason = error.to_string();
        }
        drop(reason);
        let _ = self.state.compare_exchange(OPEN, POISONED, Ordering::AcqRel, Ordering::Acquire);
        error
    }

    /// Ends all use; true for the one caller that did it.
    pub(crate) fn close(&self) -> bool {
        self.state.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }

    #[cold]
    fn refusal(&self) -> Error {
        if self.state.load(Ordering::Acquire) == CLOSED {
            return Error::Closed;
        }
        self.poisoned()
    }

    fn poisoned(&self) -> Error {
        Error::Poisoned { reason: self.reason.lock().clone() }
    }
}
