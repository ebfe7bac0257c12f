//! What a key's records hold in its namespace, from one record to the next and from copy to copy.
//!
//! Everything here happens under the lock of the key's stripe.

use crate::engine::Engine;
use crate::engine::claim::{Before, FullKey, Next};
use crate::error::Result;
use crate::format::location::Location;
use crate::format::record::Kind;
use crate::format::state::STATE_BYTES;
use crate::log::Found;
use crate::log::holdings::Held;
use crate::log::view::RecordView;
use crate::policy::Room;

/// What a key holds in its namespace before its next record, and what was taken for that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Zero for a key outside of any.
    pub(crate) space: u32,
    pub(crate) before: Held,
    /// Nothing where the key is not new.
    pub(crate) most: Held,
}

impl Taken {
    /// False for a key outside of any namespace, of which nothing is counted.
    pub(crate) fn counts(&self) -> bool {
        self.space != 0
    }
}

impl Engine {
    /// Takes room in its namespace for a key that is new there.
    pub(crate) fn take_held(
        &self,
        full: FullKey<'_>,
        before: &Before<'_>,
        next: &Next<'_>,
    ) -> Result<Taken> {
        let taken = to_take(full, before, next);
        self.take_in(taken.space, taken.most, next.room)?;
        Ok(taken)
    }

    /// Takes room in a namespace for keys that are new there, for all of them or for none.
    pub(crate) fn take_in(&self, space: u32, most: Held, room: Room) -> Result<()> {
        if most == Held::NONE {
            return Ok(());
        }
        let taken = self.log.holdings.take(space, most, room);
        taken.inspect_err(|_| self.count_in_space(space, |counters| &counters.refused))
    }

    /// Counts what the key's new record holds in place of what was taken for it or held before.
    pub(crate) fn settle_held(
        &self,
        taken: &Taken,
        before: &Before<'_>,
        location: Location,
        view: &RecordView<'_>,
    ) {
        if !taken.counts() {
            return;
        }
        let (holdings, after) = (&self.log.holdings, Held::by(&view.header));
        let counted = if taken.most == Held::NONE { taken.before } else { taken.most };
        holdings.replace(taken.space, counted, after);
        holdings.put(taken.space, location.chunk(), after);
        if let Some(old) = before.location {
            holdings.take_away(taken.space, old.chunk(), taken.before);
        }
    }

    /// Counts what a key's record holds in its namespace where the copy lies.
    pub(crate) fn move_held(&self, view: &RecordView<'_>, from: Location, to: Location) {
        let (Some(space), Found::Record(copy)) = (view.space(), self.log.view(to)) else { return };
        let (before, after) = (Held::by(&view.header), Held::by(&copy.header));
        self.log.holdings.take_away(space, from.chunk(), before);
        self.log.holdings.put(space, to.chunk(), after);
        self.log.holdings.replace(space, before, after);
    }
}

/// What has to be taken for a key's next record.
pub(crate) fn to_take(full: FullKey<'_>, before: &Before<'_>, next: &Next<'_>) -> Taken {
    let Some(space) = full.space() else { return Taken::default() };
    let held = before.record.map_or(Held::NONE, |view| Held::by(&view.header));
    if held != Held::NONE || next.kind == Kind::Removed {
        return Taken { space, before: held, most: Held::NONE };
    }
    let state = if next.state.is_some() { STATE_BYTES } else { 0 };
    let lengths = (full.bytes.len() as u64, (state + next.outcome.len()) as u64);
    Taken { space, before: held, most: Held::at_most(next.kind, lengths.0, lengths.1) }
}
