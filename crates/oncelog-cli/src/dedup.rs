//! `dedup`: reads items, asks the store about each, and lets through those not seen before.

use std::io::{self, IsTerminal};
use std::path::Path;

use oncelog::Store;

use crate::args::{DedupArgs, OnMissing};
use crate::batch::{Batch, Stop};
use crate::exit::{Failure, say};
use crate::input::{Buffer, ITEM_BYTES_MAX, Source};
use crate::key::{Extractor, Missing};
use crate::memory::Memory;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::report::{self, Counts};
use crate::signals::{self, Gate};
use crate::split::Splitter;

pub(crate) fn run(arguments: &DedupArgs) -> Result<(), Failure> {
    let started = report::now();
    let extractor = Extractor::new(arguments).map_err(Failure::Usage)?;
    let sources = Source::all(&arguments.files);
    let total = total_length(&sources)?;
    if let Some(path) = &arguments.dupes_output {
        let inputs: Vec<&Path> = arguments.files.iter().map(AsRef::as_ref).collect();
        output::check_is_no_input(path, &inputs)?;
    }
    let memory = Memory::open(arguments)?;
    let output = Output::open(arguments)?;
    let gate = signals::watch(memory)?;
    let mut work = Work {
        arguments,
        extractor,
        splitter: Splitter::new(arguments),
        batch: Batch::new(arguments.line_buffered, arguments.two_phase),
        output,
        counts: Counts::default(),
        progress: Progress::new(arguments, total),
        place: Place::default(),
        header: Header::None,
        header_printed: false,
    };
    let result = work.read_all(&sources, &gate);
    let mut closed = gate.close();
    let Some(memory) = closed.take() else { return result };
    work.progress.finish(&work.counts);
    report::tell(arguments, &work.counts, &memory.store().stats(), started.elapsed());
    match (result, memory.close()) {
        (Ok(()) | Err(Failure::ClosedPipe), closed @ Err(_)) => closed,
        (result, _) => result,
    }
}

/// The length of all inputs together, if it is known; fails early for what cannot be read.
fn total_length(sources: &[Source]) -> Result<Option<u64>, Failure> {
    let mut total = Some(0);
    for source in sources {
        let length = source.check()?;
        total = total.zip(length).map(|(total, length)| total + length);
    }
    Ok(total)
}

/// Where messages say an item is.
#[derive(Debug, Default)]
struct Place {
    source: String,
    /// Lines ahead of the buffer in its input.
    lines: u64,
}

/// What the next item is when headers are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    None,
    Expected,
}

/// Bytes to handle, and the store to ask.
#[derive(Clone, Copy)]
struct Piece<'a> {
    store: &'a Store,
    bytes: &'a [u8],
}

/// One run in progress.
struct Work<'a> {
    arguments: &'a DedupArgs,
    extractor: Extractor,
    splitter: Splitter,
    batch: Batch,
    output: Output,
    counts: Counts,
    progress: Progress,
    place: Place,
    header: Header,
    header_printed: bool,
}

impl Work<'_> {
    fn read_all(&mut self, sources: &[Source], gate: &Gate) -> Result<(), Failure> {
        let mut buffer = Buffer::new(self.arguments.delimiter());
        for source in sources {
            self.note_terminal(source);
            self.place = Place { source: source.name(), lines: 0 };
            if self.arguments.csv_header {
                self.header = Header::Expected;
            }
            buffer.restart();
            let mut reader = source.open()?;
            while !buffer.at_end() {
                let read = buffer.fill(&mut *reader).map_err(|error| source.failure(&error))?;
                let closed = gate.close();
                // An interrupt took the memory away and is about to end the process.
                let Some(memory) = closed.as_ref() else { return Ok(()) };
                self.counts.bytes += read as u64;
                let piece = Piece { store: memory.store(), bytes: buffer.unused() };
                let used = self.take_all(piece, buffer.at_end());
                let flushed = self.output.flush();
                let used = used?;
                flushed?;
                self.place.lines += self.delimiters(buffer.unused(), used);
                buffer.consume(used);
                self.progress.update(&self.counts);
            }
        }
        Ok(())
    }

    fn note_terminal(&self, source: &Source) {
        if matches!(source, Source::Stdin) && !self.arguments.quiet && io::stdin().is_terminal() {
            say("reading lines from the terminal; end with Ctrl-D");
        }
    }

    /// Handles every complete item and returns how many bytes these take up.
    fn take_all(&mut self, piece: Piece<'_>, at_end: bool) -> Result<usize, Failure> {
        let mut start = 0;
        while let Some(end) = self.splitter.end_of(piece.bytes, start, at_end) {
            self.take(piece, start, end)?;
            start = end + 1;
        }
        self.settle(piece)?;
        if piece.bytes.len() - start > ITEM_BYTES_MAX {
            return Err(self.too_long(piece, start));
        }
        Ok(start)
    }

    fn take(&mut self, piece: Piece<'_>, start: usize, end: usize) -> Result<(), Failure> {
        let item = piece.bytes.get(start..end).unwrap_or_default();
        if item.len() > ITEM_BYTES_MAX {
            self.settle(piece)?;
            return Err(self.too_long(piece, start));
        }
        if self.header == Header::Expected {
            return self.take_header(piece.bytes.get(start..=end).unwrap_or_default());
        }
        self.counts.items += 1;
        if matches!(self.extractor, Extractor::Line) {
            self.batch.push_line(start, item);
        } else {
            let ended = piece.bytes.get(start..=end).unwrap_or_default();
            let extractor = &mut self.extractor;
            let pushed =
                self.batch.push_field(start..end, |into| extractor.field(item, ended, into));
            if let Err(missing) = pushed {
                self.take_keyless(piece, start, end, missing)?;
            }
        }
        if self.batch.is_full() { self.settle(piece) } else { Ok(()) }
    }

    fn take_header(&mut self, ended: &[u8]) -> Result<(), Failure> {
        self.header = Header::None;
        if let Extractor::Csv(key) = &mut self.extractor {
            let source = &self.place.source;
            key.set_header(ended)
                .map_err(|what| Failure::Runtime(format!("{source}: {what}; check --csv")))?;
        }
        if self.header_printed {
            return Ok(());
        }
        self.header_printed = true;
        self.output.put_header(ended)
    }

    fn take_keyless(
        &mut self,
        piece: Piece<'_>,
        start: usize,
        end: usize,
        missing: Missing,
    ) -> Result<(), Failure> {
        let place = || self.place_of(piece, start);
        let what = missing.what();
        if self.arguments.on_missing == OnMissing::Fail {
            let text = format!(
                "{}: {what}; repair the line, or choose --on-missing skip or keep",
                place()
            );
            self.settle(piece)?;
            self.counts.add_missing(missing, String::new);
            return Err(Failure::Runtime(text));
        }
        let first = self.counts.first_missing.is_none().then(place).unwrap_or_default();
        self.counts.add_missing(missing, || first);
        if self.arguments.on_missing == OnMissing::Keep {
            self.batch.push_keyless(start..end);
        }
        Ok(())
    }

    /// Records and prints what is in the batch.
    fn settle(&mut self, piece: Piece<'_>) -> Result<(), Failure> {
        let settled =
            self.batch.settle(piece.store, piece.bytes, &mut self.output, &mut self.counts);
        settled.map_err(|stop| match stop {
            Stop::Printing(failure) => failure,
            Stop::Recording(start, error) => Failure::from(error).at(&self.place_of(piece, start)),
        })?;
        if self.arguments.line_buffered { self.output.flush() } else { Ok(()) }
    }

    fn too_long(&self, piece: Piece<'_>, start: usize) -> Failure {
        let quote = match self.splitter {
            Splitter::Csv(_) => "; perhaps a quote is never closed",
            Splitter::Byte(_) => "; split it, or leave it out",
        };
        let place = self.place_of(piece, start);
        Failure::Runtime(format!("{place}: the line is longer than 16 MiB{quote}"))
    }

    fn place_of(&self, piece: Piece<'_>, start: usize) -> String {
        let line = self.place.lines + self.delimiters(piece.bytes, start) + 1;
        format!("{}:{line}", self.place.source)
    }

    /// How many delimiters the first `len` bytes hold.
    fn delimiters(&self, buffer: &[u8], len: usize) -> u64 {
        let bytes = buffer.get(..len).unwrap_or_default();
        memchr::memchr_iter(self.arguments.delimiter(), bytes).count() as u64
    }
}
