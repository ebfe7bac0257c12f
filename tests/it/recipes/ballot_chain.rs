//! The chain over ballots: it grows at its end alone, and shows every change of what it covers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oncelog::inspect;
use oncelog::recipes::ballot::{Ballots, Change, Export, Verified, verify_root};
use oncelog::{Error, Store};

use crate::recipes::SECOND;
use crate::setup::{Random, directory, small};

fn open(path: &Path) -> Ballots {
    Ballots::open_with(small(), path).unwrap()
}

/// Casts a ballot for each of the voters.
fn vote(ballots: &Ballots, voters: std::ops::Range<u32>) {
    let election = ballots.election("mayor").unwrap();
    for voter in voters {
        let choice = if voter % 3 == 0 { "yes" } else { "no" };
        assert!(election.cast(format!("voter {voter}"), choice).unwrap().is_counted());
    }
}

fn file(path: &Path, segment: u64, extension: &str) -> PathBuf {
    path.join(format!("{segment:010}.{extension}"))
}

/// The numbers of the segments that differ.
fn differing(verified: &Verified) -> Vec<Option<u64>> {
    verified.differences.iter().map(|one| one.segment).collect()
}

/// Records in the segments that the export covers.
fn sealed_records(path: &Path, export: &Export) -> u64 {
    let covered = |number| export.links().iter().any(|link| link.segment == number);
    let segments = inspect::stat(path).unwrap().segments;
    segments.iter().filter(|one| covered(one.number)).map(|one| one.records.unwrap()).sum()
}

/// Ballots in four segments, closed, with their export.
fn four_segments(path: &Path) -> Export {
    for session in 0..4 {
        let ballots = open(path);
        vote(&ballots, session * 500..session * 500 + 500);
        let _ = ballots.close().unwrap();
    }
    let export = Export::read(path).unwrap();
    assert_eq!(export.links().len(), 4);
    assert!(verify_root(path, &export).unwrap().is_unchanged());
    export
}

#[test]
fn every_export_covers_all_ballots_before_it_and_extends_the_earlier_ones() {
    let directory = directory();
    let mut exports: Vec<Export> = Vec::new();
    let mut voters = 0;
    for session in 0..12 {
        let ballots = open(directory.path());
        for _ in 0..3 {
            vote(&ballots, voters..voters + 20);
            voters += 20;
            while ballots.maintain(SECOND).unwrap().more {}
            let export = ballots.export().unwrap();
            let sealed = sealed_records(directory.path(), &export);
            assert_eq!(sealed, u64::from(voters) + 1, "with the store's mark");
            // Without a ballot in between nothing is sealed, and the root stays.
            assert_eq!(ballots.export().unwrap(), export);
            assert!(verify_root(directory.path(), &export).unwrap().is_unchanged());
            exports.push(export);
        }
        if session % 2 == 0 {
            let closed = ballots.close().unwrap();
            assert_eq!(closed.root(), exports[exports.len() - 1].root());
        }
    }
    // Small segments are not joined, as those of other stores are.
    let ballots = open(directory.path());
    while ballots.maintain(SECOND).unwrap().more {}
    assert_eq!(ballots.stats().segments_compacted, 0);
    let last = ballots.export().unwrap();
    let roots: BTreeSet<_> = exports.iter().map(|export| export.root().to_string()).collect();
    assert_eq!(roots.len(), exports.len(), "each has a root of its own");
    for pair in exports.windows(2) {
        assert!(pair[1].extends(&pair[0]) && !pair[0].extends(&pair[1]));
    }
    for export in &exports {
        assert!(last.extends(export) && last.has_root(export.root()));
        let verified = verify_root(directory.path(), export).unwrap();
        assert!(verified.is_unchanged(), "{:?}", verified.differences);
        assert_eq!(verified.unchanged, export.links().len());
    }
}

#[test]
fn the_segment_prepared_ahead_comes_in_its_place() {
    let directory = directory();
    let ballots = open(directory.path());
    let election = ballots.election("mayor").unwrap();
    let (mut exports, choice) = (Vec::<Export>::new(), "x".repeat(2_000));
    for voter in 0..12_000 {
        let _ = election.cast(format!("voter {voter}"), &choice).unwrap();
        if voter % 100 == 0 {
            ballots.maintain(SECOND / 1_000).unwrap();
        }
        if voter % 1_300 == 0 {
            let export = ballots.export().unwrap();
            assert!(exports.last().is_none_or(|earlier| export.extends(earlier)));
            let sealed = sealed_records(directory.path(), &export);
            assert_eq!(sealed, voter + 2, "all are sealed, with the store's mark");
            let covered = export.links().iter().map(|link| link.bytes).sum::<u64>();
            assert!(covered >= 2_000 * (voter + 1));
            exports.push(export);
        }
    }
    let last = ballots.close().unwrap();
    assert!(exports.iter().all(|export| last.extends(export)));
}

#[test]
fn a_flipped_byte_of_a_sealed_segment_is_found_in_that_segment() {
    let directory = directory();
    let export = four_segments(directory.path());
    let mut random = Random::new(17);
    for link in export.links() {
        let path = file(directory.path(), link.segment, "seg");
        let sound = fs::read(&path).unwrap();
        // The head, block headers with their watermarks, records, padding, and what was never used.
        let mut places = vec![0, 60, 90, 4_095, 4_096, 4_112, 4_160, 4_200, link.bytes - 1];
        places.extend((0..20).map(|_| 4_096 + random.below(30_000)));
        places.extend((0..10).map(|_| random.below(link.bytes)));
        for at in places {
            let mut bytes = sound.clone();
            bytes[usize::try_from(at).unwrap()] ^= 1 << random.below(8);
            fs::write(&path, bytes).unwrap();
            let verified = verify_root(directory.path(), &export).unwrap();
            assert_eq!(differing(&verified), [Some(link.segment)], "byte {at}");
            assert_eq!(verified.differences[0].change, Change::Contents);
            assert_eq!(verified.differences[0].path, path);
            assert_eq!(verified.unchanged, 3);
        }
        fs::write(&path, sound).unwrap();
    }
    assert!(verify_root(directory.path(), &export).unwrap().is_unchanged());
}

#[test]
fn a_segment_that_was_removed_cut_or_put_elsewhere_is_found() {
    let directory = directory();
    let path = directory.path();
    let export = four_segments(path);
    let [a, b] = [1, 2].map(|place: usize| export.links()[place]);
    let [first, second] = [a, b].map(|link| file(path, link.segment, "seg"));
    let (kept, other) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());

    fs::remove_file(&first).unwrap();
    let verified = verify_root(path, &export).unwrap();
    assert_eq!(verified.differences[0].change, Change::Missing);
    assert_eq!(differing(&verified), [Some(a.segment)]);

    fs::write(&first, &kept[..kept.len() / 2]).unwrap();
    let verified = verify_root(path, &export).unwrap();
    assert_eq!(verified.differences[0].change, Change::Length { found: a.bytes / 2 });

    std::os::unix::fs::symlink(&second, path.join("link")).unwrap();
    fs::rename(path.join("link"), &first).unwrap();
    let verified = verify_root(path, &export).unwrap();
    assert!(matches!(verified.differences[0].change, Change::Unreadable { .. }));
    fs::remove_file(&first).unwrap();

    fs::write(&first, &other).unwrap();
    fs::write(&second, &kept).unwrap();
    let verified = verify_root(path, &export).unwrap();
    assert_eq!(differing(&verified), [Some(a.segment), Some(b.segment)]);
    assert_eq!(verified.differences[0].change, Change::ContentsOf { segment: b.segment });
    assert_eq!(verified.differences[1].change, Change::ContentsOf { segment: a.segment });
    assert!(verified.differences[0].to_string().contains("exported as segment"));

    fs::write(&first, &kept).unwrap();
    fs::write(&second, &other).unwrap();
    assert!(verify_root(path, &export).unwrap().is_unchanged());
}

#[test]
fn a_forged_list_of_records_is_found_although_the_segment_is_as_it_was() {
    let directory = directory();
    let export = four_segments(directory.path());
    let link = export.links()[1];
    let run = file(directory.path(), link.segment, "run");
    let mut bytes = fs::read(&run).unwrap();
    // The last voter of the list becomes another one, and the checksum is made to fit.
    let body = bytes.len() - 4;
    bytes[body - 1] ^= 1;
    let sum = crc32_of(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&run, bytes).unwrap();
    let verified = verify_root(directory.path(), &export).unwrap();
    assert_eq!(differing(&verified), [Some(link.segment)]);
    assert!(matches!(&verified.differences[0].change, Change::Damaged { .. }));
}

/// CRC-32 as zlib has it, bit by bit.
fn crc32_of(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |s, _| step(s)))
}

#[test]
fn another_store_and_an_older_list_of_segments_are_found() {
    let (one, two) = (directory(), directory());
    let export = four_segments(one.path());
    let other = four_segments(two.path());
    assert_ne!(export.identity(), other.identity());
    let verified = verify_root(two.path(), &export).unwrap();
    assert_eq!(verified.differences[0].change, Change::Identity);
    assert_eq!(differing(&verified).len(), 5);

    // The list as it was before the last session, with all files: opening would remove some.
    let path = one.path();
    let ballots = open(path);
    let old = fs::read(path.join("MANIFEST")).unwrap();
    vote(&ballots, 5_000..5_100);
    let export = ballots.close().unwrap();
    fs::write(path.join("MANIFEST"), old).unwrap();
    let verified = verify_root(path, &export).unwrap();
    assert_eq!(verified.differences[0].change, Change::Unlisted);
    assert_eq!(differing(&verified), [Some(export.links()[4].segment)]);
}

#[test]
fn a_removal_through_the_plain_store_is_found_once_compaction_has_run() {
    let directory = directory();
    let export = four_segments(directory.path());
    let store = small().open(directory.path()).unwrap();
    for voter in 0..500 {
        assert!(store.remove(format!("\u{5}mayorvoter {voter}")).unwrap());
    }
    let verified = verify_root(directory.path(), &export).unwrap();
    assert!(verified.is_unchanged() && verified.later > 0, "it is no change of what was exported");
    store.close().unwrap();
    let store = small().open(directory.path()).unwrap();
    while store.maintain(SECOND).unwrap().more {}
    assert!(store.stats().segments_compacted > 0);
    let verified = verify_root(directory.path(), &export).unwrap();
    assert!(!verified.is_unchanged());
}

#[test]
fn an_export_is_read_as_it_was_written_and_no_changed_one_is() {
    let directory = directory();
    let export = four_segments(directory.path());
    let text = export.to_string();
    assert_eq!(text.parse::<Export>().unwrap(), export);
    for at in 0..text.len() {
        for bit in [0, 1, 4, 5] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<Export>().is_err(), "byte {at}, bit {bit}: {changed}");
        }
    }
    let lines: Vec<_> = text.lines().collect();
    for gone in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(gone);
        let error = fewer.join("\n").parse::<Export>().unwrap_err();
        assert!(error.line <= lines.len() && !error.to_string().is_empty());
        let mut swapped = lines.clone();
        swapped.swap(gone, (gone + 1) % lines.len());
        assert!(swapped.join("\n").parse::<Export>().is_err());
    }
    assert!("".parse::<Export>().is_err() && format!("{text}\n").parse::<Export>().is_err());
    let json = export.to_json();
    assert!(json.starts_with("{\"format\":1,\"store\":\"") && json.ends_with("\"}"));
    assert_eq!(json.matches("\"segment\":").count(), 4);
    assert!(json.contains(&export.root().to_string()));
}

#[test]
fn what_is_no_store_is_refused_with_a_word() {
    let directory = directory();
    let path = directory.path();
    assert!(matches!(Export::read(path), Err(Error::NotAStore { .. })));
    assert!(matches!(Export::read(path.join("nothing")), Err(Error::Io { .. })));
    let export = four_segments(&path.join("ballots"));
    assert!(matches!(verify_root(path, &export), Err(Error::NotAStore { .. })));
    fs::write(path.join("ballots/MANIFEST"), "").unwrap();
    let error = verify_root(path.join("ballots"), &export);
    assert!(matches!(error, Err(Error::Corrupt { .. })), "{error:?}");
    assert!(Store::open(path.join("ballots")).is_err());
}

#[test]
fn sealed_files_do_not_change_while_others_sync_cast_and_maintain() {
    let directory = directory();
    let ballots = open(directory.path());
    let synced = ballots.with_durability(oncelog::Durability::Synced).unwrap();
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3_u32 {
            let (ballots, told) = (if thread == 0 { &ballots } else { &synced }, &told);
            let election = ballots.election(&thread.to_string()).unwrap();
            scope.spawn(move || {
                for voter in 0..150 {
                    let _ = election.cast(voter.to_string(), "x").unwrap();
                    told.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..25 {
            let before = told.load(Ordering::SeqCst);
            let export = ballots.export().unwrap();
            assert!(sealed_records(directory.path(), &export) > before);
            ballots.maintain(SECOND).unwrap();
            let verified = verify_root(directory.path(), &export).unwrap();
            assert!(verified.is_unchanged(), "{:?}", verified.differences);
        }
    });
}
