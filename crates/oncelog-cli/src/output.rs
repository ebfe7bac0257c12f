//! New and duplicate items go their ways through large buffers, in ranges of the input.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::args::DedupArgs;
use crate::exit::Failure;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Where items go.
pub(crate) struct Output {
    stdout: Writer,
    dupes: Option<Writer>,
    prints_new: bool,
    prints_duplicates: bool,
}

impl Output {
    pub(crate) fn open(arguments: &DedupArgs) -> Result<Self, Failure> {
        let dupes = match &arguments.dupes_output {
            Some(path) => Some(Writer::create(path)?),
            None => None,
        };
        Ok(Self {
            stdout: Writer::new("standard output".to_owned(), Box::new(io::stdout().lock())),
            dupes,
            prints_new: !arguments.repeated && !arguments.no_output,
            prints_duplicates: arguments.repeated,
        })
    }

    /// Takes items that stand side by side, each with its delimiter, and are all new or all not.
    pub(crate) fn put(&mut self, are_new: bool, items: &[u8]) -> Result<(), Failure> {
        if are_new {
            return if self.prints_new { self.stdout.put(items) } else { Ok(()) };
        }
        if let Some(dupes) = &mut self.dupes {
            dupes.put(items)?;
        }
        if self.prints_duplicates { self.stdout.put(items) } else { Ok(()) }
    }

    /// Takes a header, which goes wherever items go.
    pub(crate) fn put_header(&mut self, header: &[u8]) -> Result<(), Failure> {
        if let Some(dupes) = &mut self.dupes {
            dupes.put(header)?;
        }
        if self.prints_new || self.prints_duplicates { self.stdout.put(header) } else { Ok(()) }
    }

    /// Writes out what was gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if let Some(dupes) = &mut self.dupes {
            dupes.flush()?;
        }
        self.stdout.flush()
    }
}

/// Fails when the file for duplicates is one of the inputs, which creating it would empty.
pub(crate) fn check_is_no_input(output: &Path, inputs: &[&Path]) -> Result<(), Failure> {
    let Ok(output) = fs::canonicalize(output) else {
        return Ok(());
    };
    let same = |input: &&&Path| fs::canonicalize(input).is_ok_and(|input| input == output);
    match inputs.iter().find(same) {
        None => Ok(()),
        Some(input) => Err(Failure::Usage(format!(
            "{} is an input and cannot take the duplicates; name another file",
            input.display()
        ))),
    }
}

struct Writer {
    name: String,
    sink: Box<dyn Write>,
    gathered: Vec<u8>,
}

impl Writer {
    fn new(name: String, sink: Box<dyn Write>) -> Self {
        Self { name, sink, gathered: Vec::with_capacity(BUFFER_BYTES) }
    }

    fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self::new(name, Box::new(file))),
            Err(error) => Err(Failure::Runtime(format!(
                "could not create {name}: {error}; name a file in a directory that can be \
                 written to"
            ))),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.gathered.len() + bytes.len() > BUFFER_BYTES {
            self.drain()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            return self
                .sink
                .write_all(bytes)
                .map_err(|error| Failure::writing(&self.name, &error));
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let result = self.sink.write_all(&self.gathered);
        self.gathered.clear();
        result.map_err(|error| Failure::writing(&self.name, &error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.drain()?;
        self.sink.flush().map_err(|error| Failure::writing(&self.name, &error))
    }
}
