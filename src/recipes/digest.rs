//! Keys derived from content: a keyed digest over the fields that make two requests the same.
//!
//! The pattern is the request without a key of its own: who sends the same content again means the
//! same request. The failures that it must not have: white space, the order of a map or a timestamp
//! gets into the key, so that no two are ever equal; and fields run into each other, so that two
//! that differ are. Here the caller names the fields that count, parsed and in an order of its own,
//! and leaves out the others; each goes in with its length. A body that is taken as it is can be
//! fed piece by piece.
//!
//! The digest is BLAKE3 under a secret of the store, so that nobody outside can make two contents
//! with one key, or tell a content from its key by guessing. Costs: a pass over the content, and
//! one record for the secret. Limits: the secret lies in the store's files; without it, in another
//! store, the same content has another key, unless the secret is given.

use std::fmt;

use blake3::Hasher;

use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::recipes::keys::Keys;
use crate::store::Store;
use crate::sys::random;
use crate::time::Ttl;

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// What a part of the content begins with: fields never equal a body.
const FIELD: u8 = 1;
const BODY: u8 = 2;

/// Makes keys of content, under one secret.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::digest::Digests;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let digests = Digests::open(&store, "orders")?;
/// // The time of sending is left out: a repeated order has another one.
/// let order = |amount: &str| {
///     digests.begin("POST /orders").field("customer", "7").field("amount", amount).finish()
/// };
/// assert!(store.insert(order("100"))?);
/// assert!(!store.insert(order("100"))?);
/// assert!(store.insert(order("101"))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Digests {
    secret: [u8; SECRET_BYTES],
}

impl Digests {
    /// With the secret of this name in the store, which is made at the first time and never ends.
    ///
    /// # Errors
    /// As [`Store::namespace`] and [`Store::check_and_set`]; [`Io`](Error::Io) if the system gives
    /// no random bytes.
    pub fn open(store: &Store, name: &str) -> Result<Self> {
        let keys = Keys::open(store, name, "digest", Policy::default())?;
        let (namespace, key) = (keys.namespace(), keys.key("secret"));
        if namespace.get(&key)?.is_none() {
            let secret = random::bytes::<SECRET_BYTES>().map_err(|source| Error::Io {
                op: "read random bytes for a secret",
                path: "getrandom".into(),
                source,
            })?;
            // Of several who make one, the first one's holds.
            let _ = namespace.check_and_set_for(&key, secret, Ttl::Never)?;
        }
        let record = namespace.get(&key)?;
        let secret =
            record.and_then(|record| <[u8; SECRET_BYTES]>::try_from(record.outcome()).ok());
        let foreign = || keys.foreign("the record of a digest's secret is not one");
        Ok(Self { secret: secret.ok_or_else(foreign)? })
    }

    /// With a secret of the caller's, for keys that several stores are to agree on.
    #[must_use]
    pub fn with_secret(secret: [u8; SECRET_BYTES]) -> Self {
        Self { secret }
    }

    /// Begins the key of a content. Contents of different purposes, such as routes, have different
    /// keys.
    pub fn begin(&self, purpose: impl AsRef<[u8]>) -> Content {
        let mut hasher = Hasher::new_keyed(&self.secret);
        update_sized(&mut hasher, purpose.as_ref());
        Content { hasher }
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digests").finish_non_exhaustive()
    }
}

/// A content of which fields are taken.
#[derive(Clone)]
#[must_use = "a content has no key until it is finished"]
pub struct Content {
    hasher: Hasher,
}

impl Content {
    /// Takes a field. The order of the fields is part of the content, so it should be the program's
    /// and not the request's.
    pub fn field(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.hasher.update(&[FIELD]);
        update_sized(&mut self.hasher, name.as_ref());
        update_sized(&mut self.hasher, value.as_ref());
        self
    }

    /// Goes on to a body that comes in pieces, as it is: every byte of it counts.
    pub fn body(mut self) -> Body {
        self.hasher.update(&[BODY]);
        Body { hasher: self.hasher }
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// The body of a content, taken piece by piece.
#[must_use = "a content has no key until it is finished"]
pub struct Body {
    hasher: Hasher,
}

impl Body {
    /// Takes the next piece. Where the body is cut makes no difference.
    pub fn update(&mut self, piece: impl AsRef<[u8]>) -> &mut Self {
        self.hasher.update(piece.as_ref());
        self
    }

    /// The key of the whole content.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// A key made of content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// All 256 bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// The first 128 bits: a key of half the length, which two of some 10^15 contents share with a
    /// chance of one in a thousand million.
    #[must_use]
    pub fn short(&self) -> [u8; DIGEST_BYTES / 2] {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

fn update_sized(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}
