//! The hash chain over sealed segments, and the forms that it is exported in.
//!
//! ```text
//! link 0   = H(digest of the file STORE)
//! link n   = H(link n - 1 | number, 8 bytes | length, 8 bytes | digest of the file, 32 bytes)
//! ```
//!
//! `H` is BLAKE3 in its mode for deriving keys, with the context below; the digests of the files
//! are plain BLAKE3, so that common tools give the same. Integers are little-endian. The chain ends
//! before the first segment that is not sealed, so that every later one begins with the same links.

use std::fmt::{self, Write};
use std::path::Path;
use std::str::FromStr;

use blake3::Hasher;

use crate::engine::open::read_manifest;
use crate::error::{Error, Result};
use crate::format::layout::{IDENTITY_FILE, segment_file};
use crate::format::manifest::ListedState;
use crate::sys::files::Directory;

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// What tells the links from every other use of the hash.
const CONTEXT: &str = "oncelog 2026 ballot chain, version 1";
/// The first line of an export.
const TITLE: &str = "oncelog ballots 1";

/// A digest of 256 bits. Shown, and read, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    fn of(hasher: &Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    /// The link that follows.
    fn next(self, segment: u64, bytes: u64, digest: Self) -> Self {
        let mut hasher = Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.0).update(&segment.to_le_bytes()).update(&bytes.to_le_bytes());
        Self::of(hasher.update(&digest.0))
    }

    /// The link of the store's identity.
    fn first(identity: Self) -> Self {
        Self::of(Hasher::new_derive_key(CONTEXT).update(&identity.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseExportError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseExportError> {
        let wrong = ParseExportError { line: 1, what: "a digest has 64 hexadecimal digits" };
        let digits = text.len() == 2 * DIGEST_BYTES;
        if !digits || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong);
        }
        let mut bytes = [0; DIGEST_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong.clone())?;
        }
        Ok(Self(bytes))
    }
}

/// One sealed segment in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Its number.
    pub segment: u64,
    /// Length of its file.
    pub bytes: u64,
    /// BLAKE3 of its file.
    pub digest: Digest,
    /// The root of the chain that ends with it.
    pub root: Digest,
}

/// The chain over a store's sealed segments.
///
/// `to_string` gives lines of text, which `parse` reads again, checking that they are one chain;
/// [`Export::to_json`] is for others to read. A digest is what `b3sum` says of the segment's file.
///
/// ```
/// use oncelog::recipes::ballot::{Ballots, Export};
///
/// # let directory = tempfile::tempdir()?;
/// let ballots = Ballots::open(directory.path())?;
/// assert!(ballots.election("mayor")?.cast("voter 1", "yes")?.is_counted());
/// let export = ballots.export()?;
/// let read: Export = export.to_string().parse()?;
/// assert_eq!(read.root(), export.root());
/// assert!(export.to_string().replace("segment 1 ", "segment 2 ").parse::<Export>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    identity: Digest,
    links: Vec<Link>,
}

impl Export {
    /// The chain over the segments that are sealed, up to the first one that is not, as their files
    /// are now. Changes nothing; the store may be open or not. Unlike
    /// [`Ballots::export`](crate::recipes::ballot::Ballots::export) it seals nothing, so that what
    /// was recorded last is not part of it unless the store was closed.
    ///
    /// # Errors
    /// [`NotAStore`](Error::NotAStore) if there is none; [`Corrupt`](Error::Corrupt) if a file is
    /// missing or the list of segments is damaged; [`Io`](Error::Io).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let directory = Directory::open_shared(path)?;
        let identity = digest_of(&directory, IDENTITY_FILE)?;
        let (identity, _) =
            identity.ok_or_else(|| Error::NotAStore { path: path.to_path_buf() })?;
        let mut export = Self { identity, links: Vec::new() };
        for (number, sealed) in listed(&directory)? {
            if !sealed {
                break;
            }
            let name = segment_file(number);
            let (digest, bytes) = digest_of(&directory, &name)?.ok_or_else(|| {
                Error::corrupt(&path.join(&name), 0, "the segment's file is missing")
            })?;
            export.push(number, bytes, digest);
        }
        Ok(export)
    }

    fn push(&mut self, segment: u64, bytes: u64, digest: Digest) {
        let root = self.root().next(segment, bytes, digest);
        self.links.push(Link { segment, bytes, digest, root });
    }

    /// What all of it comes to. Whoever has this can tell whether an export is the one it was
    /// taken of, and with the export whether the files are.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.links.last().map_or_else(|| Digest::first(self.identity), |link| link.root)
    }

    /// BLAKE3 of the file with the store's identity.
    #[must_use]
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// The segments, in order of their numbers.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// True if this chain begins with all of `earlier`: nothing that it covers was changed in
    /// between, and what is new follows it.
    #[must_use]
    pub fn extends(&self, earlier: &Self) -> bool {
        self.identity == earlier.identity && self.links.starts_with(&earlier.links)
    }

    /// True if some export with this root came before this one, or is this one.
    #[must_use]
    pub fn has_root(&self, root: Digest) -> bool {
        Digest::first(self.identity) == root || self.links.iter().any(|link| link.root == root)
    }

    /// As JSON: `{"format":1,"store":"..","segments":[{"segment":1,"bytes":..,"digest":"..",
    /// "root":".."}],"root":".."}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = format!("{{\"format\":1,\"store\":\"{}\",\"segments\":[", self.identity);
        for (place, link) in self.links.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let Link { segment, bytes, digest, root } = link;
            // Writing to a string does not fail.
            let _ = write!(
                json,
                "{comma}{{\"segment\":{segment},\"bytes\":{bytes},\"digest\":\"{digest}\",\
                 \"root\":\"{root}\"}}"
            );
        }
        let _ = write!(json, "],\"root\":\"{}\"}}", self.root());
        json
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}\nstore {}", self.identity)?;
        for Link { segment, bytes, digest, root } in &self.links {
            writeln!(f, "segment {segment} {bytes} {digest} {root}")?;
        }
        writeln!(f, "root {}", self.root())
    }
}

/// Text that is no export, or no longer the one that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseExportError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for ParseExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the export: {}; get an unchanged copy of it", self.line, self.what)
    }
}

impl std::error::Error for ParseExportError {}

impl FromStr for Export {
    type Err = ParseExportError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseExportError> {
        let mut export = None::<Self>;
        let mut ended = false;
        let mut line = 0;
        for text in text.lines() {
            line += 1;
            let wrong = |what| ParseExportError { line, what };
            let digest = |word: &str| {
                word.parse::<Digest>().map_err(|error| ParseExportError { line, ..error })
            };
            let words: Vec<&str> = text.split(' ').collect();
            match (&words[..], &mut export) {
                _ if line == 1 => {
                    if text != TITLE {
                        return Err(wrong("it is not the first line of an export"));
                    }
                }
                (["store", identity], None) => {
                    export = Some(Self { identity: digest(identity)?, links: Vec::new() });
                }
                (["segment", number, bytes, own, root], Some(export)) if !ended => {
                    let [number, bytes] = [number, bytes].map(|word| decimal(word));
                    let (Some(number), Some(bytes)) = (number, bytes) else {
                        return Err(wrong("a number is not one"));
                    };
                    if export.links.last().is_some_and(|last| last.segment >= number) {
                        return Err(wrong("the segments are out of order"));
                    }
                    export.push(number, bytes, digest(own)?);
                    if export.root() != digest(root)? {
                        return Err(wrong("the link does not follow from what is before it"));
                    }
                }
                (["root", root], Some(export)) if !ended => {
                    if export.root() != digest(root)? {
                        return Err(wrong("the root is not that of the last link"));
                    }
                    ended = true;
                }
                _ => return Err(wrong("it does not belong there")),
            }
        }
        let export = export.filter(|_| ended);
        export.ok_or(ParseExportError { line: line + 1, what: "the end is missing" })
    }
}

/// A number as it is written: no sign, and no zeros in front.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The numbers of all segments in order, and whether they are sealed.
pub(super) fn listed(directory: &Directory) -> Result<Vec<(u64, bool)>> {
    let manifest = read_manifest(directory)?;
    let mut listed: Vec<_> = manifest
        .segments
        .iter()
        .map(|one| (one.number, one.state == ListedState::Sealed))
        .collect();
    listed.sort_unstable();
    Ok(listed)
}

/// BLAKE3 of a file, and its length; `None` where it does not exist.
pub(super) fn digest_of(directory: &Directory, name: &str) -> Result<Option<(Digest, u64)>> {
    let mut hasher = Hasher::new();
    let length = directory.read_each(name, |piece| {
        hasher.update(piece);
    })?;
    Ok(length.map(|length| (Digest::of(&hasher), length)))
}
