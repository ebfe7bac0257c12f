//! What a namespace holds is what its keys' latest records add up to, whatever happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER};
use crate::engine::finish::Ending;
use crate::engine::plain::Kept;
use crate::error::Error;
use crate::log::Found;
use crate::log::holdings::Held;
use crate::policy::{BeginOptions, Policy, Room};
use crate::record::Ignore;

/// What the slots of the index lead to, by namespace: all of it, or what has not expired.
fn counted(engine: &Engine, live: bool) -> BTreeMap<u32, Held> {
    let now = engine.clock.now();
    let mut sums = BTreeMap::<u32, Held>::new();
    for stripe in 0..engine.index.stripe_count() {
        engine.index.lock_stripe(stripe).each(|location| {
            let Found::Record(view) = engine.log.view(location) else { return };
            let (Some(space), held) = (view.space(), Held::by(&view.header)) else { return };
            if live && view.header.expires <= now {
                return;
            }
            let sum = sums.entry(space).or_default();
            *sum = Held { keys: sum.keys + held.keys, bytes: sum.bytes + held.bytes };
        });
    }
    sums
}

fn assert_counted(engine: &Engine, spaces: &[u32]) {
    let counted = counted(engine, false);
    for space in spaces {
        let own = counted.get(space).copied().unwrap_or_default();
        assert_eq!(engine.log.holdings.of(*space), own, "namespace {space}");
    }
}

fn maintain(engine: &Engine) {
    while engine.maintain(Duration::from_secs(1)).unwrap().more {}
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Does something to a key of the namespace.
fn act(engine: &Engine, space: u32, dice: &mut Dice) {
    let key = format!("key {}", dice.below(400));
    let lifetime_ms = [MINUTE, 30 * MINUTE, NEVER][usize::try_from(dice.below(3)).unwrap()];
    let outcome = vec![7; usize::try_from(dice.below(3_000)).unwrap()];
    let (now, action) = (engine.clock.now(), dice.below(5));
    let room = Room { max_keys: Some(300), max_bytes: None };
    let done = engine.with_key(Some(space), key.as_bytes(), |full| match action {
        0 | 1 => {
            let kept = Kept { lifetime_ms, outcome_ms: 0, sent_at: None, room };
            engine.check_full(full, &outcome, kept, now, &mut Ignore).map(drop)
        }
        2 => engine.remove(full, None, now).map(drop),
        _ => {
            let terms = Policy { max_keys: Some(300), ..Policy::DEFAULT };
            let terms = terms.terms(&BeginOptions::new(), lifetime_ms)?;
            let begun = engine.begin(full, &terms, now)?;
            match (begun, action) {
                (Begun::Started(grant), 3) => {
                    engine.finish(full, grant.version, Ending::Complete(&outcome), now).map(drop)
                }
                (Begun::Started(grant), _) => {
                    engine.finish(full, grant.version, Ending::Release(5), now).map(drop)
                }
                _ => Ok(()),
            }
        }
    });
    assert!(
        matches!(done, Ok(()) | Err(Error::Full { .. } | Error::InProgress { .. })),
        "{done:?}"
    );
    assert!(engine.log.holdings.of(space).keys <= 300);
}

#[test]
fn a_namespace_holds_what_its_latest_records_add_up_to_through_everything() {
    let bench = Bench::with(|_| {});
    let mut dice = Dice(5);
    let (mut compacted, mut expired) = (0, 0);
    for round in 0..8 {
        let engine = bench.open();
        let spaces = ["a", "b", "c"].map(|name| engine.space_number(name).unwrap());
        assert_counted(&engine, &spaces);
        for step in 0..2_500_u64 {
            let space = spaces[usize::try_from(dice.below(3)).unwrap()];
            act(&engine, space, &mut dice);
            if step % 500 == 0 {
                bench.advance(dice.below(20 * MINUTE));
                maintain(&engine);
                assert_counted(&engine, &spaces);
            }
        }
        assert_counted(&engine, &spaces);
        compacted += engine.stats().segments_compacted;
        expired += engine.stats().segments_expired;
        let before = counted(&engine, true);
        if round % 2 == 0 {
            engine.close().unwrap();
        }
        drop(engine);
        let engine = bench.open();
        assert!(before.values().any(|held| held.keys > 50), "{before:?}");
        assert_eq!(counted(&engine, true), before, "round {round}");
        // An expired record counts again where the one that followed it has ended before it.
        assert_counted(&engine, &spaces);
    }
    assert!(compacted > 0 && expired > 0, "{compacted} {expired}");
}
