//! A digest of a request, kept to notice that a key is used again for something else.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Bytes of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 16;

/// A digest of what a request asks for.
///
/// Two requests with one key and different fingerprints are not the same request. The digest made
/// here is XXH3 with 128 bits: it notices every mistake, and it is no proof against somebody who
/// searches for two payloads with one digest. Where that matters, bring the first bytes of a
/// cryptographic digest through [`Fingerprint::from_bytes`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// The fingerprint of one whole payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(xxh3_128(payload).to_le_bytes())
    }

    /// A digest that was made elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; FINGERPRINT_BYTES]) -> Self {
        Self(bytes)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; FINGERPRINT_BYTES] {
        &self.0
    }

    /// Begins a fingerprint that is made piece by piece, as the payload comes in.
    #[must_use]
    pub fn builder() -> FingerprintBuilder {
        FingerprintBuilder { state: Box::new(Xxh3::new()) }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:032x})", u128::from_le_bytes(self.0))
    }
}

/// Makes a fingerprint piece by piece, so that a payload need not be held as a whole.
///
/// ```
/// use oncelog::Fingerprint;
///
/// let mut builder = Fingerprint::builder();
/// for piece in [&b"amount="[..], b"100"] {
///     builder.update(piece);
/// }
/// assert_eq!(builder.finish(), Fingerprint::of(b"amount=100"));
/// ```
pub struct FingerprintBuilder {
    state: Box<Xxh3>,
}

impl FingerprintBuilder {
    /// Adds the next bytes of the payload. Where it is cut into pieces makes no difference.
    pub fn update(&mut self, piece: &[u8]) -> &mut Self {
        self.state.update(piece);
        self
    }

    /// Adds one field of a request with its length, so that ("ab", "c") is not ("a", "bc").
    pub fn field(&mut self, field: &[u8]) -> &mut Self {
        self.state.update(&(field.len() as u64).to_le_bytes());
        self.state.update(field);
        self
    }

    /// The fingerprint of everything added.
    #[must_use]
    pub fn finish(&self) -> Fingerprint {
        Fingerprint(self.state.digest128().to_le_bytes())
    }
}

impl fmt::Debug for FingerprintBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintBuilder")
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn pieces_make_the_fingerprint_of_the_whole_wherever_they_are_cut() {
        let payload: Vec<u8> = (0..2_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        for cut in [0, 1, 16, 240, 241, 1_024, 1_999, 2_000] {
            let (front, back) = payload.split_at(cut);
            let made = Fingerprint::builder().update(front).update(back).finish();
            assert_eq!(made, Fingerprint::of(&payload), "cut at {cut}");
        }
    }

    #[test]
    fn fields_are_told_apart_by_their_lengths() {
        let one = Fingerprint::builder().field(b"ab").field(b"c").finish();
        let other = Fingerprint::builder().field(b"a").field(b"bc").finish();
        assert_ne!(one, other);
    }
}
