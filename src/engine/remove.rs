//! Making a key unknown before its time.
//!
//! A removal is a record of its own, which lives as long as what it removes: as long as the
//! removed record could be found again by a restart, so can its removal, with a higher version.

use std::sync::atomic::Ordering;

use crate::engine::Engine;
use crate::error::Result;
use crate::format::record::Kind;
use crate::log::Draft;

impl Engine {
    /// Removes a key's live record; true if there was one.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        self.health.check_writable()?;
        self.config.limits.check_key(key)?;
        let hash = self.hasher.hash(key);
        let now = self.clock.now();
        let mut stripe = self.index.lock(hash);
        // Again under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = self.find(&stripe, hash, key)?;
        let (Some(known), Some(cell)) = (lookup.live(now), lookup.cell) else {
            return Ok(false);
        };
        let draft = Draft {
            kind: Kind::Removed,
            key,
            outcome: &[],
            hash,
            created: now,
            expires: known.meta.expires,
            after: Some(known.meta.version),
        };
        let (location, _version) = self.append(&draft, self.lifetime())?;
        stripe.replace(cell, hash, location);
        drop(stripe);
        self.counters().removed.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}
