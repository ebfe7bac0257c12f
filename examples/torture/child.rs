//! The child processes: one that lives until it is killed, one whose every call is known ahead.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use oncelog::Store;

use crate::Failure;
use crate::history::{Line, refusal};
use crate::life::{Pipe, Play, Player, Witness, sync};
use crate::random::Random;
use crate::settings::{builder, level, manual};

/// What a child is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) store: PathBuf,
    pub(crate) seed: u64,
    pub(crate) level: &'static str,
    /// Threads of a life; 0 for the script.
    pub(crate) threads: u64,
    /// Lifetimes of some records in milliseconds, up to this; 0 for none of their own.
    pub(crate) ttl: u64,
}

impl Orders {
    /// As arguments; [`Orders::parse`] reads them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { store, seed, level, threads, ttl } = self;
        let (store, seed) = (store.display().to_string(), seed.to_string());
        let (threads, ttl) = (threads.to_string(), ttl.to_string());
        vec!["--child".into(), store, seed, (*level).into(), threads, ttl]
    }

    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [store, seed, level, threads, ttl] = words else { return None };
        let level = ["process", "interval", "synced"].into_iter().find(|name| name == level)?;
        let (seed, threads, ttl) = (seed.parse().ok()?, threads.parse().ok()?, ttl.parse().ok()?);
        Some(Self { store: store.into(), seed, level, threads, ttl })
    }
}

pub(crate) fn run(orders: &Orders) -> Result<(), Failure> {
    let pipe = Pipe::new()?;
    let level = level(orders.level).ok_or("no such level")?;
    if orders.threads == 0 {
        return script(orders, &pipe);
    }
    let opened = builder().durability(level).open(&orders.store);
    let Some(store) = told_of(opened, &pipe)? else { return Ok(()) };
    let races = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let work = |thread| live(&store, orders, thread, &races, &pipe);
        let threads: Vec<_> =
            (0..orders.threads).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in threads {
            let lived = thread.join().map_err(|_| "a thread of the child panicked")?;
            lived.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Tells how opening went; no store if it was refused.
fn told_of(opened: oncelog::Result<Store>, pipe: &Pipe) -> Result<Option<Store>, Failure> {
    let mut pipe = pipe;
    match opened {
        Ok(store) => {
            pipe.hear(&Line::Opened)?;
            Ok(Some(store))
        }
        Err(error) => {
            pipe.hear(&Line::NotOpened(refusal(&error)))?;
            Ok(None)
        }
    }
}

/// A thread that makes calls until the process is killed.
fn live(
    store: &Store,
    orders: &Orders,
    thread: u64,
    races: &AtomicU64,
    mut pipe: &Pipe,
) -> Result<(), String> {
    let random = Random::of(orders.seed, "life", thread);
    // The races of a process are its own.
    let play = Play { keys: 24, bulk: 60, ttl: orders.ttl };
    let mut player = Player { store, name: format!("k{thread}"), random, play };
    let racer = Play { keys: orders.seed, ..play };
    let mut racer =
        Player { store, name: String::new(), random: player.random.clone(), play: racer };
    loop {
        let done = match player.random.below(64) {
            0 if thread == 0 => sync(store, &mut pipe),
            1 if thread == 0 => count_rounds(store, pipe),
            2..=16 => racer.race(races, &mut pipe),
            _ => player.step(&mut pipe).map(|_| ()),
        };
        done.map_err(|error| error.to_string())?;
    }
}

/// Counts rounds of syncs, of which maintenance makes some.
fn count_rounds(store: &Store, mut pipe: &Pipe) -> Result<(), Failure> {
    pipe.hear(&Line::Counting)?;
    pipe.hear(&Line::Rounds(store.stats().syncs))
}

/// Two openings of one thread, without any of another: the same system calls every time.
fn script(orders: &Orders, mut pipe: &Pipe) -> Result<(), Failure> {
    let level = level(orders.level).ok_or("no such level")?;
    for opening in 0..2 {
        let opened = manual().durability(level).open(&orders.store);
        let Some(store) = told_of(opened, pipe)? else { continue };
        acts(&store, orders, opening, pipe)?;
        if opening == 0 {
            // Closing syncs all there is.
            pipe.hear(&Line::SyncBegins)?;
            if store.close().is_ok() {
                pipe.hear(&Line::SyncReturned)?;
            }
        }
    }
    pipe.hear(&Line::Finished)
}

fn acts(store: &Store, orders: &Orders, opening: u64, mut pipe: &Pipe) -> Result<(), Failure> {
    let random = Random::of(orders.seed, "script", opening);
    let play = Play { keys: 12, bulk: 6, ttl: orders.ttl };
    let mut player = Player { store, name: "s".into(), random, play };
    for number in 0..90 {
        player.step(&mut pipe)?;
        match number % 30 {
            // Whether maintenance is refused shows in what follows it.
            14 => drop(store.maintain(Duration::from_millis(200))),
            24 => sync(store, &mut pipe)?,
            _ => {}
        }
    }
    Ok(())
}
