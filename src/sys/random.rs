//! Unpredictable bytes from the kernel, for identities and secrets.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// An array filled by the kernel's generator.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if cfg!(all(test, oncelog_shuttle)) {
        // A model can be repeated only if it is the same each time.
        return Ok(bytes);
    }
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
