//! Keys and outcomes are bytes, whatever they are; and namespaces do not meet.

use std::collections::BTreeSet;

use super::checks::record_of;
use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Trial, lasting};
use crate::backend::{Backend, Begin};
use crate::error::{Error, Result};
use crate::options::CheckOptions;
use crate::policy::BeginOptions;
use crate::version::Version;

/// Keys that somebody might take for something else.
const STRANGE: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"a",
    b"a\0",
    b"a\0b",
    b"A",
    b" a",
    b"a ",
    b"\xfe",
    b"\xff",
    b"\xff\xff",
    b"\xc3\x28",
    b"\xf0\x9f\x92\xa9",
    b"\n",
    b"\r\n",
    b"'; DROP TABLE keys; --",
    b"\\x00",
    b"\\",
    b"%",
    b"_",
    b"*",
    b"?",
    b"[a]",
    b"{a}",
    b"{}",
    b"}{",
    b"a:b",
    b":",
    b"1",
    b"01",
    b"NULL",
    b"\"",
    b"$1",
    b"\x7f\x80",
];

pub(super) async fn keys_are_bytes(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    // Each has an outcome of its own, so that two that are taken for one are noticed.
    for key in STRANGE {
        let checked = space.one.check_and_set(key, key, CheckOptions::new()).await?;
        ensure!(checked.is_new(), "key {key:?} was taken for another one");
    }
    for key in STRANGE {
        ensure_eq!(record_of(&space.two, key).await?.outcome(), *key, "outcome");
    }
    for key in STRANGE {
        ensure!(space.two.remove(key, None).await?, "key {key:?} was not removed");
        let grant = space.begun(key, BeginOptions::new()).await?;
        space.two.renew(key, grant.version, LONG).await?;
        space.one.complete(key, grant.version, key).await?;
        let begun = space.two.begin(key, BeginOptions::new()).await?;
        let record = got!(begun, Begin::Completed(record) => record);
        ensure_eq!(record.outcome(), *key, "outcome");
    }
    let items: Vec<(&[u8], &[u8])> = STRANGE.iter().map(|key| (*key, &b"x"[..])).collect();
    let checks = space.one.check_and_set_many(&items, CheckOptions::new()).await?;
    for ((key, _), check) in items.into_iter().zip(checks) {
        let record = got!(check?, Check::Duplicate(record) => record);
        ensure_eq!(record.outcome(), key, "outcome");
    }
    Ok(())
}

pub(super) async fn outcomes_are_bytes(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let every: Vec<u8> = (0..=255).collect();
    let outcomes: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0; 100],
        vec![0xff; 100],
        b"\0a".to_vec(),
        b"a\0".to_vec(),
        every.repeat(40),
        b"\xc3\x28".to_vec(),
        b"null".to_vec(),
        b"\\x00".to_vec(),
    ];
    for (n, outcome) in (0_u8..).zip(outcomes) {
        let (set, begun, failed) = ([n, 0], [n, 1], [n, 2]);
        let checked = space.one.check_and_set(&set, &outcome, CheckOptions::new()).await?;
        ensure!(checked.is_new(), "known");
        let grant = space.begun(&begun, BeginOptions::new()).await?;
        space.one.complete(&begun, grant.version, &outcome).await?;
        let grant = space.begun(&failed, BeginOptions::new()).await?;
        space.one.fail(&failed, grant.version, &outcome).await?;
        for key in [set, begun, failed] {
            let record = record_of(&space.two, &key).await?;
            ensure_eq!(record.outcome(), outcome, "outcome");
            ensure_eq!(record.meta().outcome_bytes, outcome.len(), "length");
            ensure!(record.outcome_gone().is_none(), "an outcome of {n} is gone");
            let checked = space.two.check_and_set(&key, b"x", CheckOptions::new()).await?;
            let record = got!(checked, Check::Duplicate(record) => record);
            ensure_eq!(record.outcome(), outcome, "outcome");
        }
    }
    Ok(())
}

pub(super) async fn the_longest_keys_and_outcomes_are_taken(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let profile = space.one.profile();
    let mut long = vec![0xfe; profile.key_bytes_max];
    ensure!(space.one.check_and_set(&long, b"1", CheckOptions::new()).await?.is_new(), "known");
    if let Some(last) = long.last_mut() {
        *last = 0xfd;
    }
    let grant = space.begun(&long, BeginOptions::new()).await?;
    space.two.complete(&long, grant.version, b"2").await?;
    ensure_eq!(record_of(&space.two, &long).await?.outcome(), b"2", "outcome");
    if let Some(last) = long.last_mut() {
        *last = 0xfe;
    }
    ensure_eq!(record_of(&space.two, &long).await?.outcome(), b"1", "outcome");
    if profile.outcome_bytes_max > super::OUTCOME_BYTES_TRIED {
        return Err(super::UNTRIED);
    }
    let outcome: Vec<u8> = (0..=255).cycle().take(profile.outcome_bytes_max).collect();
    let checked = space.one.check_and_set(b"set", &outcome, CheckOptions::new()).await?;
    ensure!(checked.is_new(), "known");
    ensure!(record_of(&space.two, b"set").await?.outcome() == outcome, "another outcome");
    let grant = space.begun(b"begun", BeginOptions::new()).await?;
    space.one.complete(b"begun", grant.version, &outcome).await?;
    ensure!(record_of(&space.two, b"begun").await?.outcome() == outcome, "another outcome");
    Ok(())
}

pub(super) async fn keys_beyond_the_limits_are_refused_by_every_verb(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let max = space.one.profile().key_bytes_max;
    let long = vec![b'k'; max + 1];
    let version = Version::from_u64(1);
    for key in [&[][..], &long] {
        let client = &space.one;
        let refused: [Result<()>; 11] = [
            client.check_and_set(key, b"x", CheckOptions::new()).await.map(drop),
            client.begin(key, BeginOptions::new()).await.map(drop),
            client.complete(key, version, b"x").await.map(drop),
            client.fail(key, version, b"x").await.map(drop),
            client.release(key, version, None).await,
            client.renew(key, version, LONG).await.map(drop),
            client.resolve(key, b"x").await.map(drop),
            client.get(key).await.map(drop),
            client.peek(key).await.map(drop),
            client.remove(key, None).await.map(drop),
            client.wait(key, LONG).await.map(drop),
        ];
        for (verb, answer) in refused.into_iter().enumerate() {
            match answer {
                Err(Error::EmptyKey) => ensure!(key.is_empty(), "verb {verb} of a long key"),
                Err(Error::KeyTooLong { len, max: most }) => {
                    ensure_eq!((len, most), (key.len(), max), "lengths");
                }
                other => got!(other, Err(Error::EmptyKey) => ()),
            }
        }
    }
    Ok(())
}

pub(super) async fn namespaces_do_not_meet(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    // Joined without care, name and key of one are those of another.
    let names = ["", "a", "ab", "a:b", "A", "{a}", "a b"].map(|end| space.name.clone() + end);
    let mut versions = BTreeSet::new();
    let mut spaces = Vec::new();
    for name in names.iter().skip(1) {
        spaces.push(trial.space_named(name, lasting()).await?);
    }
    spaces.push(space);
    let keys: [&[u8]; 6] = [b"key", b"a:key", b":key", b"bkey", b"b:key", b"abkey"];
    for (n, space) in (0_u8..).zip(&spaces) {
        for (m, key) in (0_u8..).zip(keys) {
            let checked = space.one.check_and_set(key, &[n, m], CheckOptions::new()).await?;
            ensure!(checked.is_new(), "{}: {key:?} is known", space.name);
        }
        let grant = space.begun(b"held", BeginOptions::new()).await?;
        versions.insert(grant.version);
    }
    for (n, space) in (0_u8..).zip(&spaces) {
        for (m, key) in (0_u8..).zip(keys) {
            ensure_eq!(record_of(&space.two, key).await?.outcome(), [n, m], "outcome");
        }
    }
    // What is done in one is not seen in the others.
    let (Some(first), Some(last)) = (spaces.first(), spaces.last()) else { return Ok(()) };
    ensure!(first.two.remove(b"key", None).await?, "not removed");
    ensure!(first.two.remove(b"held", None).await?, "not removed");
    for space in spaces.iter().skip(1) {
        record_of(&space.two, b"key").await?;
        let held = space.two.begin(b"held", BeginOptions::new()).await?;
        got!(held, Begin::InProgress(_) => ());
    }
    ensure!(first.two.get(b"key").await?.is_none(), "a removed key has a record");
    ensure!(last.two.get(b"key").await?.is_some(), "removed in another namespace");
    Ok(())
}
