//! A file system remounted read-only between two openings: a written error, and all of it later.

use std::path::Path;
use std::process::Command;

use oncelog::{Durability, Error, inspect};

use crate::Failure;
use crate::campaign::Round;
use crate::kill::inspect_all;
use crate::life::{Play, Player};
use crate::oracle::Oracle;
use crate::power::call;
use crate::random::Random;
use crate::settings::manual;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let path = round.room.join("store");
    let mounted = round.room.parent().ok_or("a room without a file system")?.to_owned();
    let mut oracle = Oracle::new(Durability::Process);
    for _ in 0..6 {
        let store = manual().open(&path)?;
        let random = Random::new(round.random.next());
        let play = Play { keys: 40, bulk: 40, ttl: 0 };
        let mut player = Player { store: &store, name: "r".into(), random, play };
        for _ in 0..60 {
            player.step(&mut oracle)?;
        }
        // While files are open for writing the system refuses; if it does not, so may the store.
        let early = remount(&mounted, "ro").is_ok();
        if early {
            remount(&mounted, "rw")?;
        }
        if round.random.one_in(2) {
            store.close()?;
        } else {
            drop(store);
            oracle.process_ended();
        }
        remount(&mounted, "ro")?;
        round.fault();
        let refused = refused(&path);
        let looked = inspect::stat(&path).and_then(|_| inspect::verify(&path));
        remount(&mounted, "rw")?;
        refused?;
        let report = looked.map_err(|error| format!("it cannot be inspected: {error}"))?;
        if !report.is_sound() {
            return Err(format!("verify finds {:?}", report.problems).into());
        }
        inspect_all(&path, &mut oracle, round.random.one_in(2), true)?;
    }
    round.tally.checks += oracle.checks;
    Ok(())
}

fn remount(mounted: &Path, how: &str) -> Result<(), Failure> {
    call(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(mounted))
}

fn refused(path: &Path) -> Result<(), Failure> {
    match manual().open(path) {
        Err(Error::Io { .. }) => Ok(()),
        Err(error) => Err(format!("a read-only file system is answered with {error}").into()),
        Ok(_) => Err("a store on a read-only file system is opened for writing".into()),
    }
}
