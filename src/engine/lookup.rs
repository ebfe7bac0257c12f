//! Finding a key's record, and reading without claiming.

use std::cell::RefCell;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::Marks;
use crate::index::stripe::{Cell, StripeGuard};
use crate::key::KeyHash;
use crate::log::Found;
use crate::log::view::RecordView;
use crate::record::Receive;
use crate::time::Timestamp;

thread_local! {
    /// Where records that were not written by this process are copied to be checked.
    static CHECKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is known of a key, while its stripe is locked.
pub(crate) struct Lookup<'a> {
    pub(crate) cell: Option<Cell>,
    /// Where the key's latest record lies.
    pub(crate) location: Option<Location>,
    /// The key's latest record, whether or not it is still live.
    pub(crate) record: Option<RecordView<'a>>,
}

impl Lookup<'_> {
    /// The record, if it counts at `now`.
    #[inline]
    pub(crate) fn live(&self, now: Timestamp) -> Option<&RecordView<'_>> {
        let live = |view: &&RecordView<'_>| view.is_final() && now < view.header.expires;
        self.record.as_ref().filter(live)
    }
}

impl Engine {
    /// Finds the key's slot and record.
    ///
    /// # Errors
    /// `Corrupt` if a record that might be the key's is damaged.
    #[inline]
    pub(crate) fn find<'a>(
        &'a self,
        stripe: &StripeGuard<'_>,
        hash: KeyHash,
        key: &[u8],
    ) -> Result<Lookup<'a>> {
        self.find_marked(stripe, hash, key, Marks::NONE)
    }

    /// As [`Engine::find`], for a key in a namespace or outside of any.
    #[inline]
    pub(crate) fn find_marked<'a>(
        &'a self,
        stripe: &StripeGuard<'_>,
        hash: KeyHash,
        key: &[u8],
        marks: Marks,
    ) -> Result<Lookup<'a>> {
        let mut record = None;
        let mut damage = None;
        let found = stripe.find(hash, |location| match self.log.view(location) {
            Found::Record(view) => {
                let equal = view.key_equals(key, marks);
                if view.unverified && !self.is_sound(location, &view) {
                    damage = Some(location);
                    return true;
                }
                if equal {
                    record = Some(view);
                }
                equal
            }
            Found::Dead => false,
            Found::Damaged => {
                damage = Some(location);
                true
            }
        });
        match damage {
            Some(location) => Err(self.damaged(location)),
            None => {
                let (cell, location) = found.unzip();
                Ok(Lookup { cell, location, record })
            }
        }
    }

    /// Reads a key's live record into `receive`; true if there is one.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], receive: &mut impl Receive) -> Result<bool> {
        self.health.check_readable()?;
        self.config.limits.check_key(key)?;
        let hash = self.hasher.hash(key);
        self.get_hashed(hash, key, self.clock.now(), receive)
    }

    /// As [`Engine::get`], for a key that was checked and hashed.
    #[inline]
    pub(crate) fn get_hashed(
        &self,
        hash: KeyHash,
        key: &[u8],
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        let stripe = self.index.lock(hash);
        let lookup = self.find(&stripe, hash, key)?;
        let Some(view) = lookup.live(now) else {
            return Ok(false);
        };
        hand_over(view, receive);
        Ok(true)
    }

    /// Checks every byte of a record that this process has not written.
    #[cold]
    pub(crate) fn is_sound(&self, location: Location, view: &RecordView<'_>) -> bool {
        CHECKED.with_borrow_mut(|buffer| self.log.verify(location, view, &self.hasher, buffer))
    }

    #[cold]
    pub(crate) fn damaged(&self, location: Location) -> Error {
        self.log.damage_at(location, "a record that a lookup needs does not match its checksum")
    }
}

/// Copies a record's outcome to whoever asked.
#[inline]
pub(crate) fn hand_over(view: &RecordView<'_>, receive: &mut impl Receive) {
    let buffer = receive.outcome_buffer(view.meta(), view.outcome_len());
    view.copy_outcome(buffer);
}
