//! Who waits for a key's lease to end.
//!
//! Whoever waits registers first and looks at the key afterwards, under the lock of its stripe.
//! Whoever ends a lease changes the key first, under the same lock, and wakes afterwards. So either
//! the waiting side sees the change, or the ending side sees the registration: no wake-up is lost.
//! A wake-up says nothing but "look again".

use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

use crate::key::KeyHash;
use crate::sys::sync::atomic::{AtomicUsize, Ordering};
use crate::sys::sync::{Condvar, Mutex};
use crate::time::Timestamp;

/// Lists of waiters, chosen by hash. A power of two.
const LISTS: usize = 64;

/// All who wait in one store.
#[derive(Debug)]
pub(crate) struct Waiters {
    /// Looked at by everybody who ends a lease, so that nobody waiting costs one load.
    waiting: AtomicUsize,
    lists: Box<[Mutex<Vec<Arc<Waiter>>>]>,
}

/// One who waits.
#[derive(Debug)]
struct Waiter {
    hash: KeyHash,
    signal: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug)]
struct Signal {
    woken: bool,
    /// When the lease ends by itself; in the past while that is not known.
    deadline: Timestamp,
    #[cfg(feature = "async")]
    waker: Option<Waker>,
}

impl Waiter {
    fn wake(&self) {
        let mut signal = self.signal.lock();
        signal.woken = true;
        #[cfg(feature = "async")]
        let waker = signal.waker.take();
        drop(signal);
        self.changed.notify_all();
        // Code of the caller's runtime: under no lock.
        #[cfg(feature = "async")]
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Default for Waiters {
    fn default() -> Self {
        let lists = (0..LISTS).map(|_| Mutex::default()).collect();
        Self { waiting: AtomicUsize::new(0), lists }
    }
}

impl Waiters {
    fn list(&self, hash: KeyHash) -> Option<&Mutex<Vec<Arc<Waiter>>>> {
        let number = usize::try_from(hash.as_u64() >> 20).unwrap_or(0) & (LISTS - 1);
        self.lists.get(number)
    }

    /// From now on whoever changes the key wakes the holder of the result.
    pub(crate) fn register(self: &Arc<Self>, hash: KeyHash) -> Registration {
        let signal = Signal {
            woken: false,
            deadline: Timestamp::default(),
            #[cfg(feature = "async")]
            waker: None,
        };
        let waiter = Arc::new(Waiter { hash, signal: Mutex::new(signal), changed: Condvar::new() });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if let Some(list) = self.list(hash) {
            list.lock().push(waiter.clone());
        }
        Registration { waiters: self.clone(), waiter }
    }

    /// Wakes everybody who waits for the key. Called after its change, under no lock.
    #[inline]
    pub(crate) fn wake(&self, hash: KeyHash) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake_some(self.list(hash), |waiter| waiter.hash == hash);
        }
    }

    /// Wakes everybody whose lease has ended by itself.
    pub(crate) fn wake_due(&self, now: Timestamp) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake_some(self.lists.iter(), |waiter| waiter.signal.lock().deadline <= now);
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.wake_some(self.lists.iter(), |_| true);
    }

    #[cold]
    fn wake_some<'a>(
        &self,
        lists: impl IntoIterator<Item = &'a Mutex<Vec<Arc<Waiter>>>>,
        wanted: impl Fn(&Waiter) -> bool,
    ) {
        for list in lists {
            let waiters: Vec<_> =
                list.lock().iter().filter(|waiter| wanted(waiter)).cloned().collect();
            waiters.iter().for_each(|waiter| waiter.wake());
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// A place among the waiters; given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    waiter: Arc<Waiter>,
}

impl Registration {
    /// Before looking at the key: every wake-up from now on counts.
    pub(crate) fn arm(&self) {
        let mut signal = self.waiter.signal.lock();
        signal.woken = false;
        signal.deadline = Timestamp::default();
    }

    /// After looking at the key: its lease ends by itself at `deadline`.
    pub(crate) fn expect(&self, deadline: Timestamp) {
        self.waiter.signal.lock().deadline = deadline;
    }

    /// Returns when woken since it was armed, and after `pause` at the latest.
    pub(crate) fn wait(&self, pause: Duration) {
        let mut signal = self.waiter.signal.lock();
        if !signal.woken {
            self.waiter.changed.wait_for(&mut signal, pause);
        }
    }

    /// As [`Registration::arm`]; wake-ups go to `waker` too.
    #[cfg(feature = "async")]
    pub(crate) fn arm_with(&self, waker: &Waker) {
        let mut signal = self.waiter.signal.lock();
        signal.woken = false;
        signal.deadline = Timestamp::default();
        let before = signal.waker.replace(waker.clone());
        drop(signal);
        // Dropping a waker runs code of the caller's runtime: under no lock.
        drop(before);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(list) = self.waiters.list(self.waiter.hash) {
            list.lock().retain(|other| !Arc::ptr_eq(other, &self.waiter));
        }
        self.waiters.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
