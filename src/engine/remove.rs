//! Making a key unknown before its time.
//!
//! A removal is a record of its own, which lives as long as what it removes: as long as the
//! removed record could be found again by a restart, so can its removal, with a higher version.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Known, Next};
use crate::error::Result;
use crate::format::record::Kind;
use crate::policy::Room;
use crate::time::Timestamp;
use crate::version::Version;

impl Engine {
    /// Removes what is known of the key, if its version is as expected; true if it was removed.
    ///
    /// A lease on the key is lost with it.
    pub(crate) fn remove(
        &self,
        full: FullKey<'_>,
        expected: Option<Version>,
        now: Timestamp,
    ) -> Result<bool> {
        self.health.check_writable()?;
        if self.is_unseen(full.hash) {
            return Ok(false);
        }
        let mut stripe = self.index.lock(full.hash);
        // Again under the lock, as close() waits for the stripes and then for nobody.
        self.health.check_writable()?;
        let lookup = self.find_marked(&stripe, full.hash, full.bytes, full.marks)?;
        let Some(known) = self.known(&lookup, now)? else {
            return Ok(false);
        };
        if expected.is_some_and(|version| version != known.version()) {
            return Ok(false);
        }
        let next = self.next_removed(&known, now);
        self.write_next(&mut stripe, full, &Before::of(&lookup), &next)?;
        drop(stripe);
        self.waiters.wake(full.hash);
        self.count(full, |counters| &counters.removed);
        Ok(true)
    }

    /// The record that removes what is known of a key.
    pub(crate) fn next_removed(&self, known: &Known<'_>, now: Timestamp) -> Next<'static> {
        Next {
            kind: Kind::Removed,
            state: None,
            outcome: &[],
            now,
            expires: known.view.header.expires,
            lifetime_ms: self.lifetime(),
            room: Room::default(),
        }
    }
}
