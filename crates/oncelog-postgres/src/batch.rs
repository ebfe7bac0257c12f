//! check_and_set of many keys as one statement.
//!
//! The statement wants each key once. Later items with a key are answered here, from what the
//! first of them has left: nobody else could have come in between.

use std::collections::HashMap;

use oncelog::{Check, CheckOptions, Record, Result};
use tokio_postgres::Row;

use crate::answer::{Answer, Verdict, column};
use crate::keys::{Kept, Keys, Payload};
use crate::trouble::{aborted, strange};
use crate::verbs::{self, Ask};

/// How often items whose records are removed meanwhile are asked for at most.
const ROUNDS_MAX: u32 = 100;

/// A key, and the items that have it.
struct Item<'a> {
    key: &'a [u8],
    outcome: &'a [u8],
    payload: Payload<'a>,
    /// Of the first item with the key, and of those after it.
    first: usize,
    later: Vec<usize>,
}

type Answers = Vec<Option<Result<Check>>>;

impl Keys {
    pub(crate) async fn check_many(
        &self,
        server: &impl Ask,
        items: &[(&[u8], &[u8])],
        options: &CheckOptions,
    ) -> Result<Vec<Result<Check>>> {
        let terms = self.check_terms(options)?;
        let kept = Kept::new(&terms)?;
        let mut answers: Answers = items.iter().map(|_| None).collect();
        let mut unique: Vec<Item<'_>> = Vec::with_capacity(items.len());
        let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(items.len());
        for ((index, (key, outcome)), answer) in items.iter().enumerate().zip(&mut answers) {
            let payload = match self.check_key(key).and_then(|()| self.checked(outcome, &terms)) {
                Ok(payload) => payload,
                Err(error) => {
                    *answer = Some(Err(error));
                    continue;
                }
            };
            match places.get(key).and_then(|place| unique.get_mut(*place)) {
                Some(item) => item.later.push(index),
                None => {
                    places.insert(key, unique.len());
                    unique.push(Item { key, outcome, payload, first: index, later: Vec::new() });
                }
            }
        }
        // The order in which all batches take their locks.
        unique.sort_unstable_by_key(|item| item.key);
        for _ in 0..ROUNDS_MAX {
            if unique.is_empty() {
                break;
            }
            unique = self.check_round(server, unique, &kept, &mut answers).await?;
        }
        let missing = || Err(aborted("the key was removed again and again"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
    }

    /// Asks for all items, and hands back those to be asked for again: records that were removed
    /// while the statement ran.
    async fn check_round<'a>(
        &self,
        server: &impl Ask,
        items: Vec<Item<'a>>,
        kept: &Kept,
        answers: &mut Answers,
    ) -> Result<Vec<Item<'a>>> {
        let details = items.iter().any(|item| !item.later.is_empty());
        let rows = {
            let keys: Vec<&[u8]> = items.iter().map(|item| item.key).collect();
            let outcomes: Vec<_> = items.iter().map(|item| item.payload.outcome).collect();
            // Empty arrays stand for as many nulls.
            let marked = items.iter().any(|item| item.payload.bytes.is_some());
            let marks = || items.iter().filter(|_| marked);
            let bytes: Vec<_> = marks().map(|item| item.payload.bytes).collect();
            let digests: Vec<_> = marks().map(|item| item.payload.digest()).collect();
            let values: &verbs::Values<'_> = &[
                &self.space,
                &self.born,
                &keys,
                &outcomes,
                &bytes,
                &digests,
                &kept.retention,
                &kept.lifetime,
                &kept.outcome_ms,
                &kept.last_seen,
                &kept.sent_at,
                &details,
            ];
            server.ask(&verbs::CHECK_MANY, values).await?
        };
        let mut answered = place(&rows, items.len())?;
        let mut again = Vec::new();
        for (item, row) in items.into_iter().zip(answered.drain(..)) {
            match row {
                None => set(answers, item.first, Ok(Check::New)),
                Some(answer) if answer.verdict()? == Verdict::Again => again.push(item),
                Some(answer) => answer_item(answers, &item, answer)?,
            }
        }
        Ok(again)
    }
}

/// The row of each item; none for one that is new and of which no more is said.
fn place(rows: &[Row], count: usize) -> Result<Vec<Option<Answer<'_>>>> {
    let (head, rows) = rows.split_first().ok_or_else(|| strange("a batch answered nothing"))?;
    let new: Option<i64> = column(head, 3)?;
    let mut answers: Vec<_> = (0..count).map(|_| None).collect();
    let (mut told, mut told_new) = (0, 0);
    for row in rows {
        let item: i64 = column(row, 0)?;
        let place = usize::try_from(item - 1).ok().and_then(|item| answers.get_mut(item));
        let answer = Answer::new(row, 1);
        *place.ok_or_else(|| strange("a batch answered for an item that is none"))? = Some(answer);
        told += 1;
        told_new += i64::from(answer.verdict()? == Verdict::Done);
    }
    // What nothing is said of must be new, or nothing would be known of it.
    let silent = i64::try_from(count).unwrap_or(i64::MAX) - told;
    if silent != 0 && new != Some(silent + told_new) {
        return Err(strange("a batch did not answer for all of its items"));
    }
    Ok(answers)
}

fn set(answers: &mut Answers, index: usize, answer: Result<Check>) {
    if let Some(place) = answers.get_mut(index) {
        *place = Some(answer);
    }
}

/// Answers an item, and those after it with the same key.
fn answer_item(answers: &mut Answers, item: &Item<'_>, answer: Answer<'_>) -> Result<()> {
    let once = || answer.check().map(|check| check.unwrap_or(Check::New));
    set(answers, item.first, once());
    for index in &item.later {
        let repeated = match once() {
            Ok(Check::New) => Ok(Check::Duplicate(recorded(item, answer)?)),
            other => other,
        };
        set(answers, *index, repeated);
    }
    Ok(())
}

/// The record that an item has left, whose outcome did not have to be sent back.
fn recorded(item: &Item<'_>, answer: Answer<'_>) -> Result<Record> {
    if item.payload.outcome.is_some() {
        return Ok(Record::from_parts(&answer.meta()?, Ok(item.outcome)));
    }
    answer.record()
}
