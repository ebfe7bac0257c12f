//! Exit codes: one stable number for each kind of end, and the one place that prints errors.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use oncelog::Error;

/// Why a subcommand stopped before it was done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something could not be read, written or recorded, or an item has no key.
    Runtime(String),
    /// The arguments contradict each other or what was found.
    Usage(String),
    /// The store is damaged.
    Corrupt(String),
    /// The store is open elsewhere.
    InUse(String),
    /// The same, with an exit code of its own.
    Coded(u8, String),
    /// A command that was run, or replayed, ended so; it has said itself why.
    Ended(u8),
    /// Nobody reads the output any more, which is an ordinary end.
    ClosedPipe,
}

impl Failure {
    /// A failure to write `name`; a reader that went away is no error.
    pub(crate) fn writing(name: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::Runtime(format!("could not write {name}: {error}; make room or name another place"))
    }

    /// Puts the place of the failure ahead of its text.
    pub(crate) fn at(self, place: &str) -> Self {
        let put = |text: String| format!("{place}: {text}");
        match self {
            Self::Runtime(text) => Self::Runtime(put(text)),
            Self::Usage(text) => Self::Usage(put(text)),
            Self::Corrupt(text) => Self::Corrupt(put(text)),
            Self::InUse(text) => Self::InUse(put(text)),
            Self::Coded(code, text) => Self::Coded(code, put(text)),
            Self::Ended(code) => Self::Ended(code),
            Self::ClosedPipe => Self::ClosedPipe,
        }
    }

    /// Gives a failure of this program itself this exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        match self {
            Self::Runtime(text) | Self::Usage(text) | Self::Corrupt(text) | Self::InUse(text) => {
                Self::Coded(code, text)
            }
            other => other,
        }
    }

    fn text(&self) -> Option<(u8, &str)> {
        match self {
            Self::Runtime(text) => Some((1, text)),
            Self::Usage(text) => Some((2, text)),
            Self::Corrupt(text) => Some((3, text)),
            Self::InUse(text) => Some((4, text)),
            Self::Coded(code, text) => Some((*code, text)),
            Self::Ended(_) | Self::ClosedPipe => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Corrupt { .. } => Self::Corrupt(error.to_string()),
            Error::AlreadyOpen { path } => Self::InUse(format!(
                "the store at {} is in use by another process; wait until that one ends, or name \
                 another directory",
                path.display()
            )),
            Error::InvalidTtl { .. } | Error::InvalidConfig { .. } => {
                Self::Usage(error.to_string())
            }
            _ => Self::Runtime(error.to_string()),
        }
    }
}

/// Prints the error, if there is one, and gives the process its exit code.
pub(crate) fn code(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if let Failure::Ended(code) = failure {
        return ExitCode::from(code);
    }
    let Some((code, text)) = failure.text() else {
        return ExitCode::SUCCESS;
    };
    say(format_args!("error: {text}"));
    ExitCode::from(code)
}

/// One line on standard error. Nothing can be done when even that cannot be written.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "oncelog: {text}");
}

/// Writes a finished report to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::writing("standard output", &error))
}
