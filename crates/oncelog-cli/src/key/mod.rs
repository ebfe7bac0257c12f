//! Keys: what of an item is remembered, and why two kinds of keys never meet.
//!
//! A whole line is its own key, byte for byte. Every other key starts with a newline and a NUL
//! byte, which no item can: the one of the two that ends the items occurs in none of them. The
//! byte after these two tells the kind.

pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod long;
pub(crate) mod regex;

use crate::args::DedupArgs;
use crate::key::csv::CsvKey;
use crate::key::json::JsonPath;
use crate::key::regex::RegexKey;

/// The key of an empty line.
pub(crate) const EMPTY: &[u8] = b"\n\0E";
/// How the key of a JSON value starts.
const JSON: &[u8] = b"\n\0j";
/// How the key of CSV fields starts.
const CSV: &[u8] = b"\n\0c";
/// How the key of a pattern's match starts.
const REGEX: &[u8] = b"\n\0r";

/// Why an item has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The item is sound, but has nothing where the key would be.
    Absent(&'static str),
    /// The item cannot be read as what it should be.
    Malformed(&'static str),
}

impl Missing {
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Absent(what) | Self::Malformed(what) => what,
        }
    }
}

/// Takes the key out of an item.
#[derive(Debug)]
pub(crate) enum Extractor {
    /// The whole item is the key.
    Line,
    Json(JsonPath),
    Csv(Box<CsvKey>),
    Regex(RegexKey),
}

impl Extractor {
    pub(crate) fn new(arguments: &DedupArgs) -> Result<Self, String> {
        if let Some(path) = &arguments.json {
            return Ok(Self::Json(path.clone()));
        }
        if let Some(columns) = &arguments.csv {
            return CsvKey::new(columns, arguments).map(|key| Self::Csv(Box::new(key)));
        }
        if let Some(pattern) = &arguments.regex {
            return Ok(Self::Regex(RegexKey::new(pattern.clone())));
        }
        Ok(Self::Line)
    }

    /// Appends the key of a field to `into`; only for extractors other than [`Self::Line`].
    ///
    /// What was appended before a failure is the caller's to take back. `item` excludes its
    /// delimiter, and `ended` includes it.
    pub(crate) fn field(
        &mut self,
        item: &[u8],
        ended: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        match self {
            Self::Line => Ok(()),
            Self::Json(path) => path.key(item, into),
            Self::Csv(fields) => fields.key(ended, into),
            Self::Regex(pattern) => pattern.key(item, into),
        }
    }
}

/// A length ahead of variable content, so that ("ab", "c") and ("a", "bc") differ.
fn push_length(into: &mut Vec<u8>, len: usize) {
    into.extend_from_slice(&(len as u64).to_le_bytes());
}
