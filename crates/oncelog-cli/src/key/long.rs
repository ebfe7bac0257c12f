//! Long keys: a digest stands for the content, and the whole content is kept as the outcome.
//!
//! Two contents with the same digest are told apart by comparing them in full; the second one gets
//! the next counter. The answer is therefore as exact as with the content itself as the key.

use xxhash_rust::xxh3::xxh3_128;

use oncelog::{Check, Error, Store};

/// Content up to this length is used as a key directly.
pub(crate) const RAW_BYTES_MAX: usize = 65_000;
/// Bytes of a long key: the prefix, the digest and the counter.
pub(crate) const KEY_BYTES: usize = 3 + 16 + 4;

const PREFIX: [u8; 3] = *b"\n\0L";

/// The first key that stands for `content`.
pub(crate) fn key(content: &[u8]) -> [u8; KEY_BYTES] {
    numbered(content, 0)
}

fn numbered(content: &[u8], counter: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (prefix, rest) = key.split_at_mut(PREFIX.len());
    let (digest, count) = rest.split_at_mut(16);
    prefix.copy_from_slice(&PREFIX);
    digest.copy_from_slice(&xxh3_128(content).to_le_bytes());
    count.copy_from_slice(&counter.to_le_bytes());
    key
}

/// Records `content` under the first free counter after the first key turned out to stand for
/// something else. True when the content is new.
pub(crate) fn record_next(store: &Store, content: &[u8]) -> Result<bool, Error> {
    for counter in 1..=u32::MAX {
        match store.check_and_set(numbered(content, counter), content)? {
            Check::New => return Ok(true),
            Check::Duplicate(record) if record.outcome() == content => return Ok(false),
            Check::Duplicate(_) => {}
        }
    }
    Err(Error::Full { what: "counters for one digest" })
}

#[cfg(test)]
mod tests {
    use super::{KEY_BYTES, key, numbered};

    #[test]
    fn a_long_key_is_the_prefix_the_digest_and_the_counter() {
        let first = key(b"content");
        assert_eq!(first.len(), KEY_BYTES);
        assert!(first.starts_with(b"\n\0L") && first.ends_with(&[0; 4]));
        assert_eq!(numbered(b"content", 1)[..19], first[..19]);
        assert_ne!(key(b"other")[..19], first[..19]);
    }
}
