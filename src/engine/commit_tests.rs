//! Stable storage and its failures: who waits for what, and what everybody is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, get};
use crate::engine::commit::Commit;
use crate::error::{Error, Result};
use crate::record::Ignore;
use crate::sys::memory_disk::{Call, Fault};
use crate::sys::sync::{Condvar, Mutex};
use crate::time::Timestamp;

fn record(engine: &Engine, key: &str) -> Result<bool> {
    let known =
        engine.check_and_set(key.as_bytes(), key.as_bytes(), engine.lifetime(), &mut Ignore)?;
    Ok(!known)
}

/// As a call at `Synced`.
fn record_synced(engine: &Engine, key: &str) -> Result<bool> {
    let new = record(engine, key);
    engine.settled(Durability::Synced, engine.hasher().hash(key.as_bytes()), new)
}

fn syncs(bench: &Bench) -> usize {
    bench.disk.calls.lock().iter().filter(|call| **call == Call::Sync).count()
}

/// A gate that a sync waits at, until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Waits at the gate, and says so.
    fn pass(&self) {
        let mut state = self.state.lock();
        state.0 = true;
        self.changed.notify_all();
        while !state.1 {
            self.changed.wait(&mut state);
        }
    }

    fn wait_for_somebody(&self) {
        let mut state = self.state.lock();
        while !state.0 {
            self.changed.wait(&mut state);
        }
    }

    fn open(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn one_round_serves_every_ticket_taken_before_it_and_none_taken_after() {
    let commit = Commit::default();
    let tickets = [commit.ticket(), commit.ticket(), commit.ticket()];
    let rounds = AtomicU64::new(0);
    let run = || {
        rounds.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    for ticket in tickets {
        commit.wait(ticket, run).unwrap();
    }
    assert_eq!(rounds.load(Ordering::SeqCst), 1);
    let later = commit.ticket();
    assert!(commit.settled(later).is_none());
    commit.wait(later, run).unwrap();
    assert_eq!(rounds.load(Ordering::SeqCst), 2);
}

#[test]
fn while_a_round_runs_the_next_group_forms_and_shares_one_round() {
    let (commit, gate) = (Commit::default(), Gate::default());
    let (rounds, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let first = commit.ticket();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let held = || {
                gate.pass();
                Ok(())
            };
            commit.wait(first, held).unwrap();
        });
        gate.wait_for_somebody();
        for _ in 0..8 {
            scope.spawn(|| {
                let ticket = commit.ticket();
                taken.fetch_add(1, Ordering::SeqCst);
                let run = || {
                    rounds.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                };
                commit.wait(ticket, run).unwrap();
            });
        }
        while taken.load(Ordering::SeqCst) < 8 {
            std::thread::yield_now();
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 0);
        gate.open();
    });
    assert_eq!(rounds.load(Ordering::SeqCst), 1);
}

#[test]
fn all_eight_waiters_of_a_group_whose_sync_fails_are_told_that_it_is_indeterminate() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(record_synced(&engine, "durable").unwrap());
    bench.disk.sync_fails.store(true, Ordering::SeqCst);
    for i in 0..8 {
        assert!(record(&engine, &format!("key {i}")).unwrap());
    }
    let tickets: Vec<u64> = (0..8).map(|_| engine.commit.ticket()).collect();
    let before = syncs(&bench);
    std::thread::scope(|scope| {
        let wait = |ticket: u64| engine.await_ticket(ticket);
        let waiters: Vec<_> =
            tickets.iter().map(|ticket| scope.spawn(move || wait(*ticket))).collect();
        for waiter in waiters {
            let told = waiter.join().unwrap();
            assert!(matches!(&told, Err(Error::Indeterminate { .. })), "{told:?}");
            assert!(told.unwrap_err().to_string().contains("indeterminate"));
        }
    });
    // Nothing is tried again, also once the disk would say that all is well.
    bench.disk.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(engine.await_ticket(tickets[0]), Err(Error::Indeterminate { .. })));
    assert!(matches!(engine.settle_all(), Err(Error::Indeterminate { .. })));
    assert!(matches!(engine.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(record(&engine, "late"), Err(Error::Poisoned { .. })));
    assert_eq!(syncs(&bench), before + 1);
    // What is durable is answered as ever; what is not, is not answered at `Synced`.
    let hash = |key: &str| engine.hasher().hash(key.as_bytes());
    assert!(engine.settled(Durability::Synced, hash("durable"), Ok(())).is_ok());
    assert!(engine.settled(Durability::Synced, hash("key 0"), Ok(())).is_err());
    assert_eq!(get(&engine, "durable"), Some(b"durable".to_vec()));
    drop(engine);
    let engine = bench.open();
    assert_eq!(get(&engine, "durable"), Some(b"durable".to_vec()));
    assert!(record_synced(&engine, "after").unwrap());
}

#[test]
fn a_duplicate_of_anothers_unsynced_record_waits_for_it_and_later_ones_do_not() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(record(&engine, "key").unwrap());
    let before = syncs(&bench);
    assert!(!record(&engine, "key").unwrap());
    assert_eq!(syncs(&bench), before, "a duplicate at Process costs no sync");
    assert!(!record_synced(&engine, "key").unwrap());
    assert_eq!(syncs(&bench), before + 1);
    let cut = bench.disk.after_power_cut(|| false);
    assert!(get(&bench.open_on(Arc::new(cut)), "key").is_some(), "it was answered as known");
    assert!(!record_synced(&engine, "key").unwrap());
    assert_eq!(syncs(&bench), before + 1, "a durable record costs no sync");
}

#[test]
fn what_a_process_left_unsynced_is_durable_before_the_next_one_answers_from_it() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(record(&engine, "key").unwrap());
    drop(engine);
    let engine = bench.open();
    let before = syncs(&bench);
    assert!(!record_synced(&engine, "key").unwrap());
    assert_eq!(syncs(&bench), before, "opening has synced it");
    drop(engine);
    let cut = bench.disk.after_power_cut(|| false);
    assert!(get(&bench.open_on(Arc::new(cut)), "key").is_some());
}

#[test]
fn an_interval_is_kept_by_maintenance_and_an_idle_store_is_not_synced() {
    let mut bench = Bench::new();
    bench.config.durability = Durability::Interval(Duration::from_millis(50));
    let engine = bench.open();
    engine.maintain(Duration::ZERO).unwrap();
    assert!(record(&engine, "key").unwrap());
    // It prepares room ahead, with the syncs that takes, and none is due for the record yet.
    engine.maintain(Duration::ZERO).unwrap();
    let maintained = |millis| {
        let before = syncs(&bench);
        bench.advance(millis);
        engine.maintain(Duration::ZERO).unwrap();
        syncs(&bench) - before
    };
    assert!(engine.stats().unsynced_bytes > 0);
    assert_eq!(maintained(49), 0, "not due yet");
    assert_eq!(maintained(1), 1);
    assert_eq!(engine.stats().unsynced_bytes, 0);
    assert_eq!(maintained(500), 0, "nothing to sync");
    let cut = bench.disk.after_power_cut(|| false);
    assert!(get(&bench.open_on(Arc::new(cut)), "key").is_some());
}

#[test]
fn damage_below_a_watermark_is_loud_and_above_it_a_torn_tail() {
    let bench = Bench::new();
    let engine = bench.open();
    for key in ["first", "second"] {
        assert!(record_synced(&engine, key).unwrap());
    }
    // The watermark of the second reaches the disk with the third.
    assert!(record_synced(&engine, "third").unwrap());
    drop(engine);
    let damage = |key: &str| {
        let disk = bench.disk.after_power_cut(|| false);
        disk.damage(".seg", key.as_bytes());
        Engine::open(Arc::new(disk), bench.config.clone())
    };
    for key in ["first", "second"] {
        let refused = damage(key).map(|_| ()).unwrap_err();
        assert!(matches!(refused, Error::Corrupt { segment: Some(_), .. }), "{refused}");
    }
    let engine = damage("third").unwrap();
    assert_eq!(engine.recovery.torn_tails, 1);
    assert!(get(&engine, "second").is_some() && get(&engine, "third").is_none());
}

#[test]
fn a_store_closed_under_a_ticket_has_settled_it() {
    let bench = Bench::new();
    let engine = bench.open();
    assert!(record(&engine, "key").unwrap());
    let ticket = engine.commit.ticket();
    engine.close().unwrap();
    assert!(matches!(engine.commit.settled(ticket), Some(Ok(()))));
    assert!(engine.await_ticket(ticket).is_ok());
}

/// What a workload under faults came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Keys whose calls at `Synced` were answered.
    kept: Vec<String>,
    errors: Vec<Error>,
}

/// Writes through many segments, compacts, seals and closes, and goes on whatever happens.
fn workload(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    let engine = match Engine::open(bench.disk.clone(), bench.config.clone()) {
        Ok(engine) => engine,
        Err(error) => return Outcome { errors: vec![error], ..outcome },
    };
    for i in 0..24_u32 {
        let key = format!("key {i}");
        let value = vec![1; 100_000];
        let new = engine.check_and_set(key.as_bytes(), &value, engine.lifetime(), &mut Ignore);
        let hash = engine.hasher().hash(key.as_bytes());
        match engine.settled(Durability::Synced, hash, new) {
            Ok(_) => outcome.kept.push(key),
            Err(error) => outcome.errors.push(error),
        }
        if i % 6 == 5 {
            bench.advance(MINUTE / 60);
            outcome.errors.extend(engine.maintain(Duration::ZERO).err());
        }
    }
    outcome.errors.extend(engine.close().err());
    outcome
}

fn with_fault(fault: Fault) -> (Bench, Outcome) {
    let bench = Bench::new();
    drop(bench.open());
    bench.disk.calls.lock().clear();
    *bench.disk.fault.lock() = Some(fault);
    let outcome = workload(&bench);
    *bench.disk.fault.lock() = None;
    (bench, outcome)
}

#[test]
fn an_error_at_any_call_once_or_from_then_on_loses_nothing_answered_and_ends_writing() {
    let bench = Bench::new();
    drop(bench.open());
    bench.disk.calls.lock().clear();
    assert!(workload(&bench).errors.is_empty());
    let calls = bench.disk.calls.lock().clone();
    assert!(calls.len() > 50, "{}", calls.len());
    for (at, call) in (0..).zip(&calls) {
        for from_then_on in [false, true] {
            for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
                let (bench, outcome) = with_fault(Fault { at, from_then_on, kind });
                let name = format!("{kind} at call {at} ({call:?}), from then on: {from_then_on}");
                check_outcome(&bench, &outcome, *call, kind, &name);
            }
        }
    }
}

fn check_outcome(bench: &Bench, outcome: &Outcome, call: Call, kind: io::ErrorKind, name: &str) {
    let sync = matches!(call, Call::Sync | Call::SyncDirectory);
    let failed = outcome.errors.iter().position(|error| error.is_final() || is_end(error));
    if sync && failed.is_none() {
        // Of what a directory of debris or of runs is concerned with, nothing was promised.
        assert!(outcome.errors.is_empty(), "{name}: {:?}", outcome.errors);
    }
    if let Some(failed) = failed {
        let rest = outcome.errors.iter().skip(failed + 1);
        for later in rest {
            assert!(is_end(later), "{name}: {later} after {}", outcome.errors[failed]);
        }
    } else if kind == io::ErrorKind::StorageFull {
        let full = |error: &Error| matches!(error, Error::Full { .. });
        assert!(outcome.errors.iter().all(full), "{name}: {:?}", outcome.errors);
    }
    let disks = [bench.disk.clone(), Arc::new(bench.disk.after_power_cut(|| false))];
    for disk in disks {
        let engine = Engine::open(disk, bench.config.clone());
        let engine = engine.unwrap_or_else(|error| panic!("{name}: {error}"));
        for key in &outcome.kept {
            assert!(get(&engine, key).is_some(), "{name}: {key} is lost");
        }
    }
}

/// What is said once writing has ended.
fn is_end(error: &Error) -> bool {
    matches!(error, Error::Indeterminate { .. } | Error::Poisoned { .. })
}

#[test]
fn callers_at_synced_from_many_threads_share_rounds_and_lose_nothing() {
    let bench = Bench::new();
    let engine = bench.open();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                engine.maintain(Duration::ZERO).unwrap();
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let engine = &engine;
                scope.spawn(move || {
                    for i in 0..60 {
                        assert!(record_synced(engine, &format!("{thread}.{i}")).unwrap());
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    assert!(engine.commit.done() <= 240);
    let cut = bench.disk.after_power_cut(|| false);
    let engine = bench.open_on(Arc::new(cut));
    let known = |thread: u32| (0..60).all(|i| get(&engine, &format!("{thread}.{i}")).is_some());
    assert!((0..4).all(known));
    assert!(engine.clock.now() >= Timestamp::default());
}
