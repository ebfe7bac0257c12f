//! check_and_set: new or duplicate, singly and in batches; and requests that come too late.

use crate::answers::Check;
use crate::backend::suite::failure::{Step, ensure, ensure_eq, got};
use crate::backend::suite::trial::{LONG, Space, Trial, after, lasting};
use crate::backend::{AnyBackend, Backend};
use crate::error::{Error, Result};
use crate::meta::Status;
use crate::options::CheckOptions;
use crate::policy::{AbandonPolicy, BeginOptions};
use crate::record::Record;
use crate::time::Timestamp;

pub(super) async fn a_key_is_new_once(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let from = space.now().await?;
    let checked = space.one.check_and_set(b"key", b"first", CheckOptions::new()).await?;
    ensure!(checked.is_new(), "{checked:?} for a key that nobody used");
    let meta = space.meta(b"key", Status::Completed).await?;
    ensure_eq!(meta.attempts, 0, "attempts of a key that was never begun");
    ensure!(!meta.has_fingerprint, "{meta:?}");
    ensure!(meta.first_seen >= from && meta.first_seen <= space.now().await?, "{meta:?}");
    ensure_eq!(meta.completed_at, Some(meta.first_seen), "when it was completed");
    ensure_eq!((meta.updated, meta.deadline), (meta.first_seen, None), "times");
    ensure_eq!(meta.expires, Some(after(meta.first_seen, 24 * LONG)), "expiry");
    for client in [&space.two, &space.one] {
        let checked = client.check_and_set(b"key", b"second", CheckOptions::new()).await?;
        let record = got!(checked, Check::Duplicate(record) => record);
        ensure_eq!(record.outcome(), b"first", "outcome");
        ensure_eq!(record.meta(), meta, "what check_and_set and peek say");
    }
    Ok(())
}

pub(super) async fn a_request_older_than_the_memory_is_stale(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let born_by = space.now().await?;
    let at = |sent: u64| Timestamp::from_millis(sent);
    let check = |sent| CheckOptions::new().sent_at(sent);
    let begin = |sent| BeginOptions::new().sent_at(sent);
    let checked = space.one.check_and_set(b"key", b"x", check(at(1))).await;
    let horizon = got!(checked, Err(Error::Stale { horizon_ms }) => horizon_ms);
    ensure!(at(horizon) <= born_by, "horizon {horizon}, after the namespace was made");
    ensure!(at(horizon) > at(1), "horizon {horizon}");
    // For all clients the same, and exact.
    for client in [&space.one, &space.two] {
        let begun = client.begin(b"key", begin(at(horizon - 1))).await;
        ensure_eq!(got!(begun, Err(Error::Stale { horizon_ms }) => horizon_ms), horizon, "horizon");
    }
    ensure_eq!(space.two.peek(b"key").await?, None, "after the refusals");
    let checked = space.two.check_and_set(b"set", b"x", check(at(horizon))).await?;
    ensure!(checked.is_new(), "{checked:?} for a request that is not stale");
    let grant = space.begun(b"begun", begin(at(horizon))).await?;
    // Of a key that is known it does not matter.
    let checked = space.two.check_and_set(b"set", b"x", check(at(1))).await?;
    ensure!(checked.is_duplicate(), "a known key is new");
    space.one.release(b"begun", grant.version, None).await?;
    let grant = space.begun(b"begun", begin(at(1))).await?;
    ensure_eq!(grant.attempt, 2, "attempt");
    space.one.release(b"begun", grant.version, None).await?;
    let checked = space.two.check_and_set(b"begun", b"x", check(at(1))).await?;
    ensure!(checked.is_new(), "{checked:?} for a released key");
    // Later it is the retention that the horizon follows.
    let retention = trial.unit();
    trial.harness.pass(2 * retention).await;
    let early = space.now().await?;
    let options = check(at(horizon)).retention(retention);
    let checked = space.one.check_and_set(b"later", b"x", options).await;
    let moved = got!(checked, Err(Error::Stale { horizon_ms }) => horizon_ms);
    let late = space.now().await?;
    let within = after(at(moved), retention);
    ensure!(within >= early && within <= late, "{moved} is not {retention:?} ago");
    Ok(())
}

pub(super) async fn duplicates_inside_a_batch_resolve_in_order(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let empty = space.one.check_and_set_many(&[], CheckOptions::new()).await?;
    ensure!(empty.is_empty(), "{empty:?} for no items");
    let items: [(&[u8], &[u8]); 6] = [
        (b"a", b"first"),
        (b"b", b"second"),
        (b"a", b"third"),
        (b"c", b""),
        (b"b", b"fifth"),
        (b"a", b"sixth"),
    ];
    let checks = space.one.check_and_set_many(&items, CheckOptions::new()).await?;
    let wanted = [
        None,
        None,
        Some(b"first".to_vec()),
        None,
        Some(b"second".to_vec()),
        Some(b"first".to_vec()),
    ];
    ensure_eq!(outcomes(&checks), wanted, "the first time");
    let checks = space.two.check_and_set_many(&items, CheckOptions::new()).await?;
    let known = [&b"first"[..], b"second", b"first", b"", b"second", b"first"];
    let wanted: Vec<_> = known.iter().map(|outcome| Some(outcome.to_vec())).collect();
    ensure_eq!(outcomes(&checks), wanted, "the second time");
    let options = CheckOptions::new().retention(LONG);
    let checks = space.one.check_and_set_many(&[(b"d", b"x")], options).await?;
    ensure_eq!(outcomes(&checks), [None], "with options");
    let meta = space.meta(b"d", Status::Completed).await?;
    ensure_eq!(meta.expires, Some(after(meta.updated, LONG)), "options hold for each");
    Ok(())
}

/// Of each answer, the outcome of a duplicate.
fn outcomes(checks: &[Result<Check>]) -> Vec<Option<Vec<u8>>> {
    let outcome = |check: &Result<Check>| match check {
        Ok(Check::Duplicate(record)) => Some(record.outcome().to_vec()),
        _ => None,
    };
    checks.iter().map(outcome).collect()
}

pub(super) async fn a_large_batch_is_answered_in_order(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let keys: Vec<Vec<u8>> = (0..1_000_u32).map(|n| format!("key {n}").into_bytes()).collect();
    let odd = keys.iter().skip(1).step_by(2);
    let odd: Vec<(&[u8], &[u8])> = odd.map(|key| (&key[..], &key[..])).collect();
    let checks = space.one.check_and_set_many(&odd, CheckOptions::new()).await?;
    ensure_eq!(checks.len(), odd.len(), "answers");
    for check in checks {
        ensure!(check?.is_new(), "a key that nobody used is known");
    }
    let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &b"x"[..])).collect();
    let checks = space.two.check_and_set_many(&all, CheckOptions::new()).await?;
    ensure_eq!(checks.len(), all.len(), "answers");
    for (n, (check, (key, _))) in checks.into_iter().zip(all).enumerate() {
        match check? {
            Check::New => ensure!(n % 2 == 0, "item {n} is new"),
            Check::Duplicate(record) => {
                ensure!(n % 2 == 1, "item {n} is known");
                ensure_eq!(record.outcome(), key, "outcome");
            }
        }
    }
    Ok(())
}

/// A key in every state, and keys that are none.
async fn in_every_state(space: &Space<'_>) -> Step {
    space.done(b"done", b"outcome").await?;
    let grant = space.begun(b"failed", BeginOptions::new()).await?;
    space.one.fail(b"failed", grant.version, b"failure").await?;
    space.begun(b"held", BeginOptions::new()).await?;
    let grant = space.begun(b"released", BeginOptions::new()).await?;
    space.one.release(b"released", grant.version, None).await?;
    let grant = space.begun(b"for later", BeginOptions::new()).await?;
    space.one.release(b"for later", grant.version, Some(LONG)).await?;
    space.overdue(b"overdue", BeginOptions::new()).await?;
    let hold = BeginOptions::new().on_abandon(AbandonPolicy::Hold);
    space.overdue(b"unknown", hold).await?;
    space.done(b"removed", b"x").await?;
    ensure!(space.one.remove(b"removed", None).await?, "not removed");
    Ok(())
}

const STATES: [&[u8]; 11] = [
    b"done",
    b"failed",
    b"held",
    b"",
    b"released",
    b"for later",
    b"overdue",
    b"unknown",
    b"removed",
    b"unused",
    b"done",
];

/// What was answered, without what differs from one key to another.
fn kind(check: Result<Check>) -> String {
    match check {
        Ok(Check::New) => "new".into(),
        Ok(Check::Duplicate(record)) => {
            let outcome = String::from_utf8_lossy(record.outcome()).into_owned();
            format!("{outcome:?}, failure: {}", record.is_failure())
        }
        Err(Error::InProgress { .. }) => "in progress".into(),
        Err(error) => format!("{error:?}"),
    }
}

pub(super) async fn a_batch_answers_as_single_checks_do(trial: &Trial<'_>) -> Step {
    let singly = trial.space(lasting()).await?;
    in_every_state(&singly).await?;
    let mut wanted = Vec::new();
    for key in STATES {
        wanted.push(kind(singly.one.check_and_set(key, b"set", CheckOptions::new()).await));
    }
    let together = trial.space(lasting()).await?;
    in_every_state(&together).await?;
    let items = STATES.map(|key| (key, &b"set"[..]));
    let checks = together.one.check_and_set_many(&items, CheckOptions::new()).await?;
    let found: Vec<String> = checks.into_iter().map(kind).collect();
    ensure_eq!(found, wanted, "in place of what single checks answer");
    let known = ["new", "in progress", "EmptyKey", "Unresolved", "\"outcome\", failure: false"];
    for answer in known {
        ensure!(wanted.iter().any(|found| found == answer), "no answer is {answer}: {wanted:?}");
    }
    Ok(())
}

pub(super) async fn an_item_that_is_refused_keeps_no_other_back(trial: &Trial<'_>) -> Step {
    let space = trial.space(lasting()).await?;
    let profile = space.one.profile();
    let long_key = vec![b'k'; profile.key_bytes_max + 1];
    let long_outcome = vec![0; profile.outcome_bytes_max.min(super::OUTCOME_BYTES_TRIED) + 1];
    let tried = profile.outcome_bytes_max <= super::OUTCOME_BYTES_TRIED;
    let items: [(&[u8], &[u8]); 6] = [
        (b"a", b"1"),
        (b"", b"2"),
        (b"b", b"3"),
        (&long_key, b"4"),
        (if tried { b"c" } else { b"" }, &long_outcome),
        (b"d", b"6"),
    ];
    let checks = space.two.check_and_set_many(&items, CheckOptions::new()).await?;
    let checks: [Result<Check>; 6] = got!(checks.try_into(), Ok(checks) => checks);
    let [a, empty, b, long_key, long_outcome, d] = checks;
    for check in [a, b, d] {
        ensure!(check?.is_new(), "a key that nobody used is known");
    }
    got!(empty, Err(Error::EmptyKey) => ());
    got!(long_key, Err(Error::KeyTooLong { .. }) => ());
    if tried {
        got!(long_outcome, Err(Error::OutcomeTooLong { .. }) => ());
    }
    ensure_eq!(space.one.peek(b"c").await?, None, "a key that was refused");
    for (key, outcome) in [(b"a", b"1"), (b"b", b"3"), (b"d", b"6")] {
        let record = got!(space.one.get(key).await?, Some(record) => record);
        ensure_eq!(record.outcome(), outcome, "outcome");
    }
    Ok(())
}

/// The record of a key, which has to be known.
pub(super) async fn record_of(client: &AnyBackend, key: &[u8]) -> Step<Record> {
    Ok(got!(client.get(key).await?, Some(record) => record))
}
