//! What the store keeps of an answer, and how it is written.
//!
//! One byte for the form, one for the kind, the status in two; then, for a whole answer, headers
//! and trailers, each as a count and the pairs of name and value, and the body. Numbers are
//! little-endian, lengths have four bytes, and nothing may follow the end. What another form or a
//! damaged record says is an error, and never an answer.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The form that is written, and the only one that is read.
const FORM: u8 = 1;
const WHOLE: u8 = 0;
const MARK: u8 = 1;
/// Bytes of form, kind and status, which are all of a mark.
const HEAD_BYTES: usize = 4;
/// The status of gRPC, in trailers or headers.
pub(crate) const GRPC_STATUS: &str = "grpc-status";

/// An answer as the store keeps it.
///
/// The layer writes and reads these. A program makes one to say what came of a request whose
/// outcome is unknown: `backend.resolve(&key, &response.encode())`, with the key of
/// [`Scope::store_key`](crate::Scope::store_key).
///
/// ```
/// use http::StatusCode;
/// use oncelog_tower::StoredResponse;
///
/// let response = StoredResponse::new(StatusCode::CREATED, "receipt 1001")
///     .header(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
/// assert_eq!(StoredResponse::decode(&response.encode()), Ok(response));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    /// `None` if it was longer than is kept: only that the request was handled is known.
    pub(crate) body: Option<Bytes>,
}

/// Bytes that are no answer in the form that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredError {
    /// Another version wrote it, in the form of this number.
    Form(u8),
    /// It ends before or goes on after its end, or holds what no answer has.
    Damaged,
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(form) => write!(
                f,
                "the stored answer has form {form}, and this version reads form {FORM}; use the \
                 version that wrote it"
            ),
            Self::Damaged => f.write_str("the stored bytes are no answer of this layer"),
        }
    }
}

impl std::error::Error for StoredError {}

impl StoredResponse {
    /// An answer without headers.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::mark(status) }
    }

    /// What stands for an answer that is not replayed: whoever repeats the request is told that it
    /// was handled (410).
    #[must_use]
    pub fn mark(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), trailers: HeaderMap::new(), body: None }
    }

    /// Adds a header; a name may occur several times. A [mark](StoredResponse::mark) has none.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if self.body.is_some() {
            self.headers.append(name, value);
        }
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body; `None` for a [mark](StoredResponse::mark).
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// True for an answer that says that the work failed for good.
    pub(crate) fn is_failure(&self) -> bool {
        let status = self.trailers.get(GRPC_STATUS).or_else(|| self.headers.get(GRPC_STATUS));
        let grpc = status.is_some_and(|code| code != "0");
        grpc || self.status.is_client_error() || self.status.is_server_error()
    }

    /// The number of bytes that [`encode`](StoredResponse::encode) makes.
    pub(crate) fn encoded_len(&self) -> usize {
        let Some(body) = &self.body else { return HEAD_BYTES };
        let pairs = self.headers.iter().chain(&self.trailers);
        let pairs = pairs.map(|(name, value)| 2 * 4 + name.as_str().len() + value.len());
        HEAD_BYTES + 3 * 4 + body.len() + pairs.sum::<usize>()
    }

    /// The bytes that are stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        let kind = if self.body.is_some() { WHOLE } else { MARK };
        bytes.extend_from_slice(&[FORM, kind]);
        bytes.extend_from_slice(&self.status.as_u16().to_le_bytes());
        if let Some(body) = &self.body {
            for map in [&self.headers, &self.trailers] {
                bytes.extend_from_slice(&length(map.len()));
                for (name, value) in map {
                    put(&mut bytes, name.as_str().as_bytes());
                    put(&mut bytes, value.as_bytes());
                }
            }
            put(&mut bytes, body);
        }
        bytes
    }

    /// What these bytes say.
    ///
    /// # Errors
    /// [`StoredError`] for bytes that [`encode`](StoredResponse::encode) does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        match bytes.first() {
            Some(&FORM) => {
                Reader(bytes.get(1..).unwrap_or_default()).response().ok_or(StoredError::Damaged)
            }
            Some(&form) => Err(StoredError::Form(form)),
            None => Err(StoredError::Damaged),
        }
    }
}

/// Bodies may be confidential, so only the length is shown.
impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("body_bytes", &self.body().map(Bytes::len))
            .finish()
    }
}

/// Lengths of answers are bounded by the store's limit on outcomes, far below 4 GiB; a longer one
/// would not be read back, and so never as another answer.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&length(part.len()));
    bytes.extend_from_slice(part);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for _ in 0..self.length()? {
            let name = HeaderName::from_bytes(self.part()?).ok()?;
            let value = HeaderValue::from_bytes(self.part()?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }

    fn response(&mut self) -> Option<StoredResponse> {
        let kind = *self.take(1)?.first()?;
        let status = u16::from_le_bytes(*self.take(2)?.first_chunk()?);
        let status = StatusCode::from_u16(status).ok()?;
        let mut response = StoredResponse::mark(status);
        match kind {
            MARK => {}
            WHOLE => {
                response.headers = self.headers()?;
                response.trailers = self.headers()?;
                response.body = Some(Bytes::copy_from_slice(self.part()?));
            }
            _ => return None,
        }
        self.0.is_empty().then_some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::{GRPC_STATUS, StoredError, StoredResponse};
    use http::header::{HeaderName, HeaderValue};
    use http::{StatusCode, header};

    fn answer() -> StoredResponse {
        let mut response = StoredResponse::new(StatusCode::CREATED, "body")
            .header(header::LINK, HeaderValue::from_static("</a>"))
            .header(header::LINK, HeaderValue::from_static("</b>"))
            .header(header::LOCATION, HeaderValue::from_bytes(b"/caf\xe9").unwrap());
        response.trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        response
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_repeated_headers_in_their_order() {
        for response in [answer(), StoredResponse::mark(StatusCode::OK)] {
            let bytes = response.encode();
            assert_eq!(response.encoded_len(), bytes.len());
            assert_eq!(StoredResponse::decode(&bytes), Ok(response));
        }
        let read = StoredResponse::decode(&answer().encode()).unwrap();
        let links: Vec<_> = read.headers.get_all(header::LINK).iter().collect();
        assert_eq!(links, ["</a>", "</b>"]);
    }

    #[test]
    fn the_form_on_disk_does_not_change_between_versions() {
        let response = StoredResponse::new(StatusCode::OK, "b")
            .header(HeaderName::from_static("etag"), HeaderValue::from_static("1"));
        let bytes = b"\x01\x00\xc8\x00\x01\x00\x00\x00\x04\x00\x00\x00etag\x01\x00\x00\x001\
            \x00\x00\x00\x00\x01\x00\x00\x00b";
        assert_eq!(response.encode(), bytes);
        assert_eq!(StoredResponse::mark(StatusCode::OK).encode(), b"\x01\x01\xc8\x00");
    }

    #[test]
    fn what_is_cut_prolonged_or_of_another_form_is_no_answer() {
        let bytes = answer().encode();
        for length in 0..bytes.len() {
            let cut = StoredResponse::decode(&bytes[..length]);
            assert_eq!(cut, Err(StoredError::Damaged), "cut at {length}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert_eq!(StoredResponse::decode(&longer), Err(StoredError::Damaged));
        let other = [b"\x02", &bytes[1..]].concat();
        assert_eq!(StoredResponse::decode(&other), Err(StoredError::Form(2)));
    }

    #[test]
    fn no_changed_byte_makes_the_reader_panic() {
        let bytes = answer().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                if let Ok(response) = StoredResponse::decode(&changed) {
                    assert_eq!(StoredResponse::decode(&response.encode()), Ok(response));
                }
            }
        }
    }

    #[test]
    fn many_headers_that_are_not_there_cost_nothing() {
        let bytes = b"\x01\x00\xc8\x00\xff\xff\xff\xff";
        assert_eq!(StoredResponse::decode(bytes), Err(StoredError::Damaged));
    }
}
