//! The names of a namespace's keys in the server.

use oncelog::{Error, KEY_BYTES_MAX, OUTCOME_BYTES_MAX, Result};

const NAMESPACE_BYTES_MAX: usize = 255;
const PREFIX_BYTES_MAX: usize = 64;

/// What the keys of a namespace are called in the server, and how long they may be.
///
/// `prefix:length:namespace:key`: read from the front, each part ends where it says, so no two
/// namespaces of whatever prefixes ever have a name in common.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    space: Vec<u8>,
    key_bytes_max: usize,
}

impl Names {
    pub(crate) fn new(prefix: &str, namespace: &str, key_bytes_max: usize) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.chars().all(plain) {
            let reason = format!(
                "the prefix is not 1 to {PREFIX_BYTES_MAX} letters, digits, '.', '-', '_' or '/'"
            );
            return Err(Error::InvalidConfig { reason });
        }
        let reason = match namespace.len() {
            0 => "its name is empty; give it 1 to 255 bytes",
            1..=NAMESPACE_BYTES_MAX => "",
            _ => "its name is over 255 bytes long",
        };
        if !reason.is_empty() {
            return Err(Error::InvalidNamespace { reason });
        }
        if key_bytes_max == 0 || key_bytes_max > KEY_BYTES_MAX {
            let reason = format!("key_bytes_max is not 1 to {KEY_BYTES_MAX}");
            return Err(Error::InvalidConfig { reason });
        }
        let space = format!("{prefix}:{}:{namespace}", namespace.len()).into_bytes();
        Ok(Self { space, key_bytes_max })
    }

    /// The name of what is known of the namespace itself, and of the channel where those who wait
    /// are woken; no key has it, as keys have a byte at least.
    pub(crate) fn space(&self) -> &[u8] {
        &self.space
    }

    /// The longest key.
    pub(crate) fn key_bytes_max(&self) -> usize {
        self.key_bytes_max
    }

    /// The name of a key.
    pub(crate) fn key(&self, key: &[u8]) -> Result<Vec<u8>> {
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        if key.len() > self.key_bytes_max {
            return Err(Error::KeyTooLong { len: key.len(), max: self.key_bytes_max });
        }
        Ok([&self.space, &b":"[..], key].concat())
    }
}

/// Refuses a limit on outcomes that cannot be kept.
pub(crate) fn check_outcome_limit(outcome_bytes_max: usize) -> Result<()> {
    if outcome_bytes_max > OUTCOME_BYTES_MAX {
        let reason = format!("outcome_bytes_max is over {OUTCOME_BYTES_MAX}");
        return Err(Error::InvalidConfig { reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Names;
    use oncelog::Error;

    #[test]
    fn namespaces_never_have_a_name_in_common() {
        let one = Names::new("p", "a", 64).unwrap();
        let other = Names::new("p", "a:1", 64).unwrap();
        assert_ne!(one.key(b"1:x").unwrap(), other.key(b"x").unwrap());
        assert_ne!(one.key(b"x").unwrap(), one.space());
        assert_eq!(one.key(b"\0{}\xff").unwrap(), b"p:1:a:\0{}\xff");
    }

    #[test]
    fn names_and_limits_that_cannot_be_kept_are_refused() {
        assert!(matches!(Names::new("", "a", 64), Err(Error::InvalidConfig { .. })));
        assert!(matches!(Names::new("a:b", "a", 64), Err(Error::InvalidConfig { .. })));
        assert!(matches!(Names::new("p", "", 64), Err(Error::InvalidNamespace { .. })));
        assert!(matches!(Names::new("p", "a", 0), Err(Error::InvalidConfig { .. })));
        let names = Names::new("p", "a", 2).unwrap();
        assert!(matches!(names.key(b""), Err(Error::EmptyKey)));
        assert!(matches!(names.key(b"abc"), Err(Error::KeyTooLong { len: 3, max: 2 })));
    }
}
