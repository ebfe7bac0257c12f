//! The optional thread that does nothing but call `maintain`.
//!
//! Sealing reads and syncs whole segments, which costs callers a processor, memory bandwidth and
//! page faults, and its syncs get in the way of those of new segments. While much is being written
//! or the machine has no processor to spare it is therefore held to a small share of the time: an
//! unsealed segment loses nothing, it only takes longer to open. Once things calm down,
//! sealing catches up; and it does not fall behind without limit. Only sealed segments are
//! compacted, so where much of the disk is taken by what was removed or replaced, both go on
//! without a pause.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sys::{clock, load};

/// Between two looks at the store when there is little to do.
const PERIOD: Duration = Duration::from_millis(100);
/// One slice of work.
const BUDGET: Duration = Duration::from_millis(20);
/// While it is busy, at most one part in this many of the time goes to sealing.
const SEAL_SHARE: u64 = 32;
/// Between two looks at how busy it is, in milliseconds.
const LOOK_MS_MIN: u64 = 50;
/// Blocks claimed between two looks above which writing counts as busy: 1 MiB.
const BUSY_BLOCKS: u64 = 16;
/// Segments that may wait to be sealed while it is busy: 2 GiB, a second or two at open.
const BACKLOG_MAX: usize = 32;

/// A running thread; it ends when this is dropped.
pub(crate) struct Maintainer {
    engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread; a forked copy of it has not.
    process: u32,
}

impl Maintainer {
    pub(crate) fn start(engine: &Arc<Engine>, path: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (own, stopped) = (engine.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("oncelog-maintain".into())
            .spawn(move || run(&own, &stopped))
            .map_err(|e| Error::io("start the maintenance thread", path, e))?;
        let process = std::process::id();
        Ok(Self { engine: engine.clone(), stop, thread: Some(thread), process })
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // In a forked copy there is nobody to wait for, and a lock of the thread's may be held.
            return;
        }
        self.stop.store(true, Ordering::Release);
        self.engine.wake.ring();
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

fn run(engine: &Engine, stop: &AtomicBool) {
    let mut pace = SealPace::default();
    loop {
        let started = clock::monotonic_millis();
        let claimed = engine.log.blocks_claimed();
        let pressed = engine.log.is_mostly_waste();
        let seal =
            pressed || pace.allows(started, claimed) || engine.log.sealable_count() > BACKLOG_MAX;
        let pause = match engine.maintain_and(BUDGET, seal) {
            Ok(done) => {
                if done.segments_sealed > 0 {
                    pace.sealed(started);
                }
                let due = engine.commit.due_in(engine.clock.now()).unwrap_or(PERIOD);
                if pressed && done.more { Duration::ZERO } else { due }
            }
            Err(Error::Closed) => return,
            // Callers meet the same failure themselves, where they can see it; here it can only
            // be tried again.
            Err(_) => PERIOD,
        };
        engine.wake.wait(pause.min(PERIOD));
        if stop.load(Ordering::Acquire) {
            return;
        }
    }
}

/// When sealing may take time.
#[derive(Debug, Default)]
struct SealPace {
    blocks_seen: u64,
    looked_ms: u64,
    /// What the last look showed.
    calm: bool,
    next_ms: u64,
}

impl SealPace {
    fn allows(&mut self, now_ms: u64, blocks_claimed: u64) -> bool {
        if now_ms.saturating_sub(self.looked_ms) >= LOOK_MS_MIN {
            let quiet = blocks_claimed - self.blocks_seen <= BUSY_BLOCKS;
            self.calm = quiet && has_spare_processor();
            (self.looked_ms, self.blocks_seen) = (now_ms, blocks_claimed);
        }
        self.calm || now_ms >= self.next_ms
    }

    fn sealed(&mut self, started_ms: u64) {
        let now = clock::monotonic_millis();
        self.next_ms = now + (now - started_ms + 1) * SEAL_SHARE;
    }
}

/// True when no other thread of the machine would wait for this one.
fn has_spare_processor() -> bool {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    load::runnable_threads().is_none_or(|threads| threads <= processors)
}
