//! Which segments end when: a ring of time buckets that only moves forward.
//!
//! Time to come is divided into buckets whose width is a fraction of the lifetime they serve, so
//! that a record is reclaimed within a sixteenth of its lifetime after its end, and a store with
//! one lifetime has some sixteen buckets however many keys it holds. A bucket is known by its end;
//! everything in it has expired by then, as rounding always goes towards the later end.
//!
//! The wheel holds numbers of segments and never pointers.

use std::collections::BTreeMap;

use crate::sys::sync::Mutex;
use crate::time::{Timestamp, expiry};

/// A bucket is at most this fraction of the lifetime wide.
const LIFETIME_PER_WIDTH: u64 = 16;
/// The narrowest bucket: about a second.
const WIDTH_MS_MIN: u64 = 1 << 10;
/// How long before a bucket takes its first record it is told of, at most.
const NOTICE_MS_MAX: u64 = 60_000;
/// Buckets that may be open for appending at a time; each holds a segment that is not yet full.
const OPEN_MAX: usize = 32;

/// The buckets of a store.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    buckets: Mutex<BTreeMap<Timestamp, Bucket>>,
}

#[derive(Debug, Default)]
struct Bucket {
    segments: Vec<u64>,
    /// Until when it is kept open for appending; `None` once it is closed.
    open_until: Option<Timestamp>,
}

/// Width of the bucket that serves a lifetime.
fn width(lifetime_ms: u64) -> u64 {
    let widest = (lifetime_ms / LIFETIME_PER_WIDTH).max(WIDTH_MS_MIN);
    1 << widest.ilog2()
}

/// End of the bucket for a record.
#[inline]
pub(crate) fn bucket_end(created: Timestamp, expires: Timestamp) -> Timestamp {
    if expires == Timestamp::NEVER {
        return expires;
    }
    let expires_ms = expires.as_millis();
    let width = width(expires_ms.saturating_sub(created.as_millis()));
    // The width is a power of two, so rounding up needs no division.
    let end = expires_ms.checked_add(width - 1).map(|sum| sum & !(width - 1));
    // At the end of time the rounding has no room; such a record is kept for ever.
    end.map_or(Timestamp::NEVER, Timestamp::from_millis)
}

/// The bucket after that ending at `ends`, if records of the lifetime go to this one now and to
/// that one soon; with its width, and for how long this one has taken such records.
pub(crate) fn upcoming(
    ends: Timestamp,
    lifetime_ms: u64,
    now: Timestamp,
) -> Option<(Timestamp, u64, u64)> {
    let expires = expiry(now, lifetime_ms);
    if expires == Timestamp::NEVER || bucket_end(now, expires) != ends {
        return None;
    }
    let width = width(lifetime_ms);
    let left = ends.as_millis() - expires.as_millis();
    if left >= (width / 2).min(NOTICE_MS_MAX) {
        return None;
    }
    let next = Timestamp::from_millis(ends.as_millis().checked_add(width)?);
    (next != Timestamp::NEVER).then_some((next, width, width - left))
}

impl Wheel {
    /// Opens the bucket ending at `ends`, or says which open bucket with a later end to use.
    ///
    /// The second result is a bucket that must be closed for that.
    pub(crate) fn admit(
        &self,
        ends: Timestamp,
        created: Timestamp,
        expires: Timestamp,
    ) -> (Timestamp, Option<Timestamp>) {
        let mut buckets = self.buckets.lock();
        if buckets.get(&ends).is_some_and(|bucket| bucket.open_until.is_some()) {
            return (ends, None);
        }
        let open: Vec<_> =
            buckets.iter().filter_map(|(end, b)| b.open_until.map(|until| (*end, until))).collect();
        let mut closed = None;
        if open.len() >= OPEN_MAX {
            // Sharing a bucket keeps the record for longer, so the limit is half a lifetime.
            let lifetime = expires.as_millis().saturating_sub(created.as_millis());
            let latest = expires.as_millis().saturating_add(lifetime / 2);
            let later = open.iter().find(|(end, _)| *end >= expires && end.as_millis() <= latest);
            if let (Some((end, _)), true) = (later, expires != Timestamp::NEVER) {
                return (*end, None);
            }
            closed = open.iter().min_by_key(|(_, until)| *until).map(|(end, _)| *end);
            if let Some(bucket) = closed.and_then(|end| buckets.get_mut(&end)) {
                bucket.open_until = None;
            }
        }
        let lifetime = expires.as_millis().saturating_sub(created.as_millis());
        let open_for = width(lifetime).saturating_mul(2);
        let until = created.as_millis().saturating_add(open_for);
        buckets.entry(ends).or_default().open_until = Some(Timestamp::from_millis(until));
        (ends, closed)
    }

    /// The segment belongs to the bucket.
    pub(crate) fn add(&self, ends: Timestamp, segment: u64) {
        self.buckets.lock().entry(ends).or_default().segments.push(segment);
    }

    /// The segment is gone before its bucket's end.
    pub(crate) fn remove(&self, ends: Timestamp, segment: u64) {
        let mut buckets = self.buckets.lock();
        let Some(bucket) = buckets.get_mut(&ends) else { return };
        bucket.segments.retain(|number| *number != segment);
        if bucket.segments.is_empty() && bucket.open_until.is_none() {
            buckets.remove(&ends);
        }
    }

    /// Closes and returns the buckets that new records have moved on from.
    pub(crate) fn close_idle(&self, now: Timestamp) -> Vec<Timestamp> {
        let mut buckets = self.buckets.lock();
        let idle = buckets.iter_mut().filter(|(end, bucket)| {
            **end != Timestamp::NEVER && bucket.open_until.is_some_and(|until| until <= now)
        });
        idle.map(|(end, bucket)| {
            bucket.open_until = None;
            *end
        })
        .collect()
    }

    /// Removes and returns the segments of every bucket that has ended.
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<u64> {
        let mut buckets = self.buckets.lock();
        let mut due = Vec::new();
        while let Some(first) = buckets.first_entry() {
            if *first.key() > now || *first.key() == Timestamp::NEVER {
                break;
            }
            due.extend(first.remove().segments);
        }
        due
    }

    /// Buckets that hold segments or are open.
    pub(crate) fn bucket_count(&self) -> u64 {
        self.buckets.lock().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{NOTICE_MS_MAX, OPEN_MAX, Wheel, bucket_end, upcoming};
    use crate::time::{TTL_MS_MAX, Timestamp};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_bucket_never_ends_before_its_records_and_never_much_later() {
        let mut seed = 1_u64;
        for _ in 0..1_000_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let now = (seed >> 20) % (1 << 42);
            let lifetime = 1 + (seed >> 7) % TTL_MS_MAX.min(1 << (seed % 45));
            let expires = now + lifetime;
            let end = bucket_end(at(now), at(expires)).as_millis();
            assert!(end >= expires);
            assert!(end - expires < (lifetime / 16).max(1024), "{now} {lifetime} {end}");
        }
    }

    #[test]
    fn the_bucket_told_of_ahead_is_the_one_that_records_move_on_to() {
        let mut seed = 5_u64;
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (now, lifetime) = ((seed >> 20) % (1 << 42), 1 + (seed >> 7) % (1 << (seed % 42)));
            let end_at = |now: u64| bucket_end(at(now), at(now + lifetime));
            let ends = end_at(now);
            let width = super::width(lifetime);
            let moves_on = now + (ends.as_millis() - now - lifetime) + 1;
            assert_eq!(
                (end_at(moves_on - 1), end_at(moves_on)),
                (ends, at(ends.as_millis() + width))
            );
            // Told of in time, and only then.
            let notice = (width / 2).min(NOTICE_MS_MAX);
            let told = upcoming(ends, lifetime, at(now));
            assert_eq!(told.is_some(), moves_on - now <= notice);
            let told = upcoming(ends, lifetime, at(moves_on - 1)).unwrap();
            assert_eq!(told, (end_at(moves_on), width, width));
            assert_eq!(upcoming(ends, lifetime, at(moves_on)), None);
        }
        assert_eq!(upcoming(Timestamp::NEVER, u64::MAX, at(5)), None);
    }

    #[test]
    fn what_never_expires_is_never_due() {
        let wheel = Wheel::default();
        let never = bucket_end(at(5), Timestamp::NEVER);
        wheel.add(never, 1);
        assert!(wheel.take_due(at(u64::MAX)).is_empty());
    }

    #[test]
    fn a_bucket_is_due_at_its_end_and_not_before() {
        let wheel = Wheel::default();
        wheel.add(at(100), 1);
        wheel.add(at(100), 2);
        wheel.add(at(200), 3);
        assert!(wheel.take_due(at(99)).is_empty());
        assert_eq!(wheel.take_due(at(100)), [1, 2]);
        assert_eq!(wheel.take_due(at(10_000)), [3]);
    }

    #[test]
    fn few_buckets_are_open_whatever_the_mixture_of_lifetimes() {
        let wheel = Wheel::default();
        let mut seed = 3_u64;
        let mut closed_early = 0;
        for _ in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let expires = at(1_000_000 + (1 << ((seed >> 58) % 36)) + (seed >> 40));
            let ends = bucket_end(at(1_000_000), expires);
            let (chosen, closed) = wheel.admit(ends, at(1_000_000), expires);
            assert!(chosen >= expires);
            closed_early += u32::from(closed.is_some());
        }
        let open = wheel.buckets.lock().values().filter(|b| b.open_until.is_some()).count();
        assert!(open <= OPEN_MAX, "{open}");
        assert!(closed_early < 1_000, "{closed_early}");
    }

    /// moka-rs/moka#248, twitter/rpc-perf#180, Yiling-J/theine-go#64, Igalia/snabb#1231: timers
    /// beyond the wheel's reach came early, others a turn late or never.
    #[test]
    fn the_wheel_agrees_with_a_sorted_list_through_jumps_across_every_width() {
        let wheel = Wheel::default();
        let mut list = std::collections::BTreeMap::<u64, Vec<u64>>::new();
        let (mut now, mut seed) = (1_700_000_000_000_u64, 11_u64);
        let mut crossed = [0_u32; 32];
        for number in 0..1_000_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let lifetime = 1 + (seed >> 9) % (1 << (1 + (seed >> 58) % 45));
            let expires = now + lifetime.min(TTL_MS_MAX);
            let ends = bucket_end(at(now), at(expires));
            assert!(ends >= at(expires));
            wheel.add(ends, number);
            list.entry(ends.as_millis()).or_default().push(number);
            if seed >> 61 == 0 {
                // Jumps to just before, onto and just beyond the ends of narrow and wide buckets.
                let level = (seed >> 40) % 32;
                let width = 1_u64 << (10 + level);
                crossed[usize::try_from(level).unwrap()] += 1;
                now = (now / width + 1) * width - 1 + (seed >> 30) % 3;
                let later = list.split_off(&(now + 1));
                let mut due: Vec<_> = std::mem::replace(&mut list, later).into_values().collect();
                let mut taken = wheel.take_due(at(now));
                taken.sort_unstable();
                let mut due: Vec<_> = due.drain(..).flatten().collect();
                due.sort_unstable();
                assert_eq!(taken, due, "at {now}");
            }
        }
        assert_eq!(wheel.bucket_count(), list.len() as u64);
        assert!(crossed.iter().all(|times| *times > 1_000), "{crossed:?}");
    }

    #[test]
    fn buckets_end_in_time_at_every_edge_of_the_arithmetic() {
        let nows = [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 4_294_967_296_000];
        let year_2106 = (1_u64 << 32) * 1_000;
        for now in nows.into_iter().chain([year_2106, (1 << 63) - 1, 1 << 63, u64::MAX - 1]) {
            for lifetime in [1, 999, 1_000, (1 << 31) - 1, 1 << 32, TTL_MS_MAX, u64::MAX - 1] {
                let expires = crate::time::expiry(at(now), lifetime);
                assert!(expires >= at(now) && expires != Timestamp::NEVER);
                let end = bucket_end(at(now), expires);
                assert!(end >= expires, "{now} + {lifetime}");
            }
            assert_eq!(crate::time::expiry(at(now), u64::MAX), Timestamp::NEVER);
        }
    }

    #[test]
    fn a_segment_that_left_its_bucket_early_is_not_due_and_leaves_no_empty_bucket() {
        let wheel = Wheel::default();
        wheel.add(at(100), 1);
        wheel.add(at(100), 2);
        wheel.remove(at(100), 1);
        wheel.remove(at(200), 2);
        assert_eq!(wheel.bucket_count(), 1);
        wheel.remove(at(100), 2);
        assert_eq!((wheel.bucket_count(), wheel.take_due(at(1_000)).len()), (0, 0));
    }
}
