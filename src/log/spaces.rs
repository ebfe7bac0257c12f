//! The names of namespaces and the numbers that stand for them in keys; kept in the manifest.
//!
//! A number is on stable storage before the first key with it is written, and is never given to
//! another name: not even a crash lets keys of two namespaces meet.

use crate::error::{Error, Result};
use crate::format::manifest::Space;
use crate::log::Log;
use crate::time::Timestamp;

/// The most namespaces that a store has: the manifest is written with each segment.
pub(crate) const SPACES_MAX: u32 = 4096;
/// The longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

impl Log {
    /// The namespaces that an earlier process has named.
    pub(crate) fn restore_spaces(&self, spaces: Vec<Space>) {
        self.catalog.lock().spaces = spaces;
    }

    /// When records were last given up by a salvage.
    pub(crate) fn restore_salvaged(&self, salvaged: Option<Timestamp>) {
        self.catalog.lock().salvaged = salvaged;
    }

    /// When the namespace was made.
    pub(crate) fn space_created(&self, number: u32) -> Option<Timestamp> {
        let catalog = self.catalog.lock();
        let found = catalog.spaces.iter().find(|space| space.number == number);
        found.map(|space| space.created)
    }

    /// The number of the namespace with this name, from 1; a new one is made for a new name.
    pub(crate) fn space_number(&self, name: &str, now: Timestamp) -> Result<u32> {
        if name.is_empty() {
            return Err(Error::InvalidNamespace { reason: "its name is empty" });
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Error::InvalidNamespace { reason: "its name is over 255 bytes long" });
        }
        // Whoever finds the name later finds it in a manifest on stable storage.
        let _growing = self.growing.lock();
        let mut catalog = self.catalog.lock();
        if let Some(space) = catalog.spaces.iter().find(|space| space.name == name) {
            return Ok(space.number);
        }
        let number = catalog.spaces.last().map_or(0, |space| space.number).saturating_add(1);
        if number > SPACES_MAX {
            return Err(Error::Full { what: "namespaces" });
        }
        let name = name.to_owned();
        catalog.spaces.push(Space { number, created: now, keys: 0, bytes: 0, name });
        drop(catalog);
        self.save_manifest(now, false).inspect_err(|_| {
            // Nobody has used the number yet, but the manifest may have been replaced.
            if let Some(space) = self.catalog.lock().spaces.last_mut() {
                space.name.clear();
            }
        })?;
        Ok(number)
    }
}
