//! What went wrong elsewhere, each with the place where it was reported, as a test of this store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oncelog::{
    Answers, Begin, BeginOptions, Check, CheckOptions, Clock, DropPolicy, Error, ManualClock,
    Namespace, Policy, Scan, Store, Timestamp,
};

use crate::lease::{LEASE, SECOND, completed, in_progress, open, started};
use crate::setup::{clock, directory, files, maintain, small};

const MINUTE: Duration = Duration::from_secs(60);

fn brief(path: &Path, clock: &Arc<ManualClock>) -> Store {
    small().clock(clock.clone()).ttl(MINUTE).open(path).unwrap()
}

/// moka-rs/moka#524, #548, #565: an expiry that was cleared while housekeeping ran over it.
#[test]
fn renewing_expiring_and_removing_meet_maintenance_without_harm() {
    let (directory, clock) = (directory(), clock());
    let store = brief(directory.path(), &clock);
    let rounds = 3_000_u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                clock.advance(Duration::from_millis(97));
                store.maintain(Duration::ZERO).unwrap();
            }
        });
        for thread in 0..3_u32 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..rounds {
                    let key = [(round % 7).to_le_bytes()[0]];
                    let Begin::Started(mut lease) = store.begin(key).unwrap() else { continue };
                    let ended = match (round + thread) % 4 {
                        0 => lease.renew(SECOND),
                        1 => lease.complete("x").map(drop),
                        2 => store.remove(key).map(drop),
                        _ => lease.release(None),
                    };
                    assert!(matches!(ended, Ok(()) | Err(Error::LeaseLost)), "{ended:?}");
                }
            });
        }
    });
    drop(store);
    brief(directory.path(), &clock);
}

/// moka-rs/moka#549: renewing what had expired, and was not reclaimed yet, kept it out of reach.
#[test]
fn an_expired_key_that_is_not_reclaimed_is_as_good_as_absent() {
    let (directory, clock) = (directory(), clock());
    let store = brief(directory.path(), &clock);
    let token = started(store.begin("a").unwrap()).version();
    clock.advance(MINUTE);
    assert!(matches!(store.renew_by("a", token, LEASE), Err(Error::LeaseLost)));
    assert!(store.peek("a").unwrap().is_none());
    let mut lease = started(store.begin("a").unwrap());
    assert!(lease.attempt() == 1 && lease.version() > token);
    lease.complete("x").unwrap();
    clock.advance(MINUTE);
    assert_eq!(started(store.begin("a").unwrap()).attempt(), 1);
}

/// xacrimon/dashmap#74, #195, #233: a guard held across another call of the map never came free.
#[test]
fn any_call_can_be_made_while_anything_that_a_call_returned_is_held() {
    let (directory, clock) = (directory(), clock());
    let store = small().stripes(1).clock(clock).open(directory.path()).unwrap();
    let mut lease = started(store.begin("a").unwrap());
    let waiting = in_progress(store.begin("a").unwrap());
    store.insert("b").unwrap();
    let record = store.get("b").unwrap();
    let mut scanned = store.scan(oncelog::Scan::new());
    let first = scanned.next();
    store
        .run("c", BeginOptions::new(), |own| {
            let inner = store.run("d", BeginOptions::new(), |_| store.remove("b").map(|_| "x"));
            assert!(inner.is_ok());
            own.renew(LEASE)?;
            store.maintain(Duration::ZERO)?;
            store.sync()?;
            Ok::<_, Error>("x")
        })
        .unwrap();
    lease.complete("x").unwrap();
    completed(waiting.wait(Duration::ZERO).unwrap());
    assert!(record.is_some() && first.is_some());
    assert!(scanned.all(|item| item.is_ok()));
}

/// rust-lang/hashbrown#444: a panic of the caller's code in the middle of a change lost entries.
#[test]
fn a_key_that_panics_when_it_is_read_changes_nothing() {
    struct Panics;
    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            std::panic::resume_unwind(Box::new("the caller's code"))
        }
    }
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    let panics = |call: &dyn Fn(&Store)| {
        let call = std::panic::AssertUnwindSafe(|| call(&store));
        assert!(std::panic::catch_unwind(call).is_err());
    };
    panics(&|store| drop(store.begin(Panics)));
    panics(&|store| drop(store.check_and_set("b", Panics)));
    panics(&|store| {
        drop(store.complete_by("a", store.peek("a").unwrap().unwrap().version, Panics))
    });
    panics(&|store| {
        let mut answers = Vec::new();
        let keys: [&dyn AsRef<[u8]>; 2] = [&"c", &Panics];
        drop(store.begin_many(&keys, BeginOptions::new(), &mut answers));
    });
    lease.complete("x").unwrap();
    assert!(store.insert("b").unwrap());
    // A batch reads its keys before it decides about the first.
    assert!(store.peek("c").unwrap().is_none());
}

/// moka-rs/moka#43, golang/go#41133: the owner panicked, and those who waited were never woken.
#[test]
fn an_owner_that_panics_or_is_dropped_leaves_nobody_waiting_for_ever() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let release = BeginOptions::new().on_drop(DropPolicy::Release);
    let lease = started(store.begin_with("a", release).unwrap());
    let other = in_progress(store.begin("a").unwrap());
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || other.wait(MINUTE).unwrap());
        let panics = scope.spawn(move || {
            let _held = lease;
            std::panic::resume_unwind(Box::new("the owner"))
        });
        assert!(panics.join().is_err());
        assert_eq!(started(waits.join().unwrap()).attempt(), 2);
    });
}

/// aws-powertools/powertools-lambda-python#1038: a holder that ended early blocked its key until
/// the retention was over. #4759: a lease of zero was taken for none, and never ended.
/// benhendayoussef/idempotency-spring-boot-starter#11: one time for lease and retention.
#[test]
fn a_lease_is_bounded_and_apart_from_the_retention() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let zero = BeginOptions::new().lease(Duration::ZERO);
    assert!(matches!(store.begin_with("a", zero), Err(Error::InvalidLease { .. })));
    let mut lease = started(store.begin("a").unwrap());
    assert!(matches!(lease.renew(Duration::ZERO), Err(Error::InvalidLease { .. })));
    assert!(matches!(lease.renew(Duration::MAX), Err(Error::InvalidLease { .. })));
    drop(lease);
    clock.advance(LEASE);
    assert_eq!(started(store.begin("a").unwrap()).attempt(), 2);
}

/// aws-powertools/powertools-lambda-python#8049: the lease ended with the caller's time limit, and
/// a retry paid twice. Here it is as long as the call asks, and a retry can be refused for good.
#[test]
fn a_lease_may_outlast_its_caller_and_its_effect_be_held_as_unknown() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let options = BeginOptions::new().lease(60 * MINUTE).on_abandon(oncelog::AbandonPolicy::Hold);
    drop(started(store.begin_with("a", options).unwrap()));
    clock.advance(59 * MINUTE);
    in_progress(store.begin("a").unwrap());
    clock.advance(MINUTE);
    assert!(matches!(store.begin("a").unwrap(), Begin::Unknown(_)));
}

/// johanhaleby/occurrent#661: a token was made with each lease, and nothing compared it.
#[test]
fn a_replaced_holder_cannot_touch_its_successors_lease_in_any_way() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let options = BeginOptions::new().on_drop(DropPolicy::Release);
    let stale = started(store.begin_with("a", options).unwrap());
    let token = stale.version();
    clock.advance(LEASE);
    let mut current = started(store.begin_with("a", options).unwrap());
    let before = store.peek("a").unwrap();
    drop(stale);
    assert!(!store.remove_if("a", token).unwrap());
    assert!(store.release_by("a", token, None).is_err());
    assert!(store.renew_by("a", token, LEASE).is_err());
    assert_eq!(store.peek("a").unwrap(), before);
    current.complete("x").unwrap();
    assert!(store.fail_by("a", token, "y").is_err());
    assert_eq!(completed(store.begin("a").unwrap()).outcome(), b"x");
}

/// The opposite error: a holder that was only slow, and alone, was declared lost.
#[test]
fn a_holder_that_slept_and_was_not_replaced_has_lost_nothing() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    clock.advance(10 * MINUTE);
    store.maintain(SECOND).unwrap();
    lease.renew(LEASE).unwrap();
    clock.advance(10 * MINUTE);
    lease.complete("x").unwrap();
}

/// arun0009/idempotent#127: an update brought an expired entry back; an empty outcome counted as
/// none. zonelessdev/zoneless#134: checking and inserting were two steps.
#[test]
fn an_empty_outcome_is_an_outcome_and_nothing_forgotten_comes_back() {
    let (directory, clock) = (directory(), clock());
    let store = brief(directory.path(), &clock);
    let mut lease = started(store.begin("a").unwrap());
    lease.complete("").unwrap();
    assert!(completed(store.begin("a").unwrap()).outcome().is_empty());
    let mut forgotten = started(store.begin("b").unwrap());
    store.remove("b").unwrap();
    assert!(matches!(forgotten.complete("x"), Err(Error::LeaseLost)));
    let mut expired = started(store.begin("c").unwrap());
    clock.advance(MINUTE);
    assert!(matches!(expired.complete("x"), Err(Error::LeaseLost)));
    for key in ["a", "b", "c"] {
        assert!(store.peek(key).unwrap().is_none(), "{key}");
    }
}

/// nats-io/nats-server#3272: what counted as a duplicate changed with a restart. #7302, #5142: the
/// window was taken for a sliding one.
#[test]
fn the_window_is_fixed_at_completion_and_a_restart_changes_nothing() {
    let (directory, clock) = (directory(), clock());
    let mut store = brief(directory.path(), &clock);
    started(store.begin("a").unwrap()).complete("x").unwrap();
    let expires = store.peek("a").unwrap().unwrap().expires;
    for _ in 0..5 {
        clock.advance(10 * SECOND);
        completed(store.begin("a").unwrap());
        assert!(matches!(store.check_and_set("a", "y").unwrap(), Check::Duplicate(_)));
        assert_eq!(store.peek("a").unwrap().unwrap().expires, expires, "a look does not prolong");
        drop(store);
        store = brief(directory.path(), &clock);
    }
    clock.advance(10 * SECOND);
    assert_eq!(started(store.begin("a").unwrap()).attempt(), 1);
}

/// commonwarexyz/monorepo#4260: an entry was taken because its range lay within bounds, and the
/// bytes there were another record's, with a checksum that was right for them.
#[test]
fn a_record_that_lies_where_another_one_belongs_is_never_that_ones() {
    for closes in [false, true] {
        let (directory, clock) = (directory(), clock());
        let store = open(directory.path(), &clock);
        let keys = ["first key", "other key"];
        // Equal lengths, so that each record would fit in the other's place.
        assert!(store.check_and_set(keys[0], "outcome of first").unwrap().is_new());
        assert!(store.check_and_set(keys[1], "outcome of other").unwrap().is_new());
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let file = files(directory.path(), ".seg").remove(0);
        let bytes = std::fs::read(&file).unwrap();
        let place = |key: &str| {
            let found = bytes.windows(key.len()).position(|window| window == key.as_bytes());
            found.unwrap()
        };
        let [first, other] = keys.map(place);
        assert_eq!((other - first) % 16, 0);
        let length = other - first;
        // The payloads alone, and the records with their headers.
        for from in [0, 16] {
            let mut swapped = bytes.clone();
            let (low, high) = (first - from, other - from);
            swapped.copy_within(high..high + length, low);
            swapped[high..high + length].copy_from_slice(&bytes[low..low + length]);
            std::fs::write(&file, &swapped).unwrap();
            let Ok(store) = small().clock(clock.clone()).open(directory.path()) else { continue };
            for (key, own) in keys.iter().zip(["outcome of first", "outcome of other"]) {
                match store.get(key) {
                    Ok(Some(record)) => assert_eq!(record.outcome(), own.as_bytes()),
                    Ok(None) => assert!(!closes, "sealed and forgotten"),
                    Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
                }
            }
            drop(store);
            std::fs::write(&file, &bytes).unwrap();
        }
    }
}

/// cqlite#1398, chrislessard/LSM-Tree#4: what was kept beside the data to answer faster had a
/// flipped bit, or was empty after a restart, and known keys were not found. Nothing but the lists
/// of sealed segments is kept beside the data here; a filter is made anew at each open.
#[test]
fn no_file_beside_the_data_can_make_a_known_key_new() {
    let (directory, clock) = (directory(), clock());
    let open = |filter: bool| {
        small().clock(clock.clone()).negative_filter(filter).open(directory.path()).unwrap()
    };
    let store = open(true);
    for number in 0..200_u64 {
        assert!(store.insert(number.to_le_bytes()).unwrap());
    }
    store.close().unwrap();
    let run = files(directory.path(), ".run").remove(0);
    let bytes = std::fs::read(&run).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..bytes.len())
        .step_by(37)
        .map(|at| {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            flipped
        })
        .collect();
    damaged.extend([Vec::new(), bytes[..bytes.len() / 2].to_vec(), vec![0; bytes.len()]]);
    for (round, bytes) in damaged.into_iter().enumerate() {
        std::fs::write(&run, bytes).unwrap();
        let store = open(round % 2 == 0);
        assert!((0..200_u64).all(|number| store.peek(number.to_le_bytes()).unwrap().is_some()));
        assert!((0..200_u64).all(|number| !store.insert(number.to_le_bytes()).unwrap()));
        assert_eq!(store.recovery().runs_rebuilt, 1);
        store.close().unwrap();
    }
}

/// pelikan-io/pelikan#68, #137: one way to write stored another end than the others.
/// aws-powertools/powertools-lambda-python#1387: a time in seconds was compared with one in
/// milliseconds.
#[test]
fn every_way_to_record_a_key_gives_it_the_same_end() {
    let (directory, clock) = (directory(), clock());
    let store = brief(directory.path(), &clock);
    let policy = Policy { retention: Some(MINUTE.into()), ..Policy::default() };
    let space = store.namespace("n", policy).unwrap();
    let lease = || started(store.begin("lease").unwrap());
    let options = CheckOptions::new().retention(MINUTE);
    let begin = BeginOptions::new().retention(MINUTE);
    let now = Timestamp::from_millis(clock.now().as_millis());
    let mut answers = Answers::new();
    assert!(store.insert("insert").unwrap());
    assert!(store.check_and_set("check", "x").unwrap().is_new());
    assert!(store.check_and_set_for("for", "x", MINUTE).unwrap().is_new());
    assert!(store.check_and_set_with("with", "x", options).unwrap().is_new());
    assert!(store.check_and_set_sent("sent", "x", now).unwrap().is_new());
    store.check_and_set_many(&[("many", "x")], &mut answers).unwrap();
    lease().complete("x").unwrap();
    started(store.begin_with("failed", begin).unwrap()).fail("x").unwrap();
    let token = started(store.begin("by").unwrap()).version();
    store.complete_by("by", token, "x").unwrap();
    started(store.begin("resolved").unwrap()).release(None).unwrap();
    assert!(store.resolve("resolved", "x").unwrap());
    started(store.begin("taken over").unwrap()).release(None).unwrap();
    assert!(store.check_and_set("taken over", "x").unwrap().is_new());
    store.run("run", BeginOptions::new(), |_| Ok::<_, ()>("x")).unwrap();
    let mut begun = Vec::new();
    store.begin_many(&["begun many"], BeginOptions::new(), &mut begun).unwrap();
    let mut work: Vec<_> = begun.into_iter().filter_map(Begin::started).map(|l| (l, "x")).collect();
    store.complete_many(&mut work).unwrap();
    drop(started(store.begin("in progress").unwrap()));
    assert!(space.insert("insert").unwrap());
    space.check_and_set_many(&[("many", "x")], &mut answers).unwrap();
    started(space.begin("lease").unwrap()).complete("x").unwrap();
    let check = |store: &Store, space: &Namespace, known: usize| {
        let mut count = 0;
        for found in store.scan(Scan::new()).chain(space.scan(Scan::new())) {
            let (key, meta) = found.unwrap();
            let end = meta.expires.unwrap().as_millis() - now.as_millis();
            assert_eq!(end, 60_000, "{}", String::from_utf8_lossy(&key));
            count += 1;
        }
        assert_eq!(count, known);
    };
    check(&store, &space, 17);
    drop((space, work));
    drop(store);
    let store = brief(directory.path(), &clock);
    let space = store.namespace("n", policy).unwrap();
    clock.advance(MINUTE - Duration::from_millis(1));
    check(&store, &space, 17);
    clock.advance(Duration::from_millis(1));
    check(&store, &space, 0);
}

/// redpanda-data/redpanda#3039, #22670: that a request was new because its memory had ended could
/// not be told from one never seen.
#[test]
fn keys_that_had_been_known_are_told_from_those_never_seen_while_a_trace_of_them_is_left() {
    let (directory, clock) = (directory(), clock());
    let mut store = brief(directory.path(), &clock);
    let space = store.namespace("n", Policy::default()).unwrap();
    for key in ["checked", "begun", "again"] {
        assert!(store.insert(key).unwrap() && space.insert(key).unwrap());
    }
    drop(space);
    clock.advance(MINUTE);
    for reopened in [false, true] {
        let space = store.namespace("n", Policy::default()).unwrap();
        assert!(store.insert("never seen").unwrap() != reopened);
        assert_eq!((store.stats().expired, space.stats().expired), (0, 0));
        let key = if reopened { "again" } else { "checked" };
        assert!(store.insert(key).unwrap() && !store.insert(key).unwrap());
        assert!(space.insert(key).unwrap());
        assert_eq!((store.stats().expired, space.stats().expired), (2, 1));
        if !reopened {
            drop(started(store.begin("begun").unwrap()));
            assert!(store.insert("removed").unwrap() && store.remove("removed").unwrap());
            assert!(store.insert("removed").unwrap());
            assert_eq!(store.stats().expired, 3);
        }
        drop(space);
        drop(store);
        store = brief(directory.path(), &clock);
    }
    // Without a trace they are like any other.
    clock.advance(10 * MINUTE);
    maintain(&store);
    assert!(store.insert("checked").unwrap());
    assert_eq!(store.stats().expired, 0);
}
