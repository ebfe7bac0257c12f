//! Copies of a store with bits, bytes and pages changed: detected, or harmless.
//!
//! A sample is built once a round and kept as bytes, closed or as a killed process leaves it. Of a
//! closed one every answer must be right or an error that says *damaged*. Of a killed one, what was
//! not synced may be lost, key by key, as by a power cut; what was synced may not. But how far a
//! block was synced stands in its own first page: where a killed store has lost that page as a
//! whole, only the open store is asked, and held to nothing (`docs/semantics.md`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use oncelog::{Durability, Error, inspect};

use crate::Failure;
use crate::campaign::Round;
use crate::history::{Answer, Line, Refusal, What, ask};
use crate::life::{Play, Player, sync};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::settings::manual;

/// Damages of one sample.
const DAMAGES: u64 = 40;
const PAGE: usize = 4096;
/// Bytes of a block, of which the first page holds the header.
const BLOCK: usize = 64 << 10;

type Files = BTreeMap<String, Vec<u8>>;

/// A store's files and what it answers.
struct Sample {
    files: Files,
    /// The files as they were at some moment before.
    older: Files,
    closed: bool,
    oracle: Oracle,
}

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let sample = build(round)?;
    // In memory where the system has such a place: each copy is opened once.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { round.room.as_path() };
    let folder = tempfile::Builder::new().prefix("oncelog-torture-").tempdir_in(place)?;
    for number in 0..DAMAGES {
        let copy = folder.path().join(number.to_string());
        let (name, bytes, what) = damaged(&sample, &mut round.random)?;
        write(&sample.files, &copy, &name, &bytes)?;
        let state = if sample.closed { "closed" } else { "killed" };
        let own = sample.files.get(&name).map_or(&[][..], Vec::as_slice);
        let is_blind = !sample.closed && name.ends_with(".seg") && loses_a_header(own, &bytes);
        judge(round, &sample, &copy, is_blind)
            .map_err(|error| format!("{what} in {name} of a {state} store: {error}"))?;
        fs::remove_dir_all(&copy)?;
        round.fault();
        if round.until.has_come() {
            break;
        }
    }
    Ok(())
}

fn build(round: &mut Round<'_>) -> Result<Sample, Failure> {
    let path = round.room.join("store");
    let mut oracle = Oracle::new(Durability::Process);
    let mut older = Files::new();
    let mut store = manual().lanes(1).open(&path)?;
    let calls = 20 + round.random.below(300);
    let (old_at, reopens) = (round.random.below(calls), round.random.one_in(2));
    for number in 0..calls {
        let random = Random::new(round.random.next());
        let play = Play { keys: 50, bulk: 60, ttl: 0 };
        let mut player = Player { store: &store, name: "d".into(), random, play };
        player.step(&mut oracle)?;
        if number == calls / 2 {
            sync(&store, &mut oracle)?;
            if reopens {
                store.close()?;
                store = manual().lanes(1).open(&path)?;
                oracle.feed(&Line::Opened)?;
            }
        }
        if number == old_at {
            older = read(&path)?;
        }
    }
    let closed = round.random.one_in(2);
    if closed {
        store.close()?;
    } else {
        drop(store);
    }
    Ok(Sample { files: read(&path)?, older, closed, oracle })
}

fn read(path: &Path) -> Result<Files, Failure> {
    let mut files = Files::new();
    for entry in fs::read_dir(path)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, fs::read(&path)?);
    }
    Ok(files)
}

/// Writes all files, one of them with other contents. Zeros at the end are left to the system.
fn write(files: &Files, folder: &Path, name: &str, contents: &[u8]) -> Result<(), Failure> {
    fs::create_dir(folder)?;
    for (other, bytes) in files {
        let bytes = if other == name { contents } else { bytes };
        let file = File::create(folder.join(other))?;
        file.write_all_at(bytes.get(..used(bytes)).unwrap_or_default(), 0)?;
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// A file with other contents, and what was done to it.
fn damaged(sample: &Sample, random: &mut Random) -> Result<(String, Vec<u8>, String), Failure> {
    let names: Vec<&String> =
        sample.files.iter().filter(|(_, bytes)| used(bytes) > 0).map(|(name, _)| name).collect();
    let name = (*random.pick(&names).ok_or("a store without files")?).clone();
    let mut bytes = sample.files.get(&name).cloned().unwrap_or_default();
    let used = used(&bytes);
    let at = random.index(used);
    let page = at / PAGE * PAGE..(at / PAGE * PAGE + PAGE).min(bytes.len());
    let other = random.index(used) / PAGE * PAGE;
    let what = match random.below(9) {
        0..=1 => {
            let bit = random.below(8);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            format!("bit {bit} of byte {at} flipped")
        }
        2 => {
            let len = 1 + random.index(4);
            let draw = random.next().to_le_bytes();
            let bytes = bytes.iter_mut().skip(at).take(len);
            bytes.zip(draw).for_each(|(byte, new)| *byte = new);
            format!("{len} bytes at {at} changed")
        }
        3 => {
            bytes.get_mut(page.clone()).into_iter().for_each(|page| page.fill(0));
            format!("page at {} zeroed", page.start)
        }
        4 => {
            let from: Vec<u8> = bytes.iter().skip(other).take(PAGE).copied().collect();
            let to: Vec<u8> = bytes.get(page.clone()).unwrap_or_default().to_vec();
            bytes.iter_mut().skip(page.start).zip(&from).for_each(|(byte, new)| *byte = *new);
            bytes.iter_mut().skip(other).zip(&to).for_each(|(byte, new)| *byte = *new);
            format!("pages at {} and {other} swapped", page.start)
        }
        5 => {
            let old = sample.older.get(&name).map_or(&[][..], Vec::as_slice);
            let old = old.iter().skip(page.start).take(PAGE);
            bytes.iter_mut().skip(page.start).zip(old).for_each(|(byte, old)| *byte = *old);
            format!("page at {} put back as it was before", page.start)
        }
        6 => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
        7 => {
            let border = random.index(bytes.len());
            bytes.truncate(border);
            format!("cut off at {border}")
        }
        _ => {
            let more = 1 + random.index(5_000);
            let filler = if random.one_in(2) { 0 } else { 0xa5 };
            bytes.resize(bytes.len() + more, filler);
            format!("extended by {more} bytes")
        }
    };
    Ok((name, bytes, what))
}

/// True when a page that begins with a block's header is another one: more of it has changed than
/// the few bytes that the damages of single bytes change.
fn loses_a_header(own: &[u8], damaged: &[u8]) -> bool {
    let page = |bytes: &[u8], start| bytes.get(start..start + PAGE).map(<[u8]>::to_vec);
    let mut starts = (0..own.len()).step_by(BLOCK).map(|start| start.max(PAGE));
    starts.any(|start| match (page(own, start), page(damaged, start)) {
        (Some(own), Some(other)) => own.iter().zip(&other).filter(|(a, b)| a != b).count() > 4,
        // A file that ends there is told by its length.
        _ => false,
    })
}

fn judge(
    round: &mut Round<'_>,
    sample: &Sample,
    copy: &Path,
    is_blind: bool,
) -> Result<(), Failure> {
    let mut oracle = sample.oracle.clone();
    if !sample.closed {
        oracle.power_cut();
    }
    // Whatever it finds, it ends, and says so.
    let _ = inspect::verify(copy);
    let store = match manual().open(copy) {
        Ok(store) => store,
        Err(Error::Corrupt { .. } | Error::NotAStore { .. } | Error::UnsupportedFormat { .. }) => {
            round.tally.checks += 1;
            return Ok(());
        }
        Err(error) => return Err(format!("damage is answered with {error}").into()),
    };
    for key in oracle.keys() {
        let at = store.now().as_millis();
        let answer = ask(&store, &key, What::Look);
        round.tally.checks += 1;
        if is_blind {
            continue;
        }
        if let Answer::Refused(Refusal::Damage(_)) = answer {
            let again = ask(&store, &key, What::Check { salt: 8, ttl: 0 });
            if again == Answer::New {
                return Err(format!("{key} is damaged and new").into());
            }
            continue;
        }
        oracle.feed(&Line::Call { key: key.clone(), at, what: What::Look })?;
        let at = store.now().as_millis();
        oracle.feed(&Line::Reply { key, at, answer })?;
    }
    Ok(())
}
