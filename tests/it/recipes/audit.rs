//! Audits: exact counts, and no way to disturb the service that is watched.

use oncelog::recipes::audit::{Audit, Observe};

use crate::lease::open;
use crate::recipes::{HOUR, at_once, count};
use crate::setup::{clock, directory, maintain, small};

#[test]
fn repeats_and_divergence_are_counted_over_a_crash_and_end_with_the_first_observation() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let audit = Audit::open(&store, "orders", HOUR).unwrap();
    assert!(audit.observe("a", "201").is_first());
    assert!(audit.observe("b", "201").is_first());
    clock.advance(HOUR / 2);
    assert!(matches!(audit.observe("a", "201"), Observe::Same { repeats: 1 }));
    drop((audit, store));
    let store = open(directory.path(), &clock);
    maintain(&store);
    let audit = Audit::open(&store, "orders", HOUR).unwrap();
    assert!(matches!(audit.observe("a", "500"), Observe::Diverged { repeats: 2 }));
    // The first outcome is what a check would have replayed, so it is what others differ from.
    assert!(matches!(audit.observe("a", "500"), Observe::Diverged { repeats: 3 }));
    assert!(matches!(audit.observe("a", "201"), Observe::Same { repeats: 4 }));
    let tally = audit.tally("a").unwrap().unwrap();
    assert_eq!((tally.repeats, tally.diverged, tally.latest), (4, 2, store.now()));
    let report = audit.report().unwrap();
    assert_eq!((report.keys, report.keys_repeated, report.keys_diverged), (2, 1, 1));
    assert_eq!((report.repeats, report.diverged), (4, 2));
    let mut keys: Vec<Vec<u8>> = audit.tallies().map(|found| found.unwrap().0).collect();
    keys.sort();
    assert_eq!(keys, [b"a", b"b"]);
    clock.advance(HOUR / 2);
    assert_eq!((audit.tally("a").unwrap(), audit.report().unwrap().keys), (None, 0));
}

#[test]
fn no_observation_is_lost_between_threads() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let audit = Audit::open(&store, "orders", HOUR).unwrap();
    let observe = |thread: u64| {
        let outcomes = (0..5_000).map(|step| (step + thread) % 2);
        outcomes.map(|outcome| audit.observe("k", [outcome as u8])).collect::<Vec<_>>()
    };
    let answers = at_once(observe).into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(count(&answers, Observe::is_first), 1);
    let diverged = count(&answers, |answer| matches!(answer, Observe::Diverged { .. }));
    let tally = audit.tally("k").unwrap().unwrap();
    assert_eq!((tally.repeats, tally.diverged), (19_999, diverged as u64));
    assert_eq!(diverged, 10_000);
}

#[test]
fn nothing_that_stands_against_recording_is_the_services_concern() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let audit = Audit::open(&store, "orders", HOUR).unwrap();
    let too_long = vec![b'k'; 5_000];
    assert!(matches!(audit.observe(too_long, "201"), Observe::Unrecorded(_)));
    assert!(audit.observe("", "201").is_first());
    store.close().unwrap();
    assert!(matches!(audit.observe("k", "201"), Observe::Unrecorded(_)));
}
