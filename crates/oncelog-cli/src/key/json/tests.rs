//! What a path reaches, and which spellings of a value are one key.

use super::{JsonPath, Missing, Part};

fn key(path: &str, item: &str) -> Result<Vec<u8>, Missing> {
    let mut bytes = Vec::new();
    path.parse::<JsonPath>().unwrap().key(item.as_bytes(), &mut bytes).map(|()| bytes)
}

fn is_absent(result: &Result<Vec<u8>, Missing>) -> bool {
    matches!(result, Err(Missing::Absent(_)))
}

fn is_malformed(result: &Result<Vec<u8>, Missing>) -> bool {
    matches!(result, Err(Missing::Malformed(_)))
}

#[test]
fn a_path_is_names_with_dots_between_and_may_quote_them() {
    let part = |name: &str| Part { name: name.to_owned(), place: name.parse().ok() };
    let path = |text: &str| text.parse::<JsonPath>().unwrap().parts;
    assert_eq!(path(".a.b"), [part("a"), part("b")]);
    assert_eq!(path("a.0"), [part("a"), part("0")]);
    assert_eq!(path(".\"x.y\".z"), [part("x.y"), part("z")]);
    for wrong in ["", ".", ".a.", "..a", ".\"a", ".\"a\"b"] {
        assert!(wrong.parse::<JsonPath>().is_err(), "{wrong}");
    }
}

#[test]
fn a_string_is_keyed_by_its_content_and_a_number_by_its_text() {
    assert_eq!(key(".a.b", r#"{"x":[1,{}],"a":{"b":"v\u0031"}}"#), Ok(b"\n\0jsv1".to_vec()));
    assert_eq!(key(".a", r#"{"a": 1.0 }"#), Ok(b"\n\0jn1.0".to_vec()));
    assert_ne!(key(".a", r#"{"a":"1"}"#), key(".a", r#"{"a":1}"#));
    assert_ne!(key(".a", r#"{"a":"true"}"#), key(".a", r#"{"a":true}"#));
}

#[test]
fn spacing_order_and_escapes_do_not_matter_inside_a_container() {
    let first = key(".a", r#"{"a":{"x":1,"y":["p","q"]}}"#);
    assert_eq!(first, key(".a", r#"{"a": { "y" : ["\u0070", "q"], "x" : 1 }}"#));
    assert_ne!(first, key(".a", r#"{"a":{"x":1,"y":["pq",""]}}"#));
    assert_ne!(key(".a", r#"{"a":["ab","c"]}"#), key(".a", r#"{"a":["a","bc"]}"#));
}

#[test]
fn a_number_in_a_path_is_a_place_in_an_array() {
    let item = r#"{"a":[{"id":"x"},{"id":"y"}]}"#;
    assert_eq!(key(".a.1.id", item), Ok(b"\n\0jsy".to_vec()));
    assert!(is_absent(&key(".a.2.id", item)) && is_absent(&key(".a.id", item)));
}

#[test]
fn of_equal_names_the_last_one_counts() {
    assert_eq!(key(".a", r#"{"a":1,"a":2}"#), Ok(b"\n\0jn2".to_vec()));
}

#[test]
fn a_field_that_is_not_there_or_null_is_absent() {
    for item in ["{}", r#"{"a":null}"#, "17", "-1", "1.5", "true", "null", r#""a""#, "[]"] {
        assert!(is_absent(&key(".a", item)), "{item}");
    }
    assert!(is_absent(&key(".a.b", r#"{"a":"b"}"#)));
}

#[test]
fn broken_text_is_malformed_even_after_the_field() {
    for item in ["", "{", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":1,}"#, "nul", r#"{"a":01}"#] {
        assert!(is_malformed(&key(".a", item)), "{item}");
    }
}

#[test]
fn a_lone_surrogate_is_a_value_of_its_own() {
    let lone = key(".a", r#"{"a":"\ud800"}"#);
    assert!(lone.is_ok());
    assert_ne!(lone, key(".a", r#"{"a":"\ud801"}"#));
}

#[test]
fn nesting_without_end_is_refused_and_exhausts_nothing() {
    let deep = format!("{{\"b\":{},\"a\":{}1{}}}", "[".repeat(9), "[".repeat(9), "]".repeat(9));
    assert!(is_malformed(&key(".a", &deep)));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_malformed(&key(".a", &deep)));
}
