//! What the errors of the client and of the server mean for whoever asked.
//!
//! An answer of the server's that something failed is definite: its transaction is rolled back.
//! Anything else between question and answer leaves open what happened, unless it was asked within
//! a transaction of the caller's, which cannot be committed any more.

use std::error::Error as _;
use std::fmt::Display;

use oncelog::Error;
use tokio_postgres::error::{DbError, SqlState};

/// What the backend is called in errors and in its profile.
pub(crate) const NAME: &str = "postgres";

/// The code that migrations raise where the schema is newer.
pub(crate) const NEWER: &str = "OL001";

/// The error of a pool that has no connection to give: nothing was asked of the server.
pub fn unreachable(reason: impl Display) -> Error {
    Error::Unreachable { backend: NAME, reason: reason.to_string() }
}

/// The error of a call whose answer did not come.
pub(crate) fn unanswered(reason: impl Display) -> Error {
    Error::Unanswered { backend: NAME, reason: reason.to_string() }
}

pub(crate) fn unprepared(reason: impl Display) -> Error {
    Error::Unprepared { backend: NAME, reason: reason.to_string() }
}

pub(crate) fn aborted(reason: impl Display) -> Error {
    Error::Aborted { backend: NAME, reason: reason.to_string() }
}

fn denied(reason: impl Display) -> Error {
    Error::Denied { backend: NAME, reason: reason.to_string() }
}

/// What a row that no function of this crate writes is answered with.
pub(crate) fn strange(what: &str) -> Error {
    unprepared(format!("{what}; was the schema oncelog changed by something else?"))
}

/// The error of connecting, for whoever implements [`Pool`](crate::Pool): nothing was asked yet.
///
/// Wrong passwords and users are [`Denied`](Error::Denied), a database that is not there is
/// [`Unprepared`](Error::Unprepared), all else is [`Unreachable`](Error::Unreachable).
pub fn refused(error: &tokio_postgres::Error) -> Error {
    if let Some(answer) = error.as_db_error() {
        return match of_answer(answer) {
            Some(error @ (Error::Denied { .. } | Error::Unprepared { .. })) => error,
            _ => unreachable(text(answer)),
        };
    }
    let reason = with_source(error);
    // The client itself finds out that it has no password, or none that the server would take.
    let is_authentication = reason.starts_with("authentication error")
        || reason.starts_with("invalid configuration: password");
    if is_authentication { denied(reason) } else { unreachable(reason) }
}

/// The error of a question that was asked; `held` says by a transaction of the caller's.
pub(crate) fn failed(error: &tokio_postgres::Error, held: bool) -> Error {
    match error.as_db_error() {
        Some(answer) => of_answer(answer).unwrap_or_else(|| unknown(text(answer), held)),
        None => unknown(with_source(error), held),
    }
}

/// True where the server has rolled a statement back in favour of another transaction.
pub(crate) fn is_overtaken(error: &tokio_postgres::Error) -> bool {
    let codes = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| codes.contains(&code))
}

fn unknown(reason: String, held: bool) -> Error {
    if held {
        return aborted(format!("{reason}; the transaction cannot be committed"));
    }
    unanswered(reason)
}

/// What the server's answer means; `None` if it leaves open what happened.
fn of_answer(answer: &DbError) -> Option<Error> {
    let (code, reason) = (answer.code(), text(answer));
    let error = match code.code() {
        NEWER => unprepared(reason),
        // The administrator's shutdown, a crash, and a server that is just starting: a commit may
        // have been on its way.
        "57P01" | "57P02" | "57P05" => return None,
        "57P03" => unreachable(reason),
        "53100" => Error::Full { what: "disk space of the server" },
        "25006" => denied(format!(
            "{reason}; this is a standby or a read-only transaction: connect to the primary"
        )),
        "3D000" => unprepared(format!("{reason}; create the database")),
        "42P01" | "42883" | "3F000" | "42703" | "42P05" | "26000" => unprepared(hint(code, reason)),
        // Whatever else of class 42 means that the schema is not what it should be.
        "42501" => denied(reason),
        "57014" => aborted(format!("{reason}; see statement_timeout")),
        "55P03" => aborted(format!("{reason}; another transaction holds the key")),
        code => match code.get(..2) {
            Some("28") => denied(reason),
            Some("40" | "25") => aborted(reason),
            Some("53" | "08") => unreachable(reason),
            Some("42") => unprepared(hint(answer.code(), reason)),
            // Its own failures and those of the system: the transaction was rolled back.
            _ => aborted(reason),
        },
    };
    Some(error)
}

/// What to do about a name that is not known.
fn hint(code: &SqlState, reason: String) -> String {
    match code.code() {
        "42P05" | "26000" => format!(
            "{reason}; something between here and the server hands sessions to others: turn \
             prepared statements off, with Builder::prepared(false)"
        ),
        _ => format!("{reason}; run Builder::migrate, or the files of MIGRATIONS"),
    }
}

fn text(answer: &DbError) -> String {
    format!("{} {}", answer.code().code(), answer.message())
}

pub(crate) fn with_source(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
