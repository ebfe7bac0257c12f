//! The near tier: what it answers, what it may not remember, and for whom.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oncelog::backend::{Backend, Begin};
use oncelog::{BeginOptions, Check, CheckOptions, LongOutcomePolicy, Policy, Result, Status};

use crate::sides::{HOUR, Sides, asks, lasting};
use crate::threads::block_on;

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn what_is_finished_is_answered_without_the_far_side_and_as_the_far_side_does() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    let grant = sides.started(b"failed", asks(b"request"));
    block_on(sides.tier.fail(b"failed", grant.version, b"\0\xff")).unwrap();
    sides.copied(b"done", asks(b"request"));
    assert!(sides.get(b"failed").is_some());
    for key in [&b"done"[..], b"failed"] {
        let far = block_on(Backend::get(&*sides.far.inner, key)).unwrap().unwrap();
        let asked = sides.far.asked();
        let begun = match sides.begin(key, BeginOptions::new()) {
            Begin::Completed(record) => record,
            other => panic!("{other:?}"),
        };
        let checked = block_on(sides.tier.check_and_set(key, b"x", CheckOptions::new())).unwrap();
        let Check::Duplicate(checked) = checked else { panic!("{checked:?}") };
        let batch = block_on(sides.tier.check_and_set_many(&[(key, b"x")], CheckOptions::new()));
        let Check::Duplicate(batched) = batch.unwrap().remove(0).unwrap() else { panic!() };
        let got = block_on(sides.tier.get(key)).unwrap().unwrap();
        for record in [begun, checked, batched, got] {
            assert_eq!((record.meta(), record.outcome()), (far.meta(), far.outcome()));
            assert_eq!(record.is_failure(), far.is_failure());
        }
        assert_eq!(block_on(sides.tier.peek(key)).unwrap(), Some(far.meta()));
        assert_eq!(block_on(sides.tier.wait(key, HOUR)).unwrap(), Some(far.meta()));
        assert_eq!(sides.far.asked(), asked, "it was asked of the far side");
    }
}

#[test]
fn what_is_in_progress_is_asked_of_the_far_side_every_time() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    let far = &*sides.far.inner;
    let elsewhere = |begun: Begin| match begun {
        Begin::Started(grant) => grant,
        other => panic!("{other:?}"),
    };
    let grant = elsewhere(block_on(Backend::begin(far, b"key", BeginOptions::new())).unwrap());
    // However often it is looked at, nothing of it stays.
    for _ in 0..3 {
        assert!(matches!(sides.begin(b"key", BeginOptions::new()), Begin::InProgress(_)));
        assert!(sides.get(b"key").is_none());
        let status = block_on(sides.tier.peek(b"key")).unwrap().unwrap().status;
        assert_eq!(status, Status::InProgress);
        assert!(block_on(sides.tier.check_and_set(b"key", b"x", CheckOptions::new())).is_err());
    }
    block_on(far.release(b"key", grant.version, None)).unwrap();
    let status = block_on(sides.tier.peek(b"key")).unwrap().unwrap().status;
    assert_eq!(status, Status::Released);
    let grant = elsewhere(block_on(Backend::begin(far, b"key", BeginOptions::new())).unwrap());
    block_on(far.complete(b"key", grant.version, b"elsewhere")).unwrap();
    assert_eq!(sides.get(b"key").as_deref(), Some(&b"elsewhere"[..]));
    assert!(matches!(sides.begin(b"key", BeginOptions::new()), Begin::Completed(_)));
}

#[test]
fn a_removal_through_the_tier_is_seen_at_once_whatever_was_under_way() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", BeginOptions::new());
    assert!(block_on(sides.tier.remove(b"key", None)).unwrap());
    assert_eq!(sides.get(b"key"), None);
    assert!(matches!(sides.begin(b"key", BeginOptions::new()), Begin::Started(_)));

    // The far side has answered with the record, and it is removed before that is heard.
    let grant = sides.started(b"other", BeginOptions::new());
    block_on(sides.tier.complete(b"other", grant.version, b"old")).unwrap();
    let let_go = sides.far.hold();
    let mut looking = pin!(sides.tier.get(b"other"));
    assert!(poll(looking.as_mut()).is_pending());
    assert!(block_on(sides.tier.remove(b"other", None)).unwrap());
    let_go.fill(());
    // The answer is as old as the question, and is not kept.
    assert!(matches!(poll(looking), Poll::Ready(Ok(Some(_)))));
    assert_eq!(sides.get(b"other"), None);
}

#[test]
fn nothing_is_kept_while_a_removal_is_under_way_or_was_given_up() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    for gives_up in [false, true] {
        let key = [u8::from(gives_up)];
        sides.copied(&key, BeginOptions::new());
        let let_go = sides.far.hold();
        {
            let mut removing = pin!(sides.tier.remove(&key, None));
            // The far side has removed it and not said so yet.
            assert!(poll(removing.as_mut()).is_pending());
            assert_eq!(sides.get(&key), None);
            let again = sides.far.inner.check_and_set(key, "another's").unwrap();
            assert!(again.is_new());
            assert_eq!(sides.get(&key).as_deref(), Some(&b"another's"[..]));
            sides.far.inner.remove(key).unwrap();
            assert_eq!(sides.get(&key), None, "kept while a removal was under way");
            if !gives_up {
                let_go.fill(());
                assert!(matches!(poll(removing), Poll::Ready(Ok(true))));
            }
        }
        assert_eq!(sides.get(&key), None);
    }
}

#[test]
fn what_the_far_side_says_goes_before_what_was_copied() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", asks(b"request"));
    sides.far.inner.remove("key").unwrap();
    // Asked of the far side, as it is another request; from then on the old outcome is none.
    assert!(matches!(sides.begin(b"key", asks(b"another")), Begin::Started(_)));
    assert_eq!(sides.get(b"key"), None);
    assert!(matches!(sides.begin(b"key", asks(b"another")), Begin::InProgress(_)));
}

#[test]
fn another_request_is_a_mismatch_whatever_was_copied() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    let mismatch =
        |key: &[u8], payload: &[u8]| matches!(sides.begin(key, asks(payload)), Begin::Mismatch(_));
    sides.copied(b"begun", asks(b"request"));
    for _ in 0..2 {
        assert!(mismatch(b"begun", b"another"));
        assert!(matches!(sides.begin(b"begun", asks(b"request")), Begin::Completed(_)));
    }
    // Copied by one who has not said what is asked for, so that it is not known here.
    let grant = sides.started(b"looked up", asks(b"request"));
    block_on(sides.tier.complete(b"looked up", grant.version, b"x")).unwrap();
    assert!(sides.get(b"looked up").is_some());
    assert!(mismatch(b"looked up", b"another"));
    assert!(sides.get(b"looked up").is_some());
    assert!(mismatch(b"looked up", b"another"));
    assert!(matches!(sides.begin(b"looked up", BeginOptions::new()), Begin::Completed(_)));
    assert!(mismatch(b"looked up", b"another"));
    // Once it is known, it stays so with what others copy, and the same request needs nobody.
    assert!(matches!(sides.begin(b"looked up", asks(b"request")), Begin::Completed(_)));
    let asked = sides.far.asked();
    assert!(matches!(sides.begin(b"looked up", asks(b"request")), Begin::Completed(_)));
    assert_eq!(sides.far.asked(), asked);
    // A key that was recorded without one is everybody's.
    assert!(sides.far.inner.check_and_set("set", "x").unwrap().is_new());
    assert!(matches!(sides.begin(b"set", asks(b"request")), Begin::Completed(_)));
    assert!(matches!(sides.begin(b"set", asks(b"another")), Begin::Completed(_)));
}

#[test]
fn what_cannot_work_is_refused_as_the_far_side_does_it() {
    let sides = Sides::new(Policy { require_fingerprint: true, ..lasting() }, Duration::ZERO);
    sides.copied(b"key", asks(b"request"));
    assert!(block_on(sides.tier.begin(b"key", BeginOptions::new())).is_err());
    let zero = asks(b"request").lease(Duration::ZERO);
    assert!(block_on(sides.tier.begin(b"key", zero)).is_err());
    let max = sides.tier.profile().outcome_bytes_max;
    let long = vec![0; max + 1];
    assert!(block_on(sides.tier.check_and_set(b"key", &long, CheckOptions::new())).is_err());
    let marks = CheckOptions::new().on_long_outcome(LongOutcomePolicy::KeepMark);
    assert!(block_on(sides.tier.check_and_set(b"key", &long, marks)).unwrap().is_duplicate());
}

#[test]
fn a_batch_asks_the_far_side_for_what_is_not_known_here() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"known", BeginOptions::new());
    let asked = sides.far.asked();
    let items: [(&[u8], &[u8]); 5] =
        [(b"a", b"1"), (b"known", b"2"), (b"", b"3"), (b"a", b"4"), (b"known", b"5")];
    let checks = block_on(sides.tier.check_and_set_many(&items, CheckOptions::new())).unwrap();
    let outcome = |check: Result<Check>| match check {
        Ok(Check::New) => "new".to_owned(),
        Ok(Check::Duplicate(record)) => String::from_utf8_lossy(record.outcome()).into_owned(),
        Err(error) => format!("{error:?}"),
    };
    let found: Vec<String> = checks.into_iter().map(outcome).collect();
    assert_eq!(found, ["new", "outcome", "EmptyKey", "1", "outcome"]);
    assert_eq!(sides.far.asked(), asked + 3);
}

#[test]
fn what_was_known_of_one_request_is_not_taken_over_to_another() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", asks(b"request"));
    sides.far.inner.remove("key").unwrap();
    let begun = sides.far.inner.begin_with("key", asks(b"another")).unwrap();
    begun.started().unwrap().complete("another's").unwrap();
    // Asked of the far side, without saying what for.
    let prolongs = BeginOptions::new().anchor(oncelog::Anchor::LastSeen).retention(HOUR / 2);
    assert!(matches!(sides.begin(b"key", prolongs), Begin::Completed(_)));
    assert_eq!(sides.get(b"key").as_deref(), Some(&b"another's"[..]));
    assert!(matches!(sides.begin(b"key", asks(b"request")), Begin::Mismatch(_)));
    assert!(matches!(sides.begin(b"key", asks(b"another")), Begin::Completed(_)));
}

#[test]
fn staleness_counts_from_when_the_far_side_was_asked() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    let grant = sides.started(b"key", BeginOptions::new());
    block_on(sides.tier.complete(b"key", grant.version, b"old")).unwrap();
    let let_go = sides.far.hold();
    let mut looking = pin!(sides.tier.get(b"key"));
    assert!(poll(looking.as_mut()).is_pending());
    sides.far.inner.remove("key").unwrap();
    sides.advance(crate::sides::STALENESS);
    let_go.fill(());
    assert!(matches!(poll(looking), Poll::Ready(Ok(Some(_)))));
    assert_eq!(sides.get(b"key"), None, "what the far side said so long ago was kept");
}
