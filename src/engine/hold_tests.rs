//! What a namespace holds is what its keys' latest records add up to, whatever happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER, maintain};
use crate::engine::finish::Ending;
use crate::error::Error;
use crate::log::Found;
use crate::log::holdings::Held;
use crate::options::CheckOptions;
use crate::policy::{Anchor, BeginOptions, Policy};
use crate::record::Ignore;
use crate::time::Ttl;

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
    let policy = Policy { max_keys: Some(300), anchor: Anchor::LastSeen, ..Policy::DEFAULT };
    let lifetime = if lifetime_ms == NEVER {
        Ttl::Never
    } else {
        Ttl::After(Duration::from_millis(lifetime_ms))
    };
    let done = engine.with_key(Some(space), key.as_bytes(), |full| match action {
        0 | 1 => {
            let options = CheckOptions::new().retention(lifetime);
            let kept = policy.kept(&options, lifetime_ms)?;
            engine.check_full(full, &outcome, kept, now, &mut Ignore).map(drop)
        }
        2 => engine.remove(full, None, now).map(drop),
        _ => {
            let terms = policy.terms(&BeginOptions::new(), lifetime_ms)?;
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

#[test]
fn a_key_that_a_full_disk_has_refused_holds_nothing() {
    let bench = Bench::with(|_| {});
    let engine = bench.open();
    let space = engine.space_number("a").unwrap();
    let kept = Policy::DEFAULT.kept(&CheckOptions::new(), NEVER).unwrap();
    let now = engine.clock.now();
    let check = |key: String| {
        let decide = |full: crate::engine::claim::FullKey<'_>| {
            engine.check_full(full, &[1; 500], kept, now, &mut Ignore)
        };
        engine.with_key(Some(space), key.as_bytes(), decide)
    };
    *bench.disk.room.lock() = Some(1);
    let mut refused = (0..).map(|i| check(format!("key {i}"))).filter(Result::is_err).take(300);
    assert!(refused.all(|one| matches!(one, Err(Error::Full { .. }))));
    assert!(engine.log.holdings.of(space).keys > 500);
    assert_counted(&engine, &[space]);
}
