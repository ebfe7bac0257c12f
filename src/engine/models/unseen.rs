//! The filter in the engine: what it says while keys are recorded, moved, dropped, laid out anew.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, get};
use crate::engine::models::{check_and_set, part, together};
use crate::sys::sync_model::check;

fn bench() -> Bench {
    let mut bench = super::bench();
    bench.config.negative_filter = true;
    bench
}

/// What [`Engine::peek`] says, which asks the filter before it takes the lock.
fn is_known(engine: &Engine, key: &str) -> bool {
    let now = engine.clock.now();
    engine.with_key(None, key.as_bytes(), |full| engine.peek(full, now)).unwrap().is_some()
}

/// Lays the filters of all buckets out anew.
fn renew_all(engine: &Engine) {
    let buckets = engine.filter.as_ref().unwrap().buckets();
    engine.renewal.lock().counts = buckets.into_iter().map(|bucket| (bucket, 0)).collect();
    while engine.renew_filter_step().unwrap() {}
}

#[test]
fn who_was_told_that_a_key_is_recorded_finds_it_whatever_becomes_of_the_filters() {
    check(150, || {
        let engine = Arc::new(bench().open());
        check_and_set(&engine, "first", b"");
        let write = |own: &'static str| {
            part(&engine, move |engine| {
                assert!(check_and_set(engine, own, b"x") && is_known(engine, own));
            })
        };
        let ask = part(&engine, |engine| assert!(is_known(engine, "first")));
        let renew = part(&engine, |engine| renew_all(engine));
        together(vec![write("one"), write("two"), ask, renew]);
        for key in ["first", "one", "two"] {
            assert!(is_known(&engine, key) && get(&engine, key).is_some(), "{key}");
        }
        assert!(!is_known(&engine, "never seen"));
    });
}

#[test]
fn a_key_recorded_anew_is_known_while_the_bucket_of_its_old_record_goes() {
    check(150, || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        check_and_set(&engine, "a", b"old");
        bench.advance(12 * MINUTE);
        let again = part(&engine, |engine| {
            assert!(check_and_set(engine, "a", b"new") && is_known(engine, "a"));
        });
        let upkeep = part(&engine, |engine| {
            engine.maintain(Duration::ZERO).unwrap();
            renew_all(engine);
        });
        together(vec![again, upkeep]);
        engine.maintain(Duration::ZERO).unwrap();
        assert!(is_known(&engine, "a"));
        assert!(is_known(&bench.open(), "a"), "filled at open");
    });
}
