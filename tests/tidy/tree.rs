//! The text files of the repository, as the rules see them.

use std::fs;
use std::path::Path;

use crate::source::Source;

/// Folders that hold nothing written by hand.
const SKIPPED_DIRS: &[&str] = &[".git", "target", "fuzz/corpus", "fuzz/artifacts"];
/// Files that a tool writes.
const SKIPPED_FILES: &[&str] = &[".git", "Cargo.lock"];
/// Endings of the files that people write.
const WRITTEN: &[&str] = &[".rs", ".md", ".toml", ".sh", ".yml", ".yaml"];

/// One text file; the path is relative to the root, with forward slashes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Every text file below the root.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads the repository that this test was built from.
    pub(crate) fn read() -> Self {
        let mut files = Vec::new();
        walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// The files in which every character is somebody's choice.
    pub(crate) fn written(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| {
            WRITTEN.iter().any(|ending| file.path.ends_with(ending)) || file.path == ".ci/run"
        })
    }

    /// The Rust files of the root crate.
    pub(crate) fn engine_sources(&self) -> impl Iterator<Item = Source> {
        let files =
            self.files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/"));
        files.map(|file| Source::new(&file.path, &file.text))
    }
}

fn walk(root: &Path, below: &str, files: &mut Vec<File>) {
    let dir = root.join(below);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("cannot list {below:?}: {e}"));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("cannot list {below:?}: {e}"));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type().unwrap_or_else(|e| panic!("cannot stat {path}: {e}"));
        if kind.is_dir() && !skips(&path, &name) {
            walk(root, &path, files);
        } else if kind.is_file() && !SKIPPED_FILES.contains(&name.as_str()) {
            let bytes =
                fs::read(entry.path()).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
            if let Some(text) = text(bytes) {
                files.push(File { path, text });
            }
        }
    }
}

fn skips(path: &str, name: &str) -> bool {
    SKIPPED_DIRS.iter().any(|skipped| *skipped == path || *skipped == name)
}

/// Nothing for a file that is no text, such as a stored fixture.
fn text(bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok()
}

#[test]
fn a_file_with_a_zero_byte_is_no_text() {
    assert_eq!(text(b"a\0b".to_vec()), None);
    assert_eq!(text(vec![0xff, 0xfe]), None);
    assert_eq!(text(b"ab".to_vec()).as_deref(), Some("ab"));
}

#[test]
fn build_folders_are_skipped_wherever_they_are() {
    assert!(skips("benches/compare/target", "target"));
    assert!(skips("fuzz/corpus", "corpus"));
    assert!(!skips("src/target_size", "target_size"));
    assert!(!skips("tests/corpus", "corpus"));
}
