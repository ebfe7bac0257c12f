//! Truncations and flipped bits all over a small store are detected or harmless.
//!
//! A sample store is built once and kept as bytes; each damaged copy is opened, every key is
//! looked up and the files are verified. An answer must be the one given before the damage, or an
//! error: never a wrong outcome, never *new* for a known key. If all answers are right the damage
//! is harmless; otherwise something must have reported it. Of the larger files every so many bits
//! are tried, with a step that meets every bit of a byte; the number is printed. With
//! `ONCELOG_TEST_DAMAGE=all` in the environment every bit and every length is tried.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use oncelog::{Error, Store, inspect};

use crate::setup::{Random, fast_directory, files, sample_step, small};

/// A store's files and what it answers.
pub(crate) struct Sample {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Each key with its outcome; none for one that was removed.
    pub(crate) answers: BTreeMap<String, Option<Vec<u8>>>,
}

/// What an open store showed of its damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Opening, a lookup or verification reported something.
    Reported,
    /// Nothing was reported, and every answer was right.
    Harmless,
}

impl Sample {
    /// About forty records of all forms, one of them removed; closed, or left as by a crash.
    pub(crate) fn new(close: bool) -> Self {
        Self::with_keys("key", close)
    }

    pub(crate) fn with_keys(prefix: &str, close: bool) -> Self {
        Self::left(prefix, |store| if close { store.close().unwrap() } else { drop(store) })
    }

    /// Not closed, and with everything on stable storage.
    pub(crate) fn synced() -> Self {
        Self::left("key", |store| store.sync().unwrap())
    }

    fn left(prefix: &str, leave: impl FnOnce(Store)) -> Self {
        let directory = fast_directory();
        let store = small().lanes(1).open(directory.path()).unwrap();
        let mut answers = BTreeMap::new();
        let mut random = Random::new(11);
        for number in 0..40_u64 {
            let key = format!("{prefix} {number:>width$}", width = (number % 17) as usize);
            let len = random.below(4) * random.below(60);
            let outcome = random.bytes(len);
            assert!(store.check_and_set(&key, &outcome).unwrap().is_new());
            answers.insert(key, Some(outcome));
        }
        let (long, wide) = ("l".repeat(300), b"wide".to_vec());
        assert!(store.check_and_set(&long, &wide).unwrap().is_new());
        answers.insert(long, Some(wide));
        let removed = format!("{prefix} 7");
        assert!(answers.keys().any(|key| key.starts_with(prefix)));
        let removed = answers.keys().find(|key| key.ends_with('7')).cloned().unwrap_or(removed);
        assert!(store.remove(&removed).unwrap());
        answers.insert(removed, None);
        leave(store);
        let read = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        };
        let files = files(directory.path(), "").iter().map(|path| read(path)).collect();
        Self { files, answers }
    }

    /// The name of the one file that ends so and is not empty.
    pub(crate) fn name(&self, end: &str) -> String {
        let used = |(name, bytes): &(&String, &Vec<u8>)| {
            name.ends_with(end) && bytes.iter().any(|byte| *byte != 0)
        };
        self.files.iter().find(used).unwrap_or_else(|| panic!("no {end}")).0.clone()
    }

    /// Bytes of the file up to the last that is not zero.
    pub(crate) fn used(&self, name: &str) -> usize {
        self.files[name].iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1
    }

    /// Writes all files, `name` with other contents.
    pub(crate) fn write(&self, directory: &Path, name: &str, contents: &[u8]) {
        for (other, bytes) in &self.files {
            let bytes = if other == name { contents } else { bytes };
            let file = File::create(directory.join(other)).unwrap();
            // Zeros at the end are left to the file system, which is much faster.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            file.write_all_at(&bytes[..used], 0).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
    }

    /// Opens a copy with `name` replaced, and judges what it answers.
    pub(crate) fn judge(&self, directory: &Path, name: &str, contents: &[u8]) -> Seen {
        for path in files(directory, "") {
            fs::remove_file(path).unwrap();
        }
        self.write(directory, name, contents);
        let sound = inspect::verify(directory).is_ok_and(|report| report.is_sound());
        let store = match small().open(directory) {
            Ok(store) => store,
            Err(error) => {
                assert!(is_report_of_damage(&error), "{error}");
                return Seen::Reported;
            }
        };
        let right = self.answers_rightly(&store);
        if sound && right { Seen::Harmless } else { Seen::Reported }
    }

    /// False if some lookup was an error; a wrong answer ends the test.
    fn answers_rightly(&self, store: &Store) -> bool {
        let mut right = true;
        for (key, expected) in &self.answers {
            match store.get(key) {
                Ok(found) => {
                    let found = found.map(|record| record.outcome().to_vec());
                    assert_eq!(&found, expected, "the answer for {key:?} is wrong");
                }
                Err(error) => {
                    assert!(is_report_of_damage(&error), "{error}");
                    right = false;
                    assert!(store.insert(key).is_err(), "{key:?} was new in spite of {error}");
                }
            }
        }
        right
    }
}

fn is_report_of_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupt { .. } | Error::NotAStore { .. } | Error::UnsupportedFormat { .. }
    )
}

pub(crate) fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Judges each damage on several threads; returns how many were tried and how many reported.
fn judge_all(
    sample: &Sample,
    name: &str,
    damages: &[usize],
    damaged: impl Fn(usize) -> Vec<u8> + Sync,
) -> (u64, u64) {
    let (next, reported) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let directory = fast_directory();
        while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                sample.judge(directory.path(), name, &damaged(*damage))
            }));
            match judged {
                Ok(Seen::Reported) => _ = reported.fetch_add(1, Ordering::Relaxed),
                Ok(Seen::Harmless) => {}
                Err(_) => panic!("{name}: damage {damage} of {} bytes", sample.files[name].len()),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    (damages.len() as u64, reported.into_inner())
}

fn say(what: &str, name: &str, (tried, reported): (u64, u64)) {
    let _ = writeln!(std::io::stderr(), "{name}: {tried} {what}, {reported} reported");
}

fn every_flip(end: &str, step: usize) -> (u64, u64) {
    let sample = Sample::new(true);
    let name = sample.name(end);
    let bits: Vec<usize> = (0..sample.used(&name) * 8).step_by(sample_step(step)).collect();
    let counts = judge_all(&sample, &name, &bits, |bit| flipped(&sample.files[&name], bit));
    say("flipped bits", &name, counts);
    counts
}

#[test]
fn every_flipped_bit_of_the_identity_is_reported() {
    let (tried, reported) = every_flip("STORE", 1);
    assert_eq!(tried, reported);
}

#[test]
fn every_flipped_bit_of_the_manifest_is_reported() {
    let (tried, reported) = every_flip("MANIFEST", 1);
    assert_eq!(tried, reported);
}

#[test]
fn flipped_bits_all_over_a_run_are_reported_and_change_no_answer() {
    let (tried, reported) = every_flip(".run", 13);
    assert_eq!(tried, reported);
}

#[test]
fn flipped_bits_all_over_a_sealed_segment_are_reported_or_harmless() {
    let (tried, reported) = every_flip(".seg", 37);
    assert!(reported * 3 > tried, "{reported} of {tried}");
}

#[test]
fn flipped_bits_all_over_a_sealed_segments_records_are_reported() {
    let sample = Sample::new(true);
    let name = sample.name(".seg");
    let bits: Vec<usize> = (4096 * 8..sample.used(&name) * 8).step_by(sample_step(41)).collect();
    let counts = judge_all(&sample, &name, &bits, |bit| flipped(&sample.files[&name], bit));
    say("flipped bits of records", &name, counts);
    // The rest of a block header's cache line and of a record's last unit means nothing.
    assert!(counts.1 * 10 > counts.0 * 8, "{counts:?}");
}

#[test]
fn every_truncation_of_identity_manifest_and_run_is_reported() {
    let sample = Sample::new(true);
    for end in ["STORE", "MANIFEST", ".run"] {
        let name = sample.name(end);
        let step = if end == ".run" { 7 } else { 1 };
        let lengths: Vec<usize> =
            (0..sample.files[&name].len()).step_by(sample_step(step)).collect();
        let cut = |len: usize| sample.files[&name][..len].to_vec();
        let counts = judge_all(&sample, &name, &lengths, cut);
        say("truncations", &name, counts);
        assert_eq!(counts.0, counts.1, "{name}");
    }
}

#[test]
fn truncations_all_over_a_segment_are_reported_whether_sealed_or_open() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let name = sample.name(".seg");
        let (used, len) = (sample.used(&name), sample.files[&name].len());
        let mut lengths: Vec<usize> = (0..used + 64).step_by(sample_step(101)).collect();
        for border in (0..=len).step_by(64 << 10) {
            lengths.extend([border.saturating_sub(1), border, border + 1]);
        }
        lengths.retain(|length| *length < len);
        let cut = |length: usize| sample.files[&name][..length].to_vec();
        let counts = judge_all(&sample, &name, &lengths, cut);
        say("truncations", &name, counts);
        assert_eq!(counts.0, counts.1);
    }
}

#[test]
fn a_flipped_bit_in_the_padding_after_a_key_never_makes_the_key_new() {
    for close in [true, false] {
        let sample = Sample::new(close);
        let name = sample.name(".seg");
        let bytes = &sample.files[&name];
        // A short key, its bytes found in the file, then the rest of its last word.
        let at = bytes.windows(5).position(|found| found == b"key 0").unwrap();
        let bits: Vec<usize> = ((at + 5) * 8..(at + 5).next_multiple_of(8) * 8).collect();
        assert_eq!(bits.len(), 24);
        let counts = judge_all(&sample, &name, &bits, |bit| flipped(bytes, bit));
        say("flipped bits of padding", &name, counts);
    }
}
