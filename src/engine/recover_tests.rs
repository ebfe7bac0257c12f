//! What opening counts is what the files hold, and what many threads need is made once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER};
use crate::engine::claim::FullKey;
use crate::engine::finish::Ending;
use crate::format::record::Kind;
use crate::log::Log;
use crate::log::scan::Scanner;
use crate::policy::{BeginOptions, Policy};
use crate::record::Ignore;

/// Of each segment, the bytes of records that no slot leads to and that are no tombstones, and what
/// was counted of them.
fn superseded(engine: &Engine) -> Vec<(u64, u64)> {
    let mut reached = BTreeSet::new();
    for stripe in 0..engine.index.stripe_count() {
        engine.index.lock_stripe(stripe).each(|location| {
            reached.insert(location.units());
        });
    }
    let mut found = Vec::new();
    for segment in engine.log.segments() {
        let words = engine.log.words(&segment);
        let mut scanner = Scanner::new(words, &segment.common, engine.hasher());
        let mut lost = 0;
        for block in scanner.blocks() {
            scanner.records(block, |at, header, _| {
                if !reached.contains(&Log::location(&segment, at).units()) {
                    lost += header.record_bytes();
                }
                assert_ne!(header.kind, Kind::Removed, "none was written");
            });
        }
        found.push((lost, engine.log.waste.of(segment.chunks()).superseded));
    }
    found
}

#[test]
fn what_records_have_superseded_is_counted_at_open_in_whichever_order_they_are_found() {
    for sealed in [false, true] {
        let bench = Bench::with(|config| config.lanes = 1);
        let engine = bench.open();
        // Each attempt is two records, and the next one lies in a later bucket: what a record has
        // superseded is in its own segment or in another one, found before it or after it.
        let terms = Policy::DEFAULT.terms(&BeginOptions::new(), 600 * MINUTE).unwrap();
        for round in 0..4_u64 {
            for number in 0..1_000 + 300 * round {
                let (key, now) = (format!("key {number}"), engine.clock.now());
                let attempt = |full: FullKey<'_>| {
                    let Begun::Started(grant) = engine.begin(full, &terms, now)? else {
                        panic!("held")
                    };
                    engine.finish(full, grant.version, Ending::Release(0), now).map(drop)
                };
                engine.with_key(None, key.as_bytes(), attempt).unwrap();
            }
            bench.advance(60 * MINUTE);
        }
        let counted = superseded(&engine);
        assert!(counted.iter().all(|(lost, counted)| lost == counted), "{counted:?}");
        assert!(counted.iter().filter(|(lost, _)| *lost > 1_000).count() > 2, "{counted:?}");
        if sealed {
            engine.close().unwrap();
        }
        drop(engine);
        let engine = bench.open();
        let counted = superseded(&engine);
        assert!(counted.iter().all(|(lost, counted)| lost == counted), "{sealed}: {counted:?}");
    }
}

#[test]
fn of_many_threads_that_need_a_new_segment_each_gets_its_room_and_none_is_made_twice() {
    let bench = Bench::with(|config| config.lanes = 8);
    let engine = bench.open();
    // One record takes nearly a whole segment, so that all but one of them find it taken.
    let (outcome, written) = (vec![1; 900 << 10], AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (engine, outcome, written) = (&engine, &outcome, &written);
            scope.spawn(move || {
                for round in 0..8_u64 {
                    let key = ((thread << 32) | round).to_le_bytes();
                    let known = engine.check_and_set(&key, outcome, NEVER, &mut Ignore);
                    assert!(!known.unwrap());
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((written.into_inner(), engine.stats().segments), (64, 64));
}
