//! Every way an operation can fail and what the caller can do about each.
//!
//! Answers are not errors: a duplicate, an absent key or an expired record are ordinary results.
//! An error means the store could not do what was asked, and its text says what happened, where,
//! and what to do. No error text contains key or outcome bytes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What the name of every request for stable storage begins with.
const SYNC: &str = "sync";
/// `EMFILE`, the same number on every Unix.
const TOO_MANY_FILES: i32 = 24;
/// `ENFILE`, the same number on every Unix.
const TOO_MANY_FILES_IN_SYSTEM: i32 = 23;

/// Why a call could not do what it was asked to do.
///
/// [`Error::is_retryable`] tells whether the same call may succeed later without anybody
/// repairing anything.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a request.
    Io {
        /// What was attempted, as a verb phrase ("create segment").
        op: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// The system's own answer.
        source: io::Error,
    },
    /// A key must have at least one byte.
    EmptyKey,
    /// The key is longer than the store's limit.
    KeyTooLong {
        /// Bytes of the key given.
        len: usize,
        /// Bytes allowed by this store's configuration.
        max: usize,
    },
    /// The outcome is longer than the store's limit.
    OutcomeTooLong {
        /// Bytes of the outcome given.
        len: usize,
        /// Bytes allowed by this store's configuration.
        max: usize,
    },
    /// More was to be recorded together than can be.
    TooLarge {
        /// Of what there is too much: "keys" or "bytes".
        what: &'static str,
        /// How much was given.
        len: usize,
        /// How much is allowed.
        max: usize,
    },
    /// Two of the items that were to be recorded together have one key, so not both can be new.
    RepeatedKey {
        /// Index of the first item with the key.
        first: usize,
        /// Index of another one.
        second: usize,
    },
    /// The lifetime is zero or too long to be represented.
    InvalidTtl {
        /// Which rule was broken.
        reason: &'static str,
    },
    /// A lease's length is zero or too long.
    InvalidLease {
        /// Which rule was broken.
        reason: &'static str,
    },
    /// The namespace wants a fingerprint with every `begin`, and none was given.
    FingerprintRequired,
    /// A namespace's name is empty or longer than 255 bytes.
    InvalidNamespace {
        /// Which rule was broken.
        reason: &'static str,
    },
    /// Somebody holds a lease on the key, so it can neither be recorded nor resolved.
    InProgress {
        /// When the lease ends, in milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
    /// A lease on the key ran out, and whether its effect happened is not known.
    Unresolved,
    /// The lease is not the key's current one: another holder has the key, or it was finished,
    /// released, removed or forgotten. Nothing was changed.
    LeaseLost,
    /// The key is not known, and its request was first sent so long ago that the store may have
    /// known and forgotten it. Nothing was changed.
    Stale {
        /// Requests sent since then are remembered, in milliseconds since the Unix epoch.
        horizon_ms: u64,
    },
    /// The builder was given settings that cannot work.
    InvalidConfig {
        /// Which setting, the value given and the values allowed.
        reason: String,
    },
    /// The path names something that is not a directory.
    NotADirectory {
        /// The path given.
        path: PathBuf,
    },
    /// The directory holds files, but no store.
    NotAStore {
        /// The directory given.
        path: PathBuf,
    },
    /// Another handle, in this process or another one, has the directory open.
    AlreadyOpen {
        /// The directory given.
        path: PathBuf,
    },
    /// The store was written by a version of the format that this crate does not read.
    UnsupportedFormat {
        /// The file that says so.
        path: PathBuf,
        /// The format version found.
        found: u32,
        /// The format version this crate reads and writes.
        supported: u32,
    },
    /// Data that was complete once is damaged.
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// The segment's number, where a segment is damaged.
        segment: Option<u64>,
        /// Byte offset of the damage in the file.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// No room for new keys; lookups, duplicates, completions and removals go on.
    Full {
        /// What ran out: space of some kind, or `max_keys` or `max_bytes` of the settings.
        what: &'static str,
    },
    /// Whether what was recorded reached stable storage is not known, because the sync that it
    /// waited for failed: it may be found after reopening, or not. The store takes no more writes.
    Indeterminate {
        /// The failure that caused it.
        reason: String,
    },
    /// A server was asked, and whether it did what was asked is not known, because the connection
    /// or the time ended before its answer came.
    Unanswered {
        /// Which backend.
        backend: &'static str,
        /// The failure that caused it.
        reason: String,
    },
    /// A server could not be reached, or is not ready; nothing was asked of it.
    Unreachable {
        /// Which backend.
        backend: &'static str,
        /// The failure that caused it.
        reason: String,
    },
    /// A server does not let this user in, or do this.
    Denied {
        /// Which backend.
        backend: &'static str,
        /// What the server said.
        reason: String,
    },
    /// A server is not set up for this version of the backend, or holds what it did not write.
    Unprepared {
        /// Which backend.
        backend: &'static str,
        /// What is missing, older, newer or strange, and what to do.
        reason: String,
    },
    /// A server gave the call up, because of another transaction or because its time was over.
    /// Nothing was changed. A transaction of the caller's that the call was made in is over too: it
    /// has to be rolled back, and can be repeated as a whole.
    Aborted {
        /// Which backend.
        backend: &'static str,
        /// What the server said.
        reason: String,
    },
    /// An earlier write or sync failed; the store takes no more writes until it is reopened.
    Poisoned {
        /// The failure that caused it.
        reason: String,
    },
    /// The store was closed through another handle.
    Closed,
}

impl Error {
    /// True when the same call may succeed later: room may return, another holder may close.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::AlreadyOpen { .. }
            | Self::InProgress { .. }
            | Self::Unreachable { .. }
            | Self::Aborted { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }

    /// True when the call may have taken effect all the same: look before the effect is repeated.
    /// After any other error it has not.
    #[must_use]
    pub fn is_indeterminate(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Unanswered { .. })
    }

    /// Wraps a system error with what was attempted and where.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if full {
            return Self::Full { what: "disk space" };
        }
        Self::Io { op, path: path.to_path_buf(), source }
    }

    /// Wraps the failure of a sync, which is never mere lack of room: what reached the device is
    /// unknown, and asking again may be answered as if all of it had.
    pub(crate) fn unsynced(op: &'static str, path: &Path, source: io::Error) -> Self {
        debug_assert!(op.starts_with(SYNC));
        Self::Io { op, path: path.to_path_buf(), source }
    }

    /// True for a failure after which nothing may be written any more: of a sync, and of any other
    /// request on the way of a write, unless the system was merely short of something.
    pub(crate) fn is_final(&self) -> bool {
        let Self::Io { op, source, .. } = self else { return false };
        let kind = source.kind();
        let short = matches!(kind, io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock)
            || matches!(source.raw_os_error(), Some(TOO_MANY_FILES | TOO_MANY_FILES_IN_SYSTEM));
        op.starts_with(SYNC) || !short
    }

    /// Damage in a file that is not a segment.
    pub(crate) fn corrupt(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_path_buf(), segment: None, offset, what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKey => f.write_str("the key is empty; a key has at least one byte"),
            Self::KeyTooLong { len, max } => write!(
                f,
                "the key has {len} bytes and this store allows {max}; shorten it, use a digest of \
                 it, or raise Builder::key_bytes_max"
            ),
            Self::OutcomeTooLong { len, max } => write!(
                f,
                "the outcome has {len} bytes and this store allows {max}; store a reference to it \
                 or raise Builder::outcome_bytes_max"
            ),
            Self::TooLarge { what, len, max } => write!(
                f,
                "{len} {what} cannot be recorded together, at most {max}; divide them among \
                 several calls"
            ),
            Self::RepeatedKey { first, second } => {
                write!(f, "items {first} and {second} have one key; leave one of them out")
            }
            Self::InvalidTtl { reason } => write!(f, "the lifetime cannot be used: {reason}"),
            Self::InvalidLease { reason } => write!(f, "the lease cannot be used: {reason}"),
            Self::InvalidNamespace { reason } => {
                write!(f, "the namespace cannot be used: {reason}")
            }
            Self::InvalidConfig { reason } => write!(f, "the settings cannot be used: {reason}"),
            Self::Full { what } => write!(
                f,
                "no room for a new key: {what} ran out; lookups go on, and new keys are taken \
                 again once room returns"
            ),
            Self::Indeterminate { reason } => write!(
                f,
                "the outcome of the call is indeterminate: a sync failed ({reason}), so what it \
                 recorded may or may not be found after reopening the store; look then, and do \
                 not repeat the effect before"
            ),
            Self::Poisoned { reason } => write!(
                f,
                "the store takes no more writes, because an earlier one failed ({reason}); whether \
                 calls in flight took effect is unknown until the store is reopened"
            ),
            Self::Closed => f.write_str("the store was closed through another handle"),
            _ => self.fmt_of_lease(f),
        }
    }
}

impl Error {
    /// The texts of the errors that concern a lease.
    fn fmt_of_lease(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FingerprintRequired => f.write_str(
                "this namespace wants a fingerprint of the request; pass one with \
                 BeginOptions::fingerprint",
            ),
            Self::InProgress { deadline_ms } => write!(
                f,
                "somebody holds a lease on the key until {deadline_ms} ms after the epoch; wait \
                 for its end, or use begin, which answers this as a result"
            ),
            Self::Unresolved => f.write_str(
                "a lease on the key ran out and its effect is unknown; find out what came of it \
                 and call resolve, or remove the key",
            ),
            Self::Stale { horizon_ms } => write!(
                f,
                "the request was sent before {horizon_ms} ms after the epoch, and what was handled \
                 before that may be forgotten; find out by other means whether it was handled"
            ),
            Self::LeaseLost => f.write_str(
                "the lease is not current any more, so nothing was recorded; whoever holds the \
                 key now decides on its outcome",
            ),
            _ => self.fmt_of_backend(f),
        }
    }
}

impl Error {
    /// The texts of the errors that concern a server.
    fn fmt_of_backend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered { backend, reason } => write!(
                f,
                "the outcome of the call is indeterminate: {backend} was asked, and no answer came \
                 ({reason}); look what is recorded before the effect is repeated"
            ),
            Self::Unreachable { backend, reason } => write!(
                f,
                "{backend} cannot be reached ({reason}); nothing was changed, and the call can be \
                 repeated"
            ),
            Self::Denied { backend, reason } => write!(
                f,
                "{backend} does not allow it ({reason}); nothing was changed; check the user, the \
                 password and the rights"
            ),
            Self::Aborted { backend, reason } => write!(
                f,
                "{backend} has given the call up ({reason}); nothing was changed, and it can be \
                 repeated; a transaction that it was made in has to be rolled back and repeated as \
                 a whole"
            ),
            Self::Unprepared { backend, reason } => {
                write!(f, "{backend} is not set up for this version of oncelog: {reason}")
            }
            _ => self.fmt_with_path(f),
        }
    }
}

impl Error {
    /// The texts of the errors that concern a file or directory.
    fn fmt_with_path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { op, path, source } => {
                write!(f, "could not {op} at {}: {source}", path.display())
            }
            Self::NotADirectory { path } => {
                write!(f, "{} is not a directory; a store is a directory", path.display())
            }
            Self::NotAStore { path } => write!(
                f,
                "{} holds files but no store; name an empty or missing directory to create one",
                path.display()
            ),
            Self::AlreadyOpen { path } => write!(
                f,
                "the store at {} is open already, in this process or another one; close that \
                 handle first, or share a clone of it",
                path.display()
            ),
            Self::UnsupportedFormat { path, found, supported } => write!(
                f,
                "{} has format version {found} and this build reads version {supported}; use the \
                 version of oncelog that wrote it",
                path.display()
            ),
            Self::Corrupt { path, segment, offset, what } => {
                write!(f, "damaged data in {}", path.display())?;
                if let Some(segment) = segment {
                    write!(f, " (segment {segment})")?;
                }
                write!(
                    f,
                    " at byte {offset}: {what}; run verify, then restore from a copy, or salvage"
                )
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Path};
    use std::io;

    #[test]
    fn a_full_disk_is_reported_as_full_and_retryable() {
        let error = Error::io("x", Path::new("p"), io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(error, Error::Full { .. }) && error.is_retryable());
    }

    #[test]
    fn an_error_text_says_where_and_what_to_do() {
        let error = Error::AlreadyOpen { path: "orders".into() };
        let text = error.to_string();
        assert!(text.contains("orders") && text.contains("close"), "{text}");
    }
}
