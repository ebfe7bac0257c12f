//! Sealing whatever was recorded so far, so that its files stay as they are from now on.

use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Seals every segment with a record; what is recorded later goes to segments of higher
    /// numbers.
    ///
    /// For a caller who lets nobody record meanwhile. Costs some syncs for each segment that was
    /// not sealed, and the bucket begins with a small segment again.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full) without room for a run; a failed sync poisons the store.
    pub(crate) fn seal_all(&self) -> Result<()> {
        self.health.check_writable()?;
        // As in `maintain`, so that close() comes before this or after it.
        let _compactor = self.compactor.lock();
        self.health.check_writable()?;
        let now = self.clock.now();
        let sealed = self.log.seal_written(&self.hasher, now);
        // The segment prepared ahead is the next one used: none gets a number above it before.
        if let Some((ends, number)) = self.log.activate_spare() {
            self.wheel.add(ends, number);
        }
        sealed.map_err(|error| self.health.judge(error))
    }
}
