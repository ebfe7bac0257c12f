//! Every call once, with all the work of maintenance, so that each way to a lock is taken.
//!
//! The locks' order is learned from all models of the process, and each of these calls is held
//! against it: what two calls would do to each other shows without their meeting.

use std::sync::Arc;
use std::time::Duration;

use crate::answers::{Answers, Lookups};
use crate::engine::begin::Begun;
use crate::engine::bench::{Bench, MINUTE, get};
use crate::engine::claim::FullKey;
use crate::engine::finish::Ending;
use crate::engine::models::check_and_set;
use crate::policy::{BeginOptions, Policy};
use crate::record::Ignore;
use crate::sys::sync_model::once;
use crate::time::Ttl;

#[test]
fn no_two_calls_take_locks_in_orders_that_could_stop_both() {
    once(|| {
        let mut bench = Bench::with(|config| config.ttl = Ttl::Never);
        bench.config.max_keys = Some(1_000);
        let engine = Arc::new(bench.open());
        let space = engine.space_number("space").unwrap();
        let terms = Policy::default().terms(&BeginOptions::new(), 10 * MINUTE).unwrap();
        let endings =
            [Ending::Complete(b"x"), Ending::Fail(b"x"), Ending::Release(0), Ending::Renew(MINUTE)];
        for (number, ending) in endings.into_iter().enumerate() {
            for space in [None, Some(space)] {
                let key = [u8::try_from(number).unwrap()];
                let now = engine.clock.now();
                let begun = engine.with_key(space, &key, |full| engine.begin(full, &terms, now));
                let Ok(Begun::Started(grant)) = begun else { panic!("{begun:?}") };
                let end = |full: FullKey<'_>| engine.finish(full, grant.version, ending, now);
                engine.with_key(space, &key, end).unwrap();
                engine.with_key(space, &key, |full| engine.peek(full, now)).unwrap();
                let read = |full: FullKey<'_>| engine.get_full(full, now, &mut Ignore);
                engine.with_key(space, &key, read).unwrap();
                engine.scan_stripe(0, space, now, |_| true, &mut Vec::new()).unwrap();
            }
        }
        // Enough to seal segments, and to compact them when most of it is removed again.
        for number in 0..40 {
            check_and_set(&engine, &number.to_string(), &vec![1; 50_000]);
        }
        for number in 0..36 {
            let key = number.to_string();
            let now = engine.clock.now();
            engine.with_key(None, key.as_bytes(), |full| engine.remove(full, None, now)).unwrap();
        }
        let (mut answers, mut lookups) = (Answers::default(), Lookups::default());
        let lifetime = engine.lifetime();
        engine.check_and_set_many(&[("a", "x"), ("b", "y")], lifetime, &mut answers).unwrap();
        engine.get_many(&["a", "c"], &mut lookups).unwrap();
        engine.sync().unwrap();
        let _ = engine.stats();
        let mut done = engine.maintain(Duration::ZERO).unwrap();
        while done.more {
            done = engine.maintain(Duration::ZERO).unwrap();
        }
        assert!(engine.stats().segments_compacted > 0, "compaction took its locks");
        bench.advance(11 * MINUTE);
        engine.maintain(Duration::ZERO).unwrap();
        assert!(get(&engine, "39").is_some());
        assert!(engine.close().unwrap());
    });
}
