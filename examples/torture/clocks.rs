//! Clocks that jump back and forth by anything from a millisecond to millions of years.

use std::sync::Arc;
use std::time::Duration;

use oncelog::{Clock, Durability, JumpPolicy, ManualClock, Store, Timestamp};

use crate::Failure;
use crate::campaign::Round;
use crate::history::Line;
use crate::life::{Play, Player, look_at_all};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::settings::manual;

const HOUR: u64 = 3_600_000;
const YEAR: u64 = 366 * 24 * HOUR;
/// Calls of a round.
const CALLS: u64 = 600;
/// Moments at which clocks of other programs have overflowed.
const EDGES: &[u64] = &[0, (1 << 31) * 1_000, (1 << 32) * 1_000, 1 << 53];

pub(crate) fn run(round: &mut Round<'_>) -> Result<(), Failure> {
    let path = round.room.join("store");
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let mut oracle = Oracle::new(Durability::Process);
    let policies = [JumpPolicy::UntilReopened, JumpPolicy::Follow, JumpPolicy::Hold];
    let policy = policies[round.random.index(3)];
    let open = || manual().clock(clock.clone()).clock_jumps(policy).open(&path);
    let mut store = open()?;
    for number in 0..CALLS {
        let random = Random::new(round.random.next());
        let ttl = [50, 2_000, 2 * HOUR, 400 * 24 * HOUR][round.random.index(4)];
        let play = Play { keys: 30, bulk: 100, ttl };
        let mut player = Player { store: &store, name: "c".into(), random, play };
        player.step(&mut oracle)?;
        if round.random.one_in(6) {
            jump(&clock, &mut round.random);
            round.fault();
        }
        let before = store.now();
        match round.random.below(60) {
            0 => {
                // After a crash the time is what the files prove, which a lookup adds nothing to.
                assert_new(store.insert(format!("proof {number}"))?)?;
                drop(store);
                oracle.process_ended();
                store = open()?;
                oracle.feed(&Line::Opened)?;
            }
            1 => {
                store.close()?;
                store = open()?;
                oracle.feed(&Line::Opened)?;
            }
            2..=5 => drop(store.maintain(Duration::from_millis(50))?),
            6 => store.follow_clock(),
            7 => look_at_all(&store, &mut oracle)?,
            _ => {}
        }
        check_time(&store, before, number)?;
    }
    look_at_all(&store, &mut oracle)?;
    round.tally.checks += oracle.checks;
    Ok(())
}

fn assert_new(is_new: bool) -> Result<(), Failure> {
    if is_new { Ok(()) } else { Err("a key never recorded is known".into()) }
}

/// The time does not run back, whatever the clock does, and whoever opens the store again.
fn check_time(store: &Store, before: Timestamp, number: u64) -> Result<(), Failure> {
    let now = store.now();
    if now >= before {
        return Ok(());
    }
    Err(format!("the store's time runs back from {before} to {now} after call {number}").into())
}

fn jump(clock: &ManualClock, random: &mut Random) {
    let by = [1, 40, 1_500, HOUR, 30 * HOUR, YEAR][random.index(6)];
    let now = clock.now().as_millis();
    let to = match random.below(24) {
        0 => EDGES[random.index(EDGES.len())],
        1..=7 => now.saturating_sub(by),
        8..=10 => now.saturating_add(10 * YEAR * random.below(2)),
        _ => now.saturating_add(by),
    };
    clock.set(Timestamp::from_millis(to));
}
