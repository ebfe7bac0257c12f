//! What is particular to records in a server: resent calls, versions, what is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use oncelog::backend::{Backend, Begin, Grant};
use oncelog::{
    Anchor, BeginOptions, Check, CheckOptions, Error, Fingerprint, LongOutcomePolicy, Policy,
    Status, Timestamp, Ttl, Version,
};
use oncelog_redis::RedisBackend;
use tokio::time::sleep;

use crate::servers::{PATIENCE, Server};
use crate::wires::{Counted, Twice};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn started(backend: &impl Backend, key: &[u8]) -> Grant {
    started_with(backend, key, BeginOptions::new()).await
}

pub(crate) async fn started_with(
    backend: &impl Backend,
    key: &[u8],
    options: BeginOptions,
) -> Grant {
    match backend.begin(key, options).await.unwrap() {
        Begin::Started(grant) => grant,
        other => panic!("not to be had: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_new_once_and_its_outcome_is_replayed() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("a").await;
    let options = CheckOptions::new();
    assert!(backend.check_and_set(b"k\0\xff", b"o\0\xfe", options).await.unwrap().is_new());
    let found = backend.check_and_set(b"k\0\xff", b"other", options).await.unwrap();
    let Check::Duplicate(record) = found else { panic!("new again") };
    assert_eq!(record.outcome(), b"o\0\xfe");
    assert_eq!(record.meta().attempts, 0);
    assert_eq!(backend.get(b"k\0\xff").await.unwrap().unwrap().outcome(), b"o\0\xfe");
    assert!(backend.get(b"k").await.unwrap().is_none());
    assert!(server.backend("b").await.peek(b"k\0\xff").await.unwrap().is_none());
}

#[tokio::test]
async fn a_call_that_the_client_sends_twice_is_answered_as_if_it_had_been_sent_once() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = RedisBackend::builder("twice").answer_timeout(PATIENCE);
    let backend = backend.connect(Twice(server.connection().await)).await.unwrap();
    let options = CheckOptions::new();
    assert!(backend.check_and_set(b"checked", b"o", options).await.unwrap().is_new());
    let items: Vec<(&[u8], &[u8])> = vec![(b"m1", b"a"), (b"m2", b"b"), (b"m1", b"c")];
    let answers = backend.check_and_set_many(&items, options).await.unwrap();
    let new: Vec<bool> = answers.iter().map(|answer| answer.as_ref().unwrap().is_new()).collect();
    assert_eq!(new, [true, true, false]);
    let grant = started(&backend, b"k").await;
    assert_eq!(grant.attempt, 1);
    backend.release(b"k", grant.version, None).await.unwrap();
    let grant = started(&backend, b"k").await;
    assert_eq!(grant.attempt, 2);
    assert!(backend.renew(b"k", grant.version, MINUTE).await.unwrap() > grant.deadline);
    let version = backend.complete(b"k", grant.version, b"done").await.unwrap();
    assert_eq!(backend.peek(b"k").await.unwrap().unwrap().version, version);
    let lost = backend.complete(b"k", grant.version, b"done").await;
    assert!(
        matches!(lost, Err(Error::LeaseLost)),
        "a later call with the same arguments is another"
    );
    assert!(backend.remove(b"k", Some(version)).await.unwrap());
    assert!(!backend.remove(b"k", None).await.unwrap());
    let grant = started(&backend, b"k").await;
    assert!(grant.version > version);
    backend.fail(b"k", grant.version, b"no").await.unwrap();
    let unknown = BeginOptions::new().lease(Duration::from_millis(1));
    started_with(&backend, b"u", unknown).await;
    sleep(Duration::from_millis(20)).await;
    assert!(backend.resolve(b"u", b"o").await.unwrap());
    assert!(!backend.resolve(b"u", b"o").await.unwrap());
}

#[tokio::test]
async fn versions_rise_across_removal_and_expiry_and_nothing_stays_behind_for_good() {
    let Some(server) = Server::start(&[]).await else { return };
    let builder = RedisBackend::builder("v").clock_skew(Duration::from_millis(100));
    let backend = server.backend_of(builder).await;
    let mut last = Version::from_u64(0);
    for round in 0..40 {
        // What is to expire does so at once, and what is to be completed has all the time it needs.
        let short = if round % 2 == 0 { MINUTE } else { Duration::from_millis(5) };
        let options = BeginOptions::new().retention(short).lease(short);
        let grant = started_with(&backend, b"k", options).await;
        assert!(grant.version > last, "round {round}");
        assert_eq!(grant.attempt, 1, "round {round}");
        last = grant.version;
        if round % 2 == 0 {
            last = backend.complete(b"k", last, b"o").await.unwrap().max(last);
            assert!(backend.remove(b"k", None).await.unwrap());
        } else {
            // Sometimes what expired is still there, and sometimes it is gone.
            sleep(Duration::from_millis(if round % 4 == 1 { 6 } else { 150 })).await;
        }
    }
    sleep(Duration::from_millis(150)).await;
    let left: Vec<String> = server.run(&["KEYS", "*"]).await;
    assert_eq!(left, ["oncelog:1:v"], "the namespace's own key alone");
}

#[tokio::test]
async fn what_expires_stays_until_no_clock_can_be_behind_its_version() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend_of(RedisBackend::builder("v").clock_skew(MINUTE)).await;
    let options = CheckOptions::new().retention(Duration::from_millis(1));
    assert!(backend.check_and_set(b"k", b"o", options).await.unwrap().is_new());
    sleep(Duration::from_millis(20)).await;
    assert!(backend.get(b"k").await.unwrap().is_none(), "it does not count any more");
    let left: i64 = server.run(&["PTTL", "oncelog:1:v:k"]).await;
    assert!((55_000..=60_001).contains(&left), "{left} ms");
    let soon = Duration::from_secs(5);
    let options = BeginOptions::new().retention(soon).lease(soon);
    let grant = started_with(&backend, b"begun", options).await;
    let left: i64 = server.run(&["PTTL", "oncelog:1:v:begun"]).await;
    assert!((55_000..=60_001).contains(&left), "{left} ms");
    sleep(Duration::from_millis(100)).await;
    backend.complete(b"begun", grant.version, b"o").await.unwrap();
    let later: i64 = server.run(&["PTTL", "oncelog:1:v:begun"]).await;
    assert!((55_000..=60_001).contains(&later), "{later} ms");
    // A key that lives longer than that costs nothing more.
    let options = CheckOptions::new().retention(2 * MINUTE);
    assert!(backend.check_and_set(b"l", b"o", options).await.unwrap().is_new());
    let left: i64 = server.run(&["PTTL", "oncelog:1:v:l"]).await;
    assert!((115_000..=120_000).contains(&left), "{left} ms");
    let options = CheckOptions::new().retention(Ttl::Never);
    assert!(backend.check_and_set(b"m", b"o", options).await.unwrap().is_new());
    assert_eq!(server.run::<i64>(&["PTTL", "oncelog:1:v:m"]).await, -1);
}

#[tokio::test]
async fn a_batch_takes_as_many_trips_as_it_needs_and_repeated_keys_keep_their_order() {
    let Some(server) = Server::start(&[]).await else { return };
    let counted = Counted::new(server.connection().await);
    let builder = RedisBackend::builder("b").answer_timeout(PATIENCE).outcome_bytes_max(100);
    let backend = builder.connect(counted.clone()).await.unwrap();
    let options = CheckOptions::new().on_long_outcome(LongOutcomePolicy::KeepMark);
    // The script is known to the server from here on.
    assert!(backend.check_and_set(b"first", b"", options).await.unwrap().is_new());
    counted.taken();
    let keys: Vec<String> = (0..1_000).map(|i| format!("key-{}", i % 900)).collect();
    let outcomes: Vec<Vec<u8>> = (0..1_000).map(|i| vec![7; i % 150]).collect();
    let items: Vec<(&[u8], &[u8])> =
        keys.iter().zip(&outcomes).map(|(key, outcome)| (key.as_bytes(), &outcome[..])).collect();
    let answers = backend.check_and_set_many(&items, options).await.unwrap();
    assert_eq!(counted.taken(), 1, "a thousand items are one trip");
    for (index, answer) in answers.iter().enumerate() {
        match answer.as_ref().unwrap() {
            Check::New => assert!(index < 900, "item {index}"),
            Check::Duplicate(record) => {
                assert!(index >= 900, "item {index}");
                let first = &outcomes[index - 900];
                match record.outcome_gone() {
                    Some(gone) => {
                        assert!(first.len() > 100);
                        assert_eq!(gone.bytes, first.len() as u64);
                        assert_eq!(gone.digest, Fingerprint::of(first));
                    }
                    None => assert_eq!(record.outcome(), first),
                }
            }
        }
    }
}

#[tokio::test]
async fn each_item_of_a_batch_that_cannot_be_has_an_error_of_its_own() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend_of(RedisBackend::builder("b").outcome_bytes_max(4)).await;
    started(&backend, b"begun").await;
    server.run::<()>(&["RPUSH", "oncelog:1:b:list", "x"]).await;
    server.run::<()>(&["SET", "oncelog:1:b:string", "x"]).await;
    let items: Vec<(&[u8], &[u8])> = vec![
        (b"a", b"1"),
        (b"", b"2"),
        (b"b", b"too long"),
        (b"begun", b"3"),
        (b"list", b"4"),
        (b"string", b"5"),
        (b"c", b"6"),
    ];
    let answers = backend.check_and_set_many(&items, CheckOptions::new()).await.unwrap();
    assert!(matches!(answers[0], Ok(Check::New)));
    assert!(matches!(answers[1], Err(Error::EmptyKey)));
    assert!(matches!(answers[2], Err(Error::OutcomeTooLong { len: 8, max: 4 })));
    assert!(matches!(answers[3], Err(Error::InProgress { .. })));
    assert!(matches!(answers[4], Err(Error::Unprepared { .. })), "{:?}", answers[4]);
    assert!(matches!(answers[5], Err(Error::Unprepared { .. })), "{:?}", answers[5]);
    assert!(matches!(answers[6], Ok(Check::New)));
}

#[tokio::test]
async fn each_verb_is_one_trip() {
    let Some(server) = Server::start(&[]).await else { return };
    let counted = Counted::new(server.connection().await);
    let backend = RedisBackend::builder("t").answer_timeout(PATIENCE);
    let backend = backend.connect(counted.clone()).await.unwrap();
    for round in 0..2 {
        let mut trips = Vec::new();
        let key = format!("k{round}");
        let key = key.as_bytes();
        counted.taken();
        let grant = started(&backend, key).await;
        trips.push(counted.taken());
        backend.renew(key, grant.version, MINUTE).await.unwrap();
        trips.push(counted.taken());
        backend.complete(key, grant.version, b"o").await.unwrap();
        trips.push(counted.taken());
        assert!(backend.check_and_set(key, b"", CheckOptions::new()).await.unwrap().is_duplicate());
        trips.push(counted.taken());
        backend.get(key).await.unwrap();
        trips.push(counted.taken());
        backend.peek(key).await.unwrap();
        trips.push(counted.taken());
        backend.wait(key, MINUTE).await.unwrap();
        trips.push(counted.taken());
        backend.remove(key, None).await.unwrap();
        trips.push(counted.taken());
        if round == 1 {
            assert_eq!(trips, [1; 8], "scripts are known to the server by now");
        }
    }
    let sent = CheckOptions::new().sent_at(Timestamp::from_millis(u64::MAX / 2));
    assert!(backend.check_and_set(b"sent", b"", sent).await.unwrap().is_new());
    assert_eq!(counted.taken(), 2, "one more for when the namespace was first used");
}

#[tokio::test]
async fn a_request_from_before_the_namespace_or_the_retention_is_stale() {
    let Some(server) = Server::start(&[]).await else { return };
    let backend = server.backend("s").await;
    let born: u64 = server.run(&["GET", "oncelog:1:s"]).await;
    let at = |ms| CheckOptions::new().sent_at(Timestamp::from_millis(ms));
    let stale = backend.check_and_set(b"k", b"o", at(born - 1)).await;
    assert!(matches!(stale, Err(Error::Stale { horizon_ms }) if horizon_ms == born));
    let begun = BeginOptions::new().sent_at(Timestamp::from_millis(born - 1));
    assert!(matches!(backend.begin(b"k", begun).await, Err(Error::Stale { .. })));
    assert!(backend.check_and_set(b"k", b"o", at(born)).await.unwrap().is_new());
    // Known is known, whenever it was sent.
    assert!(backend.check_and_set(b"k", b"o", at(1)).await.unwrap().is_duplicate());
    // What the server has forgotten, it does not claim to remember.
    sleep(Duration::from_millis(10)).await;
    server.run::<()>(&["FLUSHALL"]).await;
    assert!(matches!(backend.check_and_set(b"k", b"o", at(born)).await, Err(Error::Stale { .. })));
}

#[tokio::test]
async fn a_key_in_use_is_prolonged_and_its_version_rises() {
    let Some(server) = Server::start(&[]).await else { return };
    let policy = Policy { anchor: Anchor::LastSeen, ..Policy::default() };
    let backend = server.backend_of(RedisBackend::builder("l").policy(policy)).await;
    let options = CheckOptions::new().retention(Duration::from_millis(800));
    assert!(backend.check_and_set(b"k", b"o", options).await.unwrap().is_new());
    let mut versions = BTreeSet::new();
    for _ in 0..8 {
        sleep(Duration::from_millis(200)).await;
        let found = backend.check_and_set(b"k", b"x", options).await.unwrap();
        let Check::Duplicate(record) = found else { panic!("forgotten while in use") };
        assert_eq!(record.outcome(), b"o");
        versions.insert(record.version());
    }
    assert!(versions.len() > 2, "{versions:?}");
    let meta = backend.peek(b"k").await.unwrap().unwrap();
    assert_eq!(meta.status, Status::Completed);
    assert_eq!(meta.completed_at, Some(meta.first_seen), "it was recorded once");
}
