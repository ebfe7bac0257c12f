//! After each kind of damage a salvage keeps all that is sound and lists all that is not.
//!
//! The samples are those of the damage tests, and one of several segments. After each salvage every
//! key is looked up: no more answers may differ from those before the damage than the report says
//! are lost. A plan must leave every byte of the directory alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use oncelog::salvage::{Remedy, SalvageReport};
use oncelog::{Error, Policy, Store, Timestamp, inspect};

use crate::damage::{Sample, flipped};
use crate::setup::{START, clock, directory, fast_directory, files, small};

const FIRST_RECORD: usize = 4096 + 64;

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let read = |path: &Path| (name(path), fs::read(path).unwrap());
    files(directory, "").iter().map(|path| read(path)).collect()
}

/// Salvages, and looks at everything that is promised of it.
fn salvaged(directory: &Path, answers: &BTreeMap<String, Option<Vec<u8>>>) -> SalvageReport {
    let damaged = contents(directory);
    let plan = small().salvage_plan(directory).unwrap();
    assert_eq!(contents(directory), damaged, "the plan has changed something");
    let report = small().salvage(directory).unwrap();
    assert!(report.done && !plan.done);
    assert_eq!(report.damages, plan.damages);
    for damage in &report.damages {
        let name = damage.path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(kept) = &damage.kept_as else {
            assert!(!damaged.contains_key(&name), "{name} was not kept");
            continue;
        };
        let kept_bytes = fs::read(kept).unwrap();
        assert!(damaged.values().any(|bytes| *bytes == kept_bytes), "{name} was changed");
    }
    if let Some(record) = &report.written_to {
        assert_eq!(fs::read_to_string(record).unwrap(), report.to_string());
    }
    let verified = inspect::verify(directory).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.problems);
    assert!(small().salvage_plan(directory).unwrap().is_sound());
    for _ in 0..2 {
        let store = small().open(directory).unwrap();
        assert_eq!(store.recovery().salvaged.is_some(), report.forgets());
        assert_eq!(store.recovery().damaged, 0);
        let mut wrong = 0;
        for (key, expected) in answers {
            let found = store.get(key).unwrap().map(|record| record.outcome().to_vec());
            match (&found, expected) {
                (Some(found), Some(expected)) => assert_eq!(found, expected, "{key}"),
                // A removal may be lost as well.
                (None, None) => {}
                _ => wrong += 1,
            }
        }
        assert!(report.lost_records().is_none_or(|lost| wrong <= lost), "{wrong}: {report}");
        if report.forgets() {
            let sent = Timestamp::from_millis(report.at.as_millis() - 1);
            let stale = store.check_and_set_sent("never seen", "", sent);
            assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
        }
        store.insert(format!("later {wrong}")).unwrap();
        store.close().unwrap();
    }
    report
}

fn damaged(sample: &Sample, name: &str, bytes: &[u8]) -> SalvageReport {
    let directory = fast_directory();
    sample.write(directory.path(), name, bytes);
    salvaged(directory.path(), &sample.answers)
}

fn edited(sample: &Sample, end: &str, edit: impl Fn(&mut Vec<u8>)) -> SalvageReport {
    let name = sample.name(end);
    let mut bytes = sample.files[&name].clone();
    edit(&mut bytes);
    damaged(sample, &name, &bytes)
}

#[test]
fn a_sound_store_is_left_as_it_is() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let directory = fast_directory();
        sample.write(directory.path(), "", &[]);
        let before = contents(directory.path());
        let report = salvaged_sound(directory.path());
        assert!(report.is_sound() && !report.forgets() && report.written_to.is_none());
        let mut after = contents(directory.path());
        after.remove("LOCK");
        assert_eq!(
            before.into_iter().filter(|(n, _)| n != "LOCK").collect::<BTreeMap<_, _>>(),
            after
        );
    }
}

fn salvaged_sound(directory: &Path) -> SalvageReport {
    Store::salvage(directory).unwrap()
}

#[test]
fn one_flipped_bit_in_a_record_loses_that_record_alone_and_names_its_place() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let name = sample.name(".seg");
        let used = sample.used(&name);
        let mut lost_some = 0;
        for bit in (FIRST_RECORD * 8..used * 8).step_by(if close { 1009 } else { 2017 }) {
            let directory = fast_directory();
            sample.write(directory.path(), &name, &flipped(&sample.files[&name], bit));
            let report = salvaged(directory.path(), &sample.answers);
            let Some(damage) = report.damages.first() else { continue };
            lost_some += 1;
            assert_eq!(damage.remedy, Remedy::Rebuilt);
            assert!(close || report.lost_records().is_none());
            assert!(!close || report.lost_records() == Some(1), "{report}");
            let [gap] = &damage.gaps[..] else { panic!("{report}") };
            let range = gap.offset..gap.offset + gap.bytes;
            assert!(range.contains(&(bit as u64 / 8)), "bit {bit}: {report}");
            assert!(gap.bytes < 600 || !close, "{report}");
            assert!(gap.after.is_none_or(|after| gap.before.is_none_or(|before| after < before)));
        }
        assert!(lost_some > 5, "{lost_some}");
    }
}

#[test]
fn lost_and_foreign_sectors_lose_what_was_in_them() {
    let sample = Sample::new(true);
    let used = sample.used(&sample.name(".seg"));
    for at in (4096..used).step_by(512) {
        for filler in [0, 0x55] {
            let report = edited(&sample, ".seg", |bytes| bytes[at..at + 512].fill(filler));
            let lost = report.lost_records().unwrap();
            assert!(lost > 0 && lost < 42, "{report}");
            let gap = &report.damages[0].gaps[0];
            assert!(gap.offset < at as u64 + 512 && gap.records.unwrap() > 0, "{report}");
        }
    }
}

#[test]
fn a_page_lost_below_the_watermark_of_an_unsealed_segment_is_given_up_and_listed() {
    let sample = Sample::synced();
    let report = edited(&sample, ".seg", |bytes| bytes[4096 + 1024..8192].fill(0));
    assert!(report.forgets() && report.lost_records().is_none());
    assert!(report.damages[0].records_kept > 5, "{report}");
}

#[test]
fn a_head_with_one_flipped_bit_is_put_right_and_nothing_is_lost() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let name = sample.name(".seg");
        for bit in (0..88 * 8).step_by(97) {
            let bytes = flipped(&sample.files[&name], bit);
            let directory = fast_directory();
            sample.write(directory.path(), &name, &bytes);
            assert!(small().open(directory.path()).is_err());
            let report = salvaged(directory.path(), &sample.answers);
            assert_eq!(report.damages.len(), 1);
            assert!(!close || report.lost_records() == Some(0), "{report}");
        }
    }
}

#[test]
fn a_segment_without_its_head_is_given_up_as_a_whole() {
    let sample = Sample::new(true);
    let report = edited(&sample, ".seg", |bytes| bytes[..4096].fill(0));
    assert_eq!(report.damages[0].remedy, Remedy::GivenUp);
    assert_eq!(report.lost_records(), Some(42));
}

#[test]
fn truncated_and_extended_segments_keep_what_is_there() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let used = sample.used(&sample.name(".seg"));
        for len in [0, 50, 4096, FIRST_RECORD + 40, used / 2, used, (1 << 20) - 1, (1 << 20) + 1] {
            let report = edited(&sample, ".seg", |bytes| bytes.resize(len, 0));
            assert!(!report.is_sound(), "{len}");
            let all = len >= used;
            assert!(!all || !close || report.lost_records() == Some(0), "{len}: {report}");
            let some = len > FIRST_RECORD + 400;
            assert!(!some || report.damages[0].records_kept > 0, "{len}: {report}");
        }
    }
}

#[test]
fn a_missing_segment_is_listed_with_its_records() {
    let sample = Sample::new(true);
    let directory = fast_directory();
    sample.write(directory.path(), "", &[]);
    fs::remove_file(directory.path().join(sample.name(".seg"))).unwrap();
    let report = salvaged(directory.path(), &sample.answers);
    assert_eq!(report.lost_records(), Some(42));
    assert!(report.to_string().contains("missing"), "{report}");
}

#[test]
fn a_lost_run_is_made_again_and_nothing_is_lost() {
    let sample = Sample::new(true);
    for bytes in [vec![], flipped(&sample.files[&sample.name(".run")], 5_000)] {
        let report = damaged(&sample, &sample.name(".run"), &bytes);
        assert_eq!((report.damages.len(), report.lost_records()), (1, Some(0)));
    }
}

#[test]
fn a_lost_run_and_a_damaged_record_lose_the_record() {
    let sample = Sample::new(true);
    let (run, segment) = (sample.name(".run"), sample.name(".seg"));
    let directory = fast_directory();
    let bytes = flipped(&sample.files[&segment], (FIRST_RECORD + 20) * 8);
    sample.write(directory.path(), &segment, &bytes);
    fs::remove_file(directory.path().join(run)).unwrap();
    assert!(matches!(small().open(directory.path()), Err(Error::Corrupt { .. })));
    let report = salvaged(directory.path(), &sample.answers);
    assert_eq!(report.lost_records(), Some(1));
}

#[test]
fn one_flipped_bit_of_manifest_or_identity_is_put_right_and_nothing_is_lost() {
    for close in [true, false] {
        let sample = Sample::new(close);
        for name in ["MANIFEST", "STORE"] {
            for bit in (0..sample.files[name].len() * 8).step_by(61) {
                let report = damaged(&sample, name, &flipped(&sample.files[name], bit));
                assert_eq!((report.damages.len(), report.lost_records()), (1, Some(0)), "{bit}");
            }
        }
    }
}

#[test]
fn without_a_manifest_every_key_is_found_and_the_store_says_that_it_may_forget() {
    for close in [true, false] {
        let sample = Sample::new(close);
        for bytes in [vec![], vec![7; 100], vec![0; 5_000]] {
            let directory = fast_directory();
            sample.write(directory.path(), "MANIFEST", &bytes);
            let report = salvaged(directory.path(), &sample.answers);
            assert!(report.forgets() && report.lost_records().is_none());
            let store = small().open(directory.path()).unwrap();
            for (key, expected) in &sample.answers {
                assert_eq!(store.contains(key).unwrap(), expected.is_some(), "{key}");
            }
        }
    }
}

#[test]
fn versions_after_a_lost_manifest_are_above_all_before() {
    let directory = directory();
    let mut version = None;
    for round in 0..3 {
        let store = small().open(directory.path()).unwrap();
        let lease = store.begin(format!("key {round}")).unwrap().started().unwrap();
        assert!(version < Some(lease.version()), "round {round}");
        version = Some(lease.version());
        drop((lease, store));
        fs::remove_file(directory.path().join("MANIFEST")).unwrap();
        assert!(matches!(small().open(directory.path()), Err(Error::Corrupt { .. })));
        Store::salvage(directory.path()).unwrap();
    }
}

#[test]
fn a_namespace_whose_name_is_lost_is_reported() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    store.namespace("payments", Policy::default()).unwrap().insert("a").unwrap();
    drop(store);
    fs::write(directory.path().join("MANIFEST"), "nothing of it").unwrap();
    let report = Store::salvage(directory.path()).unwrap();
    assert_eq!(report.nameless, [1]);
    let store = small().open(directory.path()).unwrap();
    // Its number is not given to another name.
    store.namespace("refunds", Policy::default()).unwrap().insert("b").unwrap();
    assert_eq!(store.namespace("refunds", Policy::default()).unwrap().stats().keys, 1);
}

#[test]
fn without_its_secret_a_store_is_refused_with_what_to_do_and_nothing_is_changed() {
    let sample = Sample::new(true);
    let directory = fast_directory();
    let mut bytes = sample.files["STORE"].clone();
    bytes[100..120].fill(0);
    sample.write(directory.path(), "STORE", &bytes);
    let before = contents(directory.path());
    let error = Store::salvage(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("copy"), "{error}");
    assert_eq!(contents(directory.path()), before);
    let nowhere = directory.path().join("nowhere");
    assert!(Store::salvage(&nowhere).is_err() && !nowhere.exists());
    let store = directory.path().join("open");
    let open = small().open(&store).unwrap();
    assert!(matches!(Store::salvage(&store), Err(Error::AlreadyOpen { .. })));
    assert!(matches!(small().salvage_plan(&store), Err(Error::AlreadyOpen { .. })));
    drop(open);
}

/// Keys in segments of four buckets.
fn buckets(directory: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let store = small().open(directory).unwrap();
    let mut answers = BTreeMap::new();
    for number in 0..200_u64 {
        let lifetime = Duration::from_secs(3600 << (number % 4 * 2));
        let (key, outcome) = (format!("key {number}"), vec![number as u8; number as usize]);
        assert!(store.check_and_set_for(&key, &outcome, lifetime).unwrap().is_new());
        answers.insert(key, Some(outcome));
    }
    store.close().unwrap();
    assert!(files(directory, ".seg").len() >= 4);
    answers
}

#[test]
fn swapped_segments_are_put_back_and_nothing_is_lost() {
    let directory = directory();
    let answers = buckets(directory.path());
    let segments = files(directory.path(), ".seg");
    let (first, second) = (fs::read(&segments[0]).unwrap(), fs::read(&segments[1]).unwrap());
    fs::write(&segments[0], second).unwrap();
    fs::write(&segments[1], first).unwrap();
    assert!(matches!(small().open(directory.path()), Err(Error::Corrupt { .. })));
    assert_eq!(inspect::verify(directory.path()).unwrap().problems.len(), 2);
    let report = salvaged(directory.path(), &answers);
    assert_eq!((report.damages.len(), report.lost_records()), (2, Some(0)), "{report}");
}

#[test]
fn a_lost_segment_costs_the_keys_of_its_bucket_alone() {
    let directory = directory();
    let answers = buckets(directory.path());
    let segments = files(directory.path(), ".seg");
    fs::write(&segments[1], "no segment").unwrap();
    let report = salvaged(directory.path(), &answers);
    assert_eq!((report.lost_records(), report.records), (Some(50), 150), "{report}");
}

#[test]
fn the_segment_of_another_store_is_not_believed() {
    let (one, other) = (directory(), directory());
    let (answers, _) = (buckets(one.path()), buckets(other.path()));
    let name = |directory: &Path| files(directory, ".seg")[2].clone();
    fs::copy(name(other.path()), name(one.path())).unwrap();
    let report = salvaged(one.path(), &answers);
    assert_eq!(report.lost_records(), Some(50), "{report}");
}

#[test]
fn records_of_several_blocks_are_kept_beside_damage() {
    let directory = directory();
    let store = small().lanes(1).open(directory.path()).unwrap();
    let mut answers = BTreeMap::new();
    for number in 0..12_u64 {
        let len = [100, 70_000, 200_000, 1][number as usize % 4];
        let (key, outcome) = (format!("key {number}"), vec![number as u8 + 1; len]);
        assert!(store.check_and_set(&key, &outcome).unwrap().is_new());
        answers.insert(key, Some(outcome));
    }
    store.close().unwrap();
    let path = &files(directory.path(), ".seg")[0];
    let sound = fs::read(path).unwrap();
    // In a header of a block, and in the outcome of a large record.
    for (at, lost) in [(65_536, 0), (65_536 * 3 + 100, 1), (4096 + 64 + 30, 1)] {
        let copy = fast_directory();
        for path in files(directory.path(), "") {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        let report = salvaged(copy.path(), &answers);
        assert_eq!(report.lost_records(), Some(lost), "{at}: {report}");
    }
}

#[test]
fn the_mark_of_a_salvage_goes_by_the_stores_own_clock_and_stays() {
    let directory = directory();
    let clock = clock();
    let store = small().clock(clock.clone()).open(directory.path()).unwrap();
    let check = store.check_and_set_for("a", "", Duration::from_secs(3600));
    assert!(check.unwrap().is_new());
    store.close().unwrap();
    fs::remove_file(&files(directory.path(), ".seg")[0]).unwrap();
    clock.advance(Duration::from_secs(10));
    let report = small().clock(clock.clone()).salvage(directory.path()).unwrap();
    assert_eq!(report.at.as_millis(), START + 10_000);
    for _ in 0..2 {
        assert_eq!(inspect::stat(directory.path()).unwrap().salvaged, Some(report.at));
        let store = small().clock(clock.clone()).open(directory.path()).unwrap();
        assert_eq!(store.recovery().salvaged, Some(report.at));
        let sent = |after: u64| Timestamp::from_millis(report.at.as_millis() + after);
        let space = store.namespace("later", Policy::default()).unwrap();
        assert!(store.check_and_set_sent("a", "", sent(0)).is_ok());
        assert!(space.begin_with("x", oncelog::BeginOptions::new().sent_at(sent(0))).is_ok());
        store.remove("a").unwrap();
        let before = Timestamp::from_millis(report.at.as_millis() - 1);
        assert!(matches!(store.check_and_set_sent("a", "", before), Err(Error::Stale { .. })));
        store.close().unwrap();
    }
}

#[test]
fn records_of_bundles_are_kept_beside_damage_whether_their_bundle_is_whole_or_not() {
    let directory = directory();
    let store = small().lanes(1).open(directory.path()).unwrap();
    let mut answers = BTreeMap::new();
    for number in 0..20_u64 {
        let key = |part: u64| format!("key {number}.{part}");
        let items = [(key(0), vec![1; 30]), (key(1), vec![2; 30]), (key(2), vec![3; 30])];
        assert!(store.check_and_set_all(&items).is_ok());
        answers.extend(items.map(|(key, outcome)| (key, Some(outcome))));
    }
    store.close().unwrap();
    let path = &files(directory.path(), ".seg")[0];
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(7).position(|found| found == b"key 7.1").unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
    let report = salvaged(directory.path(), &answers);
    assert_eq!(report.damages[0].records_kept, 59, "{report}");
}
