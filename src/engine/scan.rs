//! All keys in a certain state, a stripe at a time.
//!
//! Each stripe is locked for one pass over its slots, and free between two passes. A key that
//! changes meanwhile is seen in one of its states, or not at all.
//!
//! That a key is not found, or not in the state asked for, is an answer as well: whether a pass
//! rests on stable storage depends on every record that it has looked at, removals included.

use crate::engine::Engine;
use crate::engine::claim::PREFIX_BYTES;
use crate::error::Result;
use crate::format::record::Marks;
use crate::log::Found;
use crate::meta::Meta;
use crate::time::Timestamp;

/// A key as its caller knows it, and what is known of it.
pub(crate) type Item = (Vec<u8>, Meta);

impl Engine {
    /// Adds the keys of a stripe, in the namespace or outside of any, that `wanted` accepts. True
    /// if all that it has looked at is on stable storage.
    pub(crate) fn scan_stripe(
        &self,
        stripe: usize,
        space: Option<u32>,
        now: Timestamp,
        wanted: impl Fn(&Meta) -> bool,
        items: &mut Vec<Item>,
    ) -> Result<bool> {
        self.health.check_readable()?;
        let (mut failure, mut durable) = (None, true);
        let mut key = Vec::new();
        let guard = self.index.lock_stripe(stripe);
        guard.each(|location| {
            durable &= self.log.is_durable(location);
            let view = match self.log.view(location) {
                Found::Record(view) if !view.unverified || self.is_sound(location, &view) => view,
                Found::Dead => return,
                Found::Record(_) | Found::Damaged => {
                    failure.get_or_insert(location);
                    return;
                }
            };
            let Ok(Some(known)) = self.known_of(&view, now) else { return };
            let meta = known.meta();
            if !wanted(&meta) {
                return;
            }
            let bytes = view.copy_key(&mut key);
            let namespaced = view.header.marks.has(Marks::NAMESPACED);
            let prefix = space.map(|number| u64::from(number).to_le_bytes());
            let own = match prefix {
                Some(prefix) if namespaced => bytes.strip_prefix(&prefix[..]),
                None if !namespaced => Some(bytes),
                _ => None,
            };
            items.extend(own.map(|own| (own.to_vec(), meta)));
        });
        drop(guard);
        match failure {
            Some(location) => Err(self.damaged(location)),
            None => Ok(durable),
        }
    }
}

const _: () = assert!(PREFIX_BYTES == size_of::<u64>());
