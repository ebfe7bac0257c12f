//! Any bytes as a header and as parts of a scope: one reading or none, and one key for each scope.
#![no_main]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use oncelog_tower::{IdempotencyKey, KEY_BYTES_MAX, KeyError, Scope, StoredResponse};

fuzz_target!(|bytes: &[u8]| run(bytes));

/// A byte says which parts are there; then come the header, the principal, the operation, the
/// method, the path and the query, each up to a zero.
fn run(bytes: &[u8]) {
    stored(bytes);
    let Some((flags, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(6, |byte| *byte == 0);
    let header = parts.next().unwrap_or_default();
    let Some(key) = key(header) else { return };
    let principal = parts.next().unwrap_or_default();
    let operation = parts.next().unwrap_or_default();
    let [method, path, query] = [(); 3].map(|()| text(parts.next().unwrap_or_default()));
    let scope = Scope {
        principal: (flags & 1 != 0).then_some(principal),
        operation,
        method: &method,
        path: &path,
        query: (flags & 2 != 0).then_some(&query),
        key: &key,
    };
    let made = scope.to_bytes();
    assert_eq!(read(&made), Some(parts_of(&scope)), "the parts can be told apart");
    assert_eq!(scope.store_key(), scope.store_key());
    let moved = Scope { method: &path, path: &method, ..scope };
    assert_eq!(moved.store_key() == scope.store_key(), method == path);
}

/// The key in a header, if there is one; sent in quotes it is the same, and sent twice it is none.
fn key(header: &[u8]) -> Option<IdempotencyKey> {
    let key = IdempotencyKey::parse(header).ok()?;
    assert!((1..=KEY_BYTES_MAX).contains(&key.as_str().len()));
    let escaped = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
    assert_eq!(IdempotencyKey::parse(format!("\"{escaped}\"").as_bytes()).as_ref(), Ok(&key));
    if let Ok(value) = HeaderValue::from_bytes(header) {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        headers.append(&name, value.clone());
        assert_eq!(IdempotencyKey::of(&headers, &name), Ok(Some(key.clone())));
        headers.append(&name, value);
        assert_eq!(IdempotencyKey::of(&headers, &name), Err(KeyError::Repeated));
    }
    Some(key)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parts_of(scope: &Scope<'_>) -> Vec<Option<Vec<u8>>> {
    let parts = [
        scope.principal,
        Some(scope.operation),
        Some(scope.method.as_bytes()),
        Some(scope.path.as_bytes()),
        scope.query.map(str::as_bytes),
        Some(scope.key.as_str().as_bytes()),
    ];
    parts.map(|part| part.map(<[u8]>::to_vec)).into()
}

/// The parts of a scope, out of its bytes.
fn read(bytes: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut rest = bytes.strip_prefix(&[1])?;
    let mut parts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (part, after) = after.split_at_checked(length.saturating_sub(1))?;
        parts.push((length > 0).then(|| part.to_vec()));
        rest = after;
    }
    rest.is_empty().then_some(parts)
}

/// Bytes that are read as a stored answer are written as another that is read in the same way.
fn stored(bytes: &[u8]) {
    if let Ok(response) = StoredResponse::decode(bytes) {
        assert_eq!(StoredResponse::decode(&response.encode()), Ok(response));
    }
}
