//! Levels and tickets as a caller uses them, on the real file system.

use std::time::Duration;

use oncelog::{Answers, Begin, BeginOptions, Durability, Error, Policy, Store, Timestamp};

#[test]
fn every_level_records_and_a_handle_of_another_level_is_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::builder().durability(Durability::Synced).open(directory.path()).unwrap();
    assert!(store.check_and_set("a", "1").unwrap().is_new());
    let process = store.with_durability(Durability::Process).unwrap();
    assert!(process.check_and_set("a", "2").unwrap().is_duplicate());
    let Begin::Started(mut lease) = store.begin("b").unwrap() else { panic!("a new key") };
    lease.complete("done").unwrap();
    assert!(store.remove("a").unwrap());
    assert_eq!(store.stats().unsynced_bytes, 0);
    let interval = Durability::Interval(Duration::ZERO);
    assert!(matches!(store.with_durability(interval), Err(Error::InvalidConfig { .. })));
}

#[test]
fn a_thousand_tickets_in_flight_share_one_sync() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let before = store.stats().syncs;
    let tickets: Vec<_> = (0..1000)
        .map(|i: u32| {
            assert!(store.insert(i.to_le_bytes()).unwrap());
            store.ticket().unwrap()
        })
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(store.stats().syncs - before, 1);
    assert_eq!(store.stats().unsynced_bytes, 0);
}

#[test]
fn an_error_that_is_an_answer_waits_for_the_record_it_rests_on_in_a_batch_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let process = store.namespace("orders", Policy::default()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    let lease = process.begin("a").unwrap();
    assert!(store.stats().unsynced_bytes > 0);
    let refused = synced.check_and_set_many(&[("a", "x")], &mut Answers::new());
    assert!(matches!(refused, Err(Error::InProgress { .. })), "{refused:?}");
    assert_eq!(store.stats().unsynced_bytes, 0);
    drop(lease);
}

#[test]
fn a_batch_of_begins_waits_for_what_its_answers_rest_on_whoever_recorded_that() {
    let directory = tempfile::tempdir().unwrap();
    let process = Store::open(directory.path()).unwrap();
    let synced = process.with_durability(Durability::Synced).unwrap();
    let mut answers = Vec::new();
    synced.begin_many(&["a", "b"], BeginOptions::new(), &mut answers).unwrap();
    assert_eq!(process.stats().unsynced_bytes, 0);
    let lease = process.begin("c").unwrap();
    assert!(process.stats().unsynced_bytes > 0);
    synced.begin_many(&["c"], BeginOptions::new(), &mut answers).unwrap();
    assert!(matches!(answers[..], [Begin::InProgress(_)]));
    assert_eq!(process.stats().unsynced_bytes, 0);
    // A request older than the store's memory is refused, and that too is an answer.
    process.insert("d").unwrap();
    let ancient = BeginOptions::new().sent_at(Timestamp::from_millis(0));
    let refused = synced.begin_many(&["e"], ancient, &mut answers);
    assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
    assert_eq!(process.stats().unsynced_bytes, 0);
    drop(lease);
}

#[test]
fn completing_a_lease_of_another_store_in_a_batch_syncs_that_store() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |path| Store::builder().durability(Durability::Synced).open(path).unwrap();
    let (one, two) = (open(one.path()), open(two.path()));
    let Begin::Started(lease) = two.begin("a").unwrap() else { panic!("a new key") };
    one.complete_many(&mut [(lease, "done")]).unwrap();
    assert_eq!(two.stats().unsynced_bytes, 0);
}
