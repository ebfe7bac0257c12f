//! The scripts that run in the server, one for each verb, and how they are called.
//!
//! A server knows a script by its digest once it has seen it. Where it does not, or not any more,
//! it says so before anything has happened, and is sent the text.

use std::sync::LazyLock;

use redis::Cmd;

/// A script and the digest that it is called by.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    digest: String,
}

/// How a script is named in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By its digest.
    Digest,
    /// By its text.
    Text,
}

/// All scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) begin: Script,
    pub(crate) born: Script,
    pub(crate) check: Script,
    pub(crate) complete: Script,
    pub(crate) get: Script,
    pub(crate) now: Script,
    pub(crate) peek: Script,
    pub(crate) release: Script,
    pub(crate) remove: Script,
    pub(crate) renew: Script,
    pub(crate) resolve: Script,
    pub(crate) watch: Script,
}

// These come before all else: what a script defines, it defines anew in each call.
const BEGIN_NEW: &str = include_str!("scripts/begin_new.lua");
const CHECK_NEW: &str = include_str!("scripts/check_new.lua");
const HELD: &str = include_str!("scripts/complete_held.lua");

const COMMON: &str = include_str!("scripts/common.lua");
const ENDING: &str = include_str!("scripts/ending.lua");

/// Without a first line like these, each command that takes memory is refused when there is none:
/// as it has to be for new keys. Leases must be ended also then.
const WRITES: &str = "#!lua flags=allow-oom\n";
/// As the last one; and never sent to the log or to replicas.
const READS: &str = "#!lua flags=no-writes\n";

pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    begin: Script::new(&[BEGIN_NEW, COMMON, include_str!("scripts/begin.lua")]),
    born: Script::new(&[COMMON, include_str!("scripts/born.lua")]),
    check: Script::new(&[CHECK_NEW, COMMON, include_str!("scripts/check.lua")]),
    complete: Script::new(&[WRITES, HELD, COMMON, ENDING, include_str!("scripts/complete.lua")]),
    get: Script::new(&[READS, COMMON, include_str!("scripts/get.lua")]),
    now: Script::new(&[READS, COMMON, include_str!("scripts/now.lua")]),
    peek: Script::new(&[READS, COMMON, include_str!("scripts/peek.lua")]),
    release: Script::new(&[WRITES, COMMON, ENDING, include_str!("scripts/release.lua")]),
    remove: Script::new(&[WRITES, COMMON, ENDING, include_str!("scripts/remove.lua")]),
    renew: Script::new(&[WRITES, COMMON, ENDING, include_str!("scripts/renew.lua")]),
    resolve: Script::new(&[WRITES, COMMON, ENDING, include_str!("scripts/resolve.lua")]),
    watch: Script::new(&[WRITES, COMMON, include_str!("scripts/watch.lua")]),
});

impl Script {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    /// The beginning of a call, which the number of keys, the keys and the arguments follow.
    pub(crate) fn call(&self, naming: Naming) -> Cmd {
        let (verb, name) = match naming {
            Naming::Digest => ("EVALSHA", &self.digest),
            Naming::Text => ("EVAL", &self.text),
        };
        let mut command = redis::cmd(verb);
        command.arg(name);
        command
    }

    /// The beginning of a call with one key.
    pub(crate) fn on(&self, key: &[u8]) -> Cmd {
        let mut command = self.call(Naming::Digest);
        command.arg(1).arg(key);
        command
    }
}
