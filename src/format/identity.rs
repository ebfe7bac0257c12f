//! The file that makes a directory a store: its identity and its secret, written once.

use crate::format::layout::FORMAT_VERSION;
use crate::format::reader::{Reader, checked, seal};
use crate::key::SECRET_BYTES;
use crate::time::Timestamp;

const MAGIC: [u8; 8] = *b"oncelog\0";

/// Bytes of a store's id.
pub(crate) const ID_BYTES: usize = 16;

/// Who a store is.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: [u8; ID_BYTES],
    pub(crate) secret: [u8; SECRET_BYTES],
    pub(crate) created: Timestamp,
}

/// Why an identity file could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IdentityError {
    NotOurs,
    Version(u32),
    Damaged,
}

impl Identity {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.created.as_millis().to_le_bytes());
        bytes.extend_from_slice(&self.secret);
        seal(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader(bytes);
        if reader.array() != Some(MAGIC) {
            return Err(IdentityError::NotOurs);
        }
        // The version comes before the checksum: another version may keep that elsewhere.
        let version = reader.u32().ok_or(IdentityError::Damaged)?;
        let body = checked(bytes).ok_or(match version {
            FORMAT_VERSION => IdentityError::Damaged,
            other => IdentityError::Version(other),
        })?;
        if version != FORMAT_VERSION {
            return Err(IdentityError::Version(version));
        }
        let fields = body.get(12..).ok_or(IdentityError::Damaged)?;
        Self::decode_fields(fields).ok_or(IdentityError::Damaged)
    }

    fn decode_fields(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        // Zeros in this version: what another one may say there must not be passed over.
        if reader.u32()? != 0 {
            return None;
        }
        let id = reader.array()?;
        let created = Timestamp::from_millis(reader.u64()?);
        let secret = reader.array()?;
        reader.0.is_empty().then_some(Self { id, secret, created })
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError};
    use crate::format::reader::seal;
    use crate::time::Timestamp;

    #[test]
    fn an_identity_comes_back_and_no_single_bit_flip_goes_unnoticed() {
        let created = Timestamp::from_millis(5);
        let identity = Identity { id: [3; 16], secret: [9; 192], created };
        let bytes = identity.encode();
        let back = Identity::decode(&bytes).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!((back.id, back.secret, back.created), (identity.id, identity.secret, created));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Identity::decode(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn an_identity_whose_unused_bytes_say_something_is_refused() {
        let created = Timestamp::from_millis(5);
        let mut bytes = Identity { id: [3; 16], secret: [9; 192], created }.encode();
        bytes.truncate(232);
        bytes[13] = 1;
        seal(&mut bytes);
        assert_eq!(Identity::decode(&bytes).err(), Some(IdentityError::Damaged));
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let identity =
            Identity { id: [3; 16], secret: [9; 192], created: Timestamp::from_millis(5) };
        let mut bytes = identity.encode();
        bytes[8] = 7;
        assert_eq!(Identity::decode(&bytes).err(), Some(IdentityError::Version(7)));
    }
}
