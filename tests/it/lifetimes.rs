//! Bugs that other projects had with lifetimes, tombstones, clocks and room, as tests.
//!
//! Each test's comment names the reports: what went wrong there must not go wrong here. Reports
//! about leases are in `regressions`, about compaction in the engine's own tests, where single
//! segments can be chosen.

use std::sync::Arc;
use std::time::Duration;

use oncelog::{Check, Error, ManualClock, Store, Timestamp, Ttl};

use crate::setup::{START, clock, directory, fast_directory, files, maintain, small};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

fn open(directory: &std::path::Path, clock: &Arc<ManualClock>, ttl: impl Into<Ttl>) -> Store {
    let opened = small().clock(clock.clone()).ttl(ttl).open(directory);
    opened.unwrap_or_else(|e| panic!("{e}"))
}

/// basho/bitcask#82, #148, #156, dgraph-io/badger#2143: a removed key came back after a merge and
/// a restart, as the tombstone was dropped, or an older record got a later place.
#[test]
fn a_removed_key_stays_removed_through_compaction_and_restarts() {
    let (directory, clock) = (fast_directory(), clock());
    for round in 0..10_u32 {
        let store = open(directory.path(), &clock, Ttl::Never);
        for i in 0..200 {
            let key = format!("key {i}");
            // Recorded in even rounds, removed in odd ones, some of them again in the same round.
            if round % 2 == 0 {
                assert!(store.check_and_set(&key, [0; 200]).unwrap().is_new(), "{round} {i}");
            }
            if round % 2 == 1 || i % 5 == 0 {
                assert_eq!(store.remove(&key).unwrap(), round % 2 == 0 || i % 5 != 0);
            }
        }
        if round % 3 == 0 {
            store.close().unwrap();
        } else {
            maintain(&store);
        }
    }
    let store = open(directory.path(), &clock, Ttl::Never);
    maintain(&store);
    assert!((0..200).all(|i| !store.contains(format!("key {i}")).unwrap()));
    assert!(store.stats().segments < 10, "{:?}", store.stats());
}

/// dgraph-io/badger#569, #708, #974: after a crash, or a move by the collector, entries had no end.
/// redis/redis#8433, #8474: a relative lifetime began anew when it was replayed.
#[test]
fn every_record_keeps_its_end_through_a_crash_compaction_and_a_late_restart() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, 10 * HOUR);
    for i in 0..3_000_u64 {
        let lifetime = HOUR * 8 + SECOND * (i % 7) as u32;
        assert!(store.check_and_set_for(format!("{i}"), [1; 100], lifetime).unwrap().is_new());
    }
    let end = |store: &Store, i: u64| store.get(format!("{i}")).unwrap().unwrap().expires();
    let before: Vec<_> = (0..3_000).map(|i| end(&store, i)).collect();
    for i in (0..3_000).filter(|i| i % 4 != 0) {
        store.remove(format!("{i}")).unwrap();
    }
    drop(store);
    clock.advance(HOUR);
    let store = open(directory.path(), &clock, YEAR);
    maintain(&store);
    assert!(store.stats().segments_compacted > 0);
    drop(store);
    clock.advance(HOUR);
    let store = open(directory.path(), &clock, SECOND);
    assert!((0..3_000).step_by(4).all(|i| end(&store, i) == before[i as usize]));
}

/// facebook/rocksdb#11256, redis/redis#8032, scylladb/scylladb#3353: a sum of time and lifetime
/// overflowed, in 15 years, in 2038 or at once, and data was deleted.
#[test]
fn no_sum_of_a_time_and_a_lifetime_overflows() {
    let nows = [0, 1 << 31, (1 << 32) - 1, 1 << 32, (1_u64 << 31) * 1_000, (1_u64 << 32) * 1_000];
    for now in nows.into_iter().chain([START, (1 << 63) - 1, 1 << 63, u64::MAX - 2]) {
        let (directory, clock) = (fast_directory(), clock());
        clock.set(Timestamp::from_millis(now));
        let store = open(directory.path(), &clock, HOUR);
        let lifetimes = [SECOND, 15 * YEAR, Duration::from_secs(u64::from(u32::MAX)), 1000 * YEAR];
        for (i, lifetime) in lifetimes.into_iter().enumerate() {
            assert!(store.check_and_set_for(format!("{i}"), "", lifetime).unwrap().is_new());
            assert!(store.contains(format!("{i}")).unwrap(), "{now} {lifetime:?}");
        }
        assert!(store.check_and_set_for("never", "", Ttl::Never).unwrap().is_new());
        for beyond in [1001 * YEAR, Duration::from_secs(u64::MAX)] {
            let refused = store.check_and_set_for("x", "", beyond);
            assert!(matches!(refused, Err(Error::InvalidTtl { .. })));
        }
        maintain(&store);
        drop(store);
        let store = open(directory.path(), &clock, HOUR);
        assert!((0..4).all(|i| store.contains(format!("{i}")).unwrap()), "{now}");
        assert!(store.contains("never").unwrap());
    }
}

/// pelikan-io/cache-rs#73: a short lifetime in a coarse bucket was over right after the insert.
/// facebook/rocksdb#1445, #828, dgraph-io/badger#2138: what had ended was returned until it was
/// compacted.
#[test]
fn the_shortest_lifetimes_hold_to_the_millisecond_at_every_offset_of_a_bucket() {
    let (directory, clock) = (fast_directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    for offset in 0..2_100_u64 {
        let (key, lifetime) = (format!("{offset}"), 1 + offset % 5);
        clock.set(Timestamp::from_millis(START + offset * 10));
        let lived = Duration::from_millis(lifetime);
        assert!(store.check_and_set_for(&key, "", lived).unwrap().is_new());
        clock.set(Timestamp::from_millis(START + offset * 10 + lifetime - 1));
        if offset % 3 == 0 {
            store.maintain(Duration::ZERO).unwrap();
        }
        assert!(store.contains(&key).unwrap(), "{offset}");
        clock.set(Timestamp::from_millis(START + offset * 10 + lifetime));
        assert!(!store.contains(&key).unwrap(), "{offset}");
    }
}

/// moka-rs/moka#549: an entry that had ended and was not yet reclaimed could neither be read nor
/// written again.
#[test]
fn an_ended_key_that_is_not_reclaimed_is_like_one_never_seen() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, SECOND);
    for round in 0..50_u32 {
        assert!(store.insert("a").unwrap(), "{round}");
        assert!(!store.insert("a").unwrap(), "{round}");
        let mut lease = store.begin("b").unwrap().started().unwrap();
        assert_eq!(lease.attempt(), 1);
        lease.complete("").unwrap();
        clock.advance(40 * SECOND);
    }
}

/// moka-rs/moka#472, #477, patrickmn/go-cache#161: a clock that went back made a sum fail, or an
/// entry live for ever.
#[test]
fn a_clock_that_jumps_back_and_forth_never_moves_the_stores_time_back() {
    let (directory, clock) = (fast_directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    let (mut seed, mut last) = (9_u64, Timestamp::default());
    for i in 0..2_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        clock.set(Timestamp::from_millis(START - HOUR.as_millis() as u64 + (seed >> 40)));
        store.insert(format!("{i}")).unwrap();
        let created = store.get(format!("{i}")).unwrap().unwrap().created();
        assert!(created >= last);
        last = created;
    }
}

/// A jump of the clock at open cannot be told from a long time, so it is reported.
#[test]
fn an_open_says_how_much_time_has_passed_by_the_clock() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    assert_eq!(store.recovery().time_passed_ms, 0);
    store.insert("a").unwrap();
    store.close().unwrap();
    clock.advance(100 * HOUR);
    let store = open(directory.path(), &clock, HOUR);
    assert_eq!(store.recovery().time_passed_ms, 100 * 3_600_000);
    drop(store);
    clock.set(Timestamp::from_millis(START));
    let store = open(directory.path(), &clock, HOUR);
    assert_eq!(store.recovery().time_passed_ms, 0);
    let stats = store.stats();
    assert_eq!((stats.clock_ahead_ms, stats.clock_followed_ms), (0, 0));
}

/// apache/pulsar#7345, #8237: the record of what was seen moved on only with traffic, so that an
/// idle topic kept everything.
#[test]
fn an_idle_store_gives_everything_back() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock, HOUR);
    for i in 0..5_000 {
        assert!(store.check_and_set(format!("{i}"), [0; 300]).unwrap().is_new());
    }
    maintain(&store);
    assert!(store.stats().disk_bytes > 1 << 20);
    // A bucket ends at most a sixteenth of the lifetime after its records.
    clock.advance(HOUR + HOUR / 16 + SECOND);
    maintain(&store);
    let stats = store.stats();
    assert_eq!((stats.keys, stats.segments, stats.buckets), (0, 0, 0), "{stats:?}");
    // What is left is room prepared for removals and for the next segment.
    let left = (files(directory.path(), ".seg").len(), files(directory.path(), ".run").len());
    assert!(left.0 <= 2 && left.1 == 0, "{left:?}");
}

/// nats-io/nats-server#3272: what counted as a duplicate differed before and after a restart.
/// redpanda-data/redpanda#3039, #22670: what was known was dropped after a time without traffic.
#[test]
fn neither_idleness_nor_restarts_change_what_is_a_duplicate_or_when_that_ends() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock, 24 * HOUR);
    assert!(store.check_and_set("a", "x").unwrap().is_new());
    for hour in 1..24 {
        clock.advance(HOUR);
        maintain(&store);
        if hour % 5 == 0 {
            drop(store);
            store = open(directory.path(), &clock, 24 * HOUR);
        }
        assert!(matches!(store.check_and_set("a", "y").unwrap(), Check::Duplicate(_)), "{hour}");
    }
    clock.advance(HOUR);
    assert!(store.check_and_set("a", "z").unwrap().is_new());
}

/// tokio-rs/tokio#8334, moka-rs/moka#248, Igalia/snabb#1231: wheels that ran over, spun or stopped
/// after a long time.
#[test]
fn a_thousand_years_pass_with_every_lifetime_ending_in_its_time() {
    let (directory, clock) = (fast_directory(), clock());
    let mut store = open(directory.path(), &clock, YEAR);
    assert!(store.check_and_set_for("never", "", Ttl::Never).unwrap().is_new());
    assert!(store.check_and_set_for("all", "", 1000 * YEAR).unwrap().is_new());
    let mut ends: Vec<(String, u64)> = Vec::new();
    let year_ms = YEAR.as_millis() as u64;
    for year in 0..1_000_u64 {
        let now = START + year * year_ms;
        clock.set(Timestamp::from_millis(now));
        let (key, years) = (format!("{year}"), 1 + year * 7 % 40);
        let lifetime = YEAR * u32::try_from(years).unwrap();
        assert!(store.check_and_set_for(&key, "", lifetime).unwrap().is_new());
        ends.push((key, now + years * year_ms));
        maintain(&store);
        if year % 50 == 0 {
            drop(store);
            store = open(directory.path(), &clock, YEAR);
        }
        for (key, end) in ends.iter().rev().take(45) {
            assert_eq!(store.contains(key).unwrap(), now < *end, "{key} in year {year}");
        }
    }
    assert!(store.contains("all").unwrap() && store.contains("never").unwrap());
    clock.set(Timestamp::from_millis(START + 1_000 * year_ms));
    assert!(!store.contains("all").unwrap() && store.contains("never").unwrap());
    let stats = store.stats();
    assert!(stats.buckets < 60 && stats.segments < 80, "{stats:?}");
}
