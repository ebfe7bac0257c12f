//! Checkpoints on a lease: who finds them, who can change them, and what they outlast.

use oncelog::{BeginOptions, Error, Status};

use crate::lease::{LEASE, SECOND, completed, open, started};
use crate::setup::{clock, directory, maintain};

#[test]
fn the_next_holder_finds_the_latest_point_after_a_crash_and_again_after_another() {
    let (directory, clock) = (directory(), clock());
    let options = BeginOptions::new().lease(LEASE);
    let mut points = vec![None];
    for attempt in 1..=4_u32 {
        let store = open(directory.path(), &clock);
        let mut lease = started(store.begin_with("job", options).unwrap());
        assert_eq!(lease.attempt(), attempt);
        assert_eq!(lease.point().map(<[u8]>::to_vec), *points.last().unwrap());
        // The third attempt crashes before it has recorded anything.
        if attempt != 3 {
            for step in 0..3 {
                let point = format!("attempt {attempt} step {step}").repeat(20 * step);
                lease.checkpoint(&point, LEASE).unwrap();
                points.push((!point.is_empty()).then(|| point.into_bytes()));
                assert_eq!(lease.point().map(<[u8]>::to_vec), *points.last().unwrap());
            }
        }
        assert_eq!(store.get("job").unwrap().map(|record| record.version()), None);
        drop((lease, store));
        clock.advance(LEASE);
        maintain(&open(directory.path(), &clock));
    }
}

#[test]
fn a_renewal_and_a_release_leave_the_point_as_it_is() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin("job").unwrap());
    lease.checkpoint("half", LEASE).unwrap();
    lease.renew(LEASE).unwrap();
    lease.release(Some(SECOND)).unwrap();
    clock.advance(SECOND);
    let meta = store.peek("job").unwrap().unwrap();
    assert_eq!((meta.status, meta.outcome_bytes), (Status::Released, 4));
    let mut lease = started(store.begin("job").unwrap());
    assert_eq!(lease.point(), Some(&b"half"[..]));
    lease.complete("whole").unwrap();
    assert_eq!(completed(store.begin("job").unwrap()).outcome(), b"whole");
    // A job of the same name that begins anew has no point.
    assert!(store.remove("job").unwrap());
    assert_eq!(started(store.begin("job").unwrap()).point(), None);
}

#[test]
fn a_holder_that_was_replaced_cannot_change_the_point() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut late = started(store.begin("job").unwrap());
    late.checkpoint("one", LEASE).unwrap();
    clock.advance(LEASE);
    let mut current = started(store.begin("job").unwrap());
    current.checkpoint("two", LEASE).unwrap();
    assert!(matches!(late.checkpoint("three", LEASE), Err(Error::LeaseLost)));
    assert_eq!(late.point(), Some(&b"one"[..]));
    clock.advance(LEASE);
    assert_eq!(started(store.begin("job").unwrap()).point(), Some(&b"two"[..]));
}

#[test]
fn a_checkpoint_moves_the_deadline_and_keeps_the_token() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let mut lease = started(store.begin_with("job", BeginOptions::new().lease(SECOND)).unwrap());
    let token = lease.version();
    lease.checkpoint("x", LEASE).unwrap();
    assert_eq!((lease.remaining(), lease.version()), (LEASE, token));
    assert_eq!(store.peek("job").unwrap().unwrap().version, token);
    let long = vec![1; oncelog::OUTCOME_BYTES_MAX_DEFAULT + 1];
    assert!(matches!(lease.checkpoint(long, LEASE), Err(Error::OutcomeTooLong { .. })));
    assert_eq!(lease.point(), Some(&b"x"[..]));
}
