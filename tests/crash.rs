//! Kills a process at work again and again, and checks what it had acknowledged.
//!
//! The parent runs itself as a child that records keys from several threads and writes each key to
//! a pipe once its call has returned. The parent kills it with SIGKILL after a few milliseconds,
//! opens the store and checks every acknowledged key, all outcomes and all checksums. The store is
//! carried from cycle to cycle.
//!
//! `cargo test --test crash -- --cycles 2000 --seed 7`
#![expect(clippy::print_stdout, reason = "the child's acknowledgements and the result go there")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use oncelog::{Answers, Store, Ttl, inspect};

const CYCLES: u64 = 200;
const THREADS: u64 = 4;
/// Lookups of older cycles' keys after each cycle.
const OLD_KEYS: usize = 4_000;
const KILL_AFTER_MS_MIN: u64 = 5;
const KILL_AFTER_MS_MAX: u64 = 60;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    let result = match (value("--child"), number("--cycle")) {
        (Some(path), Some(cycle)) => work(Path::new(path), cycle),
        _ => kill_repeatedly(
            number("--cycles").unwrap_or(CYCLES),
            number("--seed").unwrap_or_else(|| u64::from(std::process::id())),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("crash: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers that look random and follow from the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// The outcome that belongs to a key: its length and bytes follow from the key alone.
fn outcome_of(key: &str) -> Vec<u8> {
    let seed = key.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut random = Random(seed);
    let len = match random.below(50) {
        0 => random.below(90_000),
        1..10 => random.below(3_000),
        _ => random.below(80),
    };
    (0..len).map(|_| random.below(256).to_le_bytes()[0]).collect()
}

/// The child: records keys until it is killed.
fn work(path: &Path, cycle: u64) -> Result<(), Failure> {
    let store = Store::open(path)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| (thread, store.clone()))
            .map(|(thread, store)| scope.spawn(move || record(&store, cycle, thread)))
            .collect();
        for thread in threads {
            let answer = thread.join().map_err(|_| "a thread of the child panicked")?;
            answer.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Records keys `cycle.thread.number` and acknowledges each; removes every eleventh again.
fn record(store: &Store, cycle: u64, thread: u64) -> oncelog::Result<()> {
    let mut answers = Answers::new();
    let mut number = 0_u64;
    loop {
        let count = [1, 1, 1, 20][(number % 4) as usize];
        let keys: Vec<String> =
            (number..number + count).map(|number| format!("{cycle}.{thread}.{number}")).collect();
        number += count;
        let mut lines = String::new();
        if count > 1 {
            let items: Vec<(&String, Vec<u8>)> =
                keys.iter().map(|key| (key, outcome_of(key))).collect();
            store.check_and_set_many(&items, &mut answers)?;
            let new = answers.iter().map(|answer| answer.is_new());
            for (key, new) in keys.iter().zip(new) {
                lines.push_str(&format!("{} {key}\n", if new { '+' } else { '!' }));
            }
        } else if let Some(key) = keys.first() {
            let for_ever = number.is_multiple_of(3);
            let ttl = if for_ever { Ttl::Never } else { Duration::from_secs(7_200).into() };
            let new = store.check_and_set_for(key, outcome_of(key), ttl)?.is_new();
            lines.push_str(&format!("{} {key}\n", if new { '+' } else { '!' }));
            if number.is_multiple_of(11) {
                let removed = format!("r{key}");
                let recorded = store.insert(&removed)? && store.remove(&removed)?;
                lines.push_str(&format!("{} {removed}\n", if recorded { '-' } else { '!' }));
            }
        }
        // One write a line group: the lock of standard output keeps lines whole.
        print!("{lines}");
        let _ = std::io::stdout().flush();
    }
}

/// Everything that was acknowledged: true for keys recorded, false for keys removed.
type Acknowledged = BTreeMap<String, bool>;

/// The parent.
fn kill_repeatedly(cycles: u64, seed: u64) -> Result<(), Failure> {
    println!("crash: {cycles} cycles, seed {seed}");
    let directory = tempfile::tempdir()?;
    let mut random = Random(seed);
    let mut acknowledged = Acknowledged::new();
    for cycle in 0..cycles {
        let after = KILL_AFTER_MS_MIN + random.below(KILL_AFTER_MS_MAX - KILL_AFTER_MS_MIN + 1);
        let fresh = one_cycle(directory.path(), cycle, Duration::from_millis(after))
            .and_then(|fresh| {
                verify(directory.path(), "after the kill")?;
                check(directory.path(), &fresh, &acknowledged, &mut random)?;
                verify(directory.path(), "after reopening")?;
                Ok(fresh)
            })
            .map_err(|error| format!("cycle {cycle} of seed {seed}: {error}"))?;
        acknowledged.extend(fresh);
    }
    let store = Store::open(directory.path())?;
    for (key, kept) in &acknowledged {
        check_key(&store, key, *kept)?;
    }
    store.close()?;
    verify(directory.path(), "after closing")?;
    println!("crash: {cycles} cycles, {} acknowledged keys, 0 lost", acknowledged.len());
    Ok(())
}

/// Runs a child, kills it, and returns what it acknowledged.
fn one_cycle(path: &Path, cycle: u64, after: Duration) -> Result<Acknowledged, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(path)
        .args(["--cycle", &cycle.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no pipe")?;
    let (began, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut input = BufReader::new(output);
        let mut line = String::new();
        while input.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = began.send(());
            // The last line may have been cut off.
            if line.ends_with('\n') {
                lines.push(line.trim_end().to_string());
            }
            line.clear();
        }
        lines
    });
    // Some cycles are killed while the child opens the store, the others while it writes.
    if cycle % 8 != 7 {
        let _ = begun.recv_timeout(Duration::from_secs(60));
    }
    let died = wait(&mut child, after)?;
    child.kill()?;
    let status = child.wait()?;
    let lines = reader.join().map_err(|_| "the reader panicked")?;
    let mut acknowledged = Acknowledged::new();
    for line in lines {
        match line.split_once(' ') {
            Some(("+", key)) => _ = acknowledged.insert(key.to_string(), true),
            Some(("-", key)) => _ = acknowledged.insert(key.to_string(), false),
            _ => return Err(format!("the child was answered wrongly: {line}").into()),
        }
    }
    if died {
        return Err(format!("the child ended by itself: {status}").into());
    }
    Ok(acknowledged)
}

/// Waits; true if the child ended by itself meanwhile.
#[expect(clippy::disallowed_methods, reason = "nothing signals the moment at which to kill")]
fn wait(child: &mut Child, time: Duration) -> std::io::Result<bool> {
    std::thread::sleep(time);
    Ok(child.try_wait()?.is_some())
}

fn verify(path: &Path, when: &str) -> Result<(), Failure> {
    if path.join("STORE").exists() {
        let report = inspect::verify(path)?;
        if let Some(problem) = report.problems.first() {
            return Err(format!("{problem}, {when}").into());
        }
    }
    Ok(())
}

fn check(
    path: &Path,
    fresh: &Acknowledged,
    old: &Acknowledged,
    random: &mut Random,
) -> Result<(), Failure> {
    let store = Store::open(path)?;
    if store.recovery().damaged > 0 {
        return Err(format!("damage after the kill: {:?}", store.recovery()).into());
    }
    let step = 1 + old.len() / OLD_KEYS;
    let start = random.below(step as u64) as usize;
    for (key, kept) in fresh.iter().chain(old.iter().skip(start).step_by(step)) {
        check_key(&store, key, *kept)?;
    }
    // Keys that were on their way are there whole or not at all.
    for (last, _) in fresh.iter().rev().take(8) {
        let Some((thread, number)) = last.trim_start_matches('r').rsplit_once('.') else {
            continue;
        };
        let number: u64 = number.parse()?;
        for next in number + 1..number + 24 {
            let key = format!("{thread}.{next}");
            let found = store.get(&key)?;
            if found.is_some_and(|record| record.outcome() != outcome_of(&key)) {
                return Err(format!("{key} has a wrong outcome").into());
            }
        }
    }
    Ok(())
}

fn check_key(store: &Store, key: &str, kept: bool) -> Result<(), Failure> {
    match store.get(key)? {
        None if kept => Err(format!("acknowledged key {key} is lost").into()),
        Some(_) if !kept => Err(format!("removed key {key} is back").into()),
        Some(record) if record.outcome() != outcome_of(key) => {
            Err(format!("{key} has a wrong outcome").into())
        }
        _ => Ok(()),
    }
}
