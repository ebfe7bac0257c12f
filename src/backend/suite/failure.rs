//! How a case fails: with what was found instead, and where in the suite.

use std::fmt::{self, Display};
use std::panic::Location;

use crate::error::Error;

/// Why a case is over before its end.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// The backend does not keep the contract.
    Failed(String),
    /// The harness cannot do what the case needs.
    LeftOut(&'static str),
}

/// What a step of a case answers.
pub(super) type Step<T = ()> = Result<T, Stop>;

impl Stop {
    #[track_caller]
    pub(super) fn failed(what: impl Display) -> Self {
        let place = Location::caller();
        let file = place.file().rsplit_once("suite").map_or(place.file(), |(_, file)| file);
        Self::Failed(format!("{what} [suite{file}:{}]", place.line()))
    }
}

impl From<Error> for Stop {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::failed(format_args!("an error that should not be: {error:?}"))
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(what) => f.write_str(what),
            Self::LeftOut(reason) => f.write_str(reason),
        }
    }
}

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::backend::suite::failure::Stop::failed(format_args!($($text)+)));
        }
    };
}

/// Fails the case unless both are equal.
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($text:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) if found != wanted => {
                let text = format!($($text)+);
                let what = format_args!("{text}: {found:?} in place of {wanted:?}");
                return Err($crate::backend::suite::failure::Stop::failed(what));
            }
            _ => {}
        }
    };
}

/// What a pattern binds, or the failure of the case if the answer is another one.
macro_rules! got {
    ($answer:expr, $pattern:pat => $value:expr) => {
        match $answer {
            $pattern => $value,
            other => {
                let what = format_args!("{other:?} in place of {}", stringify!($pattern));
                return Err($crate::backend::suite::failure::Stop::failed(what));
            }
        }
    };
}

pub(super) use {ensure, ensure_eq, got};
