//! `kill -9` at each system call of a scripted life: creating, filling, closing, opening again.

use oncelog::Durability;

use crate::Failure;
use crate::campaign::Round;
use crate::child::Orders;
use crate::kill::inspect_all;
use crate::life::Witness;
use crate::oracle::Oracle;
use crate::trace::{run_with, sites, strides};

/// Kills of one round, each of a store of its own.
const KILLS: u64 = 8;

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let level = if round.number.is_multiple_of(2) { "process" } else { "synced" };
    let script =
        Orders { store: round.room.join("store"), seed: round.seed, level, threads: 0, ttl: 30 };
    let sites = sites(&script)?;
    for kill in 0..KILLS {
        let Some(site) = sites.get(strides(sites.len(), round.number / 2 * KILLS + kill)) else {
            return Err("the script makes no system call".into());
        };
        let room = round.room.join(kill.to_string());
        std::fs::create_dir(&room)?;
        let orders = Orders { store: room.join("store"), ..script.clone() };
        let mut oracle = Oracle::new(Durability::Process);
        let lived = run_with(&orders, site, "signal=KILL", false)?;
        let failed = |what: String| -> Failure {
            format!("killed at {} {} ({}): {what}", site.name, site.nth, site.text).into()
        };
        for line in &lived.lines {
            oracle.hear(line).map_err(|error| failed(error.to_string()))?;
        }
        if lived.is_finished() {
            continue;
        }
        if lived.status.is_none() || lived.status.is_some_and(|status| status.success()) {
            return Err(failed(format!("{:?}: {}", lived.status, lived.said)));
        }
        round.fault();
        oracle.process_ended();
        for closes in [true, false] {
            inspect_all(&orders.store, &mut oracle, closes, true)
                .map_err(|error| failed(error.to_string()))?;
        }
        round.tally.checks += oracle.checks;
        std::fs::remove_dir_all(&room)?;
        if round.until.has_come() {
            break;
        }
    }
    Ok(())
}
