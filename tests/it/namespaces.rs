//! Namespaces, scopes and scans: keys that never meet, and keys that are found again.

use std::collections::BTreeSet;
use std::time::Duration;

use oncelog::{
    AbandonPolicy, Begin, BeginOptions, DropPolicy, Error, Fingerprint, Policy, Scan, Scope,
    Status, Store, inspect,
};

use crate::lease::{LEASE, SECOND, completed, in_progress, open, started};
use crate::setup::{clock, directory, small};

/// nats-io/nats-server#3645 took one message's id for another's: no two pairs are one key here.
#[test]
fn keys_of_different_namespaces_never_meet_also_after_reopening() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let spaces = ["ab", "a", "abc"];
    let keys = ["c", "bc", "a", "abc"];
    // The bytes that stand in the log for key "c" of the first namespace, outside of any.
    let raw = [&1_u64.to_le_bytes()[..], b"c"].concat();
    let mut expected = BTreeSet::new();
    for round in 0..3 {
        for name in spaces {
            let space = store.namespace(name, Policy::default()).unwrap();
            for key in keys {
                let outcome = format!("{name}.{key}");
                if round == 0 {
                    assert!(space.check_and_set(key, &outcome).unwrap().is_new());
                    expected.insert(outcome.clone());
                }
                assert_eq!(space.get(key).unwrap().unwrap().outcome(), outcome.as_bytes());
            }
        }
        for key in keys {
            assert_eq!(store.check_and_set(key, key).unwrap().is_new(), round == 0);
        }
        assert_eq!(store.check_and_set(&raw, "raw").unwrap().is_new(), round == 0);
        assert_eq!(store.get(&raw).unwrap().unwrap().outcome(), b"raw");
        if round == 1 {
            store.close().unwrap()
        } else {
            drop(store)
        }
        assert!(inspect::verify(directory.path()).unwrap().is_sound());
        store = open(directory.path(), &clock);
    }
    let first = store.namespace("ab", Policy::default()).unwrap();
    assert!(first.remove("c").unwrap() && !first.contains("c").unwrap());
    assert_eq!(store.get(&raw).unwrap().unwrap().outcome(), b"raw");
    assert_eq!(expected.len(), 12);
}

#[test]
fn a_namespace_works_under_its_own_policy() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let policy = Policy {
        retention: Some((60 * SECOND).into()),
        lease: SECOND,
        on_drop: DropPolicy::Release,
        on_abandon: AbandonPolicy::Hold,
        attempts_max: Some(2),
        require_fingerprint: true,
        ..Policy::default()
    };
    let space = store.namespace("strict", policy).unwrap();
    assert!(matches!(space.begin("a"), Err(Error::FingerprintRequired)));
    let options = BeginOptions::new().fingerprint(Fingerprint::of(b"body"));
    drop(started(space.begin_with("a", options).unwrap()));
    let lease = started(space.begin_with("a", options).unwrap());
    assert_eq!((lease.attempt(), lease.remaining()), (2, SECOND));
    clock.advance(SECOND);
    assert!(matches!(space.begin_with("a", options).unwrap(), Begin::Unknown(_)));
    assert!(space.resolve("a", "done").unwrap());
    assert_eq!(completed(space.begin_with("a", options).unwrap()).outcome(), b"done");
    started(space.begin_with("b", options).unwrap()).release(None).unwrap();
    started(space.begin_with("b", options).unwrap()).release(None).unwrap();
    assert!(matches!(space.begin_with("b", options).unwrap(), Begin::Exhausted(_)));
    clock.advance(60 * SECOND);
    assert!(space.peek("a").unwrap().is_none());
    drop(lease);
    let long = BeginOptions::new().fingerprint(Fingerprint::of(b"x")).lease(LEASE);
    assert_eq!(started(space.begin_with("c", long).unwrap()).remaining(), LEASE);
}

#[test]
fn every_call_of_a_namespace_does_what_the_stores_does() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let space = store.namespace("x", Policy::default()).unwrap();
    let token = started(space.begin("a").unwrap()).version();
    assert!(matches!(store.complete_by("a", token, "x"), Err(Error::LeaseLost)));
    space.renew_by("a", token, LEASE).unwrap();
    assert!(matches!(space.check_and_set("a", "x"), Err(Error::InProgress { .. })));
    space.complete_by("a", token, "x").unwrap();
    assert!(!space.insert("a").unwrap());
    let token = started(space.begin("b").unwrap()).version();
    space.release_by("b", token, Some(SECOND)).unwrap();
    in_progress(space.begin("b").unwrap());
    clock.advance(SECOND);
    let token = started(space.begin("b").unwrap()).version();
    space.fail_by("b", token, "no").unwrap();
    assert!(!space.remove_if("b", token).unwrap());
    assert!(space.remove_if("b", space.peek("b").unwrap().unwrap().version).unwrap());
    let run = space.run("c", BeginOptions::new(), |_| Ok::<_, ()>("ran")).unwrap();
    assert_eq!(run.outcome(), b"ran");
    let mut answers = Vec::new();
    space.begin_many(&["a", "d"], BeginOptions::new(), &mut answers).unwrap();
    assert!(matches!(answers[..], [Begin::Completed(_), Begin::Started(_)]));
    let key = "long ".repeat(200);
    assert!(space.insert(&key).unwrap() && !space.insert(&key).unwrap());
    let (stats, all) = (space.stats(), store.stats());
    assert_eq!((stats.leases_started, stats.leases_completed, stats.leases_failed), (5, 2, 1));
    assert_eq!((stats.checks_new, stats.checks_duplicate, stats.removals), (1, 2, 1));
    assert_eq!((stats.leases_released, stats.leases_renewed), (1, 1));
    assert_eq!(all.leases_started, 5);
    let other = store.namespace("y", Policy::default()).unwrap();
    assert_eq!(other.stats().leases_started, 0);
}

#[test]
fn names_and_policies_that_cannot_work_are_refused() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let refused = |name: &str, policy: Policy| store.namespace(name, policy).unwrap_err();
    let plain = Policy::default();
    assert!(matches!(refused("", plain), Error::InvalidNamespace { .. }));
    assert!(matches!(refused(&"n".repeat(256), plain), Error::InvalidNamespace { .. }));
    let zero = Policy { lease: Duration::ZERO, ..plain };
    assert!(matches!(refused("x", zero), Error::InvalidLease { .. }));
    let zero = Policy { retention: Some(Duration::ZERO.into()), ..plain };
    assert!(matches!(refused("x", zero), Error::InvalidTtl { .. }));
    let clone = store.clone();
    clone.close().unwrap();
    assert!(matches!(refused("x", plain), Error::Closed));
}

fn found(scan: oncelog::Scanned) -> BTreeSet<String> {
    scan.map(|item| String::from_utf8(item.unwrap().0).unwrap()).collect()
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn a_scan_finds_keys_by_state_and_age_in_one_namespace() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let hold = Policy { on_abandon: AbandonPolicy::Hold, ..Policy::default() };
    let fill = |store: &Store| {
        let space = store.namespace("x", hold).unwrap();
        drop(started(space.begin("unknown").unwrap()));
        drop(started(store.begin("overdue").unwrap()));
        clock.advance(LEASE);
        drop(started(space.begin("new").unwrap()));
        started(space.begin("done").unwrap()).complete("x").unwrap();
        started(space.begin("failed").unwrap()).fail("x").unwrap();
        started(space.begin("free").unwrap()).release(None).unwrap();
        space.insert("gone").unwrap();
        space.remove("gone").unwrap();
        store.insert("done outside").unwrap();
    };
    fill(&store);
    for _ in 0..2 {
        let space = store.namespace("x", hold).unwrap();
        let by = |status| found(space.scan(Scan::new().status(status)));
        assert_eq!(by(Status::Unknown), set(&["unknown"]));
        assert_eq!(by(Status::InProgress), set(&["new"]));
        assert_eq!(by(Status::Completed), set(&["done"]));
        assert_eq!(by(Status::Failed), set(&["failed"]));
        assert_eq!(by(Status::Released), set(&["free"]));
        assert_eq!(found(store.scan(Scan::new())), set(&["overdue", "done outside"]));
        let old = Scan::new().older_than(SECOND);
        assert_eq!(found(space.scan(old)), set(&["unknown"]));
        assert_eq!(found(store.scan(old.status(Status::Overdue))), set(&["overdue"]));
        store.close().unwrap();
        store = open(directory.path(), &clock);
    }
    let all = store.scan(Scan::new()).map(|item| item.unwrap().1.attempts).collect::<Vec<_>>();
    assert_eq!(all.iter().sum::<u32>(), 1);
}

#[test]
fn scopes_keep_the_keys_of_tenants_apart() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let scope = |tenant: &str| Scope::new().tenant(tenant).operation("POST /payments");
    let mut lease = started(store.begin(scope("a").key("1")).unwrap());
    drop(started(store.begin(scope("b").key("1")).unwrap()));
    lease.complete("a's secret").unwrap();
    in_progress(store.begin(scope("b").key("1")).unwrap());
}

#[test]
fn a_batch_of_any_size_in_a_namespace_is_answered_as_single_calls_would_be() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let batch = store.namespace("batch", Policy::default()).unwrap();
    let single = store.namespace("single", Policy::default()).unwrap();
    // Beyond one group, with keys that come again, and long ones.
    let key = |n: usize| format!("{} {}", n % 70, "k".repeat(n % 70 * 9));
    let keys: Vec<String> = (0..150).map(key).collect();
    let words = |begin: &Begin| match begin {
        Begin::Started(lease) => (1, lease.attempt(), lease.key().to_vec()),
        Begin::InProgress(_) => (2, 0, Vec::new()),
        other => panic!("{other:?}"),
    };
    let mut answers = Vec::new();
    batch.begin_many(&keys, BeginOptions::new(), &mut answers).unwrap();
    let singles: Vec<Begin> = keys.iter().map(|key| single.begin(key).unwrap()).collect();
    let of = |answers: &[Begin]| answers.iter().map(words).collect::<Vec<_>>();
    assert_eq!(of(&answers), of(&singles));
    let bad = ["new", "", "newer"];
    assert!(matches!(
        batch.begin_many(&bad, BeginOptions::new(), &mut answers),
        Err(Error::EmptyKey)
    ));
    assert_eq!((answers.len(), batch.peek("newer").unwrap()), (1, None));
    assert!(batch.peek("new").unwrap().is_some() && store.peek("new").unwrap().is_none());
}
