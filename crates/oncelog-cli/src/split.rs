//! Where items end: at each delimiter, or for CSV at each one outside of quotes.

use csv_core::{ReadRecordResult, Reader};

use crate::args::DedupArgs;
use crate::key::csv;

/// Finds the ends of items in a buffer.
#[derive(Debug)]
pub(crate) enum Splitter {
    /// Every such byte ends an item.
    Byte(u8),
    /// A newline ends a record unless it stands inside quotes.
    Csv(Box<Records>),
}

impl Splitter {
    pub(crate) fn new(arguments: &DedupArgs) -> Self {
        if arguments.csv.is_some() && !arguments.null {
            return Self::Csv(Box::new(Records::new(arguments.csv_delimiter)));
        }
        Self::Byte(arguments.delimiter())
    }

    /// The place of the delimiter that ends the item at `start`, if the item is complete.
    ///
    /// At the end of an input, where every buffer ends with a delimiter, what is left is complete.
    pub(crate) fn end_of(&mut self, bytes: &[u8], start: usize, at_end: bool) -> Option<usize> {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let len = match self {
            Self::Byte(delimiter) => memchr::memchr(*delimiter, rest),
            Self::Csv(records) => records.end_of(rest),
        };
        len.or(at_end.then(|| rest.len() - 1)).map(|len| start + len)
    }
}

/// Follows the quotes of CSV; the fields themselves are not kept.
#[derive(Debug)]
pub(crate) struct Records {
    parser: Reader,
    bytes: [u8; 1024],
    ends: [usize; 64],
}

impl Records {
    fn new(separator: u8) -> Self {
        Self { parser: csv::parser(separator, b'\n'), bytes: [0; 1024], ends: [0; 64] }
    }

    fn end_of(&mut self, bytes: &[u8]) -> Option<usize> {
        // The parser would pass over an empty line, which is an item like any other.
        let content = csv::without_mark(bytes);
        let mut taken = bytes.len() - content.len();
        if content.first() == Some(&b'\n') {
            return Some(taken);
        }
        self.parser.reset();
        while taken < bytes.len() {
            let input = bytes.get(taken..).unwrap_or_default();
            let (result, read, ..) =
                self.parser.read_record(input, &mut self.bytes, &mut self.ends);
            taken += read;
            if matches!(result, ReadRecordResult::Record) {
                return Some(taken.saturating_sub(1));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Records, Splitter};

    fn items<'b>(splitter: &mut Splitter, bytes: &'b [u8], at_end: bool) -> Vec<&'b [u8]> {
        let (mut items, mut start) = (Vec::new(), 0);
        while let Some(end) = splitter.end_of(bytes, start, at_end) {
            items.push(&bytes[start..end]);
            start = end + 1;
        }
        items
    }

    #[test]
    fn an_incomplete_item_waits_for_more() {
        let mut splitter = Splitter::Byte(b'\n');
        assert_eq!(items(&mut splitter, b"a\n\nb\xff\nc", false), [&b"a"[..], b"", b"b\xff"]);
    }

    #[test]
    fn a_newline_inside_quotes_ends_no_record() {
        let mut splitter = Splitter::Csv(Box::new(Records::new(b',')));
        let bytes = b"a,\"b\nc\"\n\n\r\nd\"\nlast,\"open\n";
        let complete = [&b"a,\"b\nc\""[..], b"", b"\r", b"d\""];
        assert_eq!(items(&mut splitter, bytes, false), complete);
        assert_eq!(items(&mut splitter, bytes, true).last(), Some(&&b"last,\"open"[..]));
    }

    #[test]
    fn wide_records_are_followed_to_their_end() {
        let mut splitter = Splitter::Csv(Box::new(Records::new(b',')));
        let record = format!("{}\"{}\n\"\n", "x,".repeat(500), "y".repeat(5_000));
        assert_eq!(items(&mut splitter, record.as_bytes(), false).len(), 1);
    }
}
