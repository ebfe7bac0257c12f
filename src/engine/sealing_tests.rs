//! What is called sealed, and what a segment says once a sync of it has failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, get};
use crate::error::Error;
use crate::record::Ignore;
use crate::sys::sync::Mutex;

const KEYS: u32 = 40;

fn record(engine: &Engine, key: &str) {
    engine.check_and_set(key.as_bytes(), b"outcome", engine.lifetime(), &mut Ignore).unwrap();
}

fn name(i: u32) -> String {
    format!("key {i}")
}

#[test]
fn what_the_manifest_calls_sealed_is_whole_after_a_power_cut_at_any_call() {
    let bench = Bench::new();
    let engine = bench.open();
    (0..KEYS).for_each(|i| record(&engine, &name(i)));
    engine.log.withdraw_bucket(None);
    let cuts: Arc<Mutex<Vec<_>>> = Arc::default();
    let kept = cuts.clone();
    *bench.disk.watch.lock() =
        Some(Box::new(move |disk| kept.lock().push(disk.after_power_cut(|| false))));
    assert!(engine.maintain(Duration::ZERO).unwrap().segments_sealed > 0);
    *bench.disk.watch.lock() = None;
    let mut cuts = std::mem::take(&mut *cuts.lock());
    assert!(cuts.len() > 5, "{} calls", cuts.len());
    cuts.push(bench.disk.after_power_cut(|| false));
    let mut whole = 0;
    for cut in cuts {
        let engine = bench.open_on(Arc::new(cut));
        let known = (0..KEYS).filter(|i| get(&engine, &name(*i)).is_some()).count();
        // Nothing was synced before, so a segment has all of its records from its sync on.
        assert!(known == 0 || known == KEYS as usize, "{known} keys");
        assert!(engine.recovery.sealed == 0 || known != 0, "sealed, and empty");
        whole += usize::from(known != 0);
    }
    assert!(whole > 1, "{whole} images with all keys");
}

#[test]
fn a_segment_whose_sync_has_failed_is_never_synced_or_sealed_again() {
    let bench = Bench::new();
    let engine = bench.open();
    record(&engine, "key");
    let segment = engine.log.segments().remove(0);
    // As seen by another thread, between the failure and the end of all writing.
    bench.disk.sync_fails.store(true, Ordering::SeqCst);
    assert!(engine.log.sync().is_err());
    bench.disk.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(engine.log.sync(), Err(Error::Indeterminate { .. })));
    engine.log.withdraw_bucket(None);
    let sealed = engine.log.seal(&segment, engine.hasher(), engine.clock.now());
    assert!(matches!(sealed, Err(Error::Indeterminate { .. })), "{sealed:?}");
    assert!(!segment.is_sealed());
    assert!(!engine.is_settled(engine.hasher().hash(b"key")));
    drop(engine);
    // Whoever opens it anew writes all of it again.
    let engine = bench.open();
    assert!(engine.is_settled(engine.hasher().hash(b"key")));
    let cut = bench.disk.after_power_cut(|| false);
    assert!(get(&bench.open_on(Arc::new(cut)), "key").is_some());
}

#[test]
fn a_place_that_was_durable_is_not_so_for_the_segment_that_gets_it_next() {
    for sealed in [false, true] {
        let bench = Bench::new();
        let engine = bench.open();
        record(&engine, "old");
        let place = engine.log.segments()[0].at;
        engine.sync().unwrap();
        if sealed {
            engine.log.withdraw_bucket(None);
            assert!(engine.maintain(Duration::ZERO).unwrap().segments_sealed > 0);
        }
        assert!(engine.is_settled(engine.hasher().hash(b"old")));
        bench.advance(20 * MINUTE);
        while engine.maintain(Duration::ZERO).unwrap().more {}
        assert!(engine.log.segments().is_empty());
        record(&engine, "new");
        assert_eq!(engine.log.segments()[0].at, place, "the place is used again");
        assert!(!engine.is_settled(engine.hasher().hash(b"new")), "sealed: {sealed}");
        engine.settle(engine.hasher().hash(b"new")).unwrap();
        let cut = bench.disk.after_power_cut(|| false);
        assert!(get(&bench.open_on(Arc::new(cut)), "new").is_some(), "sealed: {sealed}");
    }
}
