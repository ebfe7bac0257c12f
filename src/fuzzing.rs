//! Entries for fuzzing into parts that have no public interface; not for any other use.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::record::{Common, Header, WIDE_WORDS};
use crate::format::run::Run;
use crate::format::segment::SegmentHead;
use crate::key::{KeyHasher, SECRET_BYTES};
use crate::log::scan::Scanner;
use crate::log::seal::run_of;

const COMMON: Common = Common { seed: 1, version: 1 << 32, created: 1_000, lifetime: 60_000 };

fn words(bytes: &[u8]) -> Vec<u64> {
    let word =
        |chunk: &[u8]| chunk.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    bytes.chunks(8).map(word).collect()
}

/// Decodes a record's header from any bytes; what is accepted encodes to the same header.
///
/// # Panics
/// If it does not.
pub fn record_decode(bytes: &[u8]) {
    let mut raw = [0; WIDE_WORDS];
    for (to, from) in raw.iter_mut().zip(words(bytes)) {
        *to = from;
    }
    let Some(header) = Header::decode_unchecked(&raw, &COMMON) else { return };
    let _ = Header::decode(&raw, &COMMON, 4160);
    let fitted = header.fit(&COMMON);
    let again = fitted.encode(&COMMON, 4160, 5);
    assert_eq!(Header::decode(&again, &COMMON, 4160), Some(fitted));
    assert!(Header::payload_agrees(&again, &COMMON, 4160, 5));
    assert!(fitted.record_bytes() <= header.record_bytes());
}

/// Scans any bytes as a segment, whole; reading them as a head and as a run as well.
///
/// # Panics
/// If what was found contradicts itself.
pub fn segment_scan(bytes: &[u8]) {
    let _ = SegmentHead::decode(bytes);
    if let Some(run) = Run::decode(bytes) {
        let mut sorted = run;
        sorted.entries.sort_unstable();
        assert!(Run::decode(&sorted.encode()).is_some());
    }
    let hasher = KeyHasher::new([7; SECRET_BYTES]);
    let space: Vec<AtomicU64> = words(bytes).into_iter().map(AtomicU64::new).collect();
    let mut scanner = Scanner::new(&space, &COMMON, &hasher);
    let mut records = 0;
    for block in scanner.blocks() {
        let _ = scanner.records(block, |_, _, _| records += 1);
    }
    let (run, report) = run_of(1, &COMMON, &space, [0; 16], &hasher);
    assert_eq!(report.records, records);
    assert_eq!(run.entries.len() as u64, records);
}
