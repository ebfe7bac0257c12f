//! Time as the campaign spends it; a store's own time is another matter.

#![expect(clippy::disallowed_methods, reason = "a campaign lasts so many seconds of a stopwatch")]

use std::process::{Child, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Failure;

/// Until when something goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(Instant);

impl Until {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    pub(crate) fn has_come(self) -> bool {
        Instant::now() >= self.0
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

pub(crate) fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Waits for a child's end; none if it has not come in time, and then the child is killed.
pub(crate) fn wait(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>, Failure> {
    let until = Until::after(time);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if until.has_come() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        pause(1);
    }
}

/// What is being done, and until when it has to be.
static WATCHED: Mutex<Option<(String, Until)>> = Mutex::new(None);
/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Says what is being done; if nothing else is said for too long, the campaign ends with that.
pub(crate) fn watch(what: String) {
    if let Ok(mut watched) = WATCHED.lock() {
        *watched = Some((what, Until::after(PATIENCE)));
    }
}

/// Watches from a thread of its own; `give_up` is told what hangs.
pub(crate) fn begin_watch(give_up: fn(&str)) {
    std::thread::spawn(move || {
        loop {
            pause(500);
            let Ok(watched) = WATCHED.lock() else { return };
            if let Some((what, until)) = watched.as_ref()
                && until.has_come()
            {
                give_up(what);
            }
        }
    });
}
