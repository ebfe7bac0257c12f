//! A real file system without room: *full* is answered, nothing is lost, begun work is completed.
//!
//! The test runs itself again in a mount namespace of its own, with a file system of a few
//! megabytes in memory. That takes the rights of root; without them it says so and passes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use oncelog::{Error, Lease, OUTCOME_BYTES_RESERVED, Store, Version, inspect};

use crate::setup::{directory, small};

/// Names the directory to fill; set in the namespace alone.
const ROOM: &str = "ONCELOG_TEST_ROOM";

const SCRIPT: &str = "mount -t tmpfs -o size=6m none \"$0\" || exit 77; exec \"$@\"";
const UNAVAILABLE: i32 = 77;

#[test]
fn a_full_file_system_refuses_new_keys_and_takes_them_once_room_returns() {
    on_a_small_file_system(
        "a_full_file_system_refuses_new_keys_and_takes_them_once_room_returns",
        fill,
    );
}

#[test]
fn leases_of_an_earlier_process_are_completed_on_a_full_file_system() {
    let name = "leases_of_an_earlier_process_are_completed_on_a_full_file_system";
    on_a_small_file_system(name, complete_later);
}

#[test]
fn keys_are_removed_on_a_full_file_system_and_no_lease_loses_its_room_to_that() {
    let name = "keys_are_removed_on_a_full_file_system_and_no_lease_loses_its_room_to_that";
    on_a_small_file_system(name, remove);
}

#[test]
fn a_store_opens_on_a_full_file_system_and_answers_what_it_knows() {
    let name = "a_store_opens_on_a_full_file_system_and_answers_what_it_knows";
    on_a_small_file_system(name, open_without_room);
}

#[test]
fn a_store_whose_keys_have_expired_gives_their_room_back_on_a_full_file_system() {
    let name = "a_store_whose_keys_have_expired_gives_their_room_back_on_a_full_file_system";
    on_a_small_file_system(name, expire_without_room);
}

#[test]
fn the_last_record_of_a_block_is_read_on_a_full_file_system() {
    let name = "the_last_record_of_a_block_is_read_on_a_full_file_system";
    on_a_small_file_system(name, read_last_records);
}

/// Whatever the last record leaves of its block, which is the last one that has room on the disk.
fn read_last_records(room: &Path) {
    let clock = crate::setup::clock();
    let hour = std::time::Duration::from_secs(3600);
    let outcome = 7_u64.to_le_bytes();
    for count in 1_890..1_920_u64 {
        let path = room.join(format!("store {count}"));
        let store = small().lanes(1).clock(clock.clone()).ttl(hour).open(&path).unwrap();
        let keys = || (0..count).map(u64::to_le_bytes);
        assert!(keys().all(|key| store.check_and_set(key, outcome).unwrap().is_new()));
        // Its bucket takes no more, so the segment is sealed, and gives back what it has not used.
        clock.advance(hour / 2);
        crate::setup::maintain(&store);
        assert!(!crate::setup::files(&path, ".run").is_empty());
        let filler = fill_up(room);
        let known = |key| store.get(key).unwrap().is_some_and(|found| found.outcome() == outcome);
        assert!(keys().all(known), "{count}");
        drop((store, filler));
        fs::remove_file(room.join("filler")).unwrap();
        fs::remove_dir_all(path).unwrap();
    }
}

/// Takes all the room there is.
fn fill_up(room: &Path) -> fs::File {
    let mut filler = fs::File::create(room.join("filler")).unwrap();
    for piece in [4096, 64, 1] {
        while filler.write_all(&vec![1; piece]).is_ok() {}
    }
    filler
}

fn open_without_room(room: &Path) {
    for closed in [true, false] {
        let path = room.join(format!("store {closed}"));
        let store = small().open(&path).unwrap();
        let lease = store.begin("lease").unwrap().started().unwrap();
        let token = lease.version();
        assert!((0..100_u64).all(|n| store.insert(n.to_le_bytes()).unwrap()));
        if closed {
            store.close().unwrap();
        } else {
            drop(store);
        }
        drop(lease);
        let before = inspect::stat(&path).unwrap().epoch;
        drop(fill_up(room));
        for _ in 0..3 {
            let store = small().open(&path).unwrap();
            assert!((0..100_u64).all(|n| !store.insert(n.to_le_bytes()).unwrap()));
            assert!(!store.contains("new").unwrap());
            assert!(matches!(store.insert("new"), Err(Error::Full { .. })));
            assert!(matches!(store.remove(0_u64.to_le_bytes()), Err(Error::Full { .. })));
            // No version may be given out twice, so nothing is recorded without the epoch.
            let completed = store.complete_by("lease", token, "");
            assert!(matches!(completed, Err(Error::Full { .. })), "{completed:?}");
            assert!(store.maintain(std::time::Duration::from_secs(1)).is_ok());
        }
        assert_eq!(inspect::stat(&path).unwrap().epoch, before);
        let store = small().open(&path).unwrap();
        fs::remove_file(room.join("filler")).unwrap();
        store.complete_by("lease", token, "done").unwrap();
        assert!(store.insert("new").unwrap());
        assert!(inspect::stat(&path).unwrap().epoch > before);
        drop(store);
        assert!(inspect::verify(&path).unwrap().is_sound());
        let store = small().open(&path).unwrap();
        assert!(store.contains("new").unwrap() && store.contains("lease").unwrap());
        drop(store);
        fs::remove_dir_all(path).unwrap();
    }
}

fn expire_without_room(room: &Path) {
    let clock = crate::setup::clock();
    let builder = || small().clock(clock.clone()).ttl(std::time::Duration::from_secs(60));
    for reopen in [true, false] {
        let path = room.join(format!("store {reopen}"));
        let store = builder().open(&path).unwrap();
        assert!((0..60_000_u64).all(|n| store.insert(n.to_le_bytes()).unwrap()));
        store.close().unwrap();
        let store = builder().open(&path).unwrap();
        let store = if reopen {
            drop(store);
            None
        } else {
            Some(store)
        };
        drop(fill_up(room));
        clock.advance(std::time::Duration::from_secs(3600));
        let store = store.unwrap_or_else(|| builder().open(&path).unwrap());
        crate::setup::maintain(&store);
        assert!(store.insert("new").unwrap(), "reopen: {reopen}");
        drop(store);
        assert!(inspect::verify(&path).unwrap().is_sound());
        fs::remove_file(room.join("filler")).unwrap();
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn a_read_only_file_system_is_a_written_error_and_takes_nothing() {
    let name = "a_read_only_file_system_is_a_written_error_and_takes_nothing";
    on_a_small_file_system(name, read_only);
}

/// Runs `work` in a file system of a few megabytes, in a process of its own that runs this test.
fn on_a_small_file_system(name: &str, work: fn(&Path)) {
    if let Some(path) = std::env::var_os(ROOM) {
        eprintln!("filling");
        return work(Path::new(&path));
    }
    let directory = directory();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", SCRIPT])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("full_disk::{name}"), "--nocapture"])
        .env(ROOM, directory.path())
        .output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let code = output.map(|output| output.status.code()).unwrap_or_default();
    let began = text.contains("filling");
    if !began && (code == Some(UNAVAILABLE) || code != Some(0)) {
        let _ = writeln!(std::io::stderr(), "skipped: no file system of its own: {text}");
        return;
    }
    assert_eq!(code, Some(0), "{text}");
}

fn remove(room: &Path) {
    // An open writes a manifest, and needs the room for that.
    let spare = room.join("spare");
    fs::write(&spare, [1; 1 << 16]).unwrap();
    let path = room.join("store");
    let store = small().open(&path).unwrap();
    let mut leases: Vec<Lease> =
        (0..200).map(|n| store.begin(format!("lease {n}")).unwrap().started().unwrap()).collect();
    store.insert("first").unwrap();
    crate::setup::maintain(&store);
    let add = |number: u64| store.check_and_set(number.to_le_bytes(), [1; 100]);
    let full = (0..100_000).find(|number| add(*number).is_err());
    let kept = full.unwrap_or_else(|| panic!("the file system never filled up"));
    // The rest of the file system too, so that no byte comes from elsewhere.
    let mut filler = fs::File::create(room.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let removed = (0..kept)
        .take_while(|number| match store.remove(number.to_le_bytes()) {
            Ok(known) => known,
            Err(error) => {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                false
            }
        })
        .count() as u64;
    assert!(removed > 1_000, "{removed} of {kept}");
    assert!(matches!(store.insert("new"), Err(Error::Full { .. })));
    for lease in &mut leases {
        lease.complete([7; OUTCOME_BYTES_RESERVED]).unwrap();
    }
    drop((store, leases));
    fs::remove_file(&spare).unwrap();
    assert!(inspect::verify(&path).unwrap().is_sound());
    let store = small().open(&path).unwrap();
    assert!((0..kept).all(|n| store.contains(n.to_le_bytes()).unwrap() == (n >= removed)));
    assert!((0..200).all(|n| store.contains(format!("lease {n}")).unwrap()));
}

fn fill(room: &Path) {
    let filler = room.join("filler");
    fs::write(&filler, vec![1; 2 << 20]).unwrap();
    let path = room.join("store");
    let store = small().open(&path).unwrap();
    let outcome = |number: u64| vec![number.to_le_bytes()[0]; 1_000];
    let add = |store: &Store, number: u64| {
        store.check_and_set(format!("key {number}"), outcome(number)).map(|check| check.is_new())
    };
    let leases = |store: &Store| -> Vec<Lease> {
        (0..1_000).filter_map(|n| store.begin(format!("lease {n}")).unwrap().started()).collect()
    };
    let mut begun = leases(&store);
    let mut kept = 0;
    let refused = loop {
        match add(&store, kept) {
            Ok(new) => assert!(new),
            Err(error) => break error,
        }
        kept += 1;
        assert!(kept < 100_000, "the file system never filled up");
    };
    assert!(matches!(refused, Error::Full { .. }) && refused.is_retryable(), "{refused}");
    assert!(kept > 500, "{kept}");
    let all_known = |store: &Store, end: u64| {
        (0..end).all(|number| {
            let found = store.get(format!("key {number}")).unwrap();
            found.is_some_and(|record| record.outcome() == outcome(number))
        })
    };
    assert!(all_known(&store, kept));
    assert!(!add(&store, 0).unwrap());
    assert!(matches!(add(&store, kept), Err(Error::Full { .. })));
    assert!(!store.contains(format!("key {kept}")).unwrap());
    for lease in &mut begun {
        lease.complete([7; OUTCOME_BYTES_RESERVED]).unwrap();
    }
    drop(begun);
    assert!(leases(&store).is_empty());
    fs::remove_file(&filler).unwrap();
    for number in kept..kept + 200 {
        assert!(add(&store, number).unwrap());
    }
    assert!(all_known(&store, kept + 200));
    drop(store);
    assert!(inspect::verify(&path).unwrap().is_sound());
    let store = small().open(&path).unwrap();
    assert!(all_known(&store, kept + 200) && leases(&store).is_empty());
}

fn complete_later(room: &Path) {
    let path = room.join("store");
    for closed in [false, true] {
        let _ = fs::remove_dir_all(&path);
        let store = small().open(&path).unwrap();
        let key = |number: usize| format!("lease {number}");
        let leases = (0..800).map(|n| store.begin(key(n)).unwrap().started().unwrap());
        let tokens: Vec<Version> = leases.map(|lease| lease.version()).collect();
        if closed {
            store.clone().close().unwrap();
        }
        drop(store);
        let filler = room.join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        // Opening replaces the manifest, which takes a page or two; a segment takes 256.
        let filled = file.metadata().unwrap().len();
        file.set_len(filled - (128 << 10)).unwrap();
        let store = small().open(&path).unwrap();
        let refused = (0..100_000).find_map(|n| store.insert(format!("key {n}")).err());
        assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
        for (number, token) in tokens.iter().enumerate() {
            store.complete_by(key(number), *token, [7; OUTCOME_BYTES_RESERVED]).unwrap();
        }
        drop((store, file));
        fs::remove_file(&filler).unwrap();
        assert!(inspect::verify(&path).unwrap().is_sound());
        let store = small().open(&path).unwrap();
        assert!((0..800).all(|number| store.contains(key(number)).unwrap()));
    }
}

fn read_only(room: &Path) {
    let path = room.join("store");
    let remount = |how: &str| {
        let option = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &option]).arg(room).status();
        assert!(status.is_ok_and(|status| status.success()), "{how}");
    };
    for closes in [false, true] {
        let store = small().open(&path).unwrap();
        assert!(store.insert(format!("key {closes}")).unwrap());
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        remount("ro");
        let refused = small().open(&path);
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        assert!(small().open(room.join("another")).is_err());
        assert!(inspect::verify(&path).unwrap().is_sound());
        remount("rw");
        let store = small().open(&path).unwrap();
        assert!(store.contains(format!("key {closes}")).unwrap());
    }
}
