//! The calls of the system that no library offers safely: fork, its end, and a power cut.

#![expect(unsafe_code, reason = "these calls have no safe form, and faults are what they are for")]

use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// What `FS_IOC_SHUTDOWN` of ext4 and XFS is told: stop at once, without writing the journal.
const NO_LOG_FLUSH: u32 = 2;
/// `_IOR('X', 125, u32)`.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);

/// Ends the file system that the file is on as a power cut would: from now on nothing reaches the
/// device, and what has not is lost.
pub(crate) fn cut_power(file: &File) -> io::Result<()> {
    // SAFETY: this opcode's argument is a pointer to 32 bits, which is what the setter passes.
    let request = unsafe { Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH) };
    // SAFETY: the kernel only reads those bits, whatever direction the opcode says, and they live
    // until the call returns; no memory of this process changes.
    unsafe { ioctl(file, request) }?;
    Ok(())
}

/// A copy of this process.
#[derive(Debug)]
pub(crate) struct Copied(libc::pid_t);

/// Runs `work` in a copy of this process, which ends right after it.
///
/// Only for a process of one thread, or for work that takes no lock that another one may hold.
pub(crate) fn fork(work: impl FnOnce() -> bool) -> io::Result<Copied> {
    // SAFETY: the copy has this thread alone, and its work waits for no lock of another one; both
    // are what the caller sees to. The allocator of the C library is made fit for the copy by fork.
    let copy = unsafe { libc::fork() };
    match copy {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = i32::from(!work());
            // SAFETY: ends the copy at once; no destructor of what it shares with its parent runs.
            unsafe { libc::_exit(code) }
        }
        copy => Ok(Copied(copy)),
    }
}

impl Copied {
    /// Waits for its end; whether its work was done.
    pub(crate) fn wait(self) -> io::Result<bool> {
        let mut status = 0;
        // SAFETY: waits for a child of this process, and writes its status to a local variable.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        if waited == self.0 { Ok(status == 0) } else { Err(io::Error::last_os_error()) }
    }
}
