//! A file system without room: new keys are refused, begun work is completed, service resumes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use oncelog::{Durability, Store};

use crate::Failure;
use crate::campaign::Round;
use crate::history::{Answer, Refusal, What};
use crate::kill::inspect_all;
use crate::life::{Play, Player, look_at_all, tell};
use crate::oracle::Oracle;
use crate::pace::pause;
use crate::random::Random;
use crate::settings::{builder, manual};

/// Calls after which the file system must have filled up.
const CALLS_MAX: u64 = 20_000;
/// Refusals of one filling.
const REFUSALS: u64 = 40;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let path = round.room.join("store");
    let filler = round.room.join("filler");
    let threaded = round.number % 2 == 1;
    let mut oracle = Oracle::new(Durability::Process);
    let mut store = if threaded { builder().open(&path)? } else { manual().open(&path)? };
    for filling in 0..3 {
        let random = Random::of(round.random.next(), "full", filling);
        // Keys of their own each time: new ones are what a full store refuses.
        let play = Play { keys: 100_000, bulk: 20, ttl: 0 };
        let name = format!("f{filling}");
        let mut player = Player { store: &store, name, random, play };
        begin_some(&store, filling, &mut oracle)?;
        fs::write(&filler, vec![1; (5 << 19) + round.random.index(1 << 20)])?;
        fill(&mut player, &mut oracle, &filler)?;
        round.fault();
        complete_all(&store, filling, &mut oracle)?;
        look_at_all(&store, &mut oracle)?;
        fs::remove_file(&filler)?;
        resume(&store, filling, &mut oracle)?;
        if round.random.one_in(2) {
            store.close()?;
        } else {
            drop(store);
            oracle.process_ended();
        }
        inspect_all(&path, &mut oracle, round.random.one_in(2), true)?;
        if filling == 2 || round.until.has_come() {
            round.tally.checks += oracle.checks;
            return Ok(());
        }
        fs::remove_dir_all(&path)?;
        round.tally.checks += oracle.checks;
        oracle = Oracle::new(Durability::Process);
        store = if threaded { builder().open(&path)? } else { manual().open(&path)? };
    }
    Ok(())
}

fn lease(filling: u64, number: u64) -> String {
    format!("lease.{filling}.{number}")
}

/// Leases, whose completions have to find room.
fn begin_some(store: &Store, filling: u64, oracle: &mut Oracle) -> Result<(), Failure> {
    for number in 0..60 {
        tell(store, &lease(filling, number), What::Begin, oracle)?;
    }
    // Maintenance makes the room that removals are promised.
    store.maintain(std::time::Duration::from_millis(50))?;
    Ok(())
}

/// Adds keys until nothing more is taken, and goes on for a while.
fn fill(player: &mut Player<'_>, oracle: &mut Oracle, filler: &Path) -> Result<(), Failure> {
    let mut refused = 0;
    for _ in 0..CALLS_MAX {
        let answer = player.step(oracle)?;
        if let Answer::Refused(refusal) = answer {
            match refusal {
                Refusal::Unchanged(text) if text.contains("no room") => refused += 1,
                other => return Err(format!("a full disk is answered with {other}").into()),
            }
            if refused == 1 {
                // The rest too, so that no byte comes from elsewhere.
                let mut file = File::options().append(true).open(filler)?;
                while file.write_all(&[1; 4096]).is_ok() {}
            }
        }
        if refused == REFUSALS {
            return Ok(());
        }
    }
    Err(format!("the file system did not fill up: {refused} calls were refused").into())
}

fn complete_all(store: &Store, filling: u64, oracle: &mut Oracle) -> Result<(), Failure> {
    for number in 0..60 {
        let key = lease(filling, number);
        let token = oracle.token_of(&key).ok_or("a lease is gone")?;
        // A short outcome, for which room was reserved.
        let answer = tell(store, &key, What::Complete { token, salt: number << 3 }, oracle)?;
        if answer != Answer::Ended {
            return Err(format!("the completion of {key} on a full disk: {answer}").into());
        }
    }
    Ok(())
}

/// New keys are taken again once room has returned; a thread of maintenance may need a moment.
fn resume(store: &Store, filling: u64, oracle: &mut Oracle) -> Result<(), Failure> {
    for attempt in 0..100 {
        let key = format!("resumed.{filling}.{attempt}");
        let answer = tell(store, &key, What::Check { salt: 8, ttl: 0 }, oracle)?;
        if answer == Answer::New {
            return Ok(());
        }
        pause(10);
    }
    Err("service does not resume although room has returned".into())
}
