//! Files made to cost time or memory are refused at once, with a typed error.
//!
//! Each has valid checksums, as of somebody who can write to the directory. Nothing here waits: a
//! test that took the bait would run out of memory, or for hours.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use oncelog::{Error, Store, inspect};

use crate::setup::{directory, fast_directory, files, small};

/// A closed store with one sealed segment.
fn closed(directory: &Path) {
    let store = small().open(directory).unwrap();
    (0..50_u64).for_each(|n| assert!(store.insert(n.to_le_bytes()).unwrap()));
    store.close().unwrap();
}

/// Edits a file that ends in the CRC-32 of what comes before.
fn reseal(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 4);
    edit(&mut bytes);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

fn refused(directory: &Path) {
    let error = small().open(directory).err();
    assert!(matches!(error, Some(Error::Corrupt { .. })), "{error:?}");
    match inspect::verify(directory) {
        Ok(report) => assert!(!report.is_sound()),
        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
    }
    let report = Store::salvage(directory).unwrap();
    assert!(!report.is_sound());
    assert!(small().open(directory).is_ok());
}

/// The place of the first segment's entry in a manifest without namespaces.
const ENTRY: usize = 40;

#[test]
fn a_sparse_manifest_of_ten_gibibytes_is_refused_unread() {
    for name in ["MANIFEST", "STORE"] {
        let directory = directory();
        closed(directory.path());
        let kept = fs::read(directory.path().join(name)).unwrap();
        let file = File::options().write(true).open(directory.path().join(name)).unwrap();
        file.set_len(10 << 30).unwrap();
        let error = small().open(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(inspect::verify(directory.path()).is_err());
        fs::write(directory.path().join(name), kept).unwrap();
        assert!(small().open(directory.path()).unwrap().contains(0_u64.to_le_bytes()).unwrap());
    }
}

#[test]
fn a_segment_that_is_said_to_have_a_tebibyte_is_refused_unread() {
    for bytes in [1_u64 << 40, 512 << 20, 3 << 20, 1 << 63, 0] {
        let directory = directory();
        closed(directory.path());
        let segment = files(directory.path(), ".seg")[0].clone();
        let file = File::options().write(true).open(segment).unwrap();
        let long = file.set_len(bytes.min(1 << 40)).is_ok();
        assert!(long);
        let mut head = vec![0; 84];
        File::open(&files(directory.path(), ".seg")[0]).unwrap().read_at(&mut head, 0).unwrap();
        head[36..44].copy_from_slice(&bytes.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        file.write_all_at(&head, 0).unwrap();
        reseal(&directory.path().join("MANIFEST"), |manifest| {
            manifest[ENTRY + 8..ENTRY + 16].copy_from_slice(&bytes.to_le_bytes());
        });
        refused(directory.path());
    }
}

#[test]
fn a_count_of_two_to_the_sixty_records_is_damage() {
    let directory = fast_directory();
    closed(directory.path());
    reseal(&directory.path().join("MANIFEST"), |manifest| {
        manifest[ENTRY + 16..ENTRY + 24].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    });
    refused(directory.path());
    let store = small().open(directory.path()).unwrap();
    assert!((0..50_u64).all(|n| store.contains(n.to_le_bytes()).unwrap()));
}

#[test]
fn a_manifest_of_namespaces_and_segments_that_are_not_there_is_refused() {
    let edits: [fn(&mut Vec<u8>); 3] = [
        |manifest| manifest[20..24].fill(0xff),
        |manifest| manifest.extend_from_within(ENTRY..ENTRY + 32),
        |manifest| {
            // One namespace, with a name of almost 4 GiB.
            manifest[20] = 1;
            manifest.splice(ENTRY..ENTRY, [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        },
    ];
    for edit in edits {
        let directory = fast_directory();
        closed(directory.path());
        reseal(&directory.path().join("MANIFEST"), edit);
        refused(directory.path());
    }
}

#[test]
fn a_run_that_claims_more_than_it_holds_is_made_again() {
    for at in [60, 60 + 255 * 4, 1084] {
        let directory = fast_directory();
        closed(directory.path());
        reseal(&files(directory.path(), ".run")[0], |run| run[at..at + 4].fill(0xff));
        let store = small().open(directory.path()).unwrap();
        assert_eq!(store.recovery().runs_rebuilt, 1);
        assert!((0..50_u64).all(|n| store.contains(n.to_le_bytes()).unwrap()));
    }
}

#[test]
fn a_run_that_leads_elsewhere_makes_no_key_new() {
    let directory = fast_directory();
    closed(directory.path());
    reseal(&files(directory.path(), ".run")[0], |run| {
        let last = run.len() - 3;
        run[last] ^= 0x20;
    });
    assert!(!inspect::verify(directory.path()).unwrap().is_sound());
    let Ok(store) = small().open(directory.path()) else { return };
    let unknown = (0..50_u64).filter(|n| matches!(store.contains(n.to_le_bytes()), Ok(false)));
    // The entry's hash is another one now: only its own key is missed, as its run is believed.
    assert!(unknown.count() <= 1);
}
