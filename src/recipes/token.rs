//! One-shot tokens: issued once, consumed once, by whoever comes first.
//!
//! The pattern is the form token: a page is given a token, submitting it consumes the token, and a
//! second submit is told from one with a made-up or expired token. The failure that it must not
//! have: looking a token up and deleting it are two steps, so that two submits both find it; and a
//! token that is absent after its use cannot be told from one that never was. Here the use is one
//! conditional step, and the consumed token stays known until the end that it was issued with.
//!
//! Costs: a record to issue, a lookup and a record to consume. Limits: a token is 128 random bits
//! as 32 hexadecimal digits, and is in the store's files as it was given out.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::recipes::keys::{Keys, Step};
use crate::store::Store;
use crate::sys::random;
use crate::time::Timestamp;

const TOKEN_BYTES: usize = 16;
const ISSUED: u8 = 0;
const CONSUMED: u8 = 1;

/// Tokens that can be consumed once.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::token::{Consume, Tokens};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let tokens = Tokens::open(&store, "checkout")?;
/// let token = tokens.issue("cart 7", Duration::from_secs(600))?;
/// assert!(matches!(tokens.consume(&token)?, Consume::Now(cart) if cart == b"cart 7"));
/// assert!(matches!(tokens.consume(&token)?, Consume::Already { .. }));
/// assert!(matches!(tokens.consume("made up")?, Consume::Unknown));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokens {
    keys: Keys,
}

/// What came of [`Tokens::consume`].
#[derive(Clone, PartialEq, Eq)]
#[must_use = "the answer says whether to act"]
pub enum Consume {
    /// This call consumed the token: act. With what it was issued for.
    Now(Vec<u8>),
    /// It was consumed before: do not act again.
    Already {
        /// When that was.
        at: Timestamp,
    },
    /// It was never issued, or its time is over.
    Unknown,
}

/// What a token was issued for may be confidential, so only its length is shown.
impl fmt::Debug for Consume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(subject) => write!(f, "Now({} bytes)", subject.len()),
            Self::Already { at } => write!(f, "Already {{ at: {at} }}"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

impl Tokens {
    /// The tokens of this name in the store.
    ///
    /// # Errors
    /// As [`Store::namespace`].
    pub fn open(store: &Store, name: &str) -> Result<Self> {
        Ok(Self { keys: Keys::open(store, name, "token", Policy::default())? })
    }

    /// A new token for a subject, such as a user or a cart, which its use is answered with. It can
    /// be consumed until `ttl` is over; a consumed one is known for as long.
    ///
    /// # Errors
    /// As [`Store::check_and_set_for`]; [`Io`](Error::Io) if the system gives no random bytes.
    pub fn issue(&self, subject: impl AsRef<[u8]>, ttl: Duration) -> Result<String> {
        let outcome = [&[ISSUED], subject.as_ref()].concat();
        loop {
            let bytes = random::bytes::<TOKEN_BYTES>().map_err(|source| Error::Io {
                op: "read random bytes for a token",
                path: "getrandom".into(),
                source,
            })?;
            let token = format!("{:032x}", u128::from_le_bytes(bytes));
            let key = self.keys.key(&token);
            if self.keys.namespace().check_and_set_for(key, &outcome, ttl)?.is_new() {
                return Ok(token);
            }
        }
    }

    /// Consumes the token: of any number of callers one is answered [`Consume::Now`].
    ///
    /// # Errors
    /// As [`Store::set_if`]. After an error the token is as it was.
    pub fn consume(&self, token: impl AsRef<[u8]>) -> Result<Consume> {
        if token.as_ref().len() != 2 * TOKEN_BYTES {
            return Ok(Consume::Unknown);
        }
        let (answer, _) = self.keys.change(token, |seen| {
            let Some(record) = seen else { return Ok(Step::Keep(Consume::Unknown)) };
            match record.outcome().split_first() {
                Some((&ISSUED, subject)) => {
                    let outcome = [&[CONSUMED], subject].concat();
                    Ok(Step::Set(outcome, None, Consume::Now(subject.to_vec())))
                }
                Some((&CONSUMED, _)) => Ok(Step::Keep(Consume::Already { at: record.created() })),
                _ => Err(self.keys.foreign("the record of a token is not a token's")),
            }
        })?;
        Ok(answer)
    }
}
