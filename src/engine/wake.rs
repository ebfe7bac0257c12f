//! How calls that need maintenance soon wake whoever does it.

use std::time::Duration;

use crate::sys::sync::{Condvar, Mutex};

/// A bell: rung by any thread, heard by the one that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Ends the present wait, or the next one where nobody waits now.
    pub(crate) fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until it is rung, but no longer than `most`.
    pub(crate) fn wait(&self, most: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.changed.wait_for(&mut rung, most);
        }
        *rung = false;
    }
}
