//! A key as a small machine: its states, and what each call answers and does in each of them.

use crate::history::{Answer, Found, Refusal, Seen, What};
use crate::random::Salt;
use crate::settings::{LEASE_MS, LIFETIME_MS};

/// When something ends: not before the first, and at the second for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    earliest: u64,
    latest: u64,
}

impl End {
    fn of(call: &Call, lifetime_ms: u64) -> Self {
        let after = |at: u64| at.saturating_add(lifetime_ms);
        Self { earliest: after(call.from), latest: after(call.to) }
    }

    /// A record ends no sooner than the live one that it follows.
    fn not_before(self, fact: Fact) -> Self {
        let Some(other) = fact.end() else { return self };
        Self { earliest: self.earliest.max(other.earliest), latest: self.latest.max(other.latest) }
    }

    fn surely_passed(self, call: &Call) -> bool {
        call.from >= self.latest
    }

    fn surely_ahead(self, call: &Call) -> bool {
        call.to < self.earliest
    }
}

/// A state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Absent,
    Done {
        salt: Salt,
        end: End,
    },
    /// Held with a token; none if the call that got it did not return.
    Held {
        token: Option<u64>,
        end: End,
        deadline: End,
    },
    Released {
        end: End,
    },
}

impl Fact {
    fn end(&self) -> Option<End> {
        match self {
            Self::Absent => None,
            Self::Done { end, .. } | Self::Held { end, .. } | Self::Released { end } => Some(*end),
        }
    }

    pub(crate) fn token(&self) -> Option<u64> {
        match self {
            Self::Held { token, .. } => *token,
            _ => None,
        }
    }

    fn has_token(&self, asked: u64) -> bool {
        matches!(self, Self::Held { token, .. } if token.is_none_or(|token| token == asked))
    }

    /// Whether the key's next checker or `begin` gets it: for certain, or perhaps.
    fn is_free(&self, call: &Call) -> (bool, bool) {
        match self {
            Self::Absent | Self::Released { .. } => (true, true),
            Self::Done { .. } => (false, false),
            Self::Held { deadline, .. } => {
                (deadline.surely_passed(call), !deadline.surely_ahead(call))
            }
        }
    }
}

/// A call, and the store's time before and after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A state as the call may find it: as it was, or ended meanwhile.
fn met(fact: Fact, call: &Call) -> Vec<Fact> {
    match fact.end() {
        Some(end) if end.surely_passed(call) => vec![Fact::Absent],
        Some(end) if !end.surely_ahead(call) => vec![fact, Fact::Absent],
        _ => vec![fact],
    }
}

fn done(fact: Fact, call: &Call, salt: Salt, ttl: u64) -> Fact {
    let ttl = if ttl == 0 { LIFETIME_MS } else { ttl };
    Fact::Done { salt, end: End::of(call, ttl).not_before(fact) }
}

fn held(fact: Fact, call: &Call, token: Option<u64>) -> Fact {
    let end = End::of(call, LIFETIME_MS).not_before(fact);
    Fact::Held { token, end, deadline: End::of(call, LEASE_MS) }
}

fn released(fact: Fact, call: &Call) -> Fact {
    Fact::Released { end: End::of(call, LIFETIME_MS).not_before(fact) }
}

/// The states that a key in this state may be in after the call that was answered so; none if
/// that answer cannot be.
pub(crate) fn after(fact: Fact, call: &Call, answer: &Answer) -> Vec<Fact> {
    met(fact, call).into_iter().flat_map(|met| step(met, call, answer)).collect()
}

fn step(fact: Fact, call: &Call, answer: &Answer) -> Vec<Fact> {
    let (_, may_be_free) = fact.is_free(call);
    let (surely_free, _) = fact.is_free(call);
    let is = |holds: bool, next: Fact| if holds { vec![next] } else { Vec::new() };
    let is_absent = fact == Fact::Absent;
    match (call.what, answer) {
        (What::Check { salt, ttl }, Answer::New) => is(may_be_free, done(fact, call, salt, ttl)),
        (What::Check { .. }, Answer::Duplicate(seen)) => is(shows(fact, *seen), fact),
        (What::Begin, Answer::Completed(seen)) => is(shows(fact, *seen), fact),
        (What::Check { .. } | What::Begin, Answer::InProgress) => {
            is(matches!(fact, Fact::Held { .. }) && !surely_free, fact)
        }
        (What::Begin, Answer::Started(token)) => is(may_be_free, held(fact, call, Some(*token))),
        (What::Remove, Answer::Removed(known)) => is(*known != is_absent, Fact::Absent),
        (What::Complete { token, salt }, Answer::Ended) => {
            is(fact.has_token(token), done(fact, call, salt, 0))
        }
        (What::Release { token }, Answer::Ended) => is(fact.has_token(token), released(fact, call)),
        (What::Complete { token, .. } | What::Release { token }, Answer::Lost) => {
            is(fact.token() != Some(token), fact)
        }
        (What::Look, Answer::Looked(found)) => looked(fact, *found),
        (_, Answer::Refused(Refusal::Unchanged(_))) => vec![fact],
        (_, Answer::Refused(Refusal::Indeterminate(_))) => {
            std::iter::once(fact).chain(unanswered(fact, call)).collect()
        }
        _ => Vec::new(),
    }
}

fn shows(fact: Fact, seen: Seen) -> bool {
    matches!(fact, Fact::Done { salt, .. } if seen == Seen::Outcome(salt))
}

fn looked(fact: Fact, found: Found) -> Vec<Fact> {
    match (found, fact) {
        (Found::Nothing, Fact::Absent) | (Found::Released, Fact::Released { .. }) => vec![fact],
        (Found::Done(seen), fact) if shows(fact, seen) => vec![fact],
        (Found::Held(token), Fact::Held { end, deadline, .. }) if fact.has_token(token) => {
            vec![Fact::Held { token: Some(token), end, deadline }]
        }
        _ => Vec::new(),
    }
}

/// The states that a call may have led to whose answer nobody has seen.
pub(crate) fn unanswered(fact: Fact, call: &Call) -> Vec<Fact> {
    let mut taken = Vec::new();
    for fact in met(fact, call) {
        let (_, free) = fact.is_free(call);
        match call.what {
            What::Check { salt, ttl } if free => taken.push(done(fact, call, salt, ttl)),
            What::Begin if free => taken.push(held(fact, call, None)),
            What::Remove => taken.push(Fact::Absent),
            What::Complete { token, salt } if fact.has_token(token) => {
                taken.push(done(fact, call, salt, 0));
            }
            What::Release { token } if fact.has_token(token) => taken.push(released(fact, call)),
            _ => {}
        }
    }
    taken
}
