//! Whoever waits for a key in progress goes on when the lease ends, in whatever way it ends.
//!
//! The waits are the real ones, of [`InProgress::wait`](crate::InProgress::wait) one layer up,
//! rebuilt from the same parts: a wake-up that is lost leaves the thread waiting for ever.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::begin::{Begun, Grant};
use crate::engine::bench::{Bench, MINUTE};
use crate::engine::finish::Ending;
use crate::engine::models::{bench, part, together};
use crate::policy::{BeginOptions, Policy};
use crate::record::Ignore;
use crate::sys::sync_model::check;

const KEY: &[u8] = b"key";

fn begin(engine: &Engine) -> Begun {
    let terms = Policy::default().terms(&BeginOptions::new(), 10 * MINUTE).unwrap();
    let now = engine.clock.now();
    engine.with_key(None, KEY, |full| engine.begin(full, &terms, now)).unwrap()
}

fn started(begun: Begun) -> Grant {
    match begun {
        Begun::Started(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// Waits as `InProgress::wait` does; what the key then answers.
fn wait(engine: &Engine) -> Begun {
    let hash = engine.with_key(None, KEY, |full| Ok(full.hash)).unwrap();
    let registration = engine.waiters.register(hash);
    loop {
        registration.arm();
        match begin(engine) {
            Begun::InProgress(meta) => {
                registration.expect(meta.deadline.unwrap());
                registration.wait(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

fn end(engine: &Engine, grant: &Grant, ending: Ending<'_>) {
    let now = engine.clock.now();
    engine.with_key(None, KEY, |full| engine.finish(full, grant.version, ending, now)).unwrap();
}

/// Two wait while `finish` ends the lease; whoever gets the key completes it.
fn model(finish: fn(&Bench, &Engine, &Grant), outcome: &'static [u8]) {
    check(300, move || {
        let bench = Arc::new(bench());
        let engine = Arc::new(bench.open());
        let grant = started(begin(&engine));
        let waiting = |_: usize| {
            part(&engine, |engine| match wait(engine) {
                Begun::Started(grant) => {
                    end(engine, &grant, Ending::Complete(b"a waiter's"));
                    b"a waiter's".to_vec()
                }
                Begun::Completed(record) => record.outcome().to_vec(),
                other => panic!("{other:?}"),
            })
        };
        let mut parts: Vec<_> = (0..2).map(waiting).collect();
        parts.push(part(&engine, move |engine| {
            finish(&bench, engine, &grant);
            outcome.to_vec()
        }));
        let seen = together(parts);
        assert!(seen.iter().all(|seen| seen == outcome), "{seen:?}");
        assert_eq!(engine.waiters.count(), 0);
    });
}

#[test]
fn a_completion_reaches_everybody_who_waits() {
    model(|_, engine, grant| end(engine, grant, Ending::Complete(b"done")), b"done");
}

#[test]
fn a_failure_reaches_everybody_who_waits() {
    model(|_, engine, grant| end(engine, grant, Ending::Fail(b"failed")), b"failed");
}

#[test]
fn a_released_key_goes_to_one_who_waits_and_its_outcome_to_the_other() {
    model(|_, engine, grant| end(engine, grant, Ending::Release(0)), b"a waiter's");
}

#[test]
fn a_removed_key_goes_to_one_who_waits_and_its_outcome_to_the_other() {
    let remove = |_: &Bench, engine: &Engine, _: &Grant| {
        let now = engine.clock.now();
        assert!(engine.with_key(None, KEY, |full| engine.remove(full, None, now)).unwrap());
    };
    model(remove, b"a waiter's");
}

#[test]
fn a_key_whose_lease_ran_out_goes_to_one_who_waits_and_its_outcome_to_the_other() {
    let run_out = |bench: &Bench, engine: &Engine, _: &Grant| {
        bench.advance(MINUTE);
        engine.maintain(Duration::ZERO).unwrap();
    };
    model(run_out, b"a waiter's");
}

#[test]
fn closing_wakes_everybody_who_waits() {
    check(200, || {
        let engine = Arc::new(bench().open());
        started(begin(&engine));
        let terms = Policy::default().terms(&BeginOptions::new(), 10 * MINUTE).unwrap();
        let waiting = part(&engine, move |engine| {
            let hash = engine.with_key(None, KEY, |full| Ok(full.hash)).unwrap();
            let registration = engine.waiters.register(hash);
            loop {
                registration.arm();
                let now = engine.clock.now();
                match engine.with_key(None, KEY, |full| engine.begin(full, &terms, now)) {
                    Ok(Begun::InProgress(_)) => registration.wait(Duration::from_secs(1)),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => return error.to_string(),
                }
            }
        });
        let closing = part(&engine, |engine| engine.close().unwrap().to_string());
        let reading =
            part(&engine, |engine| format!("{:?}", engine.get(b"other", &mut Ignore).ok()));
        together(vec![waiting, closing, reading]);
    });
}
