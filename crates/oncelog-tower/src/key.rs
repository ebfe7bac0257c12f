//! The key of a request as clients send it: a quoted string, or the bare text of it.
//!
//! The draft of the IETF asks for a string of structured fields (RFC 8941), which is quoted; the
//! SDKs in use send the text without quotes. Both are taken, and both name the same key. Everything
//! that two parties could read in different ways is refused: several headers, lists, parameters,
//! spaces and other characters that only quotes can hold.

use std::fmt;

use http::header::{HeaderMap, HeaderName};

/// The longest key, in bytes, quotes and escapes not counted.
pub const KEY_BYTES_MAX: usize = 255;

/// A key that a client chose: 1 to [`KEY_BYTES_MAX`] printable ASCII characters.
///
/// ```
/// use oncelog_tower::IdempotencyKey;
///
/// let quoted = IdempotencyKey::parse(b"\"8e03978e-40d5\"")?;
/// assert_eq!(quoted, IdempotencyKey::parse(b"8e03978e-40d5")?);
/// assert!(IdempotencyKey::parse(b"\"a\", \"b\"").is_err());
/// # Ok::<(), oncelog_tower::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

/// Why the header of a request names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The header occurs more than once, be it with the same value.
    Repeated,
    /// The key has no character.
    Empty,
    /// The key has more than [`KEY_BYTES_MAX`] bytes.
    TooLong,
    /// The header holds a list.
    List,
    /// A quoted key is followed by parameters.
    Parameters,
    /// A quote is not closed.
    Unclosed,
    /// Something follows the closing quote.
    Trailing,
    /// A backslash is followed by neither a quote nor a backslash.
    Escape,
    /// A byte that a key cannot hold: outside of printable ASCII or, without quotes, a space, quote
    /// or backslash.
    Character,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "the header occurs more than once; send it once",
            Self::Empty => "the key is empty; send at least one character",
            Self::TooLong => "the key has more than 255 bytes; send a shorter one",
            Self::List => "the header holds a list; send one key",
            Self::Parameters => "the key is followed by parameters; send the key alone",
            Self::Unclosed => "the quote is not closed; end the key with a quote",
            Self::Trailing => "something follows the closing quote; end the header there",
            Self::Escape => "a backslash escapes neither a quote nor a backslash",
            Self::Character => {
                "the key holds a character other than printable ASCII, or one that needs quotes"
            }
        })
    }
}

impl std::error::Error for KeyError {}

impl IdempotencyKey {
    /// Reads the value of a header.
    ///
    /// # Errors
    /// [`KeyError`], which says what about it can be read in more than one way, or in none.
    pub fn parse(value: &[u8]) -> Result<Self, KeyError> {
        let value = value.trim_ascii();
        let key = match value.strip_prefix(b"\"") {
            Some(rest) => quoted(rest)?,
            None => bare(value)?,
        };
        match key.len() {
            0 => Err(KeyError::Empty),
            length if length > KEY_BYTES_MAX => Err(KeyError::TooLong),
            _ => Ok(Self(key.into_boxed_str())),
        }
    }

    /// The key that the header `name` holds; `None` where there is no such header.
    ///
    /// # Errors
    /// As [`parse`](IdempotencyKey::parse), and for a header that occurs more than once.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, KeyError> {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(KeyError::Repeated);
        }
        Self::parse(value.as_bytes()).map(Some)
    }

    /// The text of the key, without quotes and escapes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Keys may be guessable or tell of their users, so only the length is shown.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").field("bytes", &self.0.len()).finish()
    }
}

/// What follows an opening quote, up to the closing one, which ends it.
fn quoted(rest: &[u8]) -> Result<String, KeyError> {
    let mut key = String::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next().ok_or(KeyError::Unclosed)? {
            b'"' => break,
            b'\\' => match bytes.next().ok_or(KeyError::Unclosed)? {
                escaped @ (b'"' | b'\\') => key.push(char::from(*escaped)),
                _ => return Err(KeyError::Escape),
            },
            byte @ b' '..=b'~' => key.push(char::from(*byte)),
            _ => return Err(KeyError::Character),
        }
    }
    match bytes.as_slice().trim_ascii_start().first() {
        None => Ok(key),
        Some(b',') => Err(KeyError::List),
        Some(b';') => Err(KeyError::Parameters),
        Some(_) => Err(KeyError::Trailing),
    }
}

fn bare(value: &[u8]) -> Result<String, KeyError> {
    let mut key = String::with_capacity(value.len());
    for byte in value {
        match byte {
            b',' => return Err(KeyError::List),
            b'"' | b'\\' => return Err(KeyError::Character),
            b'!'..=b'~' => key.push(char::from(*byte)),
            _ => return Err(KeyError::Character),
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, KEY_BYTES_MAX, KeyError};
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    fn parsed(value: &str) -> Result<String, KeyError> {
        IdempotencyKey::parse(value.as_bytes()).map(|key| key.as_str().to_owned())
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        for key in ["k", "8e03978e-40d5-43e8-bc93-6894a57f9324", "a:b/c=;+", "stripe-node-retry-7"]
        {
            assert_eq!(parsed(key).unwrap(), key);
            assert_eq!(parsed(&format!(" \"{key}\"\t")).unwrap(), key);
        }
        assert_eq!(parsed(r#""a \"b\" \\ c, d""#).unwrap(), r#"a "b" \ c, d"#);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let cases = [
            ("", KeyError::Empty),
            ("\"\"", KeyError::Empty),
            ("a,b", KeyError::List),
            ("\"a\", \"b\"", KeyError::List),
            ("\"a\";v=1", KeyError::Parameters),
            ("\"a", KeyError::Unclosed),
            ("\"a\\", KeyError::Unclosed),
            ("\"a\"b", KeyError::Trailing),
            ("\"a\\b\"", KeyError::Escape),
            ("a b", KeyError::Character),
            ("a\"b", KeyError::Character),
            ("a\\b", KeyError::Character),
            ("k\u{e9}y", KeyError::Character),
            ("\"k\u{e9}y\"", KeyError::Character),
            ("a\u{7f}", KeyError::Character),
            ("\"a\tb\"", KeyError::Character),
        ];
        for (value, error) in cases {
            assert_eq!(parsed(value), Err(error), "{value}");
        }
    }

    #[test]
    fn a_key_has_at_most_255_bytes_however_many_its_escapes_take() {
        let long = "k".repeat(KEY_BYTES_MAX);
        assert_eq!(parsed(&long).unwrap(), long);
        assert_eq!(parsed(&format!("{long}k")), Err(KeyError::TooLong));
        let quotes = "\\\"".repeat(KEY_BYTES_MAX);
        assert_eq!(parsed(&format!("\"{quotes}\"")).unwrap().len(), KEY_BYTES_MAX);
        assert_eq!(parsed(&format!("\"{quotes}k\"")), Err(KeyError::TooLong));
    }

    #[test]
    fn a_header_that_is_repeated_names_no_key_even_if_its_values_agree() {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        assert_eq!(IdempotencyKey::of(&headers, &name), Ok(None));
        headers.append(&name, HeaderValue::from_static("k"));
        assert!(IdempotencyKey::of(&headers, &name).unwrap().is_some());
        headers.append(&name, HeaderValue::from_static("k"));
        assert_eq!(IdempotencyKey::of(&headers, &name), Err(KeyError::Repeated));
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = IdempotencyKey::parse(b"secret").unwrap();
        assert_eq!(format!("{key:?}"), "IdempotencyKey { bytes: 6 }");
    }
}
