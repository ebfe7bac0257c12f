//! Many threads on one store: one winner a key, right answers throughout, a clean end.
//!
//! Threads start together and work on the same keys; what each was answered is compared after.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oncelog::{Answer, Answers, Check, Error, Store, Ttl};

use crate::setup::{Random, clock, directory, maintain, small};

const THREADS: u64 = 8;
const KEYS: usize = 2_000;

/// Runs `work` on all threads at once, each with its number.
fn together(work: impl Fn(u64) + Sync) {
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, barrier) = (&work, &barrier);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

/// The keys in an order of the thread's own.
fn order(thread: u64) -> Vec<usize> {
    let mut random = Random::new(thread);
    let mut order: Vec<usize> = (0..KEYS).collect();
    for last in (1..KEYS).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

#[test]
fn of_eight_threads_exactly_one_is_told_that_a_key_is_new() {
    let directory = directory();
    let store = Store::open(directory.path()).unwrap();
    let winners: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let seen: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    together(|thread| {
        for key in order(thread) {
            let answer = store.check_and_set(format!("key {key}"), (thread + 1).to_string());
            match answer.unwrap() {
                Check::New => _ = winners[key].fetch_add(1_000 + thread + 1, Ordering::SeqCst),
                Check::Duplicate(record) => {
                    let winner = String::from_utf8(record.outcome().to_vec()).unwrap();
                    let winner: u64 = winner.parse().unwrap();
                    let before = seen[key].swap(winner, Ordering::SeqCst);
                    assert!(before == 0 || before == winner);
                }
            }
        }
    });
    for (key, winner) in winners.iter().enumerate() {
        let winner = winner.load(Ordering::SeqCst);
        assert!((1_001..=1_000 + THREADS).contains(&winner), "key {key}: {winner}");
        assert_eq!(seen[key].load(Ordering::SeqCst), winner - 1_000);
    }
    let stats = store.stats();
    assert_eq!((stats.keys, stats.checks_new), (KEYS as u64, KEYS as u64));
}

#[test]
fn batches_of_many_threads_agree_on_one_winner_a_key() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let winners: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    together(|thread| {
        let mut answers = Answers::new();
        for part in order(thread).chunks(37 + thread as usize) {
            let items: Vec<(String, String)> =
                part.iter().map(|key| (format!("key {key}"), format!("of {key}"))).collect();
            store.check_and_set_many(&items, &mut answers).unwrap();
            for (key, answer) in part.iter().zip(answers.iter()) {
                match answer {
                    Answer::New => _ = winners[*key].fetch_add(1, Ordering::SeqCst),
                    Answer::Duplicate(record) => {
                        assert_eq!(record.outcome(), format!("of {key}").as_bytes());
                    }
                }
            }
        }
    });
    assert!(winners.iter().all(|winner| winner.load(Ordering::SeqCst) == 1));
}

#[test]
fn insertions_and_removals_of_one_key_alternate() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    together(|thread| {
        for _ in 0..500 {
            if thread % 2 == 0 {
                inserted.fetch_add(u64::from(store.insert("a").unwrap()), Ordering::SeqCst);
            } else {
                removed.fetch_add(u64::from(store.remove("a").unwrap()), Ordering::SeqCst);
            }
        }
    });
    let held = u64::from(store.contains("a").unwrap());
    assert_eq!(inserted.into_inner(), removed.into_inner() + held);
}

#[test]
fn readers_get_right_answers_while_segments_are_sealed_expire_and_come_anew() {
    let (directory, clock) = (directory(), clock());
    let ttl = Duration::from_secs(60);
    let store = small().clock(clock.clone()).ttl(ttl).open(directory.path()).unwrap();
    let done = AtomicBool::new(false);
    assert!(store.check_and_set_for("for ever", "x", Ttl::Never).unwrap().is_new());
    let filler = |key: u64| vec![key.to_le_bytes()[0]; 600 + (key % 300) as usize];
    std::thread::scope(|scope| {
        for reader in 0..4_u64 {
            let (store, done, filler) = (&store, &done, &filler);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                while !done.load(Ordering::SeqCst) {
                    let key = random.below(4_000);
                    if let Some(record) = store.get(format!("key {key}")).unwrap() {
                        assert_eq!(record.outcome(), filler(key));
                    }
                    assert!(store.contains("for ever").unwrap());
                }
            });
        }
        for round in 0..20_000_u64 {
            let key = round % 4_000;
            let _ = store.check_and_set(format!("key {key}"), filler(key)).unwrap();
            if round % 500 == 0 {
                clock.advance(Duration::from_secs(4));
                maintain(&store);
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(store.stats().segments_expired > 3, "{:?}", store.stats());
}

#[test]
fn closing_under_load_loses_nothing_that_was_acknowledged() {
    for round in 0..5_u64 {
        let directory = directory();
        let store = small().open(directory.path()).unwrap();
        let acknowledged: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
        together(|thread| {
            if thread == 0 {
                let enough = || acknowledged[1].load(Ordering::SeqCst) > 200 * (round + 1);
                while !enough() {
                    std::thread::yield_now();
                }
                store.clone().close().unwrap();
                return;
            }
            for number in 0_u64.. {
                match store.check_and_set(format!("{thread} {number}"), "x") {
                    Ok(check) => assert!(check.is_new()),
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
                acknowledged[thread as usize].store(number + 1, Ordering::SeqCst);
            }
        });
        drop(store);
        let store = small().open(directory.path()).unwrap();
        assert!(store.recovery().after_close);
        let mut total = 0;
        for (thread, count) in acknowledged.iter().enumerate().skip(1) {
            let count = count.load(Ordering::SeqCst);
            total += count;
            assert!((0..count).all(|n| store.contains(format!("{thread} {n}")).unwrap()));
        }
        assert_eq!(store.stats().keys, total);
    }
}

#[test]
fn acknowledged_keys_are_found_while_their_stripe_grows_under_the_readers() {
    const ALL: u64 = 60_000;
    let directory = directory();
    // One stripe, so that every insertion and every growth step meets every lookup.
    let store = small().stripes(1).open(directory.path()).unwrap();
    let acknowledged = AtomicU64::new(0);
    let (key, outcome) = (|i: u64| format!("key {i}"), |i: u64| format!("outcome {i}"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..ALL {
                assert!(store.check_and_set(key(i), outcome(i)).unwrap().is_new());
                acknowledged.store(i + 1, Ordering::Release);
            }
        });
        for reader in 0..3 {
            let (store, acknowledged) = (&store, &acknowledged);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                loop {
                    let known = acknowledged.load(Ordering::Acquire);
                    if known == ALL {
                        return;
                    }
                    if known > 0 {
                        let i = random.below(known);
                        let record = store.get(key(i)).unwrap();
                        let record = record.unwrap_or_else(|| panic!("key {i} was not found"));
                        assert_eq!(record.outcome(), outcome(i).as_bytes());
                    }
                    assert!(!store.contains(format!("absent {known}")).unwrap());
                }
            });
        }
    });
}

#[test]
fn two_threads_that_insert_the_same_keys_into_one_stripe_never_both_succeed() {
    const ALL: u64 = 60_000;
    let directory = directory();
    let store = small().stripes(1).open(directory.path()).unwrap();
    let new = AtomicU64::new(0);
    let (turn, done) = (Barrier::new(2), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for i in 0..ALL {
                    if i % 1024 == 0 {
                        turn.wait();
                    }
                    let answer = store.check_and_set(i.to_le_bytes(), "").unwrap();
                    new.fetch_add(u64::from(answer.is_new()), Ordering::Relaxed);
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!((new.into_inner(), done.into_inner()), (ALL, 2));
    assert_eq!(store.stats().keys, ALL);
}
