//! What the tests share: directories, builders, a clock, and repeatable randomness.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oncelog::{Builder, Maintenance, ManualClock, Store, Timestamp};
use tempfile::TempDir;

/// Where clocks moved by hand begin.
pub(crate) const START: u64 = 1_700_000_000_000;

/// A directory that is removed at the end of the test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"))
}

/// As [`directory`], in memory where the system has such a place, for tests that open thousands
/// of stores.
pub(crate) fn fast_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).unwrap_or_else(|_| directory())
}

/// Settings that make opening cheap and leave maintenance to the test.
pub(crate) fn small() -> Builder {
    Store::builder().stripes(16).lanes(2).maintenance(Maintenance::Manual)
}

/// A clock at [`START`].
pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(START)))
}

/// Maintains until nothing is left to do.
pub(crate) fn maintain(store: &Store) {
    loop {
        let done = store.maintain(Duration::from_secs(1));
        if !done.unwrap_or_else(|e| panic!("maintenance failed: {e}")).more {
            return;
        }
    }
}

/// Files in the directory whose names end so, in order.
pub(crate) fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("cannot list: {e}"));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(end));
    files.sort();
    files
}

/// Every so many of them; all, if `ONCELOG_TEST_DAMAGE=all` is set.
pub(crate) fn sample_step(step: usize) -> usize {
    let all = std::env::var_os("ONCELOG_TEST_DAMAGE").is_some_and(|value| value == "all");
    if all { 1 } else { step }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
