//! An interrupt ends the process as it would have, after the items in hand were finished.
//!
//! Work on items happens with the gate closed, reading with the gate open. Since everything that
//! was recorded is also printed when the gate opens, a signal that takes effect there leaves no
//! item recorded and unprinted. A second signal ends the process at once.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::exit::Failure;
use crate::memory::Memory;

/// Holds the memory, and is closed while items are recorded and printed.
#[derive(Debug)]
pub(crate) struct Gate {
    memory: Mutex<Option<Memory>>,
    /// The process is about to end: whoever works on items makes way.
    ending: AtomicBool,
}

impl Gate {
    /// Waits until nobody else is behind the gate. The memory is gone once it was taken.
    ///
    /// Waits for good once a signal came: on a busy machine, whoever closes the gate again right
    /// after opening it would keep the signal from ever getting through.
    pub(crate) fn close(&self) -> MutexGuard<'_, Option<Memory>> {
        while self.ending.load(Ordering::SeqCst) {
            thread::park();
        }
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the gate for good.
    fn end(&self) -> MutexGuard<'_, Option<Memory>> {
        self.ending.store(true, Ordering::SeqCst);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts to listen. Signals that the process was told to ignore stay ignored.
pub(crate) fn watch(memory: Memory) -> Result<Arc<Gate>, Failure> {
    let ignored = ignored_signals();
    let wanted = [SIGHUP, SIGINT, SIGTERM];
    let wanted: Vec<i32> = wanted.into_iter().filter(|signal| !ignored.contains(*signal)).collect();
    let failure =
        |error| Failure::Runtime(format!("could not prepare for being interrupted: {error}"));
    let seen_once = Arc::new(AtomicBool::new(false));
    for signal in &wanted {
        flag::register_conditional_default(*signal, Arc::clone(&seen_once)).map_err(failure)?;
        flag::register(*signal, Arc::clone(&seen_once)).map_err(failure)?;
    }
    let mut signals = Signals::new(&wanted).map_err(failure)?;
    let memory = Mutex::new(Some(memory));
    let gate = Arc::new(Gate { memory, ending: AtomicBool::new(false) });
    let at_gate = Arc::clone(&gate);
    let listen = move || {
        if let Some(signal) = signals.forever().next() {
            let mut closed = at_gate.end();
            // What fails here is repaired by the next open.
            let _ = closed.take().map(Memory::close);
            let _ = low_level::emulate_default_handler(signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failure)?;
    Ok(gate)
}

/// A set of signals, one bit each.
struct SignalSet(u64);

impl SignalSet {
    fn contains(&self, signal: i32) -> bool {
        let bit = u32::try_from(signal - 1).unwrap_or(u32::MAX);
        self.0.checked_shr(bit).is_some_and(|bits| bits & 1 == 1)
    }
}

/// What the process inherited as ignored, for example from nohup; none where that is not told.
fn ignored_signals() -> SignalSet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    SignalSet(parse_ignored(&status).unwrap_or(0))
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{SIGHUP, SIGINT, SignalSet, parse_ignored};

    #[test]
    fn ignored_signals_are_read_from_their_mask() {
        let mask = parse_ignored("Name:\tx\nSigIgn:\t0000000000001001\n");
        assert_eq!(mask, Some(0x1001));
        let set = SignalSet(0x1001);
        assert!(set.contains(SIGHUP) && !set.contains(SIGINT) && !set.contains(0));
    }
}
