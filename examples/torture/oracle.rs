//! The checker: which states a key may be in, and whether an answer is possible from one of them.
//!
//! Rules, in the order in which they are looked at:
//!
//! 1. *time*: the store's time never runs back, in no process and across none.
//! 2. *answer*: an answer follows from a state that the key may be in. So a key that is known is
//!    never new, a removed one never a duplicate, a lease that is not current never completes, and
//!    an outcome is the one that was recorded.
//! 3. A call that returned took effect. One that was under way at the end of its process took
//!    effect as a whole or not at all.
//! 4. *token*: a token is greater than every earlier one of its key, and after reopening greater
//!    than every one before.
//! 5. The end of a process takes nothing.
//! 6. A power cut takes, key by key, a key back to a state that it had since the last moment that
//!    is certain to be durable: since a sync that returned was asked for; at the level `Synced`,
//!    since the key's last answer.
//! 7. A record is found until it ends, and not from then on: between the earliest and the latest
//!    moment that the calls' times allow, both are possible.
//! 8. A call that was refused changed nothing, unless it said that this is indeterminate. Nothing
//!    is ever said to be damaged.
//! 9. *race*: of all who check a key at once one is answered *new*, and the others get its outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oncelog::Durability;

use crate::history::{Answer, Found, Line, Refusal, Seen, What};
use crate::model::{Call, Fact, after, unanswered};
use crate::random::Salt;

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.rule, self.what)
    }
}

impl std::error::Error for Violation {}

type Checked = Result<(), Violation>;

/// States that a key may have had from a moment on.
#[derive(Clone, Debug)]
struct Moment {
    since: u64,
    facts: Vec<Fact>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
struct Key {
    /// The last one is now; the earlier ones may come back by a power cut.
    moments: Vec<Moment>,
    /// The call under way.
    call: Option<Call>,
    time: u64,
    token: u64,
    /// The latest of what happened to it, for whoever looks into a violation.
    trail: VecDeque<String>,
}

/// Lines of a key's trail.
const TRAIL: usize = 14;

impl Key {
    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(text());
    }

    fn new() -> Self {
        let moments = vec![Moment { since: 0, facts: vec![Fact::Absent] }];
        Self { moments, call: None, time: 0, token: 0, trail: VecDeque::new() }
    }

    fn now(&self) -> &[Fact] {
        self.moments.last().map_or(&[], |moment| &moment.facts)
    }

    fn become_one_of(&mut self, since: u64, facts: Vec<Fact>) {
        if self.now() != facts {
            self.moments.push(Moment { since, facts });
        }
    }

    /// What was the case at `moment` is durable.
    fn settle(&mut self, moment: u64) {
        let first = self.moments.iter().rposition(|one| one.since <= moment).unwrap_or(0);
        if first > 0 {
            self.moments.drain(..first);
            self.note(|| format!("what was at {moment} is durable"));
        }
    }
}

/// A key that several threads check at once.
#[derive(Clone, Debug, Default)]
struct Race {
    offered: BTreeSet<Salt>,
    winner: Option<Salt>,
    won: bool,
}

/// Everything that the histories fed to it allow.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    level: Durability,
    keys: BTreeMap<String, Key>,
    races: BTreeMap<String, Race>,
    /// Numbers the lines.
    moment: u64,
    sync: Option<u64>,
    /// What was the last line when rounds of syncs were about to be counted.
    counting: u64,
    /// Rounds of syncs, and what was the last line before they were counted.
    rounds: Option<(u64, u64)>,
    /// The highest token, and the highest one before the last end of a process.
    token: u64,
    token_before: u64,
    /// Facts that were held against a history.
    pub(crate) checks: u64,
}

impl Oracle {
    pub(crate) fn new(level: Durability) -> Self {
        Self {
            level,
            keys: BTreeMap::new(),
            races: BTreeMap::new(),
            moment: 0,
            sync: None,
            counting: 0,
            rounds: None,
            token: 0,
            token_before: 0,
            checks: 0,
        }
    }

    /// Keys that anything is known of, those of races apart.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    pub(crate) fn races(&self) -> Vec<String> {
        self.races.keys().cloned().collect()
    }

    /// The token with which a key may be held.
    pub(crate) fn token_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key)?.now().iter().find_map(Fact::token)
    }

    /// Takes the next line of the history.
    pub(crate) fn feed(&mut self, line: &Line) -> Checked {
        self.moment += 1;
        match line {
            Line::Call { key, what: What::Race { salt }, .. } => {
                self.races.entry(key.clone()).or_default().offered.insert(*salt);
                Ok(())
            }
            Line::Call { key, at, what } => {
                self.see_time(key, *at)?;
                let moment = self.moment;
                self.key(key).note(|| format!("{moment}: {line}"));
                self.key(key).call = Some(Call { what: *what, from: *at, to: u64::MAX });
                Ok(())
            }
            Line::Reply { key, at, answer } => {
                self.checks += 1;
                if self.races.contains_key(key) {
                    return self.race(key, answer);
                }
                self.see_time(key, *at)?;
                self.reply(key, *at, answer)
            }
            Line::SyncBegins => {
                self.sync = Some(self.moment);
                Ok(())
            }
            Line::SyncReturned => {
                if let Some(moment) = self.sync.take() {
                    self.settle(moment);
                }
                Ok(())
            }
            Line::Counting => {
                self.counting = self.moment;
                Ok(())
            }
            Line::Rounds(count) => {
                self.count_rounds(*count);
                Ok(())
            }
            // Opening syncs what it serves.
            Line::Opened => {
                self.settle(self.moment);
                Ok(())
            }
            Line::NotOpened(Refusal::Damage(text)) => {
                Err(Violation { rule: "answer", what: format!("the store is refused: {text}") })
            }
            Line::NotOpened(_) | Line::Finished => Ok(()),
        }
    }

    /// The process is gone.
    pub(crate) fn process_ended(&mut self) {
        self.moment += 1;
        for key in self.keys.values_mut() {
            let moment = self.moment;
            key.note(|| format!("{moment}: end of the process"));
            if let Some(call) = key.call.take() {
                let mut facts = key.now().to_vec();
                let taken = facts.clone().into_iter().flat_map(|fact| unanswered(fact, &call));
                facts.extend(taken.collect::<Vec<_>>());
                facts.dedup();
                key.become_one_of(self.moment, facts);
            }
        }
        (self.sync, self.rounds) = (None, None);
        self.token_before = self.token;
    }

    /// The power is gone, and with it the process.
    pub(crate) fn power_cut(&mut self) {
        self.process_ended();
        let moment = self.moment;
        for key in self.keys.values_mut() {
            key.note(|| format!("{moment}: power cut"));
            let mut facts = Vec::new();
            for fact in key.moments.iter().flat_map(|moment| &moment.facts) {
                if !facts.contains(fact) {
                    facts.push(*fact);
                }
            }
            key.moments = vec![Moment { since: self.moment, facts }];
        }
        if self.level != Durability::Synced {
            self.races.clear();
        }
    }

    fn key(&mut self, name: &str) -> &mut Key {
        self.keys.entry(name.to_owned()).or_insert_with(Key::new)
    }

    /// Rule 1, of each key by itself: the lines of several threads are in no order.
    fn see_time(&mut self, name: &str, at: u64) -> Checked {
        let key = self.key(name);
        if at < key.time {
            let what = format!("the time of {name} runs back from {} to {at}", key.time);
            return Err(Violation { rule: "time", what });
        }
        key.time = at;
        Ok(())
    }

    fn reply(&mut self, name: &str, at: u64, answer: &Answer) -> Checked {
        let (moment, before, synced) =
            (self.moment, self.token_before, self.level == Durability::Synced);
        let key = self.key(name);
        let Some(mut call) = key.call.take() else {
            return Err(Violation { rule: "answer", what: format!("{name}: {answer} to no call") });
        };
        key.note(|| format!("{moment}: < {at} {answer}"));
        call.to = at;
        if let Answer::Refused(Refusal::Damage(text)) = answer {
            return Err(Violation { rule: "damage", what: format!("{name}: {text}") });
        }
        let mut facts = Vec::new();
        for fact in key.now() {
            for next in after(*fact, &call, answer) {
                if !facts.contains(&next) {
                    facts.push(next);
                }
            }
        }
        if facts.is_empty() {
            let what = format!(
                "{name}: {} at {} to {at} was answered `{answer}`, but it is one of {:?}; {:#?}",
                call.what,
                call.from,
                key.now(),
                key.trail
            );
            return Err(Violation { rule: "answer", what });
        }
        if let Answer::Started(token) = answer {
            if *token <= key.token.max(before) {
                let what = format!("{name}: token {token} after {}", key.token.max(before));
                return Err(Violation { rule: "token", what });
            }
            key.token = *token;
        }
        key.become_one_of(moment, facts);
        let refused = matches!(answer, Answer::Refused(_));
        if synced && !refused {
            key.settle(moment);
        }
        if let Answer::Started(token) | Answer::Looked(Found::Held(token)) = answer {
            self.token = self.token.max(*token);
        }
        Ok(())
    }

    fn race(&mut self, name: &str, answer: &Answer) -> Checked {
        let race = self.races.entry(name.to_owned()).or_default();
        let fail = |what: String| Err(Violation { rule: "race", what: format!("{name}: {what}") });
        let outcome = match answer {
            Answer::Won(salt) if race.won => {
                return fail(format!("{salt} is new, and so was {:?}", race.winner));
            }
            Answer::Won(salt) => {
                race.won = true;
                *salt
            }
            Answer::Duplicate(Seen::Outcome(salt))
            | Answer::Looked(Found::Done(Seen::Outcome(salt))) => *salt,
            Answer::Looked(Found::Nothing) if race.winner.is_none() => return Ok(()),
            Answer::Refused(Refusal::Unchanged(_) | Refusal::Indeterminate(_)) => return Ok(()),
            other => return fail(format!("{other}; the winner is {:?}", race.winner)),
        };
        if !race.offered.contains(&outcome) || race.winner.is_some_and(|one| one != outcome) {
            return fail(format!("{outcome} is found; the winner is {:?}", race.winner));
        }
        race.winner = Some(outcome);
        Ok(())
    }

    /// Of rounds that end after a count, the second is certain to have begun after it, and to
    /// cover what was before it.
    fn count_rounds(&mut self, count: u64) {
        match self.rounds {
            Some((before, moment)) if count >= before + 2 => {
                self.settle(moment);
                self.rounds = Some((count, self.counting));
            }
            None => self.rounds = Some((count, self.counting)),
            Some(_) => {}
        }
    }

    fn settle(&mut self, moment: u64) {
        for key in self.keys.values_mut() {
            key.settle(moment);
        }
    }
}
