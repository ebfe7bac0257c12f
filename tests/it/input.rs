//! Refused input: keys, outcomes, lifetimes and settings beyond the limits.
//!
//! After every refusal the store is as it was, and goes on.

use std::time::Duration;

use oncelog::{
    Answers, Builder, Error, KEY_BYTES_MAX, LANES_MAX, Lookups, OUTCOME_BYTES_MAX,
    SEGMENT_BYTES_MAX, STRIPES_MAX, Store, Ttl,
};

use crate::setup::{directory, small};

#[test]
fn an_empty_key_is_refused_by_every_call() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(matches!(store.check_and_set("", "x"), Err(Error::EmptyKey)));
    assert!(matches!(store.insert(""), Err(Error::EmptyKey)));
    assert!(matches!(store.get(""), Err(Error::EmptyKey)));
    assert!(matches!(store.contains(""), Err(Error::EmptyKey)));
    assert!(matches!(store.remove(""), Err(Error::EmptyKey)));
    assert_eq!(store.stats().keys, 0);
}

#[test]
fn the_longest_key_is_taken_and_one_byte_more_is_refused() {
    let directory = directory();
    for max in [1_usize, 255, 1024, KEY_BYTES_MAX] {
        let path = directory.path().join(max.to_string());
        let store = small().key_bytes_max(max).open(path).unwrap();
        assert!(store.insert(vec![7; max]).unwrap());
        assert!(store.contains(vec![7; max]).unwrap());
        let refused = store.insert(vec![7; max + 1]);
        let Err(Error::KeyTooLong { len, max: limit }) = refused else { panic!("{refused:?}") };
        assert_eq!((len, limit), (max + 1, max));
        assert!(matches!(store.get(vec![7; max + 1]), Err(Error::KeyTooLong { .. })));
    }
}

#[test]
fn the_longest_outcome_is_taken_and_one_byte_more_is_refused() {
    let directory = directory();
    for max in [0_usize, 47, 65_536, OUTCOME_BYTES_MAX] {
        let path = directory.path().join(max.to_string());
        let store = small().outcome_bytes_max(max).open(path).unwrap();
        let refused = store.check_and_set("a", vec![7; max + 1]);
        let Err(Error::OutcomeTooLong { len, max: limit }) = refused else { panic!("{max}") };
        assert_eq!((len, limit), (max + 1, max));
        assert!(!store.contains("a").unwrap());
        assert!(store.check_and_set("a", vec![7; max]).unwrap().is_new());
        assert_eq!(store.get("a").unwrap().unwrap().outcome(), vec![7; max]);
    }
}

#[test]
fn a_lifetime_of_zero_or_over_a_thousand_years_is_refused() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    for ttl in [Duration::ZERO, Duration::from_secs(1_001 * 366 * 24 * 3600), Duration::MAX] {
        let refused = store.check_and_set_for("a", "x", ttl);
        assert!(matches!(refused, Err(Error::InvalidTtl { .. })), "{ttl:?}");
        let refused = small().ttl(ttl).open(directory.path().join("other"));
        assert!(matches!(refused, Err(Error::InvalidTtl { .. })), "{ttl:?}");
    }
    assert!(!store.contains("a").unwrap());
    assert!(!directory.path().join("other").exists());
    assert!(store.check_and_set_for("a", "x", Ttl::Never).unwrap().is_new());
}

#[test]
fn settings_that_cannot_work_are_named_and_nothing_is_created() {
    let directory = directory();
    let path = directory.path().join("store");
    let cases: [(&str, Builder); 13] = [
        ("key_bytes_max", Store::builder().key_bytes_max(0)),
        ("key_bytes_max", Store::builder().key_bytes_max(KEY_BYTES_MAX + 1)),
        ("outcome_bytes_max", Store::builder().outcome_bytes_max(OUTCOME_BYTES_MAX + 1)),
        ("stripes", Store::builder().stripes(0)),
        ("stripes", Store::builder().stripes(12)),
        ("stripes", Store::builder().stripes(STRIPES_MAX * 2)),
        ("lanes", Store::builder().lanes(0)),
        ("lanes", Store::builder().lanes(LANES_MAX + 1)),
        ("segment_bytes_min", Store::builder().segment_bytes_min(4096)),
        ("segment_bytes_min", Store::builder().segment_bytes_min(3 << 20)),
        ("segment_bytes_max", Store::builder().segment_bytes_max(3 << 20)),
        ("segment_bytes_max", Store::builder().segment_bytes_max(SEGMENT_BYTES_MAX * 2)),
        (
            "segment_bytes_max",
            Store::builder().segment_bytes_min(4 << 20).segment_bytes_max(2 << 20),
        ),
    ];
    for (setting, builder) in cases {
        let shown = format!("{builder:?}");
        let refused = builder.open(&path);
        let Err(Error::InvalidConfig { reason }) = refused else { panic!("{shown}") };
        assert!(reason.contains(setting), "{reason}");
        assert!(!path.exists());
    }
}

#[test]
fn a_batch_that_fails_leaves_the_answers_before_the_failing_item() {
    let directory = directory();
    let store = small().outcome_bytes_max(10).open(directory.path()).unwrap();
    let mut answers = Answers::new();
    let long = "k".repeat(1025);
    for count in [0_usize, 1, 7, 40, 100] {
        for bad in [("", "x"), (long.as_str(), "x"), ("long outcome", "01234567890")] {
            let keys: Vec<String> = (0..count).map(|i| format!("{count} {bad:?} {i}")).collect();
            let keys: Vec<&str> =
                keys.iter().map(|key| key.get(..key.len().min(90)).unwrap()).collect();
            let mut items: Vec<(String, &str)> = Vec::new();
            for (index, key) in keys.iter().enumerate() {
                items.push((format!("{index} {} {key}", bad.0.len()), "ok"));
            }
            items.push((bad.0.to_string(), bad.1));
            items.push((format!("after {count} {}", bad.1), "never"));
            assert!(store.check_and_set_many(&items, &mut answers).is_err());
            assert_eq!(answers.len(), count, "{bad:?}");
            assert!(answers.iter().all(|answer| answer.is_new()));
            for (key, _) in items.iter().take(count) {
                assert!(store.contains(key).unwrap());
            }
            assert!(!store.contains(&items[count + 1].0).unwrap());
        }
    }
}

#[test]
fn a_batch_of_lookups_that_fails_leaves_the_results_before_the_failing_key() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    store.insert("a").unwrap();
    let mut lookups = Lookups::new();
    let refused = store.get_many(&["a", "b", "", "a"], &mut lookups);
    assert!(matches!(refused, Err(Error::EmptyKey)));
    let found: Vec<bool> = lookups.iter().map(|found| found.is_some()).collect();
    assert_eq!(found, [true, false]);
}

#[test]
fn a_refused_call_can_be_told_from_one_worth_repeating() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(!store.insert("").unwrap_err().is_retryable());
    assert!(small().open(directory.path()).unwrap_err().is_retryable());
}
