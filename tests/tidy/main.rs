//! Reads the tree and fails where a house rule is broken, with the place and what to do.

mod citations;
mod layers;
mod papers;
mod shape;
mod source;
mod tree;
mod unsafety;
mod words;

use std::fmt;

use source::Source;
use tree::Tree;

/// The modules of the root crate, lowest layer first. A module imports from any lower layer and
/// from nowhere else, except as [`BESIDE`] says.
const LAYERS: &[&[&str]] = &[
    &[
        "error",
        "key",
        "outcome",
        "version",
        "time",
        "config",
        "record",
        "answers",
        "stats",
        "sys",
        "fingerprint",
        "meta",
        "options",
        "policy",
        "scope",
    ],
    &["format"],
    &["log", "index", "wheel", "filter"],
    &["engine"],
    &[
        "maintainer",
        "store",
        "builder",
        "namespace",
        "lease",
        "begin",
        "calls",
        "run",
        "scan",
        "ticket",
        "inspect",
        "salvage",
        "fuzzing",
    ],
    &["recipes", "backend"],
];

/// Imports allowed within one layer: the module, and the neighbours it may use.
const BESIDE: &[(&str, &[&str])] = &[
    ("answers", &["error", "outcome", "record", "sys", "time", "version"]),
    ("config", &["error", "key", "outcome", "policy", "time"]),
    ("begin", &["lease", "ticket"]),
    ("builder", &["maintainer", "salvage", "store"]),
    ("calls", &["store", "begin", "lease"]),
    ("key", &["error"]),
    ("meta", &["time", "version"]),
    ("namespace", &["store", "begin", "calls", "lease", "run", "scan"]),
    ("policy", &["error", "fingerprint", "time"]),
    ("run", &["store", "begin", "calls", "lease", "ticket"]),
    ("options", &["error", "policy", "time"]),
    ("outcome", &["error", "sys"]),
    ("record", &["error", "fingerprint", "meta", "outcome", "sys", "time", "version"]),
    ("scan", &["store"]),
    ("stats", &["error", "time", "version"]),
    ("store", &["maintainer", "inspect", "ticket"]),
    ("sys", &["error"]),
    ("time", &["error", "sys"]),
    ("version", &["error"]),
];

/// Where the word `unsafe` may stand in code: the engine's system layer, the one peer of the
/// benchmarks whose interface asks for it, and the calls of the system that harm stores on purpose.
const UNSAFE_HOMES: &[&str] =
    &["src/sys/", "benches/compare/src/engine/lmdb.rs", "examples/torture/kernel.rs"];

/// Identifiers of other crates in which a word that the house keeps out of names is allowed.
const FOREIGN_NAMES: &[&str] =
    &["ConnectionManager", "ConnectionManagerConfig", "crossbeam_utils", "futures_util"];

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        let (file, what) = (file.to_owned(), what.into());
        Self { file, line, rule, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.file, self.line, self.rule, self.what)
    }
}

/// Fails with one line for each finding.
fn report(mut findings: Vec<Finding>) {
    findings.sort();
    findings.dedup();
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} broken house rule(s):\n{}", lines.len(), lines.join("\n"));
}

/// Applies `rule` to every Rust file whose path `chosen` accepts.
fn each_source(chosen: fn(&str) -> bool, rule: fn(&Source) -> Vec<Finding>) {
    let tree = Tree::read();
    let files = tree.files.iter().filter(|file| file.is_rust() && chosen(&file.path));
    report(files.flat_map(|file| rule(&Source::new(&file.path, &file.text))).collect());
}

fn anywhere(_: &str) -> bool {
    true
}

/// Under the `src` of the engine or of a crate beside it.
fn is_product(path: &str) -> bool {
    path.starts_with("src/") || (path.starts_with("crates/") && path.contains("/src/"))
}

#[test]
fn the_walk_sees_the_tree() {
    let tree = Tree::read();
    let sources = tree.files.iter().filter(|file| is_product(&file.path)).count();
    assert!(sources > 10, "only {sources} source files found: is the walk looking elsewhere?");
    assert!(tree.files.iter().any(|file| file.path == "src/lib.rs"));
    assert!(tree.files.iter().all(|file| !file.path.starts_with("target/")));
}

#[test]
fn imports_point_only_downwards() {
    let tree = Tree::read();
    report(tree.engine_sources().flat_map(|source| layers::check(&source)).collect());
}

#[test]
fn no_modules_import_each_other_in_a_cycle() {
    let tree = Tree::read();
    let edges: Vec<_> = tree.engine_sources().flat_map(|source| layers::edges(&source)).collect();
    report(layers::cycles(&edges));
}

#[test]
fn every_rust_file_opens_with_a_header() {
    each_source(anywhere, shape::header);
}

#[test]
fn files_stay_short() {
    each_source(anywhere, shape::file_length);
}

#[test]
fn functions_stay_short() {
    each_source(anywhere, shape::function_length);
}

#[test]
fn lines_stay_narrow() {
    each_source(anywhere, shape::line_width);
}

#[test]
fn unsafe_code_stays_at_home_and_says_why_it_is_sound() {
    each_source(anywhere, unsafety::check);
}

#[test]
fn names_use_the_words_of_the_house() {
    each_source(is_product, words::names);
}

#[test]
fn written_files_are_plain_ascii() {
    report(Tree::read().written().flat_map(words::ascii).collect());
}

#[test]
fn no_unfinished_work_is_marked() {
    report(Tree::read().written().flat_map(words::markers).collect());
}

#[test]
fn no_delivery_promise_is_made_that_the_engine_cannot_keep() {
    report(Tree::read().written().flat_map(words::promises).collect());
}

#[test]
fn no_file_names_a_registry_host_or_a_place_on_one_machine() {
    report(Tree::read().files.iter().flat_map(words::places).collect());
}

#[test]
fn every_page_of_the_docs_is_part_of_the_rustdoc() {
    report(papers::pages(&Tree::read()));
}

#[test]
fn every_test_that_the_documents_name_exists() {
    report(citations::check(&Tree::read()));
}

#[test]
fn every_promise_names_a_test_and_every_regression_has_a_row() {
    report(citations::complete(&Tree::read()));
}

#[test]
fn every_changelog_has_a_version_heading() {
    report(papers::changelogs(&Tree::read()));
}

#[test]
fn a_finding_reads_as_file_line_rule_and_advice() {
    let finding = Finding::new("src/a.rs", 7, "width", "101 columns: break the line");
    assert_eq!(finding.to_string(), "src/a.rs:7: [width] 101 columns: break the line");
}
