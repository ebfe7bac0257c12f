//! Input: one large buffer that is filled by whatever a single read returns.
//!
//! A read never waits for more than the system has, so a slow pipe is handled as it arrives and a
//! file in large pieces. The rest of an incomplete item moves to the front before the next read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The longest item, in bytes.
pub(crate) const ITEM_BYTES_MAX: usize = 16 << 20;
/// Bytes that a buffer starts with, and the most that it reads at once unless items are longer.
const BUFFER_BYTES: usize = 256 << 10;
/// The least room that is worth a read.
const READ_BYTES_MIN: usize = 64 << 10;

/// One input in turn.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// The inputs named by the arguments.
    pub(crate) fn all(files: &[PathBuf]) -> Vec<Self> {
        if files.is_empty() {
            return vec![Self::Stdin];
        }
        let dash = Path::new("-");
        let source = |path: &PathBuf| {
            if path == dash { Self::Stdin } else { Self::File(path.clone()) }
        };
        files.iter().map(source).collect()
    }

    /// How messages call the input.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The input's length, where it is known; fails for what cannot be read at all.
    pub(crate) fn check(&self) -> Result<Option<u64>, Failure> {
        let Self::File(path) = self else {
            return Ok(None);
        };
        let found = path.metadata().map_err(|error| self.failure(&error))?;
        if found.is_dir() {
            let text = format!("{} is a directory; name the files in it", path.display());
            return Err(Failure::Runtime(text));
        }
        Ok(found.is_file().then_some(found.len()))
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Read>, Failure> {
        match self {
            // Its own small buffer is passed by, because reads ask for more than it holds.
            Self::Stdin => Ok(Box::new(io::stdin().lock())),
            Self::File(path) => {
                let file = File::open(path).map_err(|error| self.failure(&error))?;
                Ok(Box::new(file))
            }
        }
    }

    /// The failure to read this input.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "; check the name, or write - for standard input",
            io::ErrorKind::PermissionDenied => "; ask for the right to read it",
            _ => "",
        };
        Failure::Runtime(format!("could not read {}: {error}{advice}", self.name()))
    }
}

/// Bytes read and not yet used.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    delimiter: u8,
}

impl Buffer {
    pub(crate) fn new(delimiter: u8) -> Self {
        Self { bytes: vec![0; BUFFER_BYTES], start: 0, end: 0, at_end: false, delimiter }
    }

    /// Starts over with another input.
    pub(crate) fn restart(&mut self) {
        (self.start, self.end, self.at_end) = (0, 0, false);
    }

    /// What was read and not yet used.
    pub(crate) fn unused(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes `len` bytes from the front as used.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// True when nothing follows what is unused, which then ends with a delimiter.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    /// Reads once. Returns the number of bytes read, 0 at the input's end.
    pub(crate) fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() - self.end < READ_BYTES_MIN {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = loop {
            match source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.end += read;
        if read == 0 {
            self.finish();
        }
        Ok(read)
    }

    /// Ends the last item with a delimiter if the input did not.
    fn finish(&mut self) {
        self.at_end = true;
        let unended = self.unused().last().is_some_and(|last| *last != self.delimiter);
        if unended && let Some(place) = self.bytes.get_mut(self.end) {
            *place = self.delimiter;
            self.end += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn an_item_longer_than_the_buffer_is_gathered_whole() {
        let content = [vec![b'x'; 1_000_000], b"\ny".to_vec()].concat();
        let (mut source, mut buffer) = (content.as_slice(), Buffer::new(b'\n'));
        while buffer.fill(&mut source).unwrap() > 0 {}
        assert!(buffer.at_end());
        assert_eq!(buffer.unused(), [content.as_slice(), b"\n"].concat());
    }

    #[test]
    fn what_is_not_used_stays_ahead_of_what_is_read_next() {
        let (mut first, mut second, mut buffer) = (&b"a\nb"[..], &b"c\n"[..], Buffer::new(b'\n'));
        buffer.fill(&mut first).unwrap();
        buffer.consume(2);
        buffer.fill(&mut second).unwrap();
        assert_eq!(buffer.unused(), b"bc\n");
        assert_eq!(buffer.fill(&mut second).unwrap(), 0);
        assert_eq!(buffer.unused(), b"bc\n");
    }
}
