//! Entries for fuzzing into parts that have no public interface; not for any other use.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::identity::Identity;
use crate::format::manifest::Manifest;
use crate::format::reader::seal;
use crate::format::record::{Common, Header, WIDE_WORDS};
use crate::format::run::Run;
use crate::format::segment::SegmentHead;
use crate::format::state::State;
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

/// Any bytes as they are, and with the right check behind them, which no search would come upon.
fn plain_and_sealed(bytes: &[u8]) -> [Vec<u8>; 2] {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    [bytes.to_vec(), sealed]
}

/// Decodes a run from any bytes; what is accepted encodes to the same run.
///
/// # Panics
/// If it does not.
pub fn run_decode(bytes: &[u8]) {
    for bytes in plain_and_sealed(bytes) {
        let Some(mut run) = Run::decode(&bytes) else { continue };
        let used = run.used_bytes();
        run.entries.sort_unstable();
        assert!(run.entries.iter().all(|entry| run.may_hold(entry.hash_bits)));
        let again = Run::decode(&run.encode());
        assert_eq!(again.as_ref().map(Run::used_bytes), Some(used));
        assert_eq!(again, Some(run));
    }
}

/// Decodes a store's identity, its manifest and a lease's state from any bytes; what is accepted
/// encodes to the same.
///
/// # Panics
/// If it does not.
pub fn metadata_decode(bytes: &[u8]) {
    for bytes in plain_and_sealed(bytes) {
        if let Ok(identity) = Identity::decode(&bytes) {
            assert_eq!(identity.encode(), bytes);
        }
        if let Some(manifest) = Manifest::decode(&bytes) {
            assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
        }
    }
    if let Some(state) = bytes.first_chunk().and_then(State::decode) {
        assert_eq!(State::decode(&state.encode()), Some(state));
    }
}
