//! A digest of JSON that does not depend on spaces or on the order of members, with some left out.
//!
//! Numbers and strings count as they are written: `1.0` is not `1`, and `"\u0061"` is not `"a"`.
//! No number is parsed, since two amounts that round to one would then be the same. A retry that
//! writes them anew is refused as another request, and nothing is executed.

use blake3::Hasher;

/// Values that are nested deeper are no JSON to this reader, which calls itself for each level.
const DEPTH_MAX: usize = 64;

type Digest = [u8; 32];

/// A member of a document that a fingerprint leaves out, as a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// `None` for text that does not start with a slash, or has a tilde that escapes nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?.split('/');
        let segment = |text: &str| {
            let escapes = text
                .match_indices('~')
                .all(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')));
            escapes.then(|| text.replace("~1", "/").replace("~0", "~"))
        };
        segments.map(segment).collect::<Option<Vec<_>>>().map(Self)
    }
}

/// The digest of a document; `None` if it is not JSON.
pub(crate) fn digest(text: &[u8], excluded: &[Pointer]) -> Option<Digest> {
    let excluded: Vec<&[String]> = excluded.iter().map(|pointer| &pointer.0[..]).collect();
    let mut reader = Reader { rest: text };
    reader.space();
    let digest = reader.value(&excluded, DEPTH_MAX)?;
    reader.space();
    reader.rest.is_empty().then_some(digest)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        while let Some((b' ' | b'\t' | b'\n' | b'\r', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    /// Takes this byte and the space around it, if it is next.
    fn next_is(&mut self, byte: u8) -> bool {
        self.space();
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest;
        self.space();
        true
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn value(&mut self, excluded: &[&[String]], depth: usize) -> Option<Digest> {
        let depth = depth.checked_sub(1)?;
        match self.rest.first()? {
            b'{' => self.object(excluded, depth),
            b'[' => self.array(excluded, depth),
            b'"' => self.string().map(atom),
            _ => self.word().map(atom),
        }
    }

    fn object(&mut self, excluded: &[&[String]], depth: usize) -> Option<Digest> {
        let mut members: Vec<(&[u8], Digest)> = Vec::new();
        self.take(1)?;
        let mut closed = self.next_is(b'}');
        while !closed {
            let name = self.string()?;
            if !self.next_is(b':') {
                return None;
            }
            let (left_out, below) = step(excluded, inner(name));
            let digest = self.value(&below, depth)?;
            if !left_out {
                members.push((name, digest));
            }
            closed = self.closed(b'}')?;
        }
        // Stable: members of one name stay in their order, which readers tell apart.
        members.sort_by_key(|(name, _)| *name);
        let mut hasher = Hasher::new();
        hasher.update(b"{");
        for (name, digest) in members {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(&digest);
        }
        Some(*hasher.finalize().as_bytes())
    }

    fn array(&mut self, excluded: &[&[String]], depth: usize) -> Option<Digest> {
        let mut hasher = Hasher::new();
        hasher.update(b"[");
        self.take(1)?;
        let mut closed = self.next_is(b']');
        let mut index = 0_usize;
        while !closed {
            let (left_out, below) = match excluded {
                [] => (false, Vec::new()),
                _ => step(excluded, index.to_string().as_bytes()),
            };
            let digest = self.value(&below, depth)?;
            if !left_out {
                hasher.update(&digest);
            }
            index += 1;
            closed = self.closed(b']')?;
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// After an item: true at the end, false before another item, `None` for anything else.
    fn closed(&mut self, end: u8) -> Option<bool> {
        if self.next_is(b',') {
            return Some(false);
        }
        self.next_is(end).then_some(true)
    }

    /// A string as it is written, quotes included.
    fn string(&mut self) -> Option<&'a [u8]> {
        let inside = self.rest.strip_prefix(b"\"")?;
        let mut escaped = false;
        let end = inside.iter().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => *byte == b'"',
        })?;
        self.take(end + 2)
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Option<&'a [u8]> {
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let end = self.rest.iter().position(|byte| !part(byte)).unwrap_or(self.rest.len());
        let word = self.take(end)?;
        let number = word.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
        (number || [&b"true"[..], b"false", b"null"].contains(&word)).then_some(word)
    }
}

/// What is between the quotes.
fn inner(string: &[u8]) -> &[u8] {
    string.get(1..string.len().saturating_sub(1)).unwrap_or_default()
}

fn atom(text: &[u8]) -> Digest {
    *Hasher::new().update(b"a").update(text).finalize().as_bytes()
}

/// Whether the member of this name is left out, and what of it is left out otherwise.
fn step<'p>(excluded: &[&'p [String]], name: &[u8]) -> (bool, Vec<&'p [String]>) {
    let below = excluded.iter().filter_map(|pointer| {
        let (first, rest) = pointer.split_first()?;
        (first.as_bytes() == name).then_some(rest)
    });
    let below: Vec<_> = below.collect();
    (below.iter().any(|rest| rest.is_empty()), below)
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Pointer, digest};

    fn of(text: &str, excluded: &[&str]) -> Option<[u8; 32]> {
        let excluded: Vec<_> = excluded.iter().map(|text| Pointer::parse(text).unwrap()).collect();
        digest(text.as_bytes(), &excluded)
    }

    #[test]
    fn spaces_and_the_order_of_members_make_no_difference() {
        let one = of(r#"{"a":1,"b":[true,null,{"c":"x y"}]}"#, &[]).unwrap();
        let other = " {\n\"b\" : [ true , null , {\"c\":\"x y\"} ] ,\t\"a\" : 1 } ";
        assert_eq!(of(other, &[]), Some(one));
    }

    #[test]
    fn everything_else_makes_a_difference() {
        let documents = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":10000000000000000000000001}"#,
            r#"{"a":10000000000000000000000002}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":[[1],2]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"ab":1}"#,
            r#"{"a":"x y"}"#,
            r#"{"a":"xy"}"#,
            r#"{"a":null}"#,
            r#"{"a":""}"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            "{}",
            "[]",
            "1",
        ];
        for (i, one) in documents.iter().enumerate() {
            assert!(of(one, &[]).is_some(), "{one}");
            for other in documents.iter().skip(i + 1) {
                assert_ne!(of(one, &[]), of(other, &[]), "{one} {other}");
            }
        }
    }

    #[test]
    fn members_can_be_left_out_at_any_depth() {
        let one = r#"{"amount":1,"sent":5,"meta":{"at":1,"by":"a"},"list":[{"t":1},{"t":2}]}"#;
        let other = r#"{"meta":{"by":"a","at":2},"amount":1,"list":[{"t":9},{"t":2}]}"#;
        let excluded = ["/sent", "/meta/at", "/list/0/t"];
        assert_eq!(of(one, &excluded), of(other, &excluded));
        assert_ne!(of(one, &excluded[..2]), of(other, &excluded[..2]));
        let more = other.replace("\"amount\":1", "\"amount\":2");
        assert_ne!(of(one, &excluded), of(&more, &excluded));
        assert_eq!(of(r#"{"a/b":{"~":1}}"#, &["/a~1b/~0"]), of(r#"{"a/b":{}}"#, &[]));
    }

    #[test]
    fn what_is_not_json_has_no_digest() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(of(&deep(DEPTH_MAX), &[]).is_some());
        let bad =
            ["", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1 2]", "1 2", "nul", "\"a", "{a:1}"];
        let long = deep(DEPTH_MAX + 1);
        for text in bad.into_iter().chain([&*long, &*"[".repeat(1_000_000)]) {
            assert_eq!(of(text, &[]), None);
        }
    }

    #[test]
    fn a_pointer_starts_with_a_slash_and_escapes_as_in_its_rfc() {
        for text in ["", "a", "a/b", "/a~", "/~2"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
        assert_eq!(Pointer::parse("/"), Some(Pointer(vec![String::new()])));
    }
}
