//! Work that is run once over any backend, and the handle of its lease.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncelog::backend::{AnyBackend, Backend, Begin, Lease, run};
use oncelog::{BeginOptions, Error, Fingerprint, Policy, RunError, Status};

use crate::embedded::Embedded;
use crate::threads::{block_on, sleep};

fn backend() -> (Embedded, AnyBackend) {
    let embedded = Embedded::running();
    let namespace = embedded.store().namespace("run", Policy::default()).unwrap();
    (embedded, AnyBackend::new(namespace))
}

#[test]
fn of_many_who_run_one_works_and_all_have_its_outcome() {
    let (_embedded, backend) = backend();
    let worked = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let call = || {
            let run = block_on(run(&backend, "key", BeginOptions::new(), async |lease| {
                worked.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(50)).await;
                Ok::<_, Error>(format!("attempt {}", lease.attempt()))
            }));
            run.unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
        let runs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(runs.iter().all(|run| run.outcome() == b"attempt 1"));
        assert_eq!(runs.iter().filter(|run| run.worked()).count(), 1);
        assert!(runs.iter().all(|run| run.replayed().is_some() != run.worked()));
        let recorded = block_on(backend.get(b"key")).unwrap().unwrap();
        assert!(runs.iter().all(|run| run.version() == recorded.version()));
    });
    assert_eq!(worked.load(Ordering::SeqCst), 1);
}

#[test]
fn work_that_fails_gives_the_key_back_and_the_next_one_works() {
    let (_embedded, backend) = backend();
    let attempt = |fails: bool| {
        block_on(run(&backend, "key", BeginOptions::new(), async |lease| {
            if fails { Err("no") } else { Ok(lease.attempt().to_string()) }
        }))
    };
    assert!(matches!(attempt(true), Err(RunError::Work("no"))));
    let run = attempt(false).unwrap();
    assert_eq!((run.outcome(), run.worked()), (&b"2"[..], true));
    assert!(!attempt(true).unwrap().worked());
}

#[test]
fn what_leaves_nothing_to_do_is_said() {
    let (_embedded, backend) = backend();
    let call = |key: &str, options: BeginOptions| {
        block_on(run(&backend, key, options, async |_| Ok::<_, Error>("x")))
    };
    let asks = |payload: &[u8]| BeginOptions::new().fingerprint(Fingerprint::of(payload));
    assert!(call("done", asks(b"a")).unwrap().worked());
    assert!(matches!(call("done", asks(b"b")), Err(RunError::Mismatch(_))));
    let Begin::Started(grant) = block_on(backend.begin(b"later", BeginOptions::new())).unwrap()
    else {
        panic!()
    };
    let lease = Lease::new(&backend, b"later", grant);
    block_on(lease.release(Some(Duration::from_secs(3600)))).unwrap();
    // Nobody works on it, so waiting would be turning in circles.
    let Err(RunError::Later(meta)) = call("later", BeginOptions::new()) else { panic!() };
    assert_eq!(meta.status, Status::Released);
    let one = BeginOptions::new().attempts_max(1);
    assert!(matches!(call("later", one), Err(RunError::Exhausted(_))));
    assert!(matches!(call("", one), Err(RunError::Store(Error::EmptyKey))));
}

#[test]
fn a_lease_is_renewed_completed_once_and_dropped_without_a_trace() {
    let (_embedded, backend) = backend();
    let begin = || match block_on(backend.begin(b"key", BeginOptions::new())).unwrap() {
        Begin::Started(grant) => Lease::new(&backend, b"key", grant),
        other => panic!("{other:?}"),
    };
    let mut lease = begin();
    let before = lease.deadline();
    block_on(lease.renew(Duration::from_secs(3600))).unwrap();
    assert!(lease.deadline() > before);
    let (version, key) = (lease.version(), lease.key().to_vec());
    drop(lease);
    let meta = block_on(backend.peek(&key)).unwrap().unwrap();
    assert_eq!((meta.status, meta.version), (Status::InProgress, version));
    block_on(backend.release(&key, version, None)).unwrap();
    let lease = begin();
    assert_eq!(lease.attempt(), 2);
    block_on(lease.fail("for good")).unwrap();
    assert!(matches!(block_on(lease.complete("x")), Err(Error::LeaseLost)));
    assert!(block_on(backend.get(b"key")).unwrap().unwrap().is_failure());
    assert!(!format!("{lease:?}").contains("key:"));
}

#[test]
fn work_past_its_lease_says_that_another_decides() {
    let (_embedded, backend) = backend();
    let options = BeginOptions::new().lease(Duration::from_millis(1));
    let result = block_on(run(&backend, "key", options, async |lease| {
        let deadline = lease.deadline();
        while backend.now().await? < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(backend.begin(b"key", BeginOptions::new()).await?, Begin::Started(_)));
        Ok::<_, Error>("late")
    }));
    assert!(matches!(result, Err(RunError::Store(Error::LeaseLost))));
}
