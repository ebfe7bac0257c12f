//! Outcomes set by version and checkpoints on a simulated disk: a full one, one that loses power.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::begin::Grant;
use crate::engine::bench::{Bench, MINUTE, begin, get};
use crate::engine::finish::Ending;
use crate::error::{Error, Result};
use crate::options::{CheckOptions, Kept};
use crate::policy::Policy;
use crate::record::Own;
use crate::version::Version;

const LIFE: u64 = 10 * MINUTE;

fn kept() -> Kept {
    Policy::DEFAULT.kept(&CheckOptions::new(), LIFE).unwrap()
}

fn set(engine: &Engine, key: &str, expected: Option<Version>, outcome: &[u8]) -> Result<Version> {
    let now = engine.clock.now();
    let set = engine.with_key(None, key.as_bytes(), |full| {
        engine.set_if(full, expected, outcome, (Some(LIFE), kept()), now)
    });
    Ok(set?.unwrap_or_else(|| panic!("{key} is not as expected")))
}

fn version(engine: &Engine, key: &str) -> Version {
    let found = engine.get(key.as_bytes(), &mut Own).unwrap();
    found.unwrap_or_else(|| panic!("{key} is forgotten")).version()
}

fn end(engine: &Engine, key: &str, grant: &Grant, ending: Ending<'_>) -> Result<()> {
    let now = engine.clock.now();
    engine
        .with_key(None, key.as_bytes(), |full| engine.finish(full, grant.version, ending, now))?;
    Ok(())
}

/// Uses up all room of the bucket that the keys go to.
fn fill(bench: &Bench, engine: &Engine) {
    *bench.disk.room.lock() = Some(0);
    for number in 0..100_000 {
        let key = format!("fill {number}");
        match engine.check_and_set(key.as_bytes(), &[1; 600], LIFE, &mut Own) {
            Ok(_) => {}
            Err(Error::Full { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never filled up");
}

#[test]
fn after_a_power_cut_a_key_has_the_synced_outcome_or_a_later_one_and_a_job_such_a_point() {
    let mut seed = 9_u64;
    for round in 0..40 {
        let mut bench = Bench::new();
        bench.constant_hash = round % 4 == 0;
        let engine = bench.open();
        let keys: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let mut versions: Vec<Version> =
            keys.iter().map(|key| set(&engine, key, None, b"0").unwrap()).collect();
        let jobs: Vec<String> = keys.iter().map(|key| format!("job {key}")).collect();
        let grants: Vec<Grant> = jobs.iter().map(|job| begin(&engine, job, LIFE)).collect();
        for step in 0..8_u8 {
            for (key, version) in keys.iter().zip(&mut versions) {
                *version = set(&engine, key, Some(*version), &[b'1' + step]).unwrap();
            }
            for (job, grant) in jobs.iter().zip(&grants) {
                let point = [b'1' + step];
                end(&engine, job, grant, Ending::Checkpoint(MINUTE, &point)).unwrap();
            }
            if step == 3 {
                engine.sync().unwrap();
            }
        }
        let cut = bench.disk.after_power_cut(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 63 == 0
        });
        drop(engine);
        bench.disk = Arc::new(cut);
        let engine = bench.open();
        bench.advance(MINUTE);
        for (key, job) in keys.iter().zip(&jobs) {
            let outcome = get(&engine, key).unwrap();
            assert!((b'4'..=b'8').contains(&outcome[0]), "{outcome:?} in round {round}");
            let next = set(&engine, key, Some(version(&engine, key)), b"next").unwrap();
            assert!(versions.iter().all(|earlier| *earlier < next));
            let point = begin(&engine, job, LIFE).point;
            assert!((b'4'..=b'8').contains(&point[0]), "{point:?} in round {round}");
        }
    }
}

#[test]
fn an_outcome_or_a_point_that_found_no_room_leaves_the_one_before() {
    let bench = Bench::new();
    let engine = bench.open();
    let version = set(&engine, "key", None, b"before").unwrap();
    let grant = begin(&engine, "job", LIFE);
    end(&engine, "job", &grant, Ending::Checkpoint(MINUTE, b"before")).unwrap();
    fill(&bench, &engine);
    let large = vec![2; 900_000];
    let now = engine.clock.now();
    let refused = engine.with_key(None, b"key", |full| {
        engine.set_if(full, Some(version), &large, (None, kept()), now)
    });
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    assert_eq!(get(&engine, "key"), Some(b"before".to_vec()));
    let refused = end(&engine, "job", &grant, Ending::Checkpoint(MINUTE, &large));
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    // The lease is as it was, with its point, and with the room that was reserved.
    end(&engine, "job", &grant, Ending::Release(0)).unwrap();
    let grant = begin(&engine, "job", LIFE);
    assert_eq!(grant.point, b"before");
    *bench.disk.room.lock() = None;
    set(&engine, "key", Some(version), b"after").unwrap();
    assert_eq!(get(&engine, "key"), Some(b"after".to_vec()));
}
