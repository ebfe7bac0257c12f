//! Keys from CSV columns: the unquoted fields, each with its length ahead.

use std::str::FromStr;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use crate::args::DedupArgs;
use crate::key::{CSV, Missing, push_length};

/// The columns asked for, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns(Vec<Column>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    /// Counted from 0 here.
    Place(usize),
    Name(String),
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(Column::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Column {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<usize>() {
            Ok(number) => number
                .checked_sub(1)
                .map(Self::Place)
                .ok_or_else(|| "columns are counted from 1".to_owned()),
            Err(_) if text.is_empty() => Err("a column is empty; write 1 or 1,3".to_owned()),
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

/// Reads records and picks the wanted fields.
#[derive(Debug)]
pub(crate) struct CsvKey {
    wanted: Vec<Column>,
    /// The wanted columns' places in the current file, counted from 0.
    places: Vec<usize>,
    record: Record,
}

impl CsvKey {
    pub(crate) fn new(columns: &Columns, arguments: &DedupArgs) -> Result<Self, String> {
        let mut places = Vec::new();
        for column in &columns.0 {
            match column {
                Column::Place(place) => places.push(*place),
                Column::Name(name) if !arguments.csv_header => {
                    return Err(format!(
                        "the CSV column {name:?} is a name; add --csv-header, or give its number"
                    ));
                }
                Column::Name(_) => {}
            }
        }
        let record = Record::new(arguments.csv_delimiter, arguments.delimiter());
        Ok(Self { wanted: columns.0.clone(), places, record })
    }

    /// Finds the places of the named columns in a file's header.
    pub(crate) fn set_header(&mut self, ended: &[u8]) -> Result<(), String> {
        if !self.record.read(ended) {
            return Err("the header is malformed: a quote does not end".to_owned());
        }
        self.places.clear();
        for column in &self.wanted {
            let place = match column {
                Column::Place(place) => Some(*place),
                Column::Name(name) => {
                    let place = self.record.place_of(name.as_bytes());
                    Some(place.ok_or_else(|| format!("the header has no column {name:?}"))?)
                }
            };
            self.places.extend(place);
        }
        Ok(())
    }

    pub(crate) fn key(&mut self, ended: &[u8], into: &mut Vec<u8>) -> Result<(), Missing> {
        if !self.record.read(ended) {
            return Err(Missing::Malformed("a CSV quote does not end"));
        }
        into.extend_from_slice(CSV);
        for place in &self.places {
            let field = self.record.get(*place);
            let field = field.ok_or(Missing::Absent("the CSV column is missing"))?;
            push_length(into, field.len());
            into.extend_from_slice(field);
        }
        Ok(())
    }
}

/// A parser for records that end with `terminator`.
pub(crate) fn parser(separator: u8, terminator: u8) -> Reader {
    ReaderBuilder::new().delimiter(separator).terminator(Terminator::Any(terminator)).build()
}

/// What follows a byte-order mark, which some programs write ahead of a file's first column.
pub(crate) fn without_mark(record: &[u8]) -> &[u8] {
    record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record)
}

/// The unquoted fields of one record.
#[derive(Debug)]
struct Record {
    parser: Reader,
    terminator: u8,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
}

impl Record {
    fn new(separator: u8, terminator: u8) -> Self {
        let parser = parser(separator, terminator);
        Self { parser, terminator, bytes: vec![0; 256], ends: vec![0; 32], fields: 0 }
    }

    /// Parses one record with its terminator; false when a quote is still open at its end.
    fn read(&mut self, ended: &[u8]) -> bool {
        self.fields = 0;
        let ended = without_mark(ended);
        let returned = self.terminator == b'\n' && ended.ends_with(b"\r\n");
        if ended.len() == 1 + usize::from(returned) {
            return true;
        }
        self.parser.reset();
        let (mut taken, mut written) = (0, 0);
        loop {
            let input = ended.get(taken..).unwrap_or_default();
            let output = self.bytes.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(self.fields..).unwrap_or_default();
            let (result, read, wrote, fields) = self.parser.read_record(input, output, ends);
            taken += read;
            written += wrote;
            self.fields += fields;
            match result {
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return false,
                ReadRecordResult::Record => break,
            }
        }
        // The parser takes a carriage return before the newline for content of the last field.
        if returned && let Some(end) = self.ends.get_mut(self.fields.saturating_sub(1)) {
            *end = end.saturating_sub(1);
        }
        true
    }

    fn get(&self, place: usize) -> Option<&[u8]> {
        let end = *self.ends.get(..self.fields)?.get(place)?;
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    fn place_of(&self, name: &[u8]) -> Option<usize> {
        (0..self.fields).find(|place| self.get(*place) == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Columns, CsvKey, Missing, Record};

    fn key(columns: &str, record: &[u8]) -> Result<Vec<u8>, Missing> {
        let wanted = columns.parse::<Columns>().unwrap().0;
        let mut reader = CsvKey { wanted, places: Vec::new(), record: Record::new(b',', b'\n') };
        reader.set_header(b"id,\"full name\",day\n").unwrap();
        let mut bytes = Vec::new();
        reader.key(record, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn fields_are_unquoted() {
        assert_eq!(key("2", b"1,\"b\"\"c\",3\n"), key("2", b"7,b\"c\n"));
        assert_eq!(key("2", b"1,\"b\nc\"\n").unwrap(), b"\n\0c\x03\0\0\0\0\0\0\0b\nc");
    }

    #[test]
    fn fields_are_never_run_together() {
        assert_ne!(key("1,2", b"ab,c\n"), key("1,2", b"a,bc\n"));
    }

    #[test]
    fn a_carriage_return_at_the_end_belongs_to_no_field() {
        assert_eq!(key("2", b"1,b\r\n"), key("2", b"1,b\n"));
        assert_eq!(key("2", b"1,\"b\"\r\n"), key("2", b"1,b\n"));
    }

    #[test]
    fn columns_go_by_number_or_by_the_name_in_the_header() {
        assert_eq!(key("full name,1", b"x,y,z\n"), key("2,1", b"x,y,z\n"));
        assert!("0".parse::<Columns>().is_err() && "1,".parse::<Columns>().is_err());
    }

    #[test]
    fn many_and_long_fields_fit() {
        let record = format!("{}{}\n", "x,".repeat(1_000), "y".repeat(10_000));
        assert_eq!(key("1001", record.as_bytes()).unwrap().len(), 3 + 8 + 10_000);
    }

    #[test]
    fn a_missing_column_and_an_open_quote_are_told_apart() {
        assert!(matches!(key("4", b"a,b,c\n"), Err(Missing::Absent(_))));
        assert!(matches!(key("1", b"\n"), Err(Missing::Absent(_))));
        assert!(matches!(key("1", b"\r\n"), Err(Missing::Absent(_))));
        assert!(matches!(key("1", b"a,\"b\n"), Err(Missing::Malformed(_))));
    }
}
