//! Keys that say whose they are: tenant, principal and operation in front, each with its length.

use std::fmt;

/// Says whose a key is, so that two users who choose the same key never meet.
///
/// Each part is written with its length, so ("ab", "c") is not ("a", "bc"), and a part that was
/// not given is told apart from an empty one. 4 bytes a part are added to the key's length.
///
/// ```
/// use oncelog::{Scope, Store};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let scope = Scope::new().tenant("acme").principal("user-7").operation("POST /payments");
/// assert!(store.insert(scope.key("key-1"))?);
/// assert!(store.insert(Scope::new().tenant("other").key("key-1"))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scope {
    tenant: Option<Vec<u8>>,
    principal: Option<Vec<u8>>,
    operation: Option<Vec<u8>>,
}

impl Scope {
    /// No part given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The organisation or account.
    #[must_use]
    pub fn tenant(mut self, tenant: impl AsRef<[u8]>) -> Self {
        self.tenant = Some(tenant.as_ref().to_vec());
        self
    }

    /// The user or service that asks.
    #[must_use]
    pub fn principal(mut self, principal: impl AsRef<[u8]>) -> Self {
        self.principal = Some(principal.as_ref().to_vec());
        self
    }

    /// What is asked for, such as a method with its route.
    #[must_use]
    pub fn operation(mut self, operation: impl AsRef<[u8]>) -> Self {
        self.operation = Some(operation.as_ref().to_vec());
        self
    }

    /// The caller's key within this scope.
    #[must_use]
    pub fn key(&self, key: impl AsRef<[u8]>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + key.as_ref().len());
        for part in [&self.tenant, &self.principal, &self.operation] {
            // One more than the length, so that zero is left for a part not given.
            let length = part.as_ref().map_or(0, |part| part.len().saturating_add(1));
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.as_deref().unwrap_or_default());
        }
        bytes.extend_from_slice(key.as_ref());
        bytes
    }
}

/// Parts may be confidential, so only their lengths are shown.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map(Vec::len);
        f.debug_struct("Scope")
            .field("tenant_bytes", &length(&self.tenant))
            .field("principal_bytes", &length(&self.principal))
            .field("operation_bytes", &length(&self.operation))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;

    #[test]
    fn no_two_scopes_make_one_key() {
        let keys = [
            Scope::new().tenant("ab").principal("c").key("k"),
            Scope::new().tenant("a").principal("bc").key("k"),
            Scope::new().tenant("ab").operation("c").key("k"),
            Scope::new().tenant("ab").principal("c").operation("").key("k"),
            Scope::new().tenant("ab").principal("").key("ck"),
            Scope::new().tenant("ab").key("ck"),
            Scope::new().key("abck"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key), "{i}");
        }
    }
}
