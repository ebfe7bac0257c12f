//! Checks: one key, or many with as few round trips as they need.
//!
//! A script decides on one key after another. To a server, several keys go in each call; to a
//! cluster one, since keys lie on different nodes, and calls go out side by side. All items with
//! one key are in one call in their order: so they are decided one after another, whatever becomes
//! of the order of calls on the way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use futures_util::StreamExt;
use futures_util::stream;
use oncelog::backend::CheckTerms;
use oncelog::{Anchor, Check, Error, LongOutcomePolicy, Result};
use redis::{Cmd, RedisWrite, ToRedisArgs, Value};

use crate::answer::Parts;
use crate::backend::{RedisBackend, lifetime};
use crate::call::{Acknowledged, Effect};
use crate::connect::Connect;
use crate::script::{Naming, SCRIPTS};
use crate::trouble::{self, Reach};

/// What the script answers if all keys of a call are new.
const ALL_NEW: Value = Value::Int(0);
/// Keys in one call of the script: it takes some 0.2 ms of the server's time then.
const CALL_KEYS: usize = 64;
/// Bytes in one call, about.
const CALL_BYTES: usize = 64 << 10;
/// Calls in one round trip.
const TRIP_CALLS: usize = 16;
/// Calls to a cluster that are on their way at a time.
const CLUSTER_CALLS: usize = 64;

/// An item of a batch that can be sent.
struct Item<'a> {
    /// Its place in the batch.
    index: usize,
    name: Vec<u8>,
    /// Or what is kept of it, if it is too long.
    outcome: Cow<'a, [u8]>,
    is_mark: bool,
}

/// A call's number and the outcome, in one argument.
struct Numbered<'a> {
    call: [u8; 8],
    outcome: &'a [u8],
}

impl ToRedisArgs for Numbered<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut writer = out.writer_for_next_arg();
        // Into memory, where writing does not fail.
        let _ = writer.write_all(&self.call).and_then(|()| writer.write_all(self.outcome));
    }
}

impl<S: Connect> RedisBackend<S> {
    pub(crate) async fn check(
        &self,
        key: &[u8],
        outcome: &[u8],
        terms: &CheckTerms,
    ) -> Result<Check> {
        let item = self.item(0, (key, outcome), terms)?;
        let command = self.command(&[item], terms, self.sent(terms.sent_at).await?);
        let caller = &self.shared.caller;
        let (value, acknowledged) = caller.ask(&SCRIPTS.check, command, Effect::Writes).await?;
        if value == ALL_NEW {
            return acknowledged.confirm().map(|()| Check::New);
        }
        checked(Parts::of(value)?.next()?, acknowledged, caller.reach())
    }

    pub(crate) async fn check_many(
        &self,
        items: &[(&[u8], &[u8])],
        terms: &CheckTerms,
    ) -> Result<Vec<Result<Check>>> {
        let mut answers: Vec<Option<Result<Check>>> = Vec::with_capacity(items.len());
        let mut sound = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let item = self.item(index, *item, terms);
            answers.push(item.map(|item| sound.push(item)).err().map(Err));
        }
        let calls = divide(sound, self.shared.caller.clustered);
        if !calls.is_empty() {
            let sent = self.sent(terms.sent_at).await?;
            let command = |call| self.command(call, terms, sent);
            let commands = calls.iter().map(|call| command(call)).collect();
            let results = self.send(commands).await?;
            for (call, result) in calls.iter().zip(results) {
                self.sort(call, result, &mut answers);
            }
        }
        let missing = || Err(trouble::strange("fewer answers than items"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
    }

    /// Makes the calls, and fails where none of them was answered.
    async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Answer>> {
        let (caller, script) = (&self.shared.caller, &SCRIPTS.check);
        let mut results = Vec::with_capacity(commands.len());
        if caller.clustered {
            let asked = commands.into_iter();
            let asked = asked.map(|command| caller.ask(script, command, Effect::Writes));
            results = stream::iter(asked).buffered(CLUSTER_CALLS).collect().await;
        } else {
            let mut commands = commands.into_iter();
            while commands.len() > 0 {
                let trip: Vec<Cmd> = commands.by_ref().take(TRIP_CALLS).collect();
                let count = trip.len();
                match caller.ask_each(script, trip, Effect::Writes).await {
                    Ok((values, acknowledged)) => {
                        let with = |value: Value| (value, acknowledged);
                        results.extend(values.into_iter().map(|value| value.map(with)));
                    }
                    Err(error) => results.extend((0..count).map(|_| Err(trouble::again(&error)))),
                }
            }
        }
        if results.iter().any(Result::is_ok) {
            return Ok(results);
        }
        // Nothing is known of any item. If one is open, all of it is.
        let mut errors = results.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        let worst = errors.iter().position(Error::is_indeterminate).unwrap_or(0);
        Err(errors.swap_remove(worst))
    }

    /// Puts the answers to a call where its items are.
    fn sort(&self, call: &[Item<'_>], answer: Answer, answers: &mut [Option<Result<Check>>]) {
        if let Ok((ALL_NEW, acknowledged)) = &answer {
            for item in call {
                if let Some(place) = answers.get_mut(item.index) {
                    *place = Some(acknowledged.confirm().map(|()| Check::New));
                }
            }
            return;
        }
        let reach = self.shared.caller.reach();
        let checks: Vec<Result<Check>> =
            match answer.and_then(|(value, acknowledged)| Ok((Parts::of(value)?, acknowledged))) {
                Ok((parts, acknowledged)) => {
                    parts.rest().map(|value| checked(value, acknowledged, reach)).collect()
                }
                Err(error) => call.iter().map(|_| Err(trouble::again(&error))).collect(),
            };
        for (item, check) in call.iter().zip(checks) {
            if let Some(place) = answers.get_mut(item.index) {
                *place = Some(check);
            }
        }
    }

    fn item<'a>(
        &self,
        index: usize,
        (key, given): (&[u8], &'a [u8]),
        terms: &CheckTerms,
    ) -> Result<Item<'a>> {
        let name = self.shared.names.key(key)?;
        let (outcome, flag) = self.kept(given);
        if flag != 0 && terms.on_long_outcome == LongOutcomePolicy::Refuse {
            return Err(self.too_long(given));
        }
        Ok(Item { index, name, outcome, is_mark: flag != 0 })
    }

    /// A call of the script for these items.
    fn command(&self, items: &[Item<'_>], terms: &CheckTerms, (sent, born): (i64, u64)) -> Cmd {
        let mut command = SCRIPTS.check.call(Naming::Digest);
        command.arg(items.len());
        for item in items {
            command.arg(&item.name);
        }
        let last = u8::from(terms.anchor == Anchor::LastSeen);
        command.arg(lifetime(terms.retention_ms)).arg(last).arg(terms.outcome_ms.unwrap_or(0));
        command.arg(sent).arg(born).arg(self.shared.skew_ms);
        let marks = |item: &Item<'_>| if item.is_mark { b'1' } else { b'0' };
        if items.iter().any(|item| item.is_mark) {
            command.arg(items.iter().map(marks).collect::<Vec<u8>>());
        } else {
            command.arg("");
        }
        for item in items {
            command.arg(Numbered { call: self.draw(), outcome: &item.outcome });
        }
        command
    }
}

type Answer = Result<(Value, Acknowledged)>;

/// Cuts a batch into calls, each with all of the items of each of its keys.
fn divide(items: Vec<Item<'_>>, clustered: bool) -> Vec<Vec<Item<'_>>> {
    let mut first = HashMap::with_capacity(items.len());
    let mut placed = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        placed.push((*first.entry(item.name.clone()).or_insert(place), item));
    }
    if first.len() < placed.len() {
        placed.sort_by_key(|(first, item)| (*first, item.index));
    }
    let mut calls: Vec<Vec<Item<'_>>> = Vec::new();
    let (mut latest, mut bytes) = (usize::MAX, 0);
    for (first, item) in placed {
        let cost = item.name.len() + item.outcome.len();
        let full = |call: &Vec<Item<'_>>| {
            clustered || call.len() >= CALL_KEYS || bytes + cost > CALL_BYTES
        };
        let fresh = calls.last().is_none_or(full) && first != latest;
        if fresh {
            calls.push(Vec::new());
            bytes = 0;
        }
        (latest, bytes) = (first, bytes + cost);
        if let Some(call) = calls.last_mut() {
            call.push(item);
        }
    }
    calls
}

/// What was answered of one item.
fn checked(value: Value, acknowledged: Acknowledged, reach: Reach) -> Result<Check> {
    if value == Value::Int(0) {
        return acknowledged.confirm().map(|()| Check::New);
    }
    let mut parts = Parts::of(value)?;
    match parts.number()? {
        1 => parts.record().map(Check::Duplicate),
        2 => Err(Error::InProgress { deadline_ms: parts.number()? }),
        3 => Err(Error::Unresolved),
        4 => Err(Error::Stale { horizon_ms: parts.number()? }),
        9 => Err(trouble::of_text(&String::from_utf8_lossy(&parts.bytes()?), reach)),
        _ => Err(trouble::strange("a state that is none")),
    }
}
