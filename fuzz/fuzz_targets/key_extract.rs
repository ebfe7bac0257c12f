//! Keys taken out of any bytes by any path, columns or pattern: no panic, and no two answers.
#![no_main]

#[path = "../../crates/oncelog-cli/src/args.rs"]
mod args;
#[expect(dead_code, reason = "of the program's keys the extraction is used")]
#[path = "../../crates/oncelog-cli/src/key/mod.rs"]
mod key;

use clap::Parser;
use libfuzzer_sys::fuzz_target;

use args::{Cli, Command};
use key::Extractor;

/// Longer patterns only make the same parts slower.
const ARGUMENT_BYTES_MAX: usize = 64;

fuzz_target!(|bytes: &[u8]| run(bytes));

/// A byte chooses the kind of key; then comes the argument, up to a zero; then the item.
fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let (argument, item) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let Ok(argument) = std::str::from_utf8(argument) else { return };
    if argument.len() > ARGUMENT_BYTES_MAX || item.contains(&b'\n') {
        return;
    }
    let option = ["--json=", "--csv=", "--regex="][usize::from(*kind) % 3];
    let Ok(cli) = Cli::try_parse_from(["oncelog", "dedup", &format!("{option}{argument}")]) else {
        return;
    };
    let Command::Dedup(arguments) = cli.command else { return };
    let Ok(mut extractor) = Extractor::new(&arguments) else { return };
    let ended = [item, b"\n"].concat();
    let mut first = Vec::new();
    let answer = extractor.field(item, &ended, &mut first);
    if answer.is_ok() {
        let start: &[u8] = [b"\n\0j", b"\n\0c", b"\n\0r"][usize::from(*kind) % 3];
        assert!(first.starts_with(start), "{first:?} is the key of another kind");
    }
    // What an item left behind in the extractor does not show in the next one's key.
    let mut other = Vec::new();
    let _ = extractor.field(b"{\"a\": [1, \"b,", b"{\"a\": [1, \"b,\n", &mut other);
    let mut again = b"before".to_vec();
    assert_eq!(extractor.field(item, &ended, &mut again), answer);
    if answer.is_ok() {
        assert_eq!(again, [b"before", &first[..]].concat());
    }
}
