//! Compaction on a simulated disk: what it keeps, what it gives back, and every way to cut it off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, NEVER, Random, maintain};
use crate::engine::finish::Ending;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::meta::Meta;
use crate::policy::{BeginOptions, Policy};
use crate::record::{Ignore, Own};
use crate::sys::memory_disk::Fault;
use crate::version::Version;

/// What is known of a key, whole.
pub(crate) type Picture = Option<(Meta, Option<Vec<u8>>)>;

pub(crate) fn insert(engine: &Engine, key: &str, outcome: &[u8], lifetime: u64) -> bool {
    !engine.check_and_set(key.as_bytes(), outcome, lifetime, &mut Ignore).unwrap()
}

pub(crate) fn remove(engine: &Engine, key: &str) -> bool {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now)).unwrap()
}

pub(crate) fn begin(engine: &Engine, key: &str) -> Option<Version> {
    let options = BeginOptions::new().fingerprint(Fingerprint::of(key.as_bytes()));
    let terms = Policy::DEFAULT.terms(&options, NEVER).unwrap();
    let now = engine.clock.now();
    let begun = engine.with_key(None, key.as_bytes(), |full| engine.begin(full, &terms, now));
    match begun.unwrap() {
        Begun::Started(grant) => Some(grant.version),
        _ => None,
    }
}

pub(crate) fn end(engine: &Engine, key: &str, token: Version, ending: Ending<'_>) {
    let now = engine.clock.now();
    let end = |full: crate::engine::claim::FullKey<'_>| engine.finish(full, token, ending, now);
    engine.with_key(None, key.as_bytes(), end).unwrap();
}

fn picture(engine: &Engine, key: &str) -> Picture {
    let now = engine.clock.now();
    let meta = engine.with_key(None, key.as_bytes(), |full| engine.peek(full, now)).unwrap()?;
    let found = engine.get(key.as_bytes(), &mut Own).unwrap();
    Some((meta, found.map(|record| record.outcome().to_vec())))
}

pub(crate) fn pictures(engine: &Engine, keys: &[String]) -> Vec<Picture> {
    keys.iter().map(|key| picture(engine, key)).collect()
}

/// Seals all that was written so far, without compacting anything.
pub(crate) fn seal(engine: &Engine) {
    engine.log.withdraw_bucket(None);
    while let Some(segment) = engine.log.sealable() {
        engine.log.seal(&segment, engine.hasher(), engine.clock.now()).unwrap();
    }
}

/// Compacts the sealed segments that `chosen` accepts, whether it pays or not.
pub(crate) fn compact(engine: &Engine, mut chosen: impl FnMut(u64) -> bool) {
    let sealed = engine.log.sealed().into_iter().filter(|segment| chosen(segment.number));
    engine.compactor.lock().chosen = sealed.collect();
    loop {
        let idle = {
            let compactor = engine.compactor.lock();
            compactor.chosen.is_empty() && compactor.is_idle()
        };
        if idle {
            return;
        }
        engine.compact_step().unwrap();
    }
}

#[test]
fn the_room_of_removed_keys_comes_back_and_the_others_stay_as_they_were() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let keys: Vec<_> = (0..20_000).map(|i| format!("key {i}")).collect();
    for key in &keys {
        assert!(insert(&engine, key, &[7; 100], NEVER));
    }
    let full = engine.stats().disk_bytes;
    for (i, key) in keys.iter().enumerate().filter(|(i, _)| i % 10 != 0) {
        assert!(remove(&engine, key), "{i}");
    }
    seal(&engine);
    let before = pictures(&engine, &keys);
    maintain(&engine);
    assert_eq!(pictures(&engine, &keys), before);
    let stats = engine.stats();
    assert!(stats.segments_compacted > 0 && stats.keys < 4_500, "{stats:?}");
    assert!(stats.disk_bytes < full / 3 + (1 << 20), "{stats:?}, {full} before");
    drop(engine);
    let engine = bench.open();
    assert_eq!(pictures(&engine, &keys), before);
}

#[test]
fn disk_use_stays_near_the_live_bytes_under_any_mixture_of_removals_and_rewrites() {
    let lives = [NEVER, 600 * MINUTE];
    for seed in 1..7 {
        let (bench, mut random) = (Bench::with(|_| ()), Random(seed));
        let mut engine = bench.open();
        let outcome = [1; 300];
        // A record with its header, key and outcome.
        let record_bytes = 336;
        let mut live = std::collections::BTreeSet::new();
        // Some seeds remove at random, some the latest, some one part of the keys for ever.
        for round in 0..30 {
            for step in 0..5_000 {
                let key = match seed % 3 {
                    0 => random.next(50_000),
                    1 => round * 5_000 + step,
                    _ => random.next(20_000) + random.next(2) * 40_000,
                };
                let text = format!("key {key}");
                let lifetime = lives[usize::try_from(seed % 2).unwrap()];
                if random.next(5) < 3 {
                    assert_eq!(insert(&engine, &text, &outcome, lifetime), live.insert(key));
                } else {
                    assert_eq!(remove(&engine, &text), live.remove(&key));
                    if seed % 3 == 1 && random.next(3) > 0 {
                        let oldest = live.first().copied();
                        live.retain(|key| Some(*key) != oldest);
                        if let Some(key) = oldest {
                            assert!(remove(&engine, &format!("key {key}")));
                        }
                    }
                }
            }
            bench.advance(MINUTE / 4);
            maintain(&engine);
            if round % 8 == 7 {
                drop(engine);
                engine = bench.open();
                maintain(&engine);
            }
            let allowed = live.len() as u64 * record_bytes * 13 / 10 + (3 << 20);
            let used = engine.stats().disk_bytes;
            assert!(used <= allowed, "seed {seed} round {round}: {used} of {allowed}");
        }
        for key in 0..150_000 {
            let known = picture(&engine, &format!("key {key}")).is_some();
            assert_eq!(known, live.contains(&key), "seed {seed} key {key}");
        }
    }
}

/// basho/bitcask#82, #148, #156, dgraph-io/badger#2143: merging some of the files dropped the
/// tombstone and kept what it had killed, or gave the older record the later place.
#[test]
fn no_subset_of_segments_compacted_before_a_restart_brings_anything_back() {
    let keys: Vec<_> = (0..24).map(|i| format!("key {i}")).collect();
    for seed in 0..48 {
        let (bench, mut random) = (Bench::with(|_| ()), Random(seed));
        let mut engine = bench.open();
        for _ in 0..8 {
            for _ in 0..30 {
                let key = &keys[usize::try_from(random.next(24)).unwrap()];
                match random.next(6) {
                    0 | 1 => drop(remove(&engine, key)),
                    2 => {
                        if let Some(token) = begin(&engine, key).filter(|_| random.next(3) > 0) {
                            end(&engine, key, token, Ending::Complete(b"done"));
                        }
                    }
                    _ => {
                        let lifetime = [NEVER, 5 * MINUTE, 90 * MINUTE, 400 * MINUTE];
                        let lifetime = lifetime[usize::try_from(random.next(4)).unwrap()];
                        // A key in progress is not recorded.
                        let _ = engine.check_and_set(
                            key.as_bytes(),
                            &[seed as u8; 40],
                            lifetime,
                            &mut Own,
                        );
                    }
                }
                bench.advance(random.next(3 * MINUTE));
            }
            seal(&engine);
            compact(&engine, |_| random.next(2) == 0);
            let before = pictures(&engine, &keys);
            engine.log.save_manifest(engine.clock.now(), false).unwrap();
            drop(engine);
            engine = bench.open();
            assert_eq!(pictures(&engine, &keys), before, "seed {seed}");
            if random.next(2) == 0 {
                bench.advance(random.next(120 * MINUTE));
                engine.expire(engine.clock.now()).unwrap();
            }
        }
    }
}

/// The successor of a tombstone ends first; what the tombstone kills must not come back then.
#[test]
fn a_tombstone_stays_while_the_record_after_it_ends_sooner_than_what_it_kills() {
    for compacted in [2, 3] {
        let bench = Bench::with(|_| ());
        let engine = bench.open();
        insert(&engine, "a", b"first", 600 * MINUTE);
        seal(&engine);
        assert!(remove(&engine, "a"));
        seal(&engine);
        assert!(insert(&engine, "a", b"second", MINUTE));
        seal(&engine);
        for _ in 0..3 {
            // Again and again: the copies of the tombstone are compacted as well.
            compact(&engine, |number| number >= compacted);
            seal(&engine);
            engine.log.end_copies();
            seal(&engine);
        }
        bench.advance(10 * MINUTE);
        engine.expire(engine.clock.now()).unwrap();
        assert_eq!(picture(&engine, "a"), None);
        drop(engine);
        assert_eq!(picture(&bench.open(), "a"), None, "compacted from {compacted} on");
    }
}

/// marin-community/marin#4881, #4889, Basekick-Labs/arc#157, #163: after a crash between publishing
/// what was merged and removing its sources, both were loaded.
#[test]
fn a_cut_at_any_step_of_compaction_leaves_every_key_as_it_was() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let mut random = Random(5);
    let keys: Vec<_> = (0..3_000).map(|i| format!("key {i}")).collect();
    for key in &keys {
        insert(&engine, key, &[3; 700], if random.next(2) == 0 { NEVER } else { 90 * MINUTE });
    }
    for key in keys.iter().filter(|_| random.next(4) > 0) {
        remove(&engine, key);
    }
    seal(&engine);
    let before = pictures(&engine, &keys);
    engine.sync().unwrap();
    let mut steps = 0;
    loop {
        let more = engine.compact_step().unwrap();
        let cut = Arc::new(bench.disk.after_power_cut(|| random.next(2) == 0));
        let reopened = bench.open_on(cut);
        assert_eq!(pictures(&reopened, &keys), before, "power cut after step {steps}");
        steps += 1;
        if !more {
            break;
        }
    }
    assert!(steps > 12 && engine.stats().segments_compacted > 0, "{steps}");
    drop(engine);
    assert_eq!(pictures(&bench.open(), &keys), before);
}

#[test]
fn what_was_synced_is_not_dropped_before_what_has_superseded_it_is_synced_too() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let token = begin(&engine, "a").unwrap();
    seal(&engine);
    end(&engine, "a", token, Ending::Complete(b"done"));
    compact(&engine, |_| true);
    assert_eq!(engine.stats().segments_compacted, 1);
    let cut = Arc::new(bench.disk.after_power_cut(|| false));
    assert!(picture(&bench.open_on(cut), "a").is_some(), "a claim that was synced is forgotten");
}

/// dgraph-io/badger#974, #1006: what was moved lost its end. Here every field is compared.
#[test]
fn a_lease_keeps_its_token_its_attempts_and_its_room_in_a_copy() {
    let bench = Bench::with(|_| ());
    let mut engine = bench.open();
    for reopened in [false, true] {
        let name = format!("lease {reopened}");
        begin(&engine, &name).unwrap();
        bench.advance(MINUTE);
        let token = begin(&engine, &name).unwrap();
        end(&engine, &name, token, Ending::Renew(5 * MINUTE));
        seal(&engine);
        if reopened {
            drop(engine);
            engine = bench.open();
            seal(&engine);
        }
        let (before, promised) = (picture(&engine, &name), engine.log.reserve.promised());
        compact(&engine, |_| true);
        assert_eq!(picture(&engine, &name), before);
        let after = engine.log.reserve.promised();
        assert!(after > 0 && (reopened || after == promised), "{promised}, then {after}");
        // On a full disk, too.
        engine.log.end_copies();
        *bench.disk.room.lock() = Some(0);
        end(&engine, &name, token, Ending::Complete(&[1; 200]));
        *bench.disk.room.lock() = None;
        assert_eq!(engine.log.reserve.promised(), 0);
        let (meta, outcome) = picture(&engine, &name).unwrap();
        assert!(meta.attempts == 2 && meta.has_fingerprint && outcome == Some(vec![1; 200]));
    }
}

/// moka-rs/moka#524, #527, #548, #565: an entry's end was cleared or moved while it was being
/// dropped, and its timer freed while it was still linked.
#[test]
fn renewing_removing_compacting_and_expiring_one_key_at_once_leaves_one_of_their_states() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let over = std::sync::atomic::AtomicBool::new(false);
    let done = std::sync::atomic::AtomicU64::new(0);
    let until_over = |work: &dyn Fn()| {
        while !over.load(Ordering::Relaxed) {
            work();
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                until_over(&|| {
                    if let Some(token) = begin(&engine, "a") {
                        let (now, ending) = (engine.clock.now(), Ending::Renew(MINUTE));
                        let end = |full: crate::engine::claim::FullKey<'_>| {
                            engine.finish(full, token, ending, now)
                        };
                        match engine.with_key(None, b"a", end) {
                            Ok(_) | Err(Error::LeaseLost) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            });
        }
        scope.spawn(|| {
            until_over(&|| {
                drop(
                    engine
                        .with_key(None, b"a", |full| engine.remove(full, None, engine.clock.now())),
                )
            })
        });
        // As long as it takes for the others to get something done meanwhile.
        while done.load(Ordering::Relaxed) < 20_000 {
            seal(&engine);
            compact(&engine, |_| true);
            bench.advance(MINUTE / 2);
            engine.expire(engine.clock.now()).unwrap();
            engine.sweep_step().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    let before = picture(&engine, "a");
    drop(engine);
    assert_eq!(picture(&bench.open(), "a"), before);
}

#[test]
fn a_full_disk_stops_compaction_without_harm_and_room_lets_it_go_on() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let keys: Vec<_> = (0..8_000).map(|i| format!("key {i}")).collect();
    keys.iter().for_each(|key| assert!(insert(&engine, key, &[3; 200], NEVER)));
    keys.iter().step_by(3).for_each(|key| assert!(remove(&engine, key)));
    seal(&engine);
    let before = pictures(&engine, &keys);
    *bench.disk.room.lock() = Some(0);
    maintain(&engine);
    assert_eq!((pictures(&engine, &keys), engine.stats().segments_compacted), (before.clone(), 0));
    *bench.disk.room.lock() = None;
    maintain(&engine);
    assert!(engine.stats().segments_compacted > 0);
    assert_eq!(pictures(&engine, &keys), before);
}

/// Too many open files, or no memory for a mapping, and then a next step as if nothing had been.
#[test]
fn a_call_refused_for_a_moment_during_compaction_loses_no_key() {
    let keys: Vec<_> = (0..2_000).map(|i| format!("key {i}")).collect();
    let (mut refused, mut compacted) = (0, 0);
    for call in 0..24 {
        let bench = Bench::with(|_| ());
        let engine = bench.open();
        keys.iter().for_each(|key| assert!(insert(&engine, key, &[7; 100], NEVER)));
        keys.iter().step_by(2).for_each(|key| assert!(remove(&engine, key)));
        seal(&engine);
        let before = pictures(&engine, &keys);
        let at = bench.disk.calls.lock().len() as u64 + call;
        let kind = std::io::ErrorKind::OutOfMemory;
        *bench.disk.fault.lock() = Some(Fault { at, from_then_on: false, kind });
        for _ in 0..4_000 {
            match engine.maintain(Duration::ZERO) {
                Ok(done) if !done.more => break,
                Ok(_) => {}
                Err(Error::Io { .. }) => refused += 1,
                // The call was a sync.
                Err(_) => break,
            }
        }
        *bench.disk.fault.lock() = None;
        compacted += engine.stats().segments_compacted;
        assert_eq!(pictures(&engine, &keys), before, "call {call}");
        drop(engine);
        assert_eq!(pictures(&bench.open(), &keys), before, "call {call}");
    }
    assert!(refused > 10 && compacted > 5, "{refused} refused, {compacted} compacted");
}

#[test]
fn a_failed_sync_ends_compaction_and_all_writing_and_loses_nothing() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    insert(&engine, "a", b"kept", NEVER);
    insert(&engine, "b", b"removed", NEVER);
    remove(&engine, "b");
    seal(&engine);
    bench.disk.sync_fails.store(true, Ordering::SeqCst);
    let failed = (0..9).find_map(|_| engine.compact_step().err());
    assert!(failed.is_some());
    assert!(matches!(engine.sync(), Err(Error::Poisoned { .. })));
    bench.disk.sync_fails.store(false, Ordering::SeqCst);
    let cut = Arc::new(bench.disk.after_power_cut(|| false));
    let engine = bench.open_on(cut);
    assert!(picture(&engine, "a").is_some() && picture(&engine, "b").is_none());
}

#[test]
fn small_remains_of_a_bucket_are_joined_once_and_then_left_alone() {
    let bench = Bench::with(|_| ());
    let mut known = BTreeMap::new();
    for round in 0..20 {
        let engine = bench.open();
        let key = format!("key {round}");
        insert(&engine, &key, b"x", NEVER);
        known.insert(key.clone(), picture(&engine, &key));
        bench.advance(30 * 24 * 60 * MINUTE);
        maintain(&engine);
    }
    let engine = bench.open();
    maintain(&engine);
    let stats = engine.stats();
    assert!(stats.segments <= 9, "{stats:?}");
    let compacted = stats.segments_compacted;
    for _ in 0..5 {
        maintain(&engine);
    }
    assert_eq!(engine.stats().segments_compacted, compacted);
    known.iter().for_each(|(key, before)| assert_eq!(picture(&engine, key), *before));
}

#[test]
fn lookups_go_on_undisturbed_while_their_records_are_copied() {
    let bench = Bench::with(|_| ());
    let engine = bench.open();
    let keys: Vec<_> = (0..6_000).map(|i| format!("key {i}")).collect();
    keys.iter().for_each(|key| assert!(insert(&engine, key, key.as_bytes(), NEVER)));
    seal(&engine);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for key in keys.iter().cycle() {
                    let found = engine.check_and_set(key.as_bytes(), b"", 1, &mut Own).unwrap();
                    assert_eq!(found.unwrap().outcome(), key.as_bytes());
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for _ in 0..20 {
            compact(&engine, |_| true);
            engine.log.end_copies();
            seal(&engine);
            while engine.sweep_step().unwrap().1 {}
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(engine.stats().segments_compacted >= 20);
}

/// Segments for copies take several syncs, which whoever wants a key of the stripe would wait for.
#[test]
fn compaction_holds_no_stripe_while_the_disk_is_at_work() {
    let bench = Bench::with(|config| config.lanes = 1);
    let engine = Arc::new(bench.open());
    let keys: Vec<_> = (0..9_000).map(|i| format!("key {i}")).collect();
    keys.iter().for_each(|key| assert!(insert(&engine, key, &[7; 200], NEVER)));
    keys.iter().step_by(2).for_each(|key| assert!(remove(&engine, key)));
    insert(&engine, "short", b"", 400 * MINUTE);
    seal(&engine);
    let (calls, own) = (Arc::new(std::sync::atomic::AtomicU64::new(0)), engine.clone());
    let counted = calls.clone();
    *bench.disk.watch.lock() = Some(Box::new(move |_| {
        let ((say, said), engine) = (std::sync::mpsc::channel(), own.clone());
        let lock_all = move || {
            (0..engine.index.stripe_count()).for_each(|one| drop(engine.index.lock_stripe(one)));
            say.send(())
        };
        let locks = std::thread::spawn(lock_all);
        assert!(said.recv_timeout(Duration::from_secs(60)).is_ok(), "a stripe is locked");
        locks.join().unwrap().unwrap();
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    compact(&engine, |_| true);
    *bench.disk.watch.lock() = None;
    let (calls, stats) = (calls.load(Ordering::SeqCst), engine.stats());
    assert!(calls > 10 && stats.segments_compacted > 1, "{calls} calls, {stats:?}");
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(picture(&engine, key).is_some(), number % 2 == 1);
    }
}

#[test]
fn tombstones_of_keys_that_are_known_again_are_not_looked_for_in_any_list() {
    let bench = Bench::with(|config| config.lanes = 1);
    let engine = bench.open();
    let keys: Vec<_> = (0..100).map(|i| format!("key {i}")).collect();
    keys.iter().for_each(|key| assert!(insert(&engine, key, b"first", NEVER)));
    seal(&engine);
    keys.iter().for_each(|key| assert!(remove(&engine, key)));
    keys[..60].iter().for_each(|key| assert!(insert(&engine, key, b"second", NEVER)));
    // These end sooner than what was removed.
    keys[60..75].iter().for_each(|key| assert!(insert(&engine, key, b"second", MINUTE)));
    seal(&engine);
    let before = pictures(&engine, &keys);
    engine.compactor.lock().chosen = vec![engine.log.sealed().remove(1)];
    let mut most = 0;
    while engine.stats().segments_compacted == 0 {
        engine.compact_step().unwrap();
        most = most.max(engine.compactor.lock().removals().unwrap_or(0));
    }
    assert_eq!((most, pictures(&engine, &keys)), (40, before.clone()));
    drop(engine);
    assert_eq!(pictures(&bench.open(), &keys), before);
}
