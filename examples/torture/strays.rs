//! Things in the directory that are not the store's, and files that were exchanged.
//!
//! Pipes, sockets, links, folders and files of others neither block nor redirect an opening, and
//! stay as they are. A segment of another store, or in the place of another one, is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use oncelog::{Durability, Error, Store};

use crate::Failure;
use crate::campaign::Round;
use crate::kill::inspect_all;
use crate::life::{Play, Player};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::settings::manual;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let path = round.room.join("store");
    let mut oracle = Oracle::new(Durability::Process);
    live(&manual().open(&path)?, round, &mut oracle)?;
    oracle.process_ended();
    let mut strays = Vec::new();
    for number in 0..12 {
        if let Some(stray) = stray(round, &path, number)? {
            strays.push((stray.clone(), look(&stray)?));
            round.fault();
        }
    }
    for closes in [false, true, false] {
        inspect_all(&path, &mut oracle, closes, true)?;
        let store = manual().open(&path)?;
        live(&store, round, &mut oracle)?;
        store.maintain(std::time::Duration::from_millis(100))?;
        drop(store);
        oracle.process_ended();
    }
    for (stray, before) in &strays {
        if look(stray)? != *before {
            return Err(format!("{} was changed", stray.display()).into());
        }
    }
    exchange(round, &path, &mut oracle)?;
    round.tally.checks += oracle.checks + strays.len() as u64;
    Ok(())
}

fn live(store: &Store, round: &mut Round<'_>, oracle: &mut Oracle) -> Result<(), Failure> {
    let random = Random::new(round.random.next());
    let play = Play { keys: 60, bulk: 4, ttl: 0 };
    let mut player = Player { store, name: "s".into(), random, play };
    for _ in 0..60 {
        player.step(oracle)?;
    }
    Ok(())
}

/// Puts something of others into the directory, under a name that could be the store's.
fn stray(round: &mut Round<'_>, path: &Path, number: u64) -> Result<Option<PathBuf>, Failure> {
    let far = 5_000_000 + number;
    let name = match round.random.below(7) {
        0 => format!("{far:010}.seg"),
        1 => format!("{far:010}.seg.unfinished"),
        2 => ".DS_Store".to_owned(),
        3 => format!("STORE~{number}"),
        4 => format!("MANIFEST.bak{number}"),
        5 => format!("{number}.tmp"),
        _ => format!("{far:010}.seg~"),
    };
    let stray = path.join(name);
    if stray.symlink_metadata().is_ok() {
        return Ok(None);
    }
    match round.random.below(6) {
        0 => crate::power::call(Command::new("mkfifo").arg(&stray))?,
        1 => symlink(["STORE", "nowhere", "/dev/zero"][round.random.index(3)], &stray)?,
        2 => fs::create_dir(&stray)?,
        // A path that is too long for a socket is none of this class's matter.
        3 => drop(UnixListener::bind(&stray)),
        4 => fs::write(&stray, [0x5a; 9_000])?,
        _ => fs::write(&stray, "a note of somebody else, long enough for a head ".repeat(40))?,
    }
    Ok(stray.symlink_metadata().is_ok().then_some(stray))
}

/// What it is, and what is in it.
fn look(path: &Path) -> Result<(fs::FileType, u64, Vec<u8>), Failure> {
    let meta = path.symlink_metadata()?;
    let contents = if meta.is_file() { fs::read(path)? } else { Vec::new() };
    Ok((meta.file_type(), meta.len(), contents))
}

/// Exchanges two segments, or puts another store's in the place of one: each is noticed, and
/// putting things back puts everything back.
fn exchange(round: &mut Round<'_>, path: &Path, oracle: &mut Oracle) -> Result<(), Failure> {
    let segments = segments(path)?;
    let Some(own) = round.random.pick(&segments).cloned() else { return Ok(()) };
    let kept = round.room.join("kept");
    let foreign = match round.random.pick(&segments).cloned() {
        Some(other) if other != own && round.random.one_in(2) => fs::read(other)?,
        _ => {
            let elsewhere = round.room.join("elsewhere");
            let mut others = Oracle::new(Durability::Process);
            let store = manual().open(&elsewhere)?;
            live(&store, round, &mut others)?;
            store.close()?;
            fs::read(self::segments(&elsewhere)?.first().ok_or("a store without segments")?)?
        }
    };
    fs::rename(&own, &kept)?;
    // Of the same length, so that it is not the length that gives it away.
    let mut foreign = foreign;
    foreign.resize(usize::try_from(kept.metadata()?.len())?, 0);
    fs::write(&own, foreign)?;
    round.fault();
    match manual().open(path) {
        Err(Error::Corrupt { .. }) => {}
        Err(error) => return Err(format!("a foreign segment is answered with {error}").into()),
        Ok(_) => return Err(format!("{} is foreign and accepted", own.display()).into()),
    }
    fs::rename(&kept, &own)?;
    inspect_all(path, oracle, true, true)
}

/// Segments that something is in.
fn segments(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|end| end == "seg") && path.is_file();
        let number = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_ours = number.parse::<u64>().is_ok_and(|number| number < 1_000_000);
        if is_segment && is_ours && fs::read(&path)?.iter().any(|byte| *byte != 0) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
