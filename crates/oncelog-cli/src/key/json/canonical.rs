//! One spelling for each JSON value, so that spacing, escapes and the order of names do not matter.
//!
//! A type byte comes first. Strings are unescaped; numbers and literals keep their text; arrays
//! and objects hold their parts with the length ahead of each, objects sorted by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::key::{Missing, push_length};

/// Containers nested deeper than this are refused, so that no input can exhaust the stack.
const DEPTH_MAX: u32 = 128;

const INVALID: Missing = Missing::Malformed("it is not valid JSON");

/// Appends the one spelling of `value`, which is valid JSON without space around it.
pub(super) fn push(value: &str, into: &mut Vec<u8>) -> Result<(), Missing> {
    push_nested(value, into, 0)
}

fn push_nested(value: &str, into: &mut Vec<u8>, depth: u32) -> Result<(), Missing> {
    if depth > DEPTH_MAX {
        return Err(Missing::Malformed("the JSON field is nested deeper than 128 levels"));
    }
    match value.as_bytes().first() {
        Some(b'"') => {
            into.push(b's');
            push_string(value, into)
        }
        Some(b'[') => push_array(value, into, depth),
        Some(b'{') => push_object(value, into, depth),
        Some(b't' | b'f' | b'n') => {
            into.push(b'l');
            into.extend_from_slice(value.as_bytes());
            Ok(())
        }
        _ => {
            into.push(b'n');
            into.extend_from_slice(value.as_bytes());
            Ok(())
        }
    }
}

fn push_string(value: &str, into: &mut Vec<u8>) -> Result<(), Missing> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(INVALID)?;
    if !inner.as_bytes().contains(&b'\\') {
        into.extend_from_slice(inner.as_bytes());
        return Ok(());
    }
    // Read as bytes, so that a lone surrogate escape keeps an encoding of its own.
    serde_json::Deserializer::from_str(value).deserialize_bytes(Append(into)).map_err(|_| INVALID)
}

fn push_array(value: &str, into: &mut Vec<u8>, depth: u32) -> Result<(), Missing> {
    let elements: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| INVALID)?;
    into.push(b'a');
    push_length(into, elements.len());
    for element in elements {
        push_sized(element.get(), into, depth)?;
    }
    Ok(())
}

fn push_object(value: &str, into: &mut Vec<u8>, depth: u32) -> Result<(), Missing> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(value).map_err(|_| INVALID)?;
    into.push(b'o');
    push_length(into, members.len());
    for (name, member) in members {
        push_length(into, name.len());
        into.extend_from_slice(name.as_bytes());
        push_sized(member.get(), into, depth)?;
    }
    Ok(())
}

/// Appends a part with its length ahead, which is known only once it is written.
fn push_sized(value: &str, into: &mut Vec<u8>, depth: u32) -> Result<(), Missing> {
    let place = into.len();
    push_length(into, 0);
    let start = into.len();
    push_nested(value, into, depth + 1)?;
    let len = (into.len() - start) as u64;
    if let Some(length) = into.get_mut(place..start) {
        length.copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

/// Receives the unescaped content of a string.
struct Append<'v>(&'v mut Vec<u8>);

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
