//! Bundles beside each other, beside readers, and killed at any moment.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::bench::{Bench, MINUTE, get};
use crate::engine::bundle::{Act, Part, Together};
use crate::engine::models::{part, together};
use crate::options::CheckOptions;
use crate::policy::Policy;
use crate::sys::sync_model::check;

/// Stripes enough that keys lie in several, with few steps to each.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.config.stripes = 2;
    bench
}

/// True when all keys were new and are recorded.
fn set_all(engine: &Engine, keys: &[&str]) -> bool {
    let kept = Policy::DEFAULT.kept(&CheckOptions::new(), 10 * MINUTE).unwrap();
    let act = Act::New { outcome: b"x", kept };
    let owned = |key: &&str| {
        let key = engine.with_key(None, key.as_bytes(), |full| Ok(full.to_owned())).unwrap();
        Part { key, act }
    };
    let parts: Vec<Part<'_>> = keys.iter().map(owned).collect();
    matches!(engine.together(&parts, engine.clock.now()).unwrap(), Together::Done(_))
}

/// The first of some keys whose hashes lie in the stripe.
fn key_in(engine: &Engine, stripe: usize, name: &str) -> String {
    let keys = (0..).map(|number: u32| format!("{name}{number}"));
    let in_stripe =
        |key: &String| engine.index.stripe_of(engine.hasher().hash(key.as_bytes())) == stripe;
    let mut found = keys.filter(in_stripe);
    found.next().unwrap_or_default()
}

#[test]
fn of_bundles_that_overlap_one_gets_all_of_its_keys_and_none_waits_for_ever() {
    check(400, || {
        let engine = Arc::new(bench().open());
        let [a, b] = [0, 1].map(|stripe| key_in(&engine, stripe, "k"));
        let write = |keys: [String; 2]| {
            part(&engine, move |engine| set_all(engine, &keys.each_ref().map(String::as_str)))
        };
        let won = together(vec![write([a.clone(), b.clone()]), write([b.clone(), a.clone()])]);
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        assert!(get(&engine, &a).is_some() && get(&engine, &b).is_some());
    });
}

#[test]
fn whoever_sees_one_key_of_a_bundle_sees_the_other() {
    check(600, || {
        let engine = Arc::new(bench().open());
        let [a, b] = [0, 1].map(|stripe| key_in(&engine, stripe, "k"));
        let keys = [a.clone(), b.clone()];
        let write = part(&engine, move |engine| {
            assert!(set_all(engine, &keys.each_ref().map(String::as_str)));
        });
        let read = |first: String, second: String| {
            part(&engine, move |engine| {
                if get(engine, &first).is_some() {
                    assert!(get(engine, &second).is_some(), "{second} is missing");
                }
            })
        };
        together(vec![write, read(a.clone(), b.clone()), read(b, a)]);
    });
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_a_bundle_leaves_all_of_it_or_nothing() {
    check(300, || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        let write = part(&engine, |engine| assert!(set_all(engine, &["a", "b", "c"])));
        let killed = bench.clone();
        let kill = part(&engine, move |_| {
            let next = killed.open_on(Arc::new(killed.disk.copy()));
            let known = ["a", "b", "c"].iter().filter(|key| get(&next, key).is_some()).count();
            assert!(known == 0 || known == 3, "{known} of 3");
        });
        together(vec![write, kill]);
    });
}
