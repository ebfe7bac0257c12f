//! Finding a key's record, and reading without claiming.

use std::cell::RefCell;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::Marks;
use crate::index::search::Search;
use crate::index::stripe::{Cell, StripeGuard};
use crate::key::KeyHash;
use crate::log::Found;
use crate::log::view::{RecordView, Replay};
use crate::record::{GONE_WORDS, OutcomeGone, Receive, RecordMeta};
use crate::time::Timestamp;

thread_local! {
    /// Where records that were not written by this process are copied to be checked.
    static CHECKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a search without the lock shows of a key.
pub(crate) enum Glance<'a> {
    /// The key's latest record, if the search [holds](Search::holds).
    Replay(Replay<'a>),
    /// The key has none, if the search holds.
    Absent,
    /// Only the locked search can tell.
    Unsure,
}

/// Outcomes up to this many bytes are copied before it is replay whether the search holds.
const GLANCE_BYTES_MAX: usize = 4096;

/// What is known of a key, while its stripe is locked.
pub(crate) struct Lookup<'a> {
    pub(crate) cell: Option<Cell>,
    /// Where the key's latest record lies.
    pub(crate) location: Option<Location>,
    /// The key's latest record, whether or not it is still live.
    pub(crate) record: Option<RecordView<'a>>,
}

impl Lookup<'_> {
    /// What is known of a key that has no slot.
    pub(crate) const NONE: Self = Self { cell: None, location: None, record: None };

    /// Copies the record to whoever asked, if it counts at `now`; true if it does.
    pub(crate) fn hand_over_live(&self, now: Timestamp, receive: &mut impl Receive) -> bool {
        match &self.record {
            Some(view) if view.header.expires > now && view.is_final() => {
                hand_over_at(view, now, receive);
                true
            }
            _ => false,
        }
    }
}

impl Engine {
    /// Looks at a key's record without the lock.
    ///
    /// Two keys of a stripe with one tag are so rare that the lock may sort them out: whatever is
    /// not plainly the key's own record or plainly nothing is left to the locked search.
    #[inline(always)]
    pub(crate) fn glance(&self, search: &Search<'_>, key: &[u8]) -> Glance<'_> {
        if !search.has_match() {
            return if search.is_conclusive() { Glance::Absent } else { Glance::Unsure };
        }
        let replay = search.location().and_then(|location| self.log.glance(location, key));
        replay.map_or(Glance::Unsure, Glance::Replay)
    }

    /// Hands over a record found by a search without the lock; true if it is live and was read
    /// while the search held. Else nothing was handed over.
    #[inline(always)]
    pub(crate) fn hand_over_glanced(
        search: &Search<'_>,
        replay: &Replay<'_>,
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> bool {
        if now >= replay.meta.expires || replay.outcome_len > GLANCE_BYTES_MAX {
            return false;
        }
        hand_over(replay, receive);
        let holds = search.holds();
        if !holds {
            receive.retract();
        }
        holds
    }

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
        let search = self.index.search(hash);
        self.get_hashed(search.as_ref(), hash, key, || self.clock.now(), receive)
    }

    /// As [`Engine::get`], for a key that was checked, hashed and searched for.
    #[inline(always)]
    pub(crate) fn get_hashed(
        &self,
        search: Option<&Search<'_>>,
        hash: KeyHash,
        key: &[u8],
        now: impl Fn() -> Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        if let Some(search) = search {
            match self.glance(search, key) {
                Glance::Replay(replay) => {
                    if Self::hand_over_glanced(search, &replay, now(), receive) {
                        return Ok(true);
                    }
                }
                Glance::Absent if search.holds() => return Ok(false),
                Glance::Absent | Glance::Unsure => {}
            }
        }
        self.get_locked(hash, key, now(), receive)
    }

    #[cold]
    fn get_locked(
        &self,
        hash: KeyHash,
        key: &[u8],
        now: Timestamp,
        receive: &mut impl Receive,
    ) -> Result<bool> {
        let stripe = self.index.lock(hash);
        let lookup = self.find(&stripe, hash, key)?;
        Ok(lookup.hand_over_live(now, receive))
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

/// Copies a record's outcome to whoever asked or, if it is gone, what is known of it.
pub(crate) fn hand_over_at(view: &RecordView<'_>, now: Timestamp, receive: &mut impl Receive) {
    hand_over_as(view, now, view.meta(), receive);
}

/// As [`hand_over_at`], with other times and another version than its own.
pub(crate) fn hand_over_as(
    view: &RecordView<'_>,
    now: Timestamp,
    meta: RecordMeta,
    receive: &mut impl Receive,
) {
    let Some(mut replay) = view.replay() else { return };
    replay.meta = meta;
    let state = view.state().filter(|state| state.outcome_is_gone(replay.meta.created, now));
    let Some(state) = state else {
        return hand_over(&replay, receive);
    };
    replay.meta.gone = true;
    if state.mark_only {
        return hand_over(&replay, receive);
    }
    let outcome: Vec<u8> = replay.outcome_words().flat_map(u64::to_le_bytes).collect();
    let gone = OutcomeGone::of(outcome.get(..replay.outcome_len).unwrap_or_default());
    receive.receive(replay.meta, GONE_WORDS * 8, gone.words().into_iter());
}

/// Copies a record's outcome to whoever asked.
#[inline]
pub(crate) fn hand_over(replay: &Replay<'_>, receive: &mut impl Receive) {
    receive.receive(replay.meta, replay.outcome_len, replay.outcome_words());
}
