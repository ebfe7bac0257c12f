//! Clocks that jump, and times at the edges of what numbers hold.

use std::time::Duration;

use oncelog::{
    Anchor, BeginOptions, CheckOptions, Error, JumpPolicy, ManualClock, Store, Timestamp, Ttl,
};
use std::sync::Arc;

use crate::setup::{START, clock, directory, maintain, small};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

#[test]
fn a_clock_that_jumped_while_the_store_was_closed_ends_nothing_until_it_is_confirmed() {
    for closes in [false, true] {
        let (directory, clock) = (directory(), clock());
        let open = |policy: JumpPolicy| -> Store {
            let builder = small().clock(clock.clone()).ttl(HOUR).clock_jumps(policy);
            builder.open(directory.path()).unwrap()
        };
        let store = open(JumpPolicy::Hold);
        assert!(store.insert("early").unwrap());
        clock.advance(HOUR / 2);
        assert!(store.insert("late").unwrap());
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        clock.advance(100 * YEAR);
        for _ in 0..2 {
            // Opening again and again confirms nothing.
            let store = open(JumpPolicy::Hold);
            maintain(&store);
            let held = u64::try_from((100 * YEAR).as_millis()).unwrap();
            let recovery = *store.recovery();
            assert!(recovery.clock_held_ms == held && recovery.time_passed_ms >= held);
            assert_eq!((recovery.expired, store.stats().clock_ahead_ms), (0, held));
            assert!(!store.insert("early").unwrap() && !store.insert("late").unwrap());
        }
        let store = open(JumpPolicy::Hold);
        // Time goes on from where it stood.
        clock.advance(HOUR / 2);
        maintain(&store);
        assert!(!store.contains("early").unwrap() && store.contains("late").unwrap());
        store.follow_clock();
        assert!(!store.contains("late").unwrap());
        assert_eq!(store.stats().clock_ahead_ms, 0);
        assert!(store.insert("new").unwrap());
        let created = store.get("new").unwrap().unwrap().created();
        assert_eq!(
            created.as_millis(),
            START + u64::try_from((100 * YEAR + HOUR).as_millis()).unwrap()
        );
        drop(store);
        // What was confirmed stays so.
        let store = open(JumpPolicy::Hold);
        assert_eq!(store.recovery().clock_held_ms, 0);
        assert!(store.contains("new").unwrap());
    }
}

#[test]
fn a_clock_is_held_back_only_where_that_was_asked_for_and_only_for_what_counts_as_a_jump() {
    let (directory, clock) = (directory(), clock());
    let builder = || small().clock(clock.clone()).ttl(30 * DAY);
    drop(builder().clock_jumps(JumpPolicy::Hold).open(directory.path()).unwrap());
    clock.advance(DAY);
    let store = builder().clock_jumps(JumpPolicy::Hold).open(directory.path()).unwrap();
    assert_eq!(store.recovery().clock_held_ms, 0);
    store.close().unwrap();
    clock.advance(10 * DAY);
    let wider = builder().clock_jumps(JumpPolicy::Hold).clock_jump_max(11 * DAY);
    let store = wider.open(directory.path()).unwrap();
    assert_eq!(store.recovery().clock_held_ms, 0);
    store.close().unwrap();
    clock.advance(10 * DAY);
    for policy in [JumpPolicy::UntilReopened, JumpPolicy::Follow] {
        let store = builder().clock_jumps(policy).open(directory.path()).unwrap();
        assert_eq!((store.recovery().clock_held_ms, store.stats().clock_ahead_ms), (0, 0));
    }
}

/// facebook/rocksdb#11256, redis/redis#8032, scylladb/scylladb#3353: sums of a time and a lifetime
/// that overflowed ended records at once, or never.
#[test]
fn keys_live_exactly_as_long_as_asked_at_every_edge_of_the_arithmetic() {
    let seconds = [0, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32].map(|s: u64| s * 1_000);
    let millis = [1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32];
    let late = [4_291_747_199_999, (1 << 63) - 1, 1 << 63, u64::MAX - (1 << 45)];
    for now in seconds.into_iter().chain(millis).chain(late) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(now)));
        let directory = directory();
        let open = || small().clock(clock.clone()).open(directory.path()).unwrap();
        let mut store = open();
        let lifetimes = [1, 999, 1_000, (1 << 31) - 1, 1 << 31, 1 << 32, 1_000 * 366 * 86_400_000];
        for ttl in lifetimes {
            let (ttl_time, key) = (Duration::from_millis(ttl), ttl.to_le_bytes());
            assert!(store.check_and_set_for(key, "x", ttl_time).unwrap().is_new());
            let options = BeginOptions::new().retention(ttl_time).lease(Duration::from_millis(1));
            store
                .begin_with(format!("begun {ttl}"), options)
                .unwrap()
                .started()
                .unwrap()
                .fail("")
                .unwrap();
            let expires = store.peek(key).unwrap().unwrap().expires.unwrap();
            assert_eq!(expires, Timestamp::from_millis(now + ttl));
            assert_eq!(store.peek(format!("begun {ttl}")).unwrap().unwrap().expires, Some(expires));
        }
        for (place, ttl) in lifetimes.into_iter().enumerate() {
            clock.set(Timestamp::from_millis(now + ttl - 1));
            maintain(&store);
            if place % 3 == 0 {
                drop(store);
                store = open();
            }
            assert!(store.contains(ttl.to_le_bytes()).unwrap(), "{now} + {ttl}");
            assert!(store.contains(format!("begun {ttl}")).unwrap());
            clock.set(Timestamp::from_millis(now + ttl));
            maintain(&store);
            if place % 3 == 1 {
                drop(store);
                store = open();
            }
            assert!(!store.contains(ttl.to_le_bytes()).unwrap(), "{now} + {ttl}");
            assert!(store.peek(format!("begun {ttl}")).unwrap().is_none());
        }
        for ttl in [Duration::ZERO, Duration::MAX, 1_000 * YEAR + Duration::from_millis(1)] {
            let refused = store.check_and_set_for("a", "", ttl);
            assert!(matches!(refused, Err(Error::InvalidTtl { .. })), "{ttl:?}");
        }
        assert!(store.check_and_set_for("for ever", "", Ttl::Never).unwrap().is_new());
        clock.set(Timestamp::from_millis(u64::MAX));
        maintain(&store);
        assert!(store.contains("for ever").unwrap());
    }
}

/// A clock of the caller's own is right whatever it says, while the store is open: see the engine's
/// own tests of jumps for what the policies make of the system's.
#[test]
fn a_clock_moved_by_hand_is_followed_over_a_wild_jump_while_the_store_runs() {
    const ANCHORS: [Anchor; 3] = [Anchor::Completion, Anchor::FirstSeen, Anchor::LastSeen];
    for policy in [JumpPolicy::UntilReopened, JumpPolicy::Follow, JumpPolicy::Hold] {
        for maintains in [false, true] {
            let (directory, clock) = (directory(), clock());
            let builder = small().clock(clock.clone()).ttl(90 * DAY).clock_jumps(policy);
            let store = builder.open(directory.path()).unwrap();
            let check = |anchor: Anchor| {
                let options = CheckOptions::new().anchor(anchor);
                store.check_and_set_with(format!("{anchor:?}"), "x", options).unwrap().is_new()
            };
            assert!(ANCHORS.into_iter().all(check));
            let mut lease = store.begin("begun").unwrap().started().unwrap();
            let passes = |time: Duration| {
                clock.advance(time);
                if maintains {
                    maintain(&store);
                }
            };
            passes(60 * DAY);
            assert!(!ANCHORS.into_iter().any(check), "{policy:?}");
            lease.complete("done").unwrap();
            passes(60 * DAY);
            let known = ["Completion", "FirstSeen", "LastSeen", "begun"];
            let known = known.map(|key| store.contains(key).unwrap());
            assert_eq!(known, [false, false, true, true], "{policy:?}");
            passes(100 * YEAR);
            assert!(ANCHORS.into_iter().all(check), "{policy:?}");
            assert!(store.begin("begun").unwrap().started().is_some());
            let stats = store.stats();
            assert_eq!((stats.clock_ahead_ms, stats.clock_followed_ms), (0, 0));
        }
    }
}
