//! Lifetimes that duplicates prolong: never shorter than promised, cheap, and durable.

use std::sync::Arc;
use std::time::Duration;

use oncelog::{
    Anchor, Begin, BeginOptions, Check, CheckOptions, ManualClock, Policy, Store, Timestamp, Ttl,
    inspect,
};

use crate::setup::{Random, START, clock, directory, fast_directory, maintain, small};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn seen() -> Policy {
    Policy { anchor: Anchor::LastSeen, ..Policy::default() }
}

fn open(path: &std::path::Path, clock: &Arc<ManualClock>) -> Store {
    small().clock(clock.clone()).ttl(HOUR).policy(seen()).open(path).unwrap()
}

fn is_duplicate(check: Check, outcome: &[u8]) -> bool {
    matches!(check, Check::Duplicate(record) if record.outcome() == outcome)
}

#[test]
fn a_key_in_use_is_not_forgotten_and_is_written_a_few_times_in_its_retention() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    assert!(store.check_and_set("used", "x").unwrap().is_new());
    assert!(store.check_and_set("idle", "y").unwrap().is_new());
    let first = store.peek("used").unwrap().unwrap();
    for _ in 0..240 {
        clock.advance(MINUTE);
        maintain(&store);
        let Check::Duplicate(record) = store.check_and_set("used", "").unwrap() else {
            panic!("forgotten")
        };
        assert_eq!(record.outcome(), b"x");
        let (now, meta) = (clock_now(&clock), store.peek("used").unwrap().unwrap());
        assert_eq!(record.meta(), meta);
        let left = meta.expires.unwrap().as_millis() - now;
        assert!((3_600_000..=3_600_000 * 9 / 8).contains(&left), "{left}");
        let times = (meta.first_seen, meta.updated, meta.completed_at, meta.attempts);
        assert_eq!(times, (first.first_seen, first.updated, first.completed_at, 0));
    }
    // Four retentions, eight times each.
    let refreshes = store.stats().refreshes;
    assert!((20..=32).contains(&refreshes), "{refreshes}");
    assert!(store.insert("idle").unwrap(), "nobody has seen it");
    clock.advance(HOUR * 9 / 8);
    assert!(store.check_and_set("used", "").unwrap().is_new());
    assert_eq!(store.stats().refreshes_missed, 0);
}

fn clock_now(clock: &ManualClock) -> u64 {
    oncelog::Clock::now(clock).as_millis()
}

#[test]
fn only_what_is_answered_with_an_outcome_prolongs_it() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    assert!(store.check_and_set("a", "x").unwrap().is_new());
    let before = store.peek("a").unwrap();
    clock.advance(50 * MINUTE);
    assert!(store.contains("a").unwrap() && store.get("a").unwrap().is_some());
    let other = store.namespace("plain", Policy::default()).unwrap();
    assert!(other.insert("a").unwrap() && !other.insert("a").unwrap());
    let options = CheckOptions::new().anchor(Anchor::Completion);
    assert!(store.check_and_set_with("a", "", options).unwrap().is_duplicate());
    assert_eq!((store.peek("a").unwrap(), store.stats().refreshes), (before, 0));
    let Begin::Completed(record) = store.begin("a").unwrap() else { panic!("done") };
    assert_eq!(record.outcome(), b"x");
    assert_eq!(store.stats().refreshes, 1);
    // A call may say it for itself, also in a namespace that does not.
    clock.advance(20 * MINUTE);
    let options = CheckOptions::new().anchor(Anchor::LastSeen);
    assert!(other.check_and_set_with("a", "", options).unwrap().is_duplicate());
    assert_eq!(other.stats().refreshes, 1);
    let options = BeginOptions::new().anchor(Anchor::LastSeen).retention(2 * HOUR);
    assert!(matches!(other.begin_with("a", options).unwrap(), Begin::Completed(_)));
    assert_eq!(other.peek("a").unwrap().unwrap().expires.unwrap().as_millis(), START + 12_300_000);
}

#[test]
fn every_way_to_see_a_key_counts_and_every_field_of_it_stays() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    let options = BeginOptions::new().fingerprint(oncelog::Fingerprint::of(b"body"));
    let lease = store.begin_with("failed", options).unwrap().started();
    lease.unwrap().fail([5; 70_000]).unwrap();
    let lease = store.begin("done").unwrap().started();
    lease.unwrap().complete("x").unwrap();
    assert!(store.insert("batch").unwrap());
    let before = ["failed", "done", "batch"].map(|key| store.peek(key).unwrap().unwrap());
    for meta in &before {
        assert_eq!(meta.expires, Some(Timestamp::from_millis(START + 3_600_000 * 9 / 8)));
    }
    let mut answers = oncelog::Answers::new();
    for _ in 0..20 {
        clock.advance(15 * MINUTE);
        maintain(&store);
        let Begin::Completed(record) = store.begin_with("failed", options).unwrap() else {
            panic!("forgotten")
        };
        assert!(record.is_failure() && record.outcome() == [5; 70_000]);
        let other = options.fingerprint(oncelog::Fingerprint::of(b"other"));
        assert!(matches!(store.begin_with("failed", other).unwrap(), Begin::Mismatch(_)));
        assert!(is_duplicate(store.check_and_set("done", "").unwrap(), b"x"));
        store.check_and_set_many(&[("batch", ""), ("batch", "")], &mut answers).unwrap();
        assert!(answers.iter().all(|answer| !answer.is_new()));
    }
    for (key, before) in ["failed", "done", "batch"].iter().zip(before) {
        let mut after = store.peek(key).unwrap().unwrap();
        assert!(after.version > before.version && after.expires > before.expires);
        (after.version, after.expires) = (before.version, before.expires);
        assert_eq!(after, before);
    }
}

#[test]
fn what_a_duplicate_has_prolonged_stays_so_through_crash_closing_and_compaction() {
    let (directory, clock) = (directory(), clock());
    let mut store = open(directory.path(), &clock);
    let filler = |round: u32, store: &Store| {
        for number in 0..1_500 {
            let key = format!("filler {round} {number}");
            assert!(store.check_and_set_for(&key, [0; 1_000], Ttl::Never).unwrap().is_new());
        }
        for number in 0..1_500 {
            assert!(store.remove(format!("filler {round} {number}")).unwrap());
        }
    };
    for number in 0..500_u64 {
        assert!(
            store.check_and_set(number.to_le_bytes(), (!number).to_le_bytes()).unwrap().is_new()
        );
    }
    let mut compacted = 0;
    for round in 0..24 {
        clock.advance(20 * MINUTE);
        for number in (0..500_u64).filter(|number| number % 2 == 0) {
            let check = store.check_and_set(number.to_le_bytes(), "").unwrap();
            assert!(is_duplicate(check, &(!number).to_le_bytes()), "{number} in {round}");
        }
        filler(round, &store);
        maintain(&store);
        compacted += store.stats().segments_compacted;
        let expires = |store: &Store, number: u64| {
            store.peek(number.to_le_bytes()).unwrap().and_then(|meta| meta.expires)
        };
        let before: Vec<Option<Timestamp>> = (0..500).map(|n| expires(&store, n)).collect();
        match round % 3 {
            0 => drop(store),
            1 => store.close().unwrap(),
            _ => {
                maintain(&store);
                drop(store);
            }
        }
        store = open(directory.path(), &clock);
        for number in 0..500 {
            assert_eq!(expires(&store, number), before[usize::try_from(number).unwrap()]);
            assert_eq!(expires(&store, number).is_some(), number % 2 == 0 || round < 3);
        }
    }
    assert!(compacted > 0);
    assert!(inspect::verify(directory.path()).unwrap().is_sound());
}

/// Against a model that knows when each key was last seen.
#[test]
fn no_key_is_forgotten_within_its_retention_of_any_sight_and_none_is_kept_for_much_longer() {
    let (directory, clock) = (fast_directory(), clock());
    let store = open(directory.path(), &clock);
    let (mut random, mut last) = (Random::new(8), [None::<u64>; 40]);
    for step in 0..4_000 {
        let most = 1 << random.below(19);
        clock.advance(Duration::from_millis(random.below(most)));
        let number = usize::try_from(random.below(40)).unwrap();
        let (now, key) = (clock_now(&clock), format!("key {number}"));
        let sighted = match random.below(3) {
            0 => !store.insert(&key).unwrap(),
            1 => store.check_and_set(&key, "x").unwrap().is_duplicate(),
            _ => match store.begin(&key).unwrap() {
                Begin::Completed(_) => true,
                Begin::Started(mut lease) => lease.complete("x").map(|_| false).unwrap(),
                other => panic!("{other:?}"),
            },
        };
        let age = last[number].map(|last| now - last);
        match age {
            Some(age) if age < 3_600_000 => assert!(sighted, "{age} in step {step}"),
            Some(age) if age < 3_600_000 * 9 / 8 => {}
            _ => assert!(!sighted, "{age:?} in step {step}"),
        }
        last[number] = Some(now);
        if step % 100 == 0 {
            maintain(&store);
        }
    }
}

#[test]
fn of_many_that_see_a_key_at_once_one_prolongs_it_and_all_get_its_outcome() {
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    assert!(store.check_and_set("a", "x").unwrap().is_new());
    for round in 1..=30 {
        clock.advance(20 * MINUTE);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..20 {
                        if thread % 2 == 0 {
                            assert!(is_duplicate(store.check_and_set("a", "").unwrap(), b"x"));
                        } else {
                            let Begin::Completed(record) = store.begin("a").unwrap() else {
                                panic!("forgotten")
                            };
                            assert_eq!(record.outcome(), b"x");
                        }
                        assert_eq!(store.get("a").unwrap().unwrap().outcome(), b"x");
                    }
                });
            }
            scope.spawn(|| maintain(&store));
        });
        assert_eq!(store.stats().refreshes, round);
    }
}
