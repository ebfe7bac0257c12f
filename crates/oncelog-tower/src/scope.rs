//! Whose key it is, and for what: the parts that make a client's key one of the store.
//!
//! A key means something only to the one who chose it and for one operation. So the store's key is
//! made of the principal, the operation, the method, the path, the query and the client's key, each
//! with its length, such that no two requests that differ in a part meet. What is stored is a
//! digest of that: it has one length whatever the parts have, and neither paths nor tokens nor keys
//! can be read in the store.

use std::fmt;
use std::sync::Arc;

use http::header::HeaderName;
use http::request::Parts;

use crate::key::IdempotencyKey;

/// Bytes of a key of the store.
pub const STORE_KEY_BYTES: usize = 32;

/// The first byte of what is digested, for other ways of making keys to come.
const FORM: u8 = 1;

/// The key under which the store keeps a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreKey([u8; STORE_KEY_BYTES]);

impl StoreKey {
    /// The bytes that the backend knows.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; STORE_KEY_BYTES] {
        &self.0
    }
}

impl AsRef<[u8]> for StoreKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// In hexadecimal, as tools show keys that are not text.
impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({self})")
    }
}

/// Everything that tells one use of a key from another.
///
/// The layer makes it of each request; a program makes one to find the key of a request that it
/// wants to look up, resolve or remove.
///
/// ```
/// use oncelog_tower::{IdempotencyKey, Scope};
///
/// let key = IdempotencyKey::parse(b"8e03978e-40d5")?;
/// let scope = Scope {
///     principal: Some(b"account-7"),
///     operation: b"",
///     method: "POST",
///     path: "/payments",
///     query: None,
///     key: &key,
/// };
/// let other = Scope { principal: Some(b"account-8"), ..scope };
/// assert_ne!(scope.store_key(), other.store_key());
/// # Ok::<(), oncelog_tower::KeyError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Who asks; `None` where keys are [public](Principal::public).
    pub principal: Option<&'a [u8]>,
    /// The [operation](crate::RoutePolicy::operation) that the policy names; empty if none.
    pub operation: &'a [u8],
    /// The method.
    pub method: &'a str,
    /// The path, as it came to the layer.
    pub path: &'a str,
    /// The query; a path with a question mark and nothing behind it has an empty one.
    pub query: Option<&'a str>,
    /// What the client sent.
    pub key: &'a IdempotencyKey,
}

impl<'a> Scope<'a> {
    /// Of a request, asked by `principal`.
    #[must_use]
    pub fn of(
        parts: &'a Parts,
        principal: Option<&'a [u8]>,
        operation: &'a [u8],
        key: &'a IdempotencyKey,
    ) -> Self {
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        Self { principal, operation, method, path, query: parts.uri.query(), key }
    }

    /// The parts, one after another, each with its length in front.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(FORM);
        let parts = [
            self.principal,
            Some(self.operation),
            Some(self.method.as_bytes()),
            Some(self.path.as_bytes()),
            self.query.map(str::as_bytes),
            Some(self.key.as_str().as_bytes()),
        ];
        for part in parts {
            // One more than the length, so that zero is left for a part that is not there.
            let length = part.map_or(0, |part| (part.len() as u64).saturating_add(1));
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.unwrap_or_default());
        }
        bytes
    }

    /// The key of the store: a BLAKE3 digest of [`to_bytes`](Scope::to_bytes).
    #[must_use]
    pub fn store_key(&self) -> StoreKey {
        StoreKey(*blake3::hash(&self.to_bytes()).as_bytes())
    }
}

type Extract = dyn Fn(&Parts) -> Option<Vec<u8>> + Send + Sync;

/// Tells who sends a request, so that two clients who choose the same key never meet.
///
/// There is no default. Without a principal the answers of one client are replayed to whoever
/// sends its key, so that keys become passwords; say [`public`](Principal::public) where that is
/// meant. Take what stays the same when the request is sent again: the number of an account, and
/// not a token that is renewed meanwhile.
#[derive(Clone)]
pub struct Principal(Source);

#[derive(Clone)]
enum Source {
    Public,
    Header(HeaderName),
    By(Arc<Extract>),
}

/// A request whose principal is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nobody;

impl Principal {
    /// Keys are not told apart by who sends them: for services with one client, and for keys that
    /// nobody else can know.
    #[must_use]
    pub fn public() -> Self {
        Self(Source::Public)
    }

    /// The value of this header, such as `x-api-key`. Requests with a key and without the header,
    /// or with several of it, are refused.
    #[must_use]
    pub fn header(name: HeaderName) -> Self {
        Self(Source::Header(name))
    }

    /// What this function makes of the head of a request, such as the account that a layer for
    /// authentication has put in its extensions. Requests with a key for which it answers `None`
    /// are refused.
    ///
    /// ```
    /// use oncelog_tower::Principal;
    ///
    /// #[derive(Clone)]
    /// struct Account(u64);
    ///
    /// let principal = Principal::from_fn(|parts| {
    ///     let account = parts.extensions.get::<Account>()?;
    ///     Some(account.0.to_le_bytes().to_vec())
    /// });
    /// # let _ = principal;
    /// ```
    #[must_use]
    pub fn from_fn(extract: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Source::By(Arc::new(extract)))
    }

    /// Who sends this request; `Ok(None)` where keys are public.
    pub(crate) fn of(&self, parts: &Parts) -> Result<Option<Vec<u8>>, Nobody> {
        match &self.0 {
            Source::Public => Ok(None),
            Source::Header(name) => {
                let mut values = parts.headers.get_all(name).iter();
                match (values.next(), values.next()) {
                    (Some(value), None) => Ok(Some(value.as_bytes().to_vec())),
                    _ => Err(Nobody),
                }
            }
            Source::By(extract) => extract(parts).map(Some).ok_or(Nobody),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Public => f.write_str("Principal::public"),
            Source::Header(name) => write!(f, "Principal::header({name})"),
            Source::By(_) => f.write_str("Principal::from_fn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Nobody, Principal, Scope};
    use crate::key::IdempotencyKey;
    use http::Request;
    use http::header::HeaderName;

    #[test]
    fn requests_that_differ_in_one_part_never_meet() {
        let [key, other] = [b"k", b"l"].map(|key| IdempotencyKey::parse(key).unwrap());
        let scope = Scope {
            principal: Some(b"ab"),
            operation: b"c",
            method: "POST",
            path: "/p",
            query: None,
            key: &key,
        };
        let scopes = [
            scope,
            Scope { principal: Some(b"a"), operation: b"bc", ..scope },
            Scope { principal: None, operation: b"abc", ..scope },
            Scope { principal: None, ..scope },
            Scope { principal: Some(b""), ..scope },
            Scope { method: "PATCH", ..scope },
            Scope { method: "POST/", path: "p", ..scope },
            Scope { path: "/p/", ..scope },
            Scope { query: Some(""), ..scope },
            Scope { query: Some("k"), ..scope },
            Scope { path: "/pk", ..scope },
            Scope { key: &other, ..scope },
        ];
        for (i, one) in scopes.iter().enumerate() {
            assert_eq!(one.store_key(), one.store_key());
            for another in scopes.iter().skip(i + 1) {
                assert_ne!(one.to_bytes(), another.to_bytes(), "{one:?} {another:?}");
                assert_ne!(one.store_key(), another.store_key(), "{one:?} {another:?}");
            }
        }
    }

    #[test]
    fn the_key_of_a_scope_does_not_change_between_versions() {
        let key = IdempotencyKey::parse(b"8e03978e").unwrap();
        let parts = Request::post("/payments?dry=1").body(()).unwrap().into_parts().0;
        let scope = Scope::of(&parts, Some(b"account-7"), b"", &key);
        let hex = "f029e0c2a2720fa39da9cac09f884543eae38dc0fe2c1a883b0919a58e559904";
        assert_eq!(scope.store_key().to_string(), hex);
    }

    #[test]
    fn a_principal_is_one_header_or_nobody() {
        let principal = Principal::header(HeaderName::from_static("x-api-key"));
        let of = |names: &[&str]| {
            let mut request = Request::builder();
            for name in names {
                request = request.header("x-api-key", *name);
            }
            principal.of(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(of(&["a"]), Ok(Some(b"a".to_vec())));
        assert_eq!(of(&[]), Err(Nobody));
        assert_eq!(of(&["a", "a"]), Err(Nobody));
    }
}
