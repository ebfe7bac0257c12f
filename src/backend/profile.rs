//! What backends may differ in, readable when the program runs.

use std::time::Duration;

/// What a backend promises beyond the contract, and what it cannot.
///
/// Everything that is not here is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is called, for messages: "embedded", "redis".
    pub name: &'static str,
    /// What a call that has returned survives.
    pub survives: Survives,
    /// Among whom versions are ordered and leases exclude each other.
    pub fenced: Fenced,
    /// Whose clock decides when leases and keys end.
    pub clocked: Clocked,
    /// The longest key, in bytes.
    pub key_bytes_max: usize,
    /// The longest outcome, in bytes.
    pub outcome_bytes_max: usize,
    /// True when [`max_keys`](crate::Policy::max_keys) and
    /// [`max_bytes`](crate::Policy::max_bytes) of the policy are kept. A backend that cannot keep
    /// them refuses such a policy when it is made.
    pub limits_room: bool,
}

/// What a call that has returned survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survives {
    /// Nothing but the end of the caller: it is lost with the server's process.
    CallerCrash,
    /// The end of the process that keeps it, not a power cut.
    ProcessCrash,
    /// A power cut, but for what was recorded in the last moments, at most so long.
    PowerLossAfter(Duration),
    /// A power cut.
    PowerLoss,
}

/// Among whom versions are ordered and leases exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fenced {
    /// All who share one open store: threads of one process, over all of its restarts.
    Process,
    /// All clients of one database, whatever happens to it.
    Database,
    /// All clients of one primary. A fail-over to a replica that has not received the latest
    /// writes forgets them, and hands out leases that were given before.
    Primary,
}

/// Whose clock decides when leases and keys end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clocked {
    /// The clock of the process that asks.
    Process,
    /// The server's: clocks of clients do not matter.
    Server,
}
