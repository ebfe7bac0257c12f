//! The near tier: when its copies end, whoever ends them.

use std::time::Duration;

use oncelog::backend::{Backend, Begin, Tiered};
use oncelog::{Anchor, BeginOptions, CheckOptions, Fingerprint, Namespace, Policy};

use crate::sides::{DAY, HOUR, STALENESS, Sides, asks, lasting};
use crate::threads::block_on;

#[test]
fn a_removal_by_another_process_is_seen_within_the_staleness() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", BeginOptions::new());
    sides.far.inner.remove("key").unwrap();
    sides.advance(STALENESS - Duration::from_millis(1));
    // As documented: for so long, and no longer, however often it is asked for.
    assert!(sides.get(b"key").is_some());
    assert!(matches!(sides.begin(b"key", BeginOptions::new()), Begin::Completed(_)));
    sides.advance(Duration::from_millis(1));
    assert_eq!(sides.get(b"key"), None);
    assert!(matches!(sides.begin(b"key", BeginOptions::new()), Begin::Started(_)));
}

#[test]
fn no_copy_outlasts_its_record_however_the_clocks_stand() {
    for (ahead, behind) in [(0, 0), (1, 0), (0, 1)] {
        let (ahead, behind) = (ahead * HOUR, behind * HOUR);
        let sides = Sides::new(lasting(), ahead);
        sides.near_clock.advance(behind);
        let options = BeginOptions::new().retention(Duration::from_secs(10)).lease(HOUR / 3600);
        let record = sides.copied(b"key", options);
        let expires = record.expires().unwrap().as_millis();
        let mut answered = 0;
        loop {
            let asked = sides.far.asked();
            let found = sides.get(b"key");
            let is_over = Namespace::now(&sides.far.inner).as_millis() >= expires;
            assert_eq!(found.is_none(), is_over, "{ahead:?} ahead, {behind:?} behind");
            answered += u64::from(sides.far.asked() == asked);
            if is_over {
                break;
            }
            sides.advance(Duration::from_millis(10));
        }
        // It answers for most of its time all the same.
        assert!(answered > 900, "{answered} of 1000 answers were near by");
    }
}

#[test]
fn no_copy_is_replayed_longer_than_its_outcome() {
    let ttl = Duration::from_secs(10);
    let sides = Sides::new(Policy { outcome_ttl: Some(ttl), ..lasting() }, HOUR);
    sides.copied(b"key", BeginOptions::new());
    // What a call asks for counts from then on as well.
    let short = BeginOptions::new().outcome_ttl(ttl / 2);
    sides.copied(b"short", short);
    for (key, time) in [(b"short".as_slice(), ttl / 2), (b"key", ttl)] {
        let end = sides.far.inner.get(key).unwrap().unwrap().created().as_millis();
        let end = end + u64::try_from(time.as_millis()).unwrap();
        while Namespace::now(&sides.far.inner).as_millis() < end {
            let record = block_on(sides.tier.get(key)).unwrap().unwrap();
            assert!(record.outcome_gone().is_none(), "gone before its time");
            sides.advance(Duration::from_millis(10));
        }
        let record = block_on(sides.tier.get(key)).unwrap().unwrap();
        let gone = record.outcome_gone().expect("replayed after its time");
        assert_eq!((gone.bytes, gone.digest), (7, Fingerprint::of(b"outcome")));
        // That it is gone stays so: of that there is a copy.
        let asked = sides.far.asked();
        let again = block_on(sides.tier.get(key)).unwrap().unwrap();
        assert_eq!((again.outcome_gone(), sides.far.asked()), (Some(gone), asked));
    }
}

#[test]
fn duplicates_that_prolong_what_they_find_are_asked_of_the_far_side() {
    let sides = Sides::new(Policy { anchor: Anchor::LastSeen, ..lasting() }, Duration::ZERO);
    assert!(
        block_on(sides.tier.check_and_set(b"key", b"x", CheckOptions::new())).unwrap().is_new()
    );
    let first = sides.far.inner.get("key").unwrap().unwrap().expires();
    assert!(sides.get(b"key").is_some());
    sides.advance(DAY / 2);
    assert!(sides.get(b"key").is_some());
    let checked = block_on(sides.tier.check_and_set(b"key", b"x", CheckOptions::new())).unwrap();
    assert!(checked.is_duplicate());
    assert!(sides.far.inner.get("key").unwrap().unwrap().expires() > first);
    // By the call alone, too.
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", BeginOptions::new());
    let asked = sides.far.asked();
    let options = BeginOptions::new().anchor(Anchor::LastSeen).retention(2 * DAY);
    assert!(matches!(sides.begin(b"key", options), Begin::Completed(_)));
    assert_eq!(sides.far.asked(), asked + 1);
}

#[test]
fn the_copies_of_another_tier_are_nothing_to_one() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", BeginOptions::new());
    // As after a restart, of which nobody knows how long it took.
    let near = sides.near_store.namespace("near", lasting()).unwrap();
    let other = Tiered::new(near, sides.far.clone(), STALENESS).unwrap();
    sides.far.inner.remove("key").unwrap();
    assert!(block_on(other.get(b"key")).unwrap().is_none());
}

#[test]
fn a_near_store_that_is_out_of_order_costs_nothing_but_speed() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", asks(b"request"));
    sides.near_store.clone().close().unwrap();
    assert_eq!(sides.get(b"key").as_deref(), Some(&b"outcome"[..]));
    assert!(matches!(sides.begin(b"key", asks(b"request")), Begin::Completed(_)));
    assert!(matches!(sides.begin(b"key", asks(b"another")), Begin::Mismatch(_)));
    assert!(block_on(sides.tier.remove(b"key", None)).unwrap());
    assert_eq!(sides.get(b"key"), None);
}

#[test]
fn a_copy_that_is_made_again_ends_by_what_is_known_by_then() {
    let sides = Sides::new(lasting(), Duration::ZERO);
    sides.copied(b"key", BeginOptions::new());
    // From here on outcomes may be gone after ten seconds.
    let ttl = Duration::from_secs(10);
    sides.started(b"other", BeginOptions::new().outcome_ttl(ttl));
    let prolongs = BeginOptions::new().anchor(Anchor::LastSeen).retention(HOUR);
    assert!(matches!(block_on(sides.tier.begin(b"key", prolongs)), Ok(Begin::Completed(_))));
    let asked = sides.far.asked();
    assert!(sides.get(b"key").is_some());
    assert_eq!(sides.far.asked(), asked);
    sides.advance(ttl);
    assert!(sides.get(b"key").is_some());
    assert_eq!(sides.far.asked(), asked + 1, "the first copy has answered");
}
