//! Finding a key's record, and reading without claiming.

use std::cell::RefCell;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::location::Location;
use crate::format::record::Marks;
use crate::index::search::{Search, Sight};
use crate::index::stripe::{Cell, StripeGuard};
use crate::key::KeyHash;
use crate::log::Found;
use crate::log::view::{RecordView, Replay};
use crate::record::{Brief, GONE_WORDS, OutcomeGone, Receive, RecordMeta};
use crate::sys::{sync, words};
use crate::time::Timestamp;

sync::thread_local! {
    /// Where records that were not written by this process are copied to be checked.
    static CHECKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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

    /// Copies the record to whoever asked, if it counts at `now`.
    pub(crate) fn hand_over_live<R: Receive>(
        &self,
        now: Timestamp,
        receive: &mut R,
    ) -> Option<R::Answer> {
        let view = self.record.as_ref().filter(|view| now < view.header.expires)?;
        hand_over_at(view, now, receive)
    }
}

impl Engine {
    /// A copy of the record that a slot seen without the lock leads to, if it is the key's, live,
    /// short, and was read while what was seen held.
    ///
    /// Two keys of a stripe with one tag are so rare that the lock may sort them out: whatever is
    /// not plainly the key's own record is left to [`Engine::replay`] and the locked search.
    #[inline(always)]
    pub(crate) fn brief(
        &self,
        sight: Sight<'_>,
        location: Location,
        key: &[u8],
        now: Timestamp,
    ) -> Option<Brief> {
        let glimpse = self.log.glance(location, key)?;
        let life = glimpse.life();
        if now >= life.expires {
            return None;
        }
        let brief = glimpse.brief(life)?;
        sight.holds().then_some(brief)
    }

    /// As [`Engine::brief`], where a search has led.
    #[inline(always)]
    pub(crate) fn brief_found(
        &self,
        search: &Search<'_>,
        key: &[u8],
        now: Timestamp,
    ) -> Option<Brief> {
        if !search.has_match() {
            return None;
        }
        self.brief(search.sight, search.location()?, key, now)
    }

    /// As [`Engine::brief_found`], whatever the record's header and length.
    pub(crate) fn replay<R: Receive>(
        &self,
        search: &Search<'_>,
        key: &[u8],
        now: Timestamp,
        receive: &mut R,
    ) -> Option<R::Answer> {
        if !search.has_match() {
            return None;
        }
        let replay = self.log.glance_wide(search.location()?, key, Marks::NONE)?;
        Self::hand_over_glanced(search, &replay, now, receive)
    }

    /// Hands over a record found by a search without the lock, if it is live and was read while
    /// the search held.
    pub(crate) fn hand_over_glanced<R: Receive>(
        search: &Search<'_>,
        replay: &Replay<'_>,
        now: Timestamp,
        receive: &mut R,
    ) -> Option<R::Answer> {
        if now >= replay.meta.expires || replay.outcome_len > GLANCE_BYTES_MAX {
            return None;
        }
        let taken = hand_over(replay, receive);
        if !search.holds() {
            receive.retract();
            return None;
        }
        Some(taken)
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

    /// Reads a key's live record.
    #[inline]
    pub(crate) fn get<R: Receive>(&self, key: &[u8], receive: &mut R) -> Result<R::Answer> {
        self.health.check_readable()?;
        self.config.limits.check_key(key)?;
        let hash = self.hasher.hash(key);
        let look = self.index.look(hash);
        let matches = look.matches();
        if matches != 0 {
            let now = self.clock.now();
            if let Some(location) = look.location(matches)
                && let Some(brief) = self.brief(look.sight, location, key, now)
            {
                return Ok(receive.brief(brief));
            }
        } else if let Some(search) = Search::without_match(&look, &self.index, hash)
            && search.is_conclusive()
            && search.holds()
        {
            return Ok(receive.nothing());
        }
        self.get_further(self.index.search(hash), hash, key, self.clock.now(), receive)
    }

    /// As [`Engine::get`], for a key that was checked, hashed and searched for.
    #[inline(always)]
    pub(crate) fn get_hashed<R: Receive>(
        &self,
        search: Option<Search<'_>>,
        hash: KeyHash,
        key: &[u8],
        now: Timestamp,
        receive: &mut R,
    ) -> Result<R::Answer> {
        if let Some(search) = &search {
            if let Some(brief) = self.brief_found(search, key, now) {
                return Ok(receive.brief(brief));
            }
            if search.is_conclusive() && search.holds() {
                return Ok(receive.nothing());
            }
        }
        self.get_further(search, hash, key, now, receive)
    }

    #[cold]
    fn get_further<R: Receive>(
        &self,
        search: Option<Search<'_>>,
        hash: KeyHash,
        key: &[u8],
        now: Timestamp,
        receive: &mut R,
    ) -> Result<R::Answer> {
        if let Some(search) = &search
            && let Some(answer) = self.replay(search, key, now, receive)
        {
            return Ok(answer);
        }
        if self.is_excluded(hash) {
            return Ok(receive.nothing());
        }
        let stripe = self.index.lock(hash);
        let lookup = self.find(&stripe, hash, key)?;
        let answer = lookup.hand_over_live(now, receive);
        Ok(answer.unwrap_or_else(|| receive.nothing()))
    }

    /// Checks every byte of a record that this process has not written.
    #[cold]
    pub(crate) fn is_sound(&self, location: Location, view: &RecordView<'_>) -> bool {
        CHECKED
            .with(|buffer| self.log.verify(location, view, &self.hasher, &mut buffer.borrow_mut()))
    }

    #[cold]
    pub(crate) fn damaged(&self, location: Location) -> Error {
        self.log.damage_at(location, "a record that a lookup needs does not match its checksum")
    }
}

/// Copies a record's outcome to whoever asked or, if it is gone, what is known of it.
pub(crate) fn hand_over_at<R: Receive>(
    view: &RecordView<'_>,
    now: Timestamp,
    receive: &mut R,
) -> Option<R::Answer> {
    hand_over_as(view, now, view.meta(), receive)
}

/// As [`hand_over_at`], with other times and another version than its own.
pub(crate) fn hand_over_as<R: Receive>(
    view: &RecordView<'_>,
    now: Timestamp,
    meta: RecordMeta,
    receive: &mut R,
) -> Option<R::Answer> {
    let mut replay = view.replay()?;
    replay.meta = meta;
    let state = view.state().filter(|state| state.outcome_is_gone(replay.meta.created, now));
    let Some(state) = state else {
        return Some(hand_over(&replay, receive));
    };
    replay.meta.gone = true;
    if state.mark_only {
        return Some(hand_over(&replay, receive));
    }
    let mut outcome = vec![0; replay.outcome_len];
    words::read_bytes(replay.outcome, &mut outcome);
    Some(receive.record(replay.meta, GONE_WORDS * 8, &OutcomeGone::of(&outcome).words()))
}

/// Copies a record's outcome to whoever asked.
fn hand_over<R: Receive>(replay: &Replay<'_>, receive: &mut R) -> R::Answer {
    receive.record(replay.meta, replay.outcome_len, replay.outcome)
}
