//! Keys from a JSON field: only the values along the path are looked into, the rest is skipped.

mod canonical;

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::key::{JSON, Missing};

/// The names and array positions from the top of a document to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    /// The name as a place in an array, when it is a number.
    place: Option<usize>,
}

impl JsonPath {
    pub(crate) fn key(&self, item: &[u8], into: &mut Vec<u8>) -> Result<(), Missing> {
        let mut document = serde_json::Deserializer::from_slice(item);
        let found = At(&self.parts)
            .deserialize(&mut document)
            .and_then(|found| document.end().map(|()| found))
            .map_err(|error| malformed(&error))?;
        let value = found.ok_or(Missing::Absent("the JSON field is missing"))?;
        if value.get() == "null" {
            return Err(Missing::Absent("the JSON field is null"));
        }
        into.extend_from_slice(JSON);
        canonical::push(value.get(), into)
    }
}

fn malformed(error: &serde_json::Error) -> Missing {
    Missing::Malformed(match error.classify() {
        Category::Eof => "the JSON text ends too early",
        Category::Io | Category::Syntax | Category::Data => "it is not valid JSON",
    })
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.strip_prefix('.').unwrap_or(text);
        loop {
            let (name, after) = split_name(rest)?;
            parts.push(Part { place: name.parse().ok(), name });
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Self { parts }),
                None => return Err("a closing quote is followed by a dot or the end".to_owned()),
            }
        }
    }
}

/// Splits the first name off a path; a quoted name is a JSON string and may hold dots.
fn split_name(path: &str) -> Result<(String, &str), String> {
    if path.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(path).into_iter::<String>();
        let Some(Ok(name)) = names.next() else {
            return Err("a quoted name does not end".to_owned());
        };
        return Ok((name, path.get(names.byte_offset()..).unwrap_or_default()));
    }
    let end = path.find('.').unwrap_or(path.len());
    let (name, after) = path.split_at(end);
    if name.is_empty() {
        return Err("a name is empty; a path looks like .event.id".to_owned());
    }
    Ok((name.to_owned(), after))
}

/// Reads the value at the remaining parts of a path, if there is one.
struct At<'p>(&'p [Part]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        match self.0.split_first() {
            None => serde::Deserialize::deserialize(source).map(Some),
            Some((part, rest)) => source.deserialize_any(Step { part, rest: At(rest) }),
        }
    }
}

/// Takes one step down the path; a value that is no container has nothing below it.
struct Step<'p> {
    part: &'p Part,
    rest: At<'p>,
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Named(&self.part.name))? {
            if wanted {
                // Of equal names the last one counts, as nearly everywhere.
                found = map.next_value_seed(At(self.rest.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.part.place.unwrap_or(0) {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = match self.part.place {
            Some(_) => seq.next_element_seed(At(self.rest.0))?.flatten(),
            None => None,
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Tells whether an object's name is the wanted one, without keeping it.
struct Named<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<bool, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests;
