//! Appending through a lane, where records are copied; no index and no decision.
//!
//! Blocks and segments are claimed as they are needed, in files of a temporary folder: of the
//! longest calls those are the cause.

use std::sync::Arc;

use criterion::{Criterion, Throughput};

use crate::config::{Config, Maintenance};
use crate::engine::Engine;
use crate::format::record::{Kind, Marks};
use crate::key::KeyHash;
use crate::log::Draft;
use crate::mix;
use crate::sys::files::Directory;
use crate::time::{Timestamp, Ttl};

/// Lengths of outcomes; keys have 16 bytes.
const OUTCOMES: [usize; 3] = [0, 32, 512];
/// Records of a measured store: some hundreds of megabytes are enough to see, and fit the disk.
const RECORDS_MAX: u64 = 1 << 21;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for length in OUTCOMES {
        let outcome = vec![7; length];
        group.throughput(Throughput::Bytes(16 + length as u64));
        group.bench_function(format!("outcome/{length}"), |bencher| {
            let mut stores = Stores::new();
            bencher.iter(|| stores.append(&outcome));
        });
    }
    group.finish();
}

/// A store, replaced by an empty one before it takes up much of the disk.
struct Stores {
    engine: Engine,
    records: u64,
    /// Removed after the engine is gone.
    _folder: tempfile::TempDir,
}

impl Stores {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            Config { ttl: Ttl::Never, maintenance: Maintenance::Manual, ..Config::default() };
        let disk = Directory::open_exclusive(folder.path()).unwrap();
        let engine = Engine::open(Arc::new(disk), config).unwrap();
        Self { engine, records: 0, _folder: folder }
    }

    fn append(&mut self, outcome: &[u8]) -> u64 {
        if self.records == RECORDS_MAX {
            *self = Self::new();
        }
        self.records += 1;
        let [first, second] = [mix(self.records), mix(self.records ^ 1 << 60)];
        let mut key = [0; 16];
        key[..8].copy_from_slice(&first.to_le_bytes());
        key[8..].copy_from_slice(&second.to_le_bytes());
        let draft = Draft {
            kind: Kind::Completed,
            marks: Marks::NONE,
            key: &key,
            outcome,
            hash: KeyHash::from_u64(first),
            created: Timestamp::from_millis(1_700_000_000_000),
            expires: Timestamp::NEVER,
            after: None,
        };
        let (location, _) = self.engine.append(&draft, u64::MAX).unwrap();
        location.units()
    }
}
