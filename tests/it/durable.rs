//! Levels and tickets as a caller uses them, on the real file system.

use std::time::Duration;

use oncelog::{Begin, Durability, Error, Store};

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
