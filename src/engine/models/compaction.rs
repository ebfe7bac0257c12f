//! Compaction beside callers who remove, complete and record the keys that it is copying.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::bench::{MINUTE, get};
use crate::engine::compact_tests::{begin, compact, end, insert, pictures, remove, seal};
use crate::engine::finish::Ending;
use crate::engine::models::{bench, part, together};
use crate::sys::sync_model::check;

/// basho/bitcask#148, #156: a delete raced with a merge, which wrote the old value to a later file;
/// the next open forgot the delete.
#[test]
fn what_is_changed_while_it_is_being_copied_stays_as_it_was_changed() {
    for filter in [false, true] {
        check(120, move || {
            let mut bench = bench();
            bench.config.negative_filter = filter;
            let bench = Arc::new(bench);
            let engine = Arc::new(bench.open());
            for key in ["kept", "removed", "again"] {
                assert!(insert(&engine, key, b"first", 10 * MINUTE));
            }
            let token = begin(&engine, "begun").unwrap();
            seal(&engine);
            let copy = part(&engine, |engine: &Arc<Engine>| compact(engine, |_| true));
            let change = part(&engine, move |engine: &Arc<Engine>| {
                assert!(remove(engine, "removed"));
                end(engine, "begun", token, Ending::Complete(b"done"));
                assert!(remove(engine, "again") && insert(engine, "again", b"second", 10 * MINUTE));
            });
            together(vec![copy, change]);
            let keys = ["kept", "removed", "again", "begun"].map(str::to_owned);
            let outcomes = |engine: &Engine| keys.each_ref().map(|key| get(engine, key));
            let expected = [Some("first"), None, Some("second"), Some("done")];
            let expected = expected.map(|outcome| outcome.map(|text| text.as_bytes().to_vec()));
            assert_eq!(outcomes(&engine), expected);
            let before = pictures(&engine, &keys);
            let next = || bench.open_on(Arc::new(bench.disk.copy()));
            assert_eq!(pictures(&next(), &keys), before, "after the end of the process");
            // Where tombstone and copy lie in segments of their own, each may be compacted alone.
            engine.log.end_copies();
            seal(&engine);
            compact(&engine, |_| true);
            assert_eq!(pictures(&next(), &keys), before);
        });
    }
}
