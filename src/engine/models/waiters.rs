//! The lists of waiters alone, beside a key that is one cell under a lock.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::waiters::Waiters;
use crate::key::KeyHash;
use crate::sys::sync_model::{self, Mutex};
use crate::time::Timestamp;

const HASH: KeyHash = KeyHash::from_u64(7 << 20);
fn check(model: fn()) {
    sync_model::check(4_000, model);
}

/// Waits as `InProgress::wait` does: `true` in the cell stands for a key in progress.
fn wait(waiters: &Arc<Waiters>, key: &Mutex<bool>) {
    let registration = waiters.register(HASH);
    loop {
        registration.arm();
        if !*key.lock() {
            return;
        }
        registration.expect(Timestamp::from_millis(50));
        registration.wait(Duration::from_secs(1));
    }
}

#[test]
fn whoever_waits_is_woken_by_the_end_of_the_lease_in_every_order_of_steps() {
    check(|| {
        let (waiters, key) = (Arc::new(Waiters::default()), Arc::new(Mutex::new(true)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (waiters, key) = (waiters.clone(), key.clone());
                shuttle::thread::spawn(move || wait(&waiters, &key))
            })
            .collect();
        *key.lock() = false;
        waiters.wake(HASH);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(waiters.count(), 0);
    });
}

#[test]
fn whoever_waits_is_woken_by_the_deadline_in_every_order_of_steps() {
    check(|| {
        let (waiters, key) = (Arc::new(Waiters::default()), Arc::new(Mutex::new(true)));
        let thread = {
            let (waiters, key) = (waiters.clone(), key.clone());
            shuttle::thread::spawn(move || wait(&waiters, &key))
        };
        // The clock passes the deadline, and maintenance comes once after that.
        *key.lock() = false;
        waiters.wake_due(Timestamp::from_millis(50));
        thread.join().unwrap();
    });
}

#[test]
fn of_those_who_wait_for_a_released_key_each_gets_its_turn_in_every_order_of_steps() {
    check(|| {
        let (waiters, key) = (Arc::new(Waiters::default()), Arc::new(Mutex::new(true)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (waiters, key) = (waiters.clone(), key.clone());
                shuttle::thread::spawn(move || {
                    let registration = waiters.register(HASH);
                    loop {
                        registration.arm();
                        let mut held = key.lock();
                        if !*held {
                            *held = true;
                            break;
                        }
                        drop(held);
                        registration.expect(Timestamp::from_millis(50));
                        registration.wait(Duration::from_secs(1));
                    }
                    drop(registration);
                    *key.lock() = false;
                    waiters.wake(HASH);
                })
            })
            .collect();
        *key.lock() = false;
        waiters.wake(HASH);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
