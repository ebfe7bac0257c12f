//! What went wrong elsewhere with recovery, damage and ownership, as tests of this store.
//!
//! Each test names the place where the fault was reported. The whole list of faults, with the test
//! or the sentence that answers each, is in docs/testing.md.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncelog::{Error, inspect};

use crate::setup::{clock, directory, fast_directory, files, small};

/// Where a segment's first record lies.
const FIRST_RECORD: usize = 4096 + 64;

fn name(i: u32) -> String {
    format!("key {i:06}")
}

/// facebook/rocksdb#12918, #12403, cockroachdb/pebble#580, #864: a log file was used again without
/// being zeroed, and the records of its earlier life were replayed behind the new end.
#[test]
fn records_of_an_earlier_segment_behind_the_end_of_a_later_one_are_not_believed() {
    let (directory, clock) = (fast_directory(), clock());
    let open = || small().lanes(1).clock(clock.clone()).open(directory.path()).unwrap();
    let store = open();
    for i in 0..100 {
        assert!(store.check_and_set(name(i), "of the first segment").unwrap().is_new());
    }
    drop(store);
    let earlier = files(directory.path(), ".seg").into_iter().find(|path| has_records(path));
    let earlier = fs::read(earlier.unwrap()).unwrap();
    // The next process appends to a segment of its own, and removes what the first one wrote.
    let store = open();
    assert!((0..100).all(|i| store.remove(name(i)).unwrap()));
    drop(store);
    let later = files(directory.path(), ".seg").into_iter().rfind(|path| has_records(path));
    let later = later.unwrap();
    let mut bytes = fs::read(&later).unwrap();
    assert_ne!(bytes[..4096], earlier[..4096]);
    let end = bytes[..65_536].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(16);
    // At its own offset, as in a file that was used again, and right behind the end.
    let (own, mut behind) = (bytes.clone(), bytes.clone());
    bytes[end..65_536].copy_from_slice(&earlier[end..65_536]);
    let stale = &earlier[FIRST_RECORD..FIRST_RECORD + 4096];
    behind[end..end + stale.len()].copy_from_slice(stale);
    for contents in [bytes, behind] {
        fs::write(&later, contents).unwrap();
        let store = open();
        assert_eq!(store.stats().keys, 100, "tombstones alone");
        assert!((0..100).all(|i| !store.contains(name(i)).unwrap()));
        drop(store);
        fs::write(&later, &own).unwrap();
    }
}

fn has_records(path: &std::path::Path) -> bool {
    let bytes = fs::read(path).unwrap();
    bytes.get(FIRST_RECORD..FIRST_RECORD + 16).is_some_and(|unit| unit.iter().any(|b| *b != 0))
}

/// As commonwarexyz/monorepo#4260 with whole files: each is sound, and in the other's place. A list
/// that leads into the wrong one finds other keys there, and what it was made for would be new.
#[test]
fn segments_that_have_changed_places_are_reported() {
    let (directory, clock) = (fast_directory(), clock());
    let open = || small().lanes(1).clock(clock.clone()).open(directory.path());
    let store = open().unwrap();
    for i in 0..100 {
        let ttl = Duration::from_secs(if i % 2 == 0 { 3_600 } else { 36_000 });
        assert!(store.check_and_set_for(name(i), "", ttl).unwrap().is_new());
    }
    store.close().unwrap();
    let segments: Vec<_> = files(directory.path(), ".seg");
    let [first, second] = &segments[..] else { panic!("{segments:?}") };
    let (one, two) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    assert_eq!(one.len(), two.len());
    fs::write(first, two).unwrap();
    fs::write(second, one).unwrap();
    let opened = open().map(|_store| ());
    assert!(matches!(opened, Err(Error::Corrupt { segment: Some(_), .. })), "{opened:?}");
    assert!(!inspect::verify(directory.path()).unwrap().is_sound());
}

/// apache/pulsar#25954: recovery was begun twice, as its state was set last, and while it ran
/// duplicates were let in.
#[test]
fn of_openings_at_once_one_gets_the_store_and_answers_from_all_of_it() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for i in 0..2_000 {
        assert!(store.insert(name(i)).unwrap());
    }
    drop(store);
    let (barrier, opened) = (Barrier::new(8), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (barrier, opened, path) = (&barrier, &opened, directory.path());
            scope.spawn(move || {
                barrier.wait();
                loop {
                    match small().open(path) {
                        Ok(store) => {
                            assert_eq!(opened.fetch_add(1, Ordering::SeqCst), 0, "opened twice");
                            // The last ones are read last.
                            assert!((0..2_000).rev().all(|i| !store.insert(name(i)).unwrap()));
                            assert!(store.insert(format!("of thread {thread}")).unwrap());
                            opened.store(0, Ordering::SeqCst);
                            drop(store);
                            return;
                        }
                        Err(Error::AlreadyOpen { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let store = small().open(directory.path()).unwrap();
    assert!((0..8).all(|thread| store.contains(format!("of thread {thread}")).unwrap()));
}

/// amelielabs/amelie#17, acoustid/acoustid-index#157: a torn end was left in place, and what was
/// recorded behind it was gone at the opening after the next.
#[test]
fn what_is_recorded_after_a_torn_end_is_there_at_every_later_opening() {
    let directory = fast_directory();
    let store = small().lanes(1).open(directory.path()).unwrap();
    for i in 0..50 {
        assert!(store.check_and_set(name(i), "before").unwrap().is_new());
    }
    drop(store);
    let segment = files(directory.path(), ".seg").into_iter().find(|path| has_records(path));
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes[..65_536].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // A record of which the first words reached the file.
    bytes[end.next_multiple_of(16)..end.next_multiple_of(16) + 8].fill(0x5a);
    fs::write(&segment, bytes).unwrap();
    for round in 1..5 {
        let store = small().lanes(1).open(directory.path()).unwrap();
        assert!((0..50 * round).all(|i| !store.insert(name(i)).unwrap()), "round {round}");
        for i in 50 * round..50 * (round + 1) {
            assert!(store.check_and_set(name(i), "after").unwrap().is_new());
        }
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    assert!(inspect::verify(directory.path()).unwrap().is_sound());
}

/// facebook/rocksdb#1780, google/leveldb#126: a second opening in the same process was let in, or
/// was refused, and giving it up took the first one's lock away.
#[test]
fn a_refused_opening_leaves_the_lock_where_it_is() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for _ in 0..3 {
        assert!(matches!(small().open(directory.path()), Err(Error::AlreadyOpen { .. })));
        assert!(inspect::stat(directory.path()).unwrap().in_use);
    }
    // By another name of the same directory as well.
    let link = directory.path().join("../link-to-").display().to_string()
        + &directory.path().file_name().unwrap().to_string_lossy();
    std::os::unix::fs::symlink(directory.path(), &link).unwrap();
    let refused = small().open(&link);
    fs::remove_file(&link).unwrap();
    assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{refused:?}");
    assert!(store.insert("a").unwrap());
    store.close().unwrap();
    assert!(!inspect::stat(directory.path()).unwrap().in_use);
}

/// mumble-voip/mumble#5031, sparklemotion/sqlite3-ruby#558: a program that was started meanwhile
/// inherited the files, and kept their lock.
#[test]
fn a_program_that_was_started_meanwhile_does_not_keep_the_store_locked() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(store.insert("a").unwrap());
    let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    drop(store);
    let opened = small().open(directory.path());
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!opened.unwrap().insert("a").unwrap());
}

/// cockroachdb/pebble#107, etcd-io/etcd#4930: the zeros behind the last record of a file that was
/// allocated ahead passed for damage, or for records.
#[test]
fn zeros_behind_the_last_record_are_neither_damage_nor_records() {
    let directory = fast_directory();
    for round in 0..4_u32 {
        let store = small().open(directory.path()).unwrap();
        let report = store.recovery();
        assert_eq!((report.damaged, report.torn_tails, report.torn_bytes), (0, 0, 0));
        assert_eq!(report.records, u64::from(round));
        assert!(store.insert(name(round)).unwrap());
    }
    let checked = inspect::verify(directory.path()).unwrap();
    assert!(checked.is_sound() && checked.records == 4, "{checked:?}");
}
