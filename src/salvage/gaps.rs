//! Where in a damaged segment records are missing, and what is known of them.

use crate::sys::sync::atomic::AtomicU64;

use crate::format::layout::{BLOCK_BYTES, BLOCK_HEADER_BYTES, UNIT_BYTES, block_start};
use crate::format::run::Run;
use crate::log::rescue::Sound;
use crate::salvage::Gap;
use crate::salvage::sources::Loaded;
use crate::sys::words;

/// Where records are missing, and how many by the run.
pub(super) fn gaps(loaded: &Loaded, sound: &[Sound], run: Option<&Run>) -> (Vec<Gap>, Option<u64>) {
    let words = loaded.space.words();
    let lost: Option<Vec<u64>> = run.map(|run| {
        let places = run.entries.iter().map(|entry| u64::from(entry.units) * UNIT_BYTES);
        let mut lost: Vec<u64> =
            places.filter(|at| sound.binary_search_by_key(at, |s| s.at).is_err()).collect();
        lost.sort_unstable();
        lost
    });
    let mut gaps = Vec::new();
    for block in 0..loaded.head.bytes / BLOCK_BYTES {
        let start = block_start(block) + BLOCK_HEADER_BYTES;
        let ends = run.and_then(|run| run.block_ends.get(usize::try_from(block).ok()?));
        let used = last_used(words, start, (block + 1) * BLOCK_BYTES);
        let end = ends.map_or(used, |end| (block * BLOCK_BYTES + u64::from(*end)).max(used));
        let first = sound.partition_point(|record| record.end() <= start);
        let (mut at, mut before) = (start, None);
        let inside = sound.get(first..).unwrap_or_default().iter();
        let inside = inside.take_while(|record| record.at < end);
        for record in inside.map(Some).chain([None]) {
            let to = record.map_or(end, |record| record.at);
            if to > at {
                let within = |from: u64| from >= at && from < to;
                let count = |lost: &Vec<u64>| lost.iter().filter(|at| within(**at)).count() as u64;
                let behind = record.map(|record| record.header.version);
                let (offset, bytes, records) = (at, to - at, lost.as_ref().map(count));
                gaps.push(Gap { offset, bytes, records, after: before, before: behind });
            }
            if let Some(record) = record {
                at = at.max(record.end());
                before = Some(record.header.version);
            }
        }
    }
    gaps.retain(|gap| gap.records != Some(0));
    (gaps, lost.map(|lost| lost.len() as u64))
}

/// End of the last unit in the range that is not zero.
fn last_used(segment: &[AtomicU64], from: u64, to: u64) -> u64 {
    let word = |at: u64| usize::try_from(at / 8).ok().and_then(|at| segment.get(at));
    let is_zero = |at: u64| [at, at + 8].into_iter().filter_map(word).all(|w| words::load(w) == 0);
    let mut at = to;
    while at > from && is_zero(at - UNIT_BYTES) {
        at -= UNIT_BYTES;
    }
    at
}
