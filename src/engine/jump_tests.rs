//! Wild jumps of the wall clock while a store is open, under each policy and for each anchor.
//!
//! The store has the system's clocks, of which the test moves the wall clock by hand: a clock of
//! the caller's own is followed whatever the policy, so that nothing of it would show.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER, maintain};
use crate::engine::finish::Ending;
use crate::options::CheckOptions;
use crate::policy::{Anchor, BeginOptions, Policy};
use crate::record::Ignore;
use crate::sys::clock::by_hand;
use crate::time::JumpPolicy;
use crate::version::Version;

const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 366 * DAY;
const ANCHORS: [Anchor; 3] = [Anchor::Completion, Anchor::FirstSeen, Anchor::LastSeen];
const POLICIES: [JumpPolicy; 3] = [JumpPolicy::UntilReopened, JumpPolicy::Follow, JumpPolicy::Hold];

/// A bench whose stores have the system's clocks.
fn bench(policy: JumpPolicy) -> Bench {
    by_hand::reset();
    Bench::with(|config| {
        config.clock = None;
        config.jumps.policy = policy;
    })
}

fn name(anchor: Anchor) -> String {
    format!("{anchor:?}")
}

/// Checks a key, which is kept for so long; true if it was new.
fn check(engine: &Engine, anchor: Anchor, retention_ms: u64) -> bool {
    let kept = Policy::DEFAULT.kept(&CheckOptions::new().anchor(anchor), retention_ms).unwrap();
    let now = engine.clock.now();
    let known = engine.with_key(None, name(anchor).as_bytes(), |full| {
        engine.check_full(full, b"x", kept, now, &mut Ignore)
    });
    !known.unwrap()
}

/// Begins work on a key, which is kept for so long.
fn begin(engine: &Engine, anchor: Anchor, retention_ms: u64) -> Version {
    let options = BeginOptions::new().anchor(anchor).lease(Duration::from_millis(MINUTE));
    let terms = Policy::DEFAULT.terms(&options, retention_ms).unwrap();
    let (key, now) = (format!("begun {anchor:?}"), engine.clock.now());
    let begun = engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now));
    let Ok(Begun::Started(grant)) = begun else { panic!("{begun:?}") };
    grant.version
}

fn complete(engine: &Engine, anchor: Anchor, token: Version) -> bool {
    let (key, now) = (format!("begun {anchor:?}"), engine.clock.now());
    let end = |full: crate::engine::claim::FullKey<'_>| {
        engine.finish(full, token, Ending::Complete(b"done"), now)
    };
    engine.with_key(None, key.as_bytes(), end).is_ok()
}

fn is_known(engine: &Engine, key: &str) -> bool {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.peek(full, now)).unwrap().is_some()
}

#[test]
fn a_wild_jump_while_the_store_is_open_ends_records_only_where_it_is_followed() {
    for policy in POLICIES {
        let bench = bench(policy);
        let engine = bench.open();
        let follows = policy == JumpPolicy::Follow;
        assert!(ANCHORS.iter().all(|anchor| check(&engine, *anchor, HOUR)));
        let tokens = ANCHORS.map(|anchor| begin(&engine, anchor, HOUR));
        let never = engine.check_and_set(b"never", b"", NEVER, &mut Ignore);
        assert!(!never.unwrap());
        let before = engine.clock.now().as_millis();
        by_hand::advance_wall(100 * YEAR);
        // Nothing happens between two looks of maintenance.
        assert!(ANCHORS.iter().all(|anchor| is_known(&engine, &name(*anchor))));
        for _ in 0..2 {
            maintain(&engine);
            let (stats, passed) = (engine.stats(), engine.clock.now().as_millis() - before);
            let (followed, ahead) = (stats.clock_followed_ms, stats.clock_ahead_ms);
            let (moved, still) = if follows { (followed, ahead) } else { (ahead, followed) };
            let jumped = 100 * YEAR..100 * YEAR + MINUTE;
            assert!(jumped.contains(&moved) && still < MINUTE, "{policy:?} {moved} {still}");
            assert_eq!(passed >= 100 * YEAR, follows, "{policy:?} {passed}");
        }
        for (anchor, token) in ANCHORS.into_iter().zip(tokens) {
            assert_eq!(is_known(&engine, &name(anchor)), !follows, "{policy:?} {anchor:?}");
            assert_eq!(complete(&engine, anchor, token), !follows, "{policy:?} {anchor:?}");
            assert_eq!(check(&engine, anchor, HOUR), follows, "{policy:?} {anchor:?}");
        }
        assert!(is_known(&engine, "never"));
        drop(engine);
        // What it is that the next open does about the same clock.
        let engine = bench.open();
        let known = ANCHORS.iter().all(|anchor| is_known(&engine, &name(*anchor)));
        assert_eq!(known, policy != JumpPolicy::UntilReopened, "{policy:?}");
        assert!(is_known(&engine, "never"));
    }
}

#[test]
fn each_anchor_counts_from_its_moment_when_the_clock_jumps_between_them() {
    let days = 40 * DAY;
    for policy in POLICIES {
        let bench = bench(policy);
        let engine = bench.open();
        let follows = policy == JumpPolicy::Follow;
        let tokens = ANCHORS.map(|anchor| begin(&engine, anchor, days));
        assert!(ANCHORS.iter().all(|anchor| check(&engine, *anchor, days)));
        // More than what is followed without more ado, less than the retention.
        by_hand::advance_wall(30 * DAY);
        maintain(&engine);
        for (anchor, token) in ANCHORS.into_iter().zip(tokens) {
            assert!(complete(&engine, anchor, token) && !check(&engine, anchor, days));
        }
        assert_eq!(engine.stats().refreshes, u64::from(follows), "{policy:?}");
        by_hand::advance_wall(30 * DAY);
        maintain(&engine);
        // Where time has passed, sixty days in all: only what was seen or done meanwhile is left.
        assert_eq!(is_known(&engine, "Completion"), !follows);
        assert_eq!(is_known(&engine, "FirstSeen"), !follows);
        assert!(is_known(&engine, "LastSeen"), "{policy:?}: it was seen thirty days ago");
        assert!(is_known(&engine, "begun Completion"), "{policy:?}: done thirty days ago");
        assert!(is_known(&engine, "begun LastSeen"), "{policy:?}");
    }
}

#[test]
fn a_jump_that_is_taken_back_before_it_is_followed_has_done_nothing() {
    for policy in [JumpPolicy::UntilReopened, JumpPolicy::Hold] {
        let bench = bench(policy);
        let engine = bench.open();
        assert!(check(&engine, Anchor::Completion, HOUR));
        by_hand::advance_wall(100 * YEAR);
        maintain(&engine);
        assert!(engine.stats().clock_ahead_ms >= 100 * YEAR);
        by_hand::reset();
        maintain(&engine);
        assert!(engine.stats().clock_ahead_ms < MINUTE);
        drop(engine);
        assert!(is_known(&bench.open(), "Completion"), "{policy:?}");
    }
}
