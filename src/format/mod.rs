//! The bytes on disk: structures to bytes and back, without files, clock or unsafe code.
//!
//! `docs/format.md` is the specification; the constants here are what it describes. Integers are
//! little-endian. Each submodule holds one structure with its encoder and decoder side by side.

pub(crate) mod bundle;
pub(crate) mod identity;
pub(crate) mod layout;
pub(crate) mod location;
pub(crate) mod manifest;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod segment;
pub(crate) mod state;
