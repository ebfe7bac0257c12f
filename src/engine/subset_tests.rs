//! Every subset of a store's segments compacted, and a restart after it.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::bench::{Bench, NEVER};
use crate::engine::compact_tests::{begin, compact, end, insert, pictures, remove, seal};
use crate::engine::finish::Ending;

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "never seen"];

/// Five segments, in which keys are recorded, removed, recorded and begun again: each has something
/// that another one supersedes, or kills, or needs a tombstone for.
fn history(engine: &Engine) {
    let done = Ending::Complete(b"done");
    for key in ["a", "b", "c", "d"] {
        assert!(insert(engine, key, b"first", NEVER));
    }
    let (e, f) = (begin(engine, "e").unwrap(), begin(engine, "f").unwrap());
    seal(engine);
    assert!(remove(engine, "a") && remove(engine, "b"));
    end(engine, "e", e, done);
    seal(engine);
    assert!(insert(engine, "a", b"second", NEVER) && remove(engine, "e"));
    end(engine, "f", f, done);
    seal(engine);
    assert!(remove(engine, "a") && remove(engine, "f") && insert(engine, "b", b"second", NEVER));
    // Begun once more, and never ended.
    assert!(begin(engine, "e").is_some());
    seal(engine);
    assert!(remove(engine, "b"));
    let f = begin(engine, "f").unwrap();
    end(engine, "f", f, done);
    seal(engine);
}

/// basho/bitcask#82: of the files with a record, its removal and what came after, one alone was
/// merged, and the restart brought the record back.
#[test]
fn no_subset_at_all_of_the_segments_of_a_history_compacted_before_a_restart_changes_a_key() {
    let keys = KEYS.map(str::to_owned);
    for filter in [false, true] {
        let bench = Bench::with(|config| config.negative_filter = filter);
        let engine = bench.open();
        history(&engine);
        let before = pictures(&engine, &keys);
        let known: Vec<_> = before.iter().map(Option::is_some).collect();
        assert_eq!(known, [false, false, true, true, true, true, false]);
        engine.sync().unwrap();
        drop(engine);
        let written = bench.disk.copy();
        for subset in 0..32_u64 {
            let disk = Arc::new(written.copy());
            let engine = bench.open_on(disk.clone());
            let mut numbers: Vec<_> = engine.log.sealed().iter().map(|one| one.number).collect();
            numbers.sort_unstable();
            assert_eq!(numbers.len(), 5);
            let is_in = |number: u64, wanted: u64| {
                let place = numbers.iter().position(|own| *own == number);
                place.is_some_and(|place| (subset >> place) & 1 == wanted)
            };
            compact(&engine, |number| is_in(number, 1));
            assert_eq!(pictures(&engine, &keys), before, "{subset:05b} compacted");
            drop(engine);
            let engine = bench.open_on(disk.clone());
            assert_eq!(pictures(&engine, &keys), before, "{subset:05b} compacted, and a restart");
            // The others after it, and then the copies.
            seal(&engine);
            compact(&engine, |number| is_in(number, 0));
            assert_eq!(pictures(&engine, &keys), before, "all but {subset:05b} after it");
            engine.log.end_copies();
            seal(&engine);
            compact(&engine, |_| true);
            drop(engine);
            let cut = Arc::new(disk.after_power_cut(|| false));
            let engine = bench.open_on(cut);
            assert_eq!(pictures(&engine, &keys), before, "{subset:05b}, the rest, the copies");
        }
    }
}
