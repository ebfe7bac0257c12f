//! Which segments compaction pays for.
//!
//! - A segment of which at least half counts no more, or that holds no record at all.
//! - While more than an eighth of all bytes count no more, the segment with the largest such share.
//! - Small remains of several segments of a bucket, which are joined to one.
//!
//! Only sealed segments, whose records are listed, and none that ends soon anyway.

use crate::sys::sync::atomic::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::engine::Engine;
use crate::log::segment::{NEVER_LOOKED_AT, Segment};
use crate::time::Timestamp;

/// Segments to be compacted, the next one last.
pub(crate) type Chosen = Vec<Arc<Segment>>;

/// Of all bytes that segments hold, the share that may count no more: one part in this many.
const SHARE: u64 = 8;
/// A segment ends soon when less than this part of its time is left.
const SOON: u64 = 8;
/// So many small remains in one bucket are joined.
const REMAINS: usize = 8;
/// What is smaller than the smallest segment by this factor is a small remain.
const REMAIN: u64 = 4;

/// A segment, the bytes of its records, and those that may be given back.
struct Candidate {
    segment: Arc<Segment>,
    used: u64,
    dead: u64,
}

impl Engine {
    /// The segments to compact next, given how much was given back before.
    pub(crate) fn choose(&self, reclaimed: u64, now: Timestamp) -> Chosen {
        if self.config.write_once {
            return Chosen::new();
        }
        let candidates: Vec<_> = self
            .log
            .sealed()
            .into_iter()
            .filter(|segment| !segment.unsound.load(Ordering::Acquire) && !ends_soon(segment, now))
            .map(|segment| self.candidate(segment, reclaimed))
            .collect();
        let mostly_dead = |one: &&Candidate| one.dead * 2 >= one.used;
        let chosen: Chosen =
            candidates.iter().filter(mostly_dead).map(|one| one.segment.clone()).collect();
        if !chosen.is_empty() {
            return chosen;
        }
        let used: u64 = candidates.iter().map(|one| one.used).sum();
        let dead: u64 = candidates.iter().map(|one| one.dead).sum();
        if dead * SHARE > used {
            // Cross-multiplied, as shares: at least one is as large as the share of all.
            let most = candidates.iter().max_by(|a, b| {
                (u128::from(a.dead) * u128::from(b.used))
                    .cmp(&(u128::from(b.dead) * u128::from(a.used)))
            });
            return most.map(|one| one.segment.clone()).into_iter().collect();
        }
        remains(&candidates, &self.config)
    }

    fn candidate(&self, segment: Arc<Segment>, reclaimed: u64) -> Candidate {
        let wasted = self.log.waste.of(segment.chunks());
        let used = segment.used.load(Ordering::Acquire);
        let looked_at = segment.looked_at.load(Ordering::Acquire);
        // Needed when last looked at, they still are unless much of what they kill is gone since.
        let worth_a_look = looked_at == NEVER_LOOKED_AT || reclaimed - looked_at >= wasted.removals;
        let removals = if worth_a_look { wasted.removals } else { 0 };
        let dead = (wasted.superseded + removals).min(used);
        Candidate { segment, used, dead }
    }
}

/// True when the segment's records would fit several times into the smallest segment.
pub(crate) fn is_small(segment: &Segment, config: &Config) -> bool {
    segment.used.load(Ordering::Acquire) <= config.segment_bytes_min / REMAIN
}

/// True when waiting for the segment's end costs little.
fn ends_soon(segment: &Segment, now: Timestamp) -> bool {
    if segment.ends == Timestamp::NEVER {
        return false;
    }
    let ends = segment.ends.as_millis();
    let (whole, left) =
        (ends.saturating_sub(segment.common.created), ends.saturating_sub(now.as_millis()));
    left < whole / SOON
}

/// The small segments of a bucket that has many of them, the oldest last.
fn remains(candidates: &[Candidate], config: &Config) -> Chosen {
    let mut by_end = BTreeMap::<Timestamp, Chosen>::new();
    for one in candidates.iter().filter(|one| is_small(&one.segment, config)) {
        by_end.entry(one.segment.ends).or_default().push(one.segment.clone());
    }
    let mut chosen =
        by_end.into_values().find(|segments| segments.len() >= REMAINS).unwrap_or_default();
    chosen.sort_by_key(|segment| std::cmp::Reverse(segment.common.version));
    chosen
}
