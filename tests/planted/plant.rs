//! A fault: what stands in the sources, what is put in its place, and the test that must notice.
//!
//! ```text
//! plant NAME
//!   What goes wrong, in one sentence.
//! caught by tests/it/race.rs::a_test
//! in src/log/sync.rs
//! ---- (the lines as they are, once in the file)
//! ++++ (the lines with the fault)
//! ====
//! ```
//!
//! Several `in` parts may follow each other. Lines between faults that begin with `#` are comments.

use std::fs;
use std::path::Path;

/// One fault.
#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) test: Test,
    pub(crate) edits: Vec<Edit>,
}

/// A test, by its file and its name; a file that is one test has no name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub(crate) file: String,
    pub(crate) name: Option<String>,
}

/// Lines of a file and what they are replaced by.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    pub(crate) file: String,
    old: String,
    new: String,
}

impl Test {
    fn parse(text: &str) -> Self {
        let (file, name) = match text.split_once("::") {
            Some((file, name)) => (file, Some(name.to_owned())),
            None => (text, None),
        };
        Self { file: file.to_owned(), name }
    }

    /// What a test runner's filter says.
    pub(crate) fn filter(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn citation(&self) -> String {
        match &self.name {
            Some(name) => format!("{}::{name}", self.file),
            None => self.file.clone(),
        }
    }

    /// Says what is wrong if there is no such test.
    pub(crate) fn check(&self, root: &Path) -> Result<(), String> {
        let text =
            fs::read_to_string(root.join(&self.file)).map_err(|e| format!("{}: {e}", self.file))?;
        let Some(name) = &self.name else { return Ok(()) };
        let is_it = |line: &str| line.trim_start().starts_with(&format!("fn {name}("));
        if text.lines().any(is_it) { Ok(()) } else { Err(format!("{} is gone", self.citation())) }
    }
}

impl Plant {
    /// Each file concerned, with the fault in it.
    pub(crate) fn applied(&self, root: &Path) -> Result<Vec<(String, String)>, String> {
        let mut files: Vec<(String, String)> = Vec::new();
        for edit in &self.edits {
            let fail = |what: &str| format!("{}: {} {what}", self.name, edit.file);
            let place = files.iter().position(|(file, _)| *file == edit.file);
            let text = match place {
                Some(place) => files.swap_remove(place).1,
                None => {
                    fs::read_to_string(root.join(&edit.file)).map_err(|e| fail(&e.to_string()))?
                }
            };
            match text.matches(&edit.old).count() {
                1 => files.push((edit.file.clone(), text.replacen(&edit.old, &edit.new, 1))),
                0 => return Err(fail("does not have the lines any more: write the fault anew")),
                many => {
                    return Err(fail(&format!("has the lines {many} times: name more of them")));
                }
            }
        }
        Ok(files)
    }
}

/// All faults of a folder's files, in order of the files' names.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Plant>, String> {
    let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    let mut plants = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "plants")) {
        let text = fs::read_to_string(path).map_err(fail)?;
        plants.extend(parse(&text).map_err(|what| format!("{}:{what}", path.display()))?);
    }
    Ok(plants)
}

/// Where the reader is in a fault.
enum Part {
    Head,
    Old,
    New,
}

fn parse(text: &str) -> Result<Vec<Plant>, String> {
    let mut plants: Vec<Plant> = Vec::new();
    let mut part = Part::Head;
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("{}: {what}", number + 1);
        if let (Part::Head, Some(name)) = (&part, line.strip_prefix("plant ")) {
            let (test, what) = (Test::parse(""), String::new());
            plants.push(Plant { name: name.to_owned(), what, test, edits: Vec::new() });
            continue;
        }
        let Some(plant) = plants.last_mut() else {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            return Err(wrong("a line before the first `plant NAME`"));
        };
        let edit = plant.edits.last_mut();
        match (&part, line, edit) {
            (Part::Head, "----", Some(_)) => part = Part::Old,
            (Part::Old, "++++", _) => part = Part::New,
            (Part::New, "====", _) => part = Part::Head,
            (Part::Old, line, Some(edit)) => push(&mut edit.old, line),
            (Part::New, line, Some(edit)) => push(&mut edit.new, line),
            (Part::Head, line, _) => {
                if let Some(test) = line.strip_prefix("caught by ") {
                    plant.test = Test::parse(test);
                } else if let Some(file) = line.strip_prefix("in ") {
                    plant.edits.push(Edit { file: file.to_owned(), ..Edit::default() });
                } else if let Some(what) = line.strip_prefix("  ") {
                    plant.what = format!("{} {}", plant.what, what.trim()).trim().to_owned();
                } else if !line.is_empty() && !line.starts_with('#') {
                    return Err(wrong("neither `plant`, `caught by`, `in`, nor what goes wrong"));
                }
            }
            _ => return Err(wrong("lines without an `in FILE` before them")),
        }
    }
    let finished = |plant: &&Plant| {
        !plant.what.is_empty() && !plant.test.file.is_empty() && !plant.edits.is_empty()
    };
    match (part, plants.iter().find(|plant| !finished(plant))) {
        (Part::Head, None) => Ok(plants),
        (Part::Head, Some(plant)) => Err(format!(" {} lacks a part", plant.name)),
        _ => Err(" the last fault has no end".to_owned()),
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
