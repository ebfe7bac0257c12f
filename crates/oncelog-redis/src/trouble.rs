//! What went wrong, in the terms of the contract: above all, whether the call may have happened.

use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use oncelog::Error;
use redis::{ErrorKind, RedisError};

/// What the backend is called in messages.
pub(crate) const NAME: &str = "redis";

/// How far a call had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing was sent.
    Before,
    /// It was handed to a connection, which sends it once.
    Sent,
    /// It was handed to a client for clusters that sends it once, to the node that has the key.
    Routed,
    /// It was handed to a client that sends it again by itself when a node does not answer: that
    /// the last one refused it says nothing of the ones before.
    Resent,
}

/// The trouble that an error of the client stands for.
pub(crate) fn of(error: &RedisError, reach: Reach) -> Error {
    match error.kind() {
        ErrorKind::AuthenticationFailed => denied(error),
        ErrorKind::InvalidClientConfig => {
            Error::InvalidConfig { reason: format!("the connection to redis: {error}") }
        }
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let code = error.code().unwrap_or_default();
            of_code(code, error.detail().unwrap_or_default(), reach)
        }
        _ if reach == Reach::Before => unreachable(error),
        ErrorKind::ClusterConnectionNotFound if reach == Reach::Routed => unreachable(error),
        ErrorKind::Io if error.is_connection_refusal() && reach != Reach::Resent => {
            unreachable(error)
        }
        _ => unanswered(error),
    }
}

/// The trouble that a server's answer stands for. Scripts write in their last step, so one that
/// failed has changed nothing.
pub(crate) fn of_code(code: &str, detail: &str, reach: Reach) -> Error {
    let text = format!("{code} {detail}");
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => denied(text),
        "ONCELOG" => unprepared(format!("{detail}; use another prefix or namespace")),
        "WRONGTYPE" => unprepared(
            "a key holds what this crate has not written; use another prefix or namespace",
        ),
        "OOM" => Error::Full { what: "memory of the server (maxmemory)" },
        "MOVED" | "ASK" | "CROSSSLOT" if matches!(reach, Reach::Before | Reach::Sent) => {
            unprepared(format!(
                "it is a node of a cluster ({code}); connect with a client for clusters"
            ))
        }
        "READONLY" | "LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "MOVED" | "ASK"
            if reach == Reach::Resent =>
        {
            unanswered(text)
        }
        "READONLY" | "LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "NOMASTERLINK"
        | "BUSY" | "MISCONF" | "NOREPLICAS" | "MOVED" | "ASK" => unreachable(text),
        _ if detail.contains("max number of clients") => unreachable(text),
        _ if detail.contains("unknown command") => {
            unprepared(format!("it runs no scripts ({text}); allow EVAL and EVALSHA"))
        }
        _ => unprepared(text),
    }
}

/// As [`of_code`], of an error as a script passes it on.
pub(crate) fn of_text(text: &str, reach: Reach) -> Error {
    let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
    of_code(code.trim_start_matches('-'), detail, reach)
}

/// The trouble of a pool that has no connection to give.
pub(crate) fn of_pool(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<RedisError>() {
            return of(error, Reach::Before);
        }
        cause = error.source();
    }
    unreachable(error)
}

/// No answer came in time.
pub(crate) fn late(timeout: Duration, reach: Reach) -> Error {
    if reach == Reach::Before {
        return unreachable(format!("no connection was to be had within {timeout:?}"));
    }
    unanswered(format!("no answer came within {timeout:?}"))
}

pub(crate) fn unanswered(reason: impl Display) -> Error {
    Error::Unanswered { backend: NAME, reason: reason.to_string() }
}

pub(crate) fn unreachable(reason: impl Display) -> Error {
    Error::Unreachable { backend: NAME, reason: reason.to_string() }
}

pub(crate) fn unprepared(reason: impl Display) -> Error {
    Error::Unprepared { backend: NAME, reason: reason.to_string() }
}

pub(crate) fn denied(reason: impl Display) -> Error {
    Error::Denied { backend: NAME, reason: reason.to_string() }
}

/// The same trouble once more, for each item that it concerns.
pub(crate) fn again(error: &Error) -> Error {
    match error {
        Error::Unreachable { reason, .. } => unreachable(reason),
        Error::Unprepared { reason, .. } => unprepared(reason),
        Error::Denied { reason, .. } => denied(reason),
        Error::Full { what } => Error::Full { what },
        Error::Unanswered { reason, .. } => unanswered(reason),
        error => unanswered(error),
    }
}

/// An answer that no script gives.
pub(crate) fn strange(what: &str) -> Error {
    unanswered(format!("the answer is none that this crate knows: {what}"))
}

#[cfg(test)]
mod tests {
    use super::{Reach, of, of_code, of_text};
    use oncelog::Error;
    use redis::RedisError;
    use std::io;

    #[test]
    fn a_refused_connection_means_that_nothing_was_asked() {
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(of(&refused, Reach::Sent), Error::Unreachable { .. }));
        assert!(matches!(of(&refused, Reach::Routed), Error::Unreachable { .. }));
        // Another one for clusters may have sent it to a node that broke before.
        assert!(of(&refused, Reach::Resent).is_indeterminate());
    }

    #[test]
    fn a_connection_that_broke_leaves_open_what_has_happened() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::TimedOut, io::ErrorKind::Other] {
            let broken = RedisError::from(io::Error::from(kind));
            assert!(of(&broken, Reach::Sent).is_indeterminate(), "{kind}");
            assert!(matches!(of(&broken, Reach::Before), Error::Unreachable { .. }), "{kind}");
        }
    }

    #[test]
    fn what_a_server_says_is_sorted_by_what_can_be_done_about_it() {
        let of = |code| of_code(code, "detail", Reach::Sent);
        for code in ["NOAUTH", "WRONGPASS", "NOPERM"] {
            assert!(matches!(of(code), Error::Denied { .. }), "{code}");
        }
        for code in ["READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF"] {
            assert!(matches!(of(code), Error::Unreachable { .. }), "{code}");
        }
        for code in ["WRONGTYPE", "ONCELOG", "MOVED", "ERR"] {
            assert!(matches!(of(code), Error::Unprepared { .. }), "{code}");
        }
        assert!(matches!(of_text("-OOM command not allowed", Reach::Sent), Error::Full { .. }));
    }

    #[test]
    fn a_refusal_after_a_call_was_sent_again_is_none() {
        for code in ["READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "MOVED"] {
            assert!(of_code(code, "", Reach::Resent).is_indeterminate(), "{code}");
            let once = of_code(code, "", Reach::Routed);
            assert!(matches!(once, Error::Unreachable { .. }), "{code}");
        }
    }
}
