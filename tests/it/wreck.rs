//! Larger damage: lost pages, swapped parts, files of other stores, torn tails.
//!
//! The samples and the judgement are those of the damage tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use oncelog::{Error, inspect};

use crate::damage::{Sample, Seen, flipped};
use crate::setup::{fast_directory, files, sample_step, small};

/// Where the first record of a segment lies.
const FIRST_RECORD: usize = 4096 + 64;

#[test]
fn a_page_of_zeros_in_a_sealed_segment_is_reported() {
    let sample = Sample::new(true);
    let name = sample.name(".seg");
    let directory = fast_directory();
    for page in 0..sample.used(&name).div_ceil(4096) {
        let mut bytes = sample.files[&name].clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        let seen = sample.judge(directory.path(), &name, &bytes);
        assert_eq!(seen, Seen::Reported, "page {page}");
    }
}

/// A store whose segment was longer than a sector when its bytes were copied, and grew on.
fn with_older_bytes(close: bool) -> (Sample, Vec<u8>) {
    let directory = fast_directory();
    let store = small().lanes(1).open(directory.path()).unwrap();
    let mut answers = BTreeMap::new();
    let mut add = |range: std::ops::Range<u64>| {
        for number in range {
            let (key, outcome) = (format!("key {number}"), vec![number as u8; number as usize]);
            assert!(store.check_and_set(&key, &outcome).unwrap().is_new());
            answers.insert(key, Some(outcome));
        }
        store.sync().unwrap();
    };
    add(0..40);
    let older = fs::read(&files(directory.path(), ".seg")[0]).unwrap();
    add(40..100);
    if close {
        store.close().unwrap();
    } else {
        drop(store);
    }
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files = files(directory.path(), "");
    let files = files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect();
    (Sample { files, answers }, older)
}

#[test]
fn older_sectors_and_pages_of_a_synced_segment_are_reported_or_harmless() {
    for close in [true, false] {
        let (sample, older) = with_older_bytes(close);
        let name = sample.name(".seg");
        let directory = fast_directory();
        let mut reported = 0;
        for size in [512, 4096] {
            for at in (0..sample.used(&name)).step_by(size) {
                // What goes back together with its own watermark looks as if it was never synced.
                if !close && (at..at + size).contains(&4096) {
                    continue;
                }
                let mut bytes = sample.files[&name].clone();
                bytes[at..at + size].copy_from_slice(&older[at..at + size]);
                let seen = sample.judge(directory.path(), &name, &bytes);
                reported += u32::from(seen == Seen::Reported);
                assert!(seen == Seen::Harmless || bytes != sample.files[&name], "{at}");
            }
        }
        assert!(reported > 10, "{reported}");
    }
}

#[test]
fn a_lost_beginning_or_end_of_every_length_in_a_sealed_segment_is_reported() {
    let sample = Sample::new(true);
    let name = sample.name(".seg");
    let directory = fast_directory();
    let used = sample.used(&name);
    for border in (FIRST_RECORD + 16..used).step_by(sample_step(144).max(16)) {
        for lost in [FIRST_RECORD..border, border - 8..used] {
            let mut bytes = sample.files[&name].clone();
            bytes[lost.clone()].fill(0);
            let seen = sample.judge(directory.path(), &name, &bytes);
            assert_eq!(seen, Seen::Reported, "{lost:?}");
        }
    }
}

#[test]
fn swapped_pages_and_swapped_parts_of_a_sealed_segment_are_reported() {
    let sample = Sample::new(true);
    let name = sample.name(".seg");
    let directory = fast_directory();
    for size in [16, 32, 64, 128, 512] {
        for at in (FIRST_RECORD..sample.used(&name) - 2 * size).step_by(sample_step(336).max(16)) {
            let mut bytes = sample.files[&name].clone();
            let (first, second) = bytes[at..at + 2 * size].split_at_mut(size);
            if first == second {
                continue;
            }
            first.swap_with_slice(second);
            let seen = sample.judge(directory.path(), &name, &bytes);
            assert_eq!(seen, Seen::Reported, "{size} bytes at {at}");
        }
    }
    let mut bytes = sample.files[&name].clone();
    let (first, second) = bytes[..8192].split_at_mut(4096);
    first.swap_with_slice(second);
    assert_eq!(sample.judge(directory.path(), &name, &bytes), Seen::Reported);
}

#[test]
fn a_record_copied_to_another_place_is_not_believed() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let name = sample.name(".seg");
        let directory = fast_directory();
        let used = sample.used(&name).next_multiple_of(16);
        for from in (FIRST_RECORD..used - 64).step_by(64) {
            let mut bytes = sample.files[&name].clone();
            bytes.copy_within(from..from + 64, used);
            sample.judge(directory.path(), &name, &bytes);
        }
    }
}

#[test]
fn the_files_of_another_store_are_reported() {
    let sample = Sample::new(true);
    let other = Sample::with_keys("other", true);
    let directory = fast_directory();
    for end in [".seg", ".run", "STORE"] {
        let name = sample.name(end);
        assert_eq!(name, other.name(end));
        let seen = sample.judge(directory.path(), &name, &other.files[&name]);
        assert_eq!(seen, Seen::Reported, "{name}");
    }
}

#[test]
fn an_extended_file_is_reported() {
    let sample = Sample::new(true);
    let directory = fast_directory();
    for end in [".seg", ".run", "STORE", "MANIFEST"] {
        let name = sample.name(end);
        for more in [1, 8, 4096, 1 << 20] {
            for filler in [0, 0xff] {
                let mut bytes = sample.files[&name].clone();
                bytes.resize(bytes.len() + more, filler);
                let seen = sample.judge(directory.path(), &name, &bytes);
                assert_eq!(seen, Seen::Reported, "{name} and {more} bytes");
            }
        }
    }
}

#[test]
fn a_missing_segment_is_reported_and_a_missing_run_is_made_again() {
    let sample = Sample::new(true);
    for end in [".seg", ".run"] {
        let directory = fast_directory();
        sample.write(directory.path(), "", &[]);
        fs::remove_file(directory.path().join(sample.name(end))).unwrap();
        assert!(!inspect::verify(directory.path()).unwrap().is_sound());
        let opened = small().open(directory.path());
        if end == ".seg" {
            assert!(opened.is_err());
            continue;
        }
        let store = opened.unwrap();
        assert_eq!(store.recovery().runs_rebuilt, 1);
        for (key, outcome) in &sample.answers {
            let found = store.get(key).unwrap().map(|record| record.outcome().to_vec());
            assert_eq!(&found, outcome);
        }
    }
}

/// Nothing in the blocks shows that their last records are gone: the count in the manifest does.
#[test]
fn a_sealed_segment_without_its_list_and_its_last_records_is_reported() {
    let sample = Sample::new(true);
    let name = sample.name(".seg");
    let used = sample.used(&name);
    for lost in [64, 640] {
        let directory = fast_directory();
        let mut bytes = sample.files[&name].clone();
        bytes[used - lost..used].fill(0);
        sample.write(directory.path(), &name, &bytes);
        fs::remove_file(directory.path().join(sample.name(".run"))).unwrap();
        let opened = small().open(directory.path()).map(|_store| ());
        assert!(matches!(opened, Err(Error::Corrupt { segment: Some(_), .. })), "{opened:?}");
        assert!(!inspect::verify(directory.path()).unwrap().is_sound());
    }
}

#[test]
fn a_flipped_bit_in_an_unsealed_segment_loses_at_most_the_record_it_is_in() {
    let sample = Sample::new(false);
    let name = sample.name(".seg");
    let directory = fast_directory();
    let (mut opened, mut lost_most) = (0, 0);
    for bit in (0..sample.used(&name) * 8).step_by(sample_step(61)) {
        for path in files(directory.path(), "") {
            fs::remove_file(path).unwrap();
        }
        sample.write(directory.path(), &name, &flipped(&sample.files[&name], bit));
        let Ok(store) = small().open(directory.path()) else { continue };
        opened += 1;
        let mut lost = 0;
        for (key, outcome) in &sample.answers {
            match (store.get(key).map(|r| r.map(|record| record.outcome().to_vec())), outcome) {
                (Ok(Some(found)), Some(outcome)) => assert_eq!(&found, outcome, "bit {bit}"),
                // The flip hit the removal: the record before it counts again.
                (Ok(Some(_)), None) | (Ok(None), Some(_)) | (Err(_), _) => lost += 1,
                (Ok(None), None) => {}
            }
        }
        lost_most = lost_most.max(lost);
        assert!(lost <= 1, "bit {bit} lost {lost} records");
        let report = store.recovery();
        assert!(lost == 0 || report.damaged + report.torn_tails > 0, "bit {bit}: {report:?}");
        store.insert("later").unwrap();
    }
    assert!(opened > 100 && lost_most == 1, "{opened} opened, {lost_most} lost");
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_what_was_torn() {
    let sample = Sample::new(false);
    let name = sample.name(".seg");
    let directory = fast_directory();
    let used = sample.used(&name);
    let mut held_before = 0;
    for tail in (FIRST_RECORD..used).step_by(sample_step(24)) {
        for path in files(directory.path(), "") {
            fs::remove_file(path).unwrap();
        }
        let mut bytes = sample.files[&name].clone();
        bytes[tail..].fill(0);
        sample.write(directory.path(), &name, &bytes);
        let store = small().open(directory.path()).unwrap();
        let mut held = 0;
        for (key, outcome) in &sample.answers {
            let Some(found) = store.get(key).unwrap() else { continue };
            held += 1;
            if let Some(outcome) = outcome {
                assert_eq!(found.outcome(), outcome, "torn at {tail}");
            }
        }
        // The removal is the last record of all.
        assert!(held >= held_before || tail + 64 > used, "torn at {tail}");
        held_before = held;
        assert!(inspect::verify(directory.path()).unwrap().is_sound(), "torn at {tail}");
    }
}

/// A process can end between making a segment's file and allocating it; the number is used again.
#[test]
fn an_empty_file_where_a_segment_was_to_be_is_debris() {
    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    store.insert("a").unwrap();
    drop(store);
    for number in 2..20 {
        let path = directory.path().join(format!("{number:010}.seg"));
        if !path.exists() {
            fs::write(path, "").unwrap();
        }
    }
    let store = small().open(directory.path()).unwrap();
    assert!(store.recovery().debris >= 17);
    assert!(store.insert("b").unwrap() && store.contains("a").unwrap());
}
