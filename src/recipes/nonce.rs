//! Nonces: each is accepted once, and only while its timestamp is inside the skew window.
//!
//! The pattern is the signed request of an API: it carries an application's id, a nonce and a
//! timestamp, and whoever records it must not be able to send it again. The failures that it must
//! not have: a window in which a nonce is remembered for less time than its timestamp is accepted;
//! and memory without bounds, when nonces are stored before their timestamps are looked at. Here a
//! nonce is remembered until its timestamp can be accepted no more, twice the skew at most, and
//! outside of the window nothing is stored.
//!
//! Costs: one record for an accepted nonce; memory for about rate times twice the skew. Limits: the
//! store's time decides, so it should agree with the senders' to within the skew. The signature is
//! the caller's to verify, before it asks.

use std::time::Duration;

use crate::error::Result;
use crate::policy::Policy;
use crate::recipes::keys::Keys;
use crate::scope::Scope;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};

/// Nonces, accepted once each within a window around the present.
///
/// ```
/// use oncelog::Store;
/// use oncelog::recipes::nonce::{Accept, Nonces};
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let nonces = Nonces::open(&store, "api", Duration::from_secs(300))?;
/// let sent = store.now();
/// assert_eq!(nonces.accept("app-1", "n-81", sent)?, Accept::New);
/// assert_eq!(nonces.accept("app-1", "n-81", sent)?, Accept::Duplicate);
/// assert_eq!(nonces.accept("app-2", "n-81", sent)?, Accept::New);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Nonces {
    keys: Keys,
    skew_ms: u64,
}

/// What came of [`Nonces::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the answer says whether to serve the request"]
pub enum Accept {
    /// Not seen before: serve the request.
    New,
    /// Seen before: a replay.
    Duplicate,
    /// Its timestamp is too old; whether it was seen is not known any more.
    Late,
    /// Its timestamp is too far ahead.
    Early,
}

impl Nonces {
    /// The nonces of this name in the store, whose timestamps may differ from the store's time by
    /// `skew` either way. A handle with a greater skew than that with which nonces were accepted
    /// before may accept the oldest of them again; open it under another name.
    ///
    /// # Errors
    /// As [`Store::namespace`]; [`InvalidTtl`](crate::Error::InvalidTtl) for a skew of less than a
    /// millisecond or of more than 500 years.
    pub fn open(store: &Store, name: &str, skew: Duration) -> Result<Self> {
        let skew_ms = Ttl::After(skew).millis()?;
        Ttl::After(Duration::from_millis(skew_ms.saturating_mul(2))).millis()?;
        Ok(Self { keys: Keys::open(store, name, "nonce", Policy::default())?, skew_ms })
    }

    /// Accepts the application's nonce if it is new and its timestamp is inside the window.
    ///
    /// # Errors
    /// As [`Store::check_and_set_for`]; a nonce that could not be recorded is not accepted.
    pub fn accept(
        &self,
        app: impl AsRef<[u8]>,
        nonce: impl AsRef<[u8]>,
        sent: Timestamp,
    ) -> Result<Accept> {
        let now = self.keys.now();
        if let Some(refusal) = self.refusal(sent, now) {
            return Ok(refusal);
        }
        let last = sent.as_millis().saturating_add(self.skew_ms);
        // One more, as at its end a record is gone, and the window's end still belongs to it.
        let ttl = Duration::from_millis(last.saturating_sub(now.as_millis()) + 1);
        let key = self.keys.key(Scope::new().principal(app).key(nonce));
        if !self.keys.namespace().check_and_set_for(key, [], ttl)?.is_new() {
            return Ok(Accept::Duplicate);
        }
        // If the window has closed since, an earlier record may have ended in between.
        Ok(self.refusal(sent, self.keys.now()).unwrap_or(Accept::New))
    }

    fn refusal(&self, sent: Timestamp, now: Timestamp) -> Option<Accept> {
        let (sent, now) = (sent.as_millis(), now.as_millis());
        if now.saturating_sub(sent) > self.skew_ms {
            Some(Accept::Late)
        } else if sent.saturating_sub(now) > self.skew_ms {
            Some(Accept::Early)
        } else {
            None
        }
    }
}
