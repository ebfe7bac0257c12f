//! Two threads in any two public calls at once come to their ends; so does a waker that calls back.
//!
//! A call that waits for another one that waits for it would hang here: a watchdog ends the test
//! with the names of the two.

use std::sync::mpsc;
use std::time::Duration;

use oncelog::{Answers, BeginOptions, Error, Lookups, Policy, Scan, Store};

use crate::setup::{fast_directory, small};

/// How often each thread makes its call.
const ROUNDS: usize = 8;
/// A call takes microseconds; this is for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

type Call = (&'static str, fn(&Store, usize));

/// Few keys, so that the calls meet.
fn key(round: usize) -> String {
    format!("key {}", round % 3)
}

/// Every public call that takes a lock, on the store or in a namespace.
const CALLS: &[Call] = &[
    ("check_and_set", |store, round| drop(store.check_and_set(key(round), "x"))),
    ("check_and_set_many", |store, round| {
        let _ = store
            .check_and_set_many(&[(key(round), "x"), (key(round + 1), "y")], &mut Answers::new());
    }),
    ("get", |store, round| drop(store.get(key(round)))),
    ("get_many", |store, round| drop(store.get_many(&[key(round), key(1)], &mut Lookups::new()))),
    ("remove", |store, round| drop(store.remove(key(round)))),
    ("begin, complete", |store, round| {
        if let Some(mut lease) = store.begin(key(round)).ok().and_then(|begin| begin.started()) {
            let _ = lease.complete("x");
        }
    }),
    ("begin, renew, release", |store, round| {
        if let Some(mut lease) = store.begin(key(round)).ok().and_then(|begin| begin.started()) {
            let _ = lease.renew(Duration::from_secs(1));
            let _ = lease.release(None);
        }
    }),
    ("begin_many, complete_many", |store, round| {
        let mut answers = Vec::new();
        let keys = [key(round), key(round + 1)];
        let _ = store.begin_many(&keys, BeginOptions::new(), &mut answers);
        let leases = answers.into_iter().filter_map(oncelog::Begin::started);
        let _ = store.complete_many(&mut leases.map(|lease| (lease, "x")).collect::<Vec<_>>());
    }),
    ("wait", |store, round| {
        if let Ok(oncelog::Begin::InProgress(other)) = store.begin(key(round)) {
            let _ = other.wait(Duration::from_millis(1));
        }
    }),
    ("run", |store, round| {
        let work = |_: &mut oncelog::Lease| Ok::<_, std::convert::Infallible>("x");
        let _ = store.run(key(round), BeginOptions::new(), work);
    }),
    ("resolve", |store, round| drop(store.resolve(key(round), "x"))),
    ("peek", |store, round| drop(store.peek(key(round)))),
    ("scan", |store, _| assert!(store.scan(Scan::new()).count() < 100)),
    ("namespace", |store, round| {
        let space = store.namespace(&format!("space {}", round % 4), Policy::default());
        let _ = space.and_then(|space| space.check_and_set(key(round), "x"));
    }),
    ("stats", |store, _| assert!(store.stats().keys < 1_000)),
    ("sync", |store, _| drop(store.sync())),
    ("maintain", |store, _| drop(store.maintain(Duration::ZERO))),
];

/// Both calls at once, in threads of their own.
fn meet(store: &Store, one: &Call, two: &Call) {
    std::thread::scope(|scope| {
        for (_, call) in [one, two] {
            let store = store.clone();
            scope.spawn(move || (0..ROUNDS).for_each(|round| call(&store, round)));
        }
    });
}

/// Does the work, which tells what it begins; fails when it is long at one thing.
fn watched(work: impl FnOnce(mpsc::Sender<String>) + Send + 'static) {
    let (told, tells) = mpsc::channel();
    let work = std::thread::spawn(move || work(told));
    let mut begun = String::new();
    loop {
        match tells.recv_timeout(PATIENCE) {
            Ok(next) => begun = next,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {begun}"),
        }
    }
    work.join().unwrap();
}

#[test]
fn any_two_calls_at_once_return() {
    watched(|told| {
        let directory = fast_directory();
        let store = small().ttl(Duration::from_millis(500)).open(directory.path()).unwrap();
        for (place, one) in CALLS.iter().enumerate() {
            for two in &CALLS[place..] {
                told.send(format!("{} beside {}", one.0, two.0)).unwrap();
                meet(&store, one, two);
            }
        }
    });
}

#[test]
fn any_call_returns_while_the_store_is_closed() {
    watched(|told| {
        for call in CALLS {
            told.send(format!("{} beside close", call.0)).unwrap();
            let directory = fast_directory();
            let store = small().open(directory.path()).unwrap();
            store.insert(key(0)).unwrap();
            let close = |store: &Store, round| {
                if round == ROUNDS / 2 {
                    store.clone().close().unwrap();
                }
            };
            meet(&store, call, &("close", close));
            assert!(matches!(store.insert("late"), Err(Error::Closed)));
        }
    });
}

/// A runtime may run a task, and so any call, in the very call of its waker.
#[cfg(feature = "async")]
#[test]
fn a_waker_may_make_any_call_of_the_store() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};

    struct CallsBack(Mutex<Option<Store>>, AtomicUsize);

    impl Wake for CallsBack {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::SeqCst);
            // Taken out, as the calls wake others who wait.
            let store = self.0.lock().unwrap().take();
            if let Some(store) = store {
                CALLS.iter().for_each(|(_, call)| call(&store, 1));
                *self.0.lock().unwrap() = Some(store);
            }
        }
    }

    let directory = fast_directory();
    let store = small().open(directory.path()).unwrap();
    let waker = Arc::new(CallsBack(Mutex::new(Some(store.clone())), AtomicUsize::new(0)));
    for end in 0..4_usize {
        let mut lease = store.begin(format!("waited for {end}")).unwrap().started().unwrap();
        let begun = store.begin(format!("waited for {end}")).unwrap();
        let oncelog::Begin::InProgress(other) = begun else { panic!("{begun:?}") };
        let mut wait = pin!(other.wait_async());
        let handle = Waker::from(waker.clone());
        let mut context = Context::from_waker(&handle);
        assert!(wait.as_mut().poll(&mut context).is_pending());
        match end {
            0 => drop(lease.complete("x").unwrap()),
            1 => drop(lease.fail("x").unwrap()),
            2 => lease.release(None).unwrap(),
            _ => assert!(store.remove("waited for 3").unwrap()),
        }
        assert_eq!(waker.1.load(Ordering::SeqCst), end + 1);
        assert!(matches!(wait.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
    *waker.0.lock().unwrap() = None;
}
