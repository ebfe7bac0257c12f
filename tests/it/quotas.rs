//! Namespaces at limits of their own: new keys are refused, all else goes on, others feel nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncelog::{
    Begin, Error, Maintenance, Namespace, OUTCOME_BYTES_RESERVED, Policy, Result, Store, Ttl,
    inspect,
};

use crate::setup::{clock, directory, maintain, small};

const HOUR: Duration = Duration::from_secs(3600);

fn keys_of(max_keys: u64) -> Policy {
    Policy { max_keys: Some(max_keys), retention: Some(HOUR.into()), ..Policy::default() }
}

fn is_full<T>(result: Result<T>, of: &str) -> bool {
    matches!(result, Err(Error::Full { what }) if what == of)
}

const KEYS: &str = "max_keys of the namespace";
const BYTES: &str = "max_bytes of the namespace";

/// Inserts until one is refused; how many there are.
fn fill(space: &Namespace, bytes: usize, of: &str) -> u64 {
    for number in 0..1_000_000_u64 {
        match space.check_and_set(format!("fill {number}"), vec![1; bytes]) {
            Ok(check) => assert!(check.is_new()),
            full => {
                assert!(is_full(full, of));
                return number;
            }
        }
    }
    panic!("never full")
}

#[test]
fn a_namespace_at_its_limit_of_keys_refuses_new_ones_and_nothing_else() {
    let (directory, clock) = (directory(), clock());
    let store = small().clock(clock.clone()).open(directory.path()).unwrap();
    let space = store.namespace("bounded", keys_of(50)).unwrap();
    let other = store.namespace("other", Policy::default()).unwrap();
    let mut lease = space.begin("lease").unwrap().started().unwrap();
    let released = space.begin("released").unwrap().started();
    released.unwrap().release(None).unwrap();
    assert_eq!(fill(&space, 10, KEYS), 48);
    assert!(is_full(space.begin("new"), KEYS) && is_full(space.insert("new"), KEYS));
    assert!(space.peek("new").unwrap().is_none());
    let stats = space.stats();
    assert_eq!((stats.keys, stats.refused), (50, 3));
    assert!(other.insert("new").unwrap() && store.insert("new").unwrap());
    assert!(!space.insert("fill 7").unwrap());
    assert!(space.contains("fill 7").unwrap());
    lease.renew(Duration::from_secs(5)).unwrap();
    lease.complete("done").unwrap();
    let mut again = space.begin("released").unwrap().started().unwrap();
    again.fail("no").unwrap();
    // Room for one comes back with a removal, and for all when they have expired.
    assert!(space.remove("fill 7").unwrap());
    assert_eq!(space.stats().keys, 49);
    assert!(space.insert("new").unwrap());
    assert!(is_full(space.insert("fill 7"), KEYS), "a removed key is new again");
    clock.advance(2 * HOUR);
    maintain(&store);
    assert_eq!((space.stats().keys, space.stats().bytes), (0, 0));
    assert_eq!(fill(&space, 10, KEYS), 50);
}

#[test]
fn a_namespace_at_its_limit_of_bytes_refuses_new_keys_and_completes_what_was_begun() {
    let directory = directory();
    let store = small().ttl(Ttl::Never).open(directory.path()).unwrap();
    let policy = Policy { max_bytes: Some(100_000), ..Policy::default() };
    let space = store.namespace("bounded", policy).unwrap();
    let mut leases: Vec<_> =
        (0..20).map(|n| space.begin(format!("lease {n}")).unwrap().started().unwrap()).collect();
    let count = fill(&space, 1_000, BYTES);
    assert!((85..95).contains(&count), "{count}");
    assert!(space.stats().bytes <= 100_000 && space.stats().bytes > 98_000);
    for lease in &mut leases {
        lease.complete([1; OUTCOME_BYTES_RESERVED]).unwrap();
        assert!(space.stats().bytes <= 100_000);
    }
    assert!(is_full(space.check_and_set("new", [1; 3_000]), BYTES));
    assert!(space.remove("fill 0").unwrap());
    assert!(space.check_and_set("new", [1; 900]).unwrap().is_new());
    // What was begun is completed whatever its outcome takes.
    space.remove("fill 1").unwrap();
    let mut long = space.begin("long").unwrap().started().unwrap();
    long.complete([1; 50_000]).unwrap();
    assert!(space.stats().bytes > 100_000 && is_full(space.insert("newer"), BYTES));
    assert_eq!(space.get("long").unwrap().unwrap().outcome().len(), 50_000);
    assert!(space.remove("long").unwrap() && space.insert("newer").unwrap());
}

#[test]
fn no_limit_is_exceeded_by_many_threads_and_each_room_that_returns_is_used() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let space = store.namespace("bounded", keys_of(100)).unwrap();
    let held = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (space, held) = (&space, &held);
            scope.spawn(move || {
                for round in 0..4_000_u64 {
                    let key = ((thread << 32) | (round % 60)).to_le_bytes();
                    match space.insert(key) {
                        Ok(true) => assert!(held.fetch_add(1, Ordering::SeqCst) < 100),
                        Ok(false) => {
                            // Counted down before, as others may come in between.
                            held.fetch_sub(1, Ordering::SeqCst);
                            assert!(space.remove(key).unwrap());
                        }
                        full => assert!(is_full(full, KEYS)),
                    }
                }
            });
        }
    });
    assert_eq!(space.stats().keys, held.into_inner());
    let before = space.stats().keys;
    assert_eq!(fill(&space, 0, KEYS), 100 - before);
}

#[test]
fn what_a_namespace_holds_survives_a_crash_and_closing_and_stands_in_the_manifest() {
    let directory = directory();
    let mut expected = (0, 0);
    for round in 0..4_u64 {
        let store = small().open(directory.path()).unwrap();
        let space = store.namespace("bounded", keys_of(10 * (round + 1))).unwrap();
        let stats = space.stats();
        assert_eq!((stats.keys, stats.bytes), expected);
        for number in 0..10 {
            assert!(space.insert(((round << 32) | number).to_le_bytes()).unwrap());
        }
        assert!(is_full(space.insert("new"), KEYS));
        assert!(space.remove((round << 32).to_le_bytes()).unwrap());
        assert!(space.check_and_set((round << 32).to_le_bytes(), "other").unwrap().is_new());
        expected = (space.stats().keys, space.stats().bytes);
        drop(space);
        if round % 2 == 0 {
            drop(store);
            continue;
        }
        store.close().unwrap();
        let stat = inspect::stat(directory.path()).unwrap();
        let [one] = &stat.namespaces[..] else { panic!("{stat:?}") };
        assert_eq!((one.name.as_str(), one.keys, one.bytes), ("bounded", expected.0, expected.1));
    }
}

#[test]
fn a_smaller_limit_than_what_is_held_refuses_new_keys_alone() {
    let directory = directory();
    let store = Store::builder().maintenance(Maintenance::Manual).open(directory.path()).unwrap();
    let wide = store.namespace("n", Policy::default()).unwrap();
    (0..20_u64).for_each(|n| assert!(wide.insert(n.to_le_bytes()).unwrap()));
    let narrow = store.namespace("n", keys_of(5)).unwrap();
    assert!(is_full(narrow.insert("new"), KEYS) && !narrow.insert(3_u64.to_le_bytes()).unwrap());
    (0..16_u64).for_each(|n| assert!(narrow.remove(n.to_le_bytes()).unwrap()));
    let Begin::Started(_lease) = narrow.begin("new").unwrap() else { panic!("no room") };
    assert!(is_full(narrow.insert("newer"), KEYS));
}
