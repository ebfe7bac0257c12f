//! A whole store against a plain map: checks, removals, time, maintenance and reopening.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use oncelog::{Check, Clock, Maintenance, ManualClock, Store, Timestamp, Ttl};

const START: u64 = 1_700_000_000_000;
const LIFETIMES_MS: [u64; 4] = [1, 5_000, 600_000, u64::MAX];

fuzz_target!(|bytes: &[u8]| run(bytes));

fn open(path: &Path, clock: &Arc<ManualClock>) -> Store {
    let builder = Store::builder().clock(clock.clone()).maintenance(Maintenance::Manual);
    builder.stripes(4).lanes(2).open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Each step is three bytes: what to do, to which key, with what.
fn run(bytes: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START)));
    let mut store = open(directory.path(), &clock);
    let mut model: BTreeMap<u8, (Vec<u8>, u64)> = BTreeMap::new();
    for step in bytes.as_chunks::<3>().0 {
        let [action, key, with] = *step;
        let now = clock.now().as_millis();
        model.retain(|_, (_, end)| now < *end);
        let known = model.get(&key).map(|(outcome, _)| outcome.clone());
        match action % 8 {
            0..3 => {
                let outcome = vec![with; usize::from(with) * usize::from(action)];
                let lifetime = LIFETIMES_MS[usize::from(action >> 3) % LIFETIMES_MS.len()];
                let ttl = match lifetime {
                    u64::MAX => Ttl::Never,
                    millis => Ttl::After(Duration::from_millis(millis)),
                };
                let answer = match store.check_and_set_for([key], &outcome, ttl) {
                    Ok(Check::New) => None,
                    Ok(Check::Duplicate(record)) => Some(record.outcome().to_vec()),
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(answer, known);
                model.entry(key).or_insert((outcome, now.saturating_add(lifetime)));
            }
            3 => {
                assert_eq!(store.remove([key]).ok(), Some(known.is_some()));
                model.remove(&key);
            }
            4 => {
                let found = store.get([key]).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(found.map(|record| record.outcome().to_vec()), known);
            }
            5 => clock.advance(Duration::from_millis(u64::from(key) << (with % 16))),
            6 => assert!(store.maintain(Duration::from_millis(u64::from(with))).is_ok()),
            _ => {
                if with % 2 == 0 {
                    assert!(store.clone().close().is_ok());
                }
                drop(store);
                store = open(directory.path(), &clock);
            }
        }
    }
}
