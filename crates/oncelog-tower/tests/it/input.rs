//! Any bytes for a header and any parts for a scope. The fuzz target `http_key` tries more of both.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use oncelog_tower::{IdempotencyKey, KEY_BYTES_MAX, KeyError, Scope, StoredResponse};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

/// The text of a key as a string of structured fields.
fn quoted(key: &str) -> String {
    let mut text = String::from("\"");
    for c in key.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

type Parts = (Option<String>, String, String, String, Option<String>, String);

/// Parts of a scope: principal, operation, method, path, query and key, of few letters.
fn parts() -> impl Strategy<Value = Parts> {
    let (principal, query) = (option::of("[ab]{0,3}"), option::of("[ab]{0,2}"));
    (principal, "[ab]{0,2}", "[AB]{1,2}", "/[ab/]{0,3}", query, "[ab]{1,3}")
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_in_bounds_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(key) = IdempotencyKey::parse(&bytes) {
            prop_assert!((1..=KEY_BYTES_MAX).contains(&key.as_str().len()));
            prop_assert!(key.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            // Quoted, it is the same key.
            let again = IdempotencyKey::parse(quoted(key.as_str()).as_bytes());
            prop_assert_eq!(again, Ok(key));
        }
    }

    #[test]
    fn every_printable_key_can_be_sent_in_quotes(key in "[ -~]{1,255}") {
        let parsed = IdempotencyKey::parse(quoted(&key).as_bytes()).unwrap();
        prop_assert_eq!(parsed.as_str(), key);
    }

    #[test]
    fn a_header_of_any_bytes_that_is_repeated_is_refused(
        bytes in vec(any::<u8>(), 0..40),
        times in 2..5_usize,
    ) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let name = HeaderName::from_static("idempotency-key");
            let mut headers = HeaderMap::new();
            for _ in 0..times {
                headers.append(&name, value.clone());
            }
            prop_assert_eq!(IdempotencyKey::of(&headers, &name), Err(KeyError::Repeated));
        }
    }

    #[test]
    fn scopes_are_equal_only_if_all_of_their_parts_are(one in parts(), other in parts()) {
        let [first, second] = [&one, &other].map(|parts| {
            let key = IdempotencyKey::parse(parts.5.as_bytes()).unwrap();
            let scope = Scope {
                principal: parts.0.as_deref().map(str::as_bytes),
                operation: parts.1.as_bytes(),
                method: &parts.2,
                path: &parts.3,
                query: parts.4.as_deref(),
                key: &key,
            };
            (scope.to_bytes(), scope.store_key())
        });
        prop_assert_eq!(first.0 == second.0, one == other);
        prop_assert_eq!(first.1 == second.1, one == other);
    }

    #[test]
    fn any_bytes_are_a_stored_answer_or_refused(
        bytes in vec(any::<u8>(), 0..200),
        form in 0..3_u8,
    ) {
        let bytes = [&[form, 0][..], &bytes].concat();
        if let Ok(stored) = StoredResponse::decode(&bytes) {
            prop_assert_eq!(StoredResponse::decode(&stored.encode()), Ok(stored));
        }
    }
}
