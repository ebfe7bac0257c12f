//! What of a request counts when its key is used again, to tell a retry from another request.

use blake3::Hasher;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use oncelog::{FINGERPRINT_BYTES, Fingerprint};

use crate::json::{self, Pointer};
use crate::policy::PolicyError;

/// The longest body that is taken a fingerprint of unless the policy says otherwise: 1 MiB.
pub const BODY_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// What of a request counts when its key is used again.
///
/// By default the body, byte for byte, and `Content-Type`. The digest is BLAKE3, shortened to 128
/// bits, so that nobody finds two requests with one digest.
///
/// The body is read before the handler is called, and is held in memory until then: once, and up to
/// the limit. A longer one is refused, since its end would not be compared. For uploads take
/// [`headers_only`](FingerprintPolicy::headers_only), which leaves the body alone.
///
/// Clients that write a body anew when they repeat it, with another time in it or another order of
/// members, are refused as if they had sent another request. [`json`](FingerprintPolicy::json) and
/// [`without_field`](FingerprintPolicy::without_field) are for them. Bodies of
/// `multipart/form-data` have a boundary, which most clients draw anew: use `headers_only` with a
/// digest that the client sends.
///
/// ```
/// use oncelog_tower::FingerprintPolicy;
///
/// let policy = FingerprintPolicy::body(64 << 10).json().without_field("/meta/sent_at")?;
/// # let _ = policy;
/// # Ok::<(), oncelog_tower::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FingerprintPolicy {
    /// `None` leaves the body alone.
    pub(crate) body_bytes_max: Option<usize>,
    json: bool,
    excluded: Vec<Pointer>,
    headers: Vec<HeaderName>,
}

impl Default for FingerprintPolicy {
    fn default() -> Self {
        Self::body(BODY_BYTES_MAX_DEFAULT)
    }
}

impl FingerprintPolicy {
    /// The body, up to so many bytes, and `Content-Type`.
    #[must_use]
    pub fn body(bytes_max: usize) -> Self {
        Self {
            body_bytes_max: Some(bytes_max),
            json: false,
            excluded: Vec::new(),
            headers: vec![CONTENT_TYPE],
        }
    }

    /// No body, which then comes to the handler as it comes in, of whatever length; only what
    /// [`with_header`](FingerprintPolicy::with_header) adds, such as `Content-Digest`.
    #[must_use]
    pub fn headers_only() -> Self {
        Self { body_bytes_max: None, json: false, excluded: Vec::new(), headers: Vec::new() }
    }

    /// Spaces and the order of members of JSON do not count. Numbers and strings count as they are
    /// written. A body that is not JSON counts byte for byte.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    /// This member of the JSON in the body does not count; a JSON pointer (RFC 6901), such as
    /// `/meta/sent_at`. Implies [`json`](FingerprintPolicy::json).
    ///
    /// # Errors
    /// [`PolicyError::Pointer`] for text that is no pointer to a member.
    pub fn without_field(mut self, pointer: &str) -> Result<Self, PolicyError> {
        self.excluded.push(Pointer::parse(pointer).ok_or(PolicyError::Pointer)?);
        Ok(self.json())
    }

    /// All values of this header count.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName) -> Self {
        if !self.headers.contains(&name) {
            self.headers.push(name);
        }
        self
    }

    /// This header does not count.
    #[must_use]
    pub fn without_header(mut self, name: &HeaderName) -> Self {
        self.headers.retain(|header| header != name);
        self
    }

    /// The fingerprint of a request with this body, which is empty where it is left alone.
    pub(crate) fn of(&self, parts: &Parts, body: &[u8]) -> Fingerprint {
        let mut hasher = Hasher::new();
        for name in &self.headers {
            let values = parts.headers.get_all(name);
            let count = values.iter().count() as u64;
            hasher.update(name.as_str().as_bytes()).update(b":").update(&count.to_le_bytes());
            for value in values {
                hasher.update(&(value.len() as u64).to_le_bytes()).update(value.as_bytes());
            }
        }
        let json = if self.json { json::digest(body, &self.excluded) } else { None };
        match json {
            Some(digest) => hasher.update(b"json").update(&digest),
            None => hasher.update(b"body").update(body),
        };
        let mut bytes = [0; FINGERPRINT_BYTES];
        hasher.finalize_xof().fill(&mut bytes);
        Fingerprint::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::FingerprintPolicy;
    use http::Request;
    use http::header::{CONTENT_TYPE, HeaderName};
    use oncelog::Fingerprint;

    fn made(policy: &FingerprintPolicy, headers: &[(&str, &str)], body: &str) -> Fingerprint {
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        policy.of(&request.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn body_and_content_type_count_and_other_headers_do_not() {
        let policy = FingerprintPolicy::default();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let one = made(&policy, &form, "amount=1&currency=eur");
        assert_eq!(made(&policy, &form, "amount=1&currency=eur"), one);
        assert_ne!(made(&policy, &form, "amount=2&currency=eur"), one);
        assert_ne!(made(&policy, &[], "amount=1&currency=eur"), one);
        assert_eq!(made(&policy, &[form[0], ("date", "now")], "amount=1&currency=eur"), one);
        let without = policy.without_header(&CONTENT_TYPE);
        let bare = made(&without, &[], "a");
        assert_eq!(made(&without, &form, "a"), bare);
    }

    #[test]
    fn json_counts_by_its_members_and_other_bodies_byte_for_byte() {
        let policy = FingerprintPolicy::default().without_field("/sent_at").unwrap();
        let one = made(&policy, &[], r#"{"amount": 1, "sent_at": 5}"#);
        assert_eq!(made(&policy, &[], r#"{"sent_at": 6,"amount":1}"#), one);
        assert_ne!(made(&policy, &[], r#"{"amount":2}"#), one);
        let other = made(&policy, &[], "amount=1");
        assert_eq!(made(&policy, &[], "amount=1"), other);
        assert_ne!(made(&policy, &[], "amount= 1"), other);
        assert!(FingerprintPolicy::default().without_field("sent_at").is_err());
    }

    #[test]
    fn values_of_headers_are_told_apart_by_their_number_and_length() {
        let digest = HeaderName::from_static("content-digest");
        let policy = FingerprintPolicy::headers_only().with_header(digest);
        let name = "content-digest";
        let values = [
            made(&policy, &[(name, "ab"), (name, "c")], ""),
            made(&policy, &[(name, "a"), (name, "bc")], ""),
            made(&policy, &[(name, "abc")], ""),
            made(&policy, &[(name, "")], ""),
            made(&policy, &[], ""),
        ];
        for (i, one) in values.iter().enumerate() {
            assert!(values.iter().skip(i + 1).all(|other| other != one), "{i}");
        }
    }
}
