//! What is asked of a store and what it answers, as values and as lines of a pipe.
//!
//! `> KEY TIME CALL` is written before a call and `< KEY TIME ANSWER` after it has returned, so
//! that whoever reads knows which calls were under way when the writer died.

use std::fmt;

use oncelog::{Begin, BeginOptions, Check, DropPolicy, Error, Status, Store};

use crate::random::{Salt, outcome, salt_of};
use crate::settings::{LEASE, lifetime};

/// What is asked about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A check with an outcome, for so many milliseconds; 0 for the store's lifetime.
    Check {
        salt: Salt,
        ttl: u64,
    },
    /// A check of a key that several threads check at once.
    Race {
        salt: Salt,
    },
    Remove,
    Begin,
    /// The end of the lease with this token.
    Complete {
        token: u64,
        salt: Salt,
    },
    Release {
        token: u64,
    },
    /// Everything that can be seen of the key.
    Look,
}

/// What is seen of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Outcome(Salt),
    /// Bytes that nobody recorded.
    Garbled,
}

/// What is seen of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Done(Seen),
    /// In progress or overdue, with the token.
    Held(u64),
    Released,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing was changed.
    Unchanged(String),
    /// Whether something was is not known before the next open.
    Indeterminate(String),
    /// Data is said to be damaged.
    Damage(String),
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    New,
    /// New, of several who checked at once.
    Won(Salt),
    Duplicate(Seen),
    Removed(bool),
    Started(u64),
    Completed(Seen),
    InProgress,
    /// The lease was completed or released.
    Ended,
    /// The lease was not current.
    Lost,
    Looked(Found),
    Refused(Refusal),
}

/// A line of what a store did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Call {
        key: String,
        at: u64,
        what: What,
    },
    Reply {
        key: String,
        at: u64,
        answer: Answer,
    },
    /// A sync is asked for, which is to cover all that was answered before.
    SyncBegins,
    SyncReturned,
    /// The rounds of syncs are about to be counted.
    Counting,
    /// So many were done.
    Rounds(u64),
    /// A process has opened the store.
    Opened,
    /// A process could not open the store.
    NotOpened(Refusal),
    /// What the writer was told to do is done.
    Finished,
}

fn seen(bytes: &[u8]) -> Seen {
    salt_of(bytes).map_or(Seen::Garbled, Seen::Outcome)
}

/// What an error says about the state afterwards, by its documentation.
pub(crate) fn refusal(error: &Error) -> Refusal {
    let text = error.to_string().replace('\n', " ");
    match error {
        Error::Indeterminate { .. } => Refusal::Indeterminate(text),
        Error::Corrupt { .. } | Error::NotAStore { .. } | Error::UnsupportedFormat { .. } => {
            Refusal::Damage(text)
        }
        _ => Refusal::Unchanged(text),
    }
}

/// Asks a store; tokens are looked up by the key, as another process would.
pub(crate) fn ask(store: &Store, key: &str, what: What) -> Answer {
    answer(store, key, what).unwrap_or_else(|error| Answer::Refused(refusal(&error)))
}

fn answer(store: &Store, key: &str, what: What) -> Result<Answer, Error> {
    let with_token = |token: u64| {
        let meta = store.peek(key)?;
        Ok(meta.map(|meta| meta.version).filter(|version| version.as_u64() == token))
    };
    let ended = |result: Result<(), Error>| match result {
        Ok(()) => Ok(Answer::Ended),
        Err(Error::LeaseLost) => Ok(Answer::Lost),
        Err(error) => Err(error),
    };
    match what {
        What::Check { salt, ttl } => {
            match store.check_and_set_for(key, outcome(salt), lifetime(ttl)) {
                Ok(Check::New) => Ok(Answer::New),
                Ok(Check::Duplicate(record)) => Ok(Answer::Duplicate(seen(record.outcome()))),
                Err(Error::InProgress { .. }) => Ok(Answer::InProgress),
                Err(error) => Err(error),
            }
        }
        What::Race { salt } => match store.check_and_set(key, outcome(salt))? {
            Check::New => Ok(Answer::Won(salt)),
            Check::Duplicate(record) => Ok(Answer::Duplicate(seen(record.outcome()))),
        },
        What::Remove => store.remove(key).map(Answer::Removed),
        What::Begin => {
            let options = BeginOptions::new().lease(LEASE).on_drop(DropPolicy::Hold);
            Ok(match store.begin_with(key, options)? {
                Begin::Started(lease) => Answer::Started(lease.version().as_u64()),
                Begin::Completed(record) => Answer::Completed(seen(record.outcome())),
                _ => Answer::InProgress,
            })
        }
        What::Complete { token, salt } => match with_token(token)? {
            Some(version) => ended(store.complete_by(key, version, outcome(salt)).map(|_| ())),
            None => Ok(Answer::Lost),
        },
        What::Release { token } => match with_token(token)? {
            Some(version) => ended(store.release_by(key, version, None)),
            None => Ok(Answer::Lost),
        },
        What::Look => look(store, key).map(Answer::Looked),
    }
}

fn look(store: &Store, key: &str) -> Result<Found, Error> {
    let record = store.get(key)?;
    if let Some(record) = record {
        return Ok(Found::Done(seen(record.outcome())));
    }
    Ok(match store.peek(key)? {
        None => Found::Nothing,
        Some(meta) => match meta.status {
            Status::Released => Found::Released,
            _ => Found::Held(meta.version.as_u64()),
        },
    })
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check { salt, ttl } => write!(f, "check {salt} {ttl}"),
            Self::Race { salt } => write!(f, "race {salt}"),
            Self::Remove => f.write_str("remove"),
            Self::Begin => f.write_str("begin"),
            Self::Complete { token, salt } => write!(f, "complete {token} {salt}"),
            Self::Release { token } => write!(f, "release {token}"),
            Self::Look => f.write_str("look"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome(salt) => write!(f, "{salt}"),
            Self::Garbled => f.write_str("garbled"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged(text) => write!(f, "unchanged {text}"),
            Self::Indeterminate(text) => write!(f, "indeterminate {text}"),
            Self::Damage(text) => write!(f, "damage {text}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Won(salt) => write!(f, "won {salt}"),
            Self::Duplicate(seen) => write!(f, "duplicate {seen}"),
            Self::Removed(known) => write!(f, "removed {known}"),
            Self::Started(token) => write!(f, "started {token}"),
            Self::Completed(seen) => write!(f, "completed {seen}"),
            Self::InProgress => f.write_str("in-progress"),
            Self::Ended => f.write_str("ended"),
            Self::Lost => f.write_str("lost"),
            Self::Looked(Found::Nothing) => f.write_str("nothing"),
            Self::Looked(Found::Done(seen)) => write!(f, "done {seen}"),
            Self::Looked(Found::Held(token)) => write!(f, "held {token}"),
            Self::Looked(Found::Released) => f.write_str("released"),
            Self::Refused(refusal) => write!(f, "refused {refusal}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { key, at, what } => write!(f, "> {key} {at} {what}"),
            Self::Reply { key, at, answer } => write!(f, "< {key} {at} {answer}"),
            Self::SyncBegins => f.write_str("= sync"),
            Self::SyncReturned => f.write_str("= synced"),
            Self::Counting => f.write_str("= counting"),
            Self::Rounds(count) => write!(f, "= rounds {count}"),
            Self::Opened => f.write_str("= opened"),
            Self::NotOpened(refusal) => write!(f, "= refused {refusal}"),
            Self::Finished => f.write_str("= finished"),
        }
    }
}

impl Line {
    /// Reads a line as it is written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mark, rest) = text.split_once(' ')?;
        if mark == "=" {
            return Some(match rest.split_once(' ') {
                None => match rest {
                    "sync" => Self::SyncBegins,
                    "synced" => Self::SyncReturned,
                    "counting" => Self::Counting,
                    "opened" => Self::Opened,
                    "finished" => Self::Finished,
                    _ => return None,
                },
                Some(("rounds", count)) => Self::Rounds(count.parse().ok()?),
                Some(("refused", why)) => Self::NotOpened(parse_refusal(why)?),
                Some(_) => return None,
            });
        }
        let (key, rest) = rest.split_once(' ')?;
        let (at, rest) = rest.split_once(' ')?;
        let (key, at) = (key.to_owned(), at.parse().ok()?);
        match mark {
            ">" => Some(Self::Call { key, at, what: parse_what(rest)? }),
            "<" => Some(Self::Reply { key, at, answer: parse_answer(rest)? }),
            _ => None,
        }
    }
}

fn parse_what(text: &str) -> Option<What> {
    let words: Vec<&str> = text.split(' ').collect();
    Some(match *words.as_slice() {
        ["check", salt, ttl] => What::Check { salt: salt.parse().ok()?, ttl: ttl.parse().ok()? },
        ["race", salt] => What::Race { salt: salt.parse().ok()? },
        ["remove"] => What::Remove,
        ["begin"] => What::Begin,
        ["complete", token, salt] => {
            What::Complete { token: token.parse().ok()?, salt: salt.parse().ok()? }
        }
        ["release", token] => What::Release { token: token.parse().ok()? },
        ["look"] => What::Look,
        _ => return None,
    })
}

fn parse_refusal(text: &str) -> Option<Refusal> {
    let (kind, text) = text.split_once(' ')?;
    let text = text.to_owned();
    Some(match kind {
        "unchanged" => Refusal::Unchanged(text),
        "indeterminate" => Refusal::Indeterminate(text),
        "damage" => Refusal::Damage(text),
        _ => return None,
    })
}

fn parse_answer(text: &str) -> Option<Answer> {
    let seen = |text: &str| match text {
        "garbled" => Some(Seen::Garbled),
        text => text.parse().ok().map(Seen::Outcome),
    };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "new" => Answer::New,
        "won" => Answer::Won(rest.parse().ok()?),
        "duplicate" => Answer::Duplicate(seen(rest)?),
        "removed" => Answer::Removed(rest.parse().ok()?),
        "started" => Answer::Started(rest.parse().ok()?),
        "completed" => Answer::Completed(seen(rest)?),
        "in-progress" => Answer::InProgress,
        "ended" => Answer::Ended,
        "lost" => Answer::Lost,
        "nothing" => Answer::Looked(Found::Nothing),
        "done" => Answer::Looked(Found::Done(seen(rest)?)),
        "held" => Answer::Looked(Found::Held(rest.parse().ok()?)),
        "released" => Answer::Looked(Found::Released),
        "refused" => Answer::Refused(parse_refusal(rest)?),
        _ => return None,
    })
}
