//! The optional thread that does nothing but call `maintain`.
//!
//! Sealing reads and syncs whole segments, which costs callers memory bandwidth and page faults.
//! While much is being written it is therefore held to a small share of the time: an unsealed
//! segment loses nothing, it only takes longer to open. Once writing calms down, it catches up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sys::clock;
use crate::sys::sync::{Condvar, Mutex};

/// Between two looks at the store when there is little to do.
const PERIOD: Duration = Duration::from_millis(100);
/// One slice of work.
const BUDGET: Duration = Duration::from_millis(20);
/// Blocks claimed in a period above which writing counts as busy: 1 MiB.
const BUSY_BLOCKS: u64 = 16;
/// While busy, at most one part in this many of the time goes to sealing.
const SEAL_SHARE: u64 = 32;

/// A running thread; it ends when this is dropped.
pub(crate) struct Maintainer {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    stop: Mutex<bool>,
    changed: Condvar,
}

impl Maintainer {
    pub(crate) fn start(engine: &Arc<Engine>, path: &Path) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let (engine, shared) = (engine.clone(), signal.clone());
        let thread = std::thread::Builder::new()
            .name("oncelog-maintain".into())
            .spawn(move || run(&engine, &shared))
            .map_err(|e| Error::io("start the maintenance thread", path, e))?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        *self.signal.stop.lock() = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It is at most one slice of work away from its end.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintainer").finish_non_exhaustive()
    }
}

fn run(engine: &Engine, signal: &Signal) {
    let mut pace = SealPace::default();
    loop {
        let started = clock::monotonic_millis();
        let seal = pace.allows(engine.log.blocks_claimed(), started);
        match engine.maintain_and(BUDGET, seal) {
            Ok(done) if done.segments_sealed > 0 => pace.sealed(started),
            Ok(_) => {}
            Err(Error::Closed) => return,
            // Callers meet the same failure themselves, where they can see it; here it can only
            // be tried again.
            Err(_) => {}
        }
        let mut stop = signal.stop.lock();
        if !*stop {
            signal.changed.wait_for(&mut stop, PERIOD);
        }
        if *stop {
            return;
        }
    }
}

/// When sealing may take time.
#[derive(Debug, Default)]
struct SealPace {
    blocks_seen: u64,
    next_ms: u64,
}

impl SealPace {
    fn allows(&mut self, blocks_claimed: u64, now_ms: u64) -> bool {
        let busy = blocks_claimed - self.blocks_seen > BUSY_BLOCKS;
        self.blocks_seen = blocks_claimed;
        !busy || now_ms >= self.next_ms
    }

    fn sealed(&mut self, started_ms: u64) {
        let now = clock::monotonic_millis();
        self.next_ms = now + (now - started_ms + 1) * SEAL_SHARE;
    }
}
