//! The layers of the engine's modules: who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, is_word};
use crate::{BESIDE, Finding, LAYERS};

const RULE: &str = "layers";

/// One module that another one names, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) file: String,
    pub(crate) line: usize,
}

/// Every import of the file that points upwards, sideways or around the table.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let Some(from) = module(&source.path) else {
        return Vec::new();
    };
    let Some(own) = layer(from) else {
        let what =
            format!("module `{from}` is in no layer: add it to LAYERS in tests/tidy/main.rs");
        return vec![Finding::new(&source.path, 1, RULE, what)];
    };
    let mut findings = climbs(source);
    for (line, to) in imports(source) {
        let what = match layer(&to) {
            _ if to == from => continue,
            None => format!(
                "`crate::{to}` is no module of the table: import from the module that defines it"
            ),
            Some(other) if other < own || beside(from, &to) => continue,
            Some(other) if other == own => format!(
                "`{from}` and `{to}` are strangers in layer {own}: move the shared part lower"
            ),
            Some(other) => format!(
                "`{from}` (layer {own}) imports `{to}` (layer {other}): imports point downwards"
            ),
        };
        findings.push(Finding::new(&source.path, line, RULE, what));
    }
    findings
}

/// What the file imports from the other modules of the table.
pub(crate) fn edges(source: &Source) -> Vec<Edge> {
    let Some(from) = module(&source.path) else {
        return Vec::new();
    };
    let known = imports(source).into_iter().filter(|(_, to)| to != from && layer(to).is_some());
    let edge = |(line, to)| Edge { from: from.to_owned(), to, file: source.path.clone(), line };
    known.map(edge).collect()
}

/// One finding for each group of modules that reach each other, with the path around.
pub(crate) fn cycles(edges: &[Edge]) -> Vec<Finding> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        graph.entry(&edge.from).or_default().insert(&edge.to);
    }
    let mut reported = BTreeSet::new();
    let mut findings = Vec::new();
    for start in graph.keys().copied() {
        let Some(path) = around(&graph, start) else {
            continue;
        };
        let mut members = path.clone();
        members.sort_unstable();
        if !reported.insert(members) {
            continue;
        }
        let next = path.get(1).copied().unwrap_or(start);
        let place = edges.iter().find(|edge| edge.from == start && edge.to == next);
        let (file, line) = place.map_or(("src", 1), |edge| (edge.file.as_str(), edge.line));
        let what = format!("import cycle: {} -> {start}: break one edge", path.join(" -> "));
        findings.push(Finding::new(file, line, "cycles", what));
    }
    findings
}

/// The shortest way from a module back to itself.
fn around<'a>(
    graph: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![start]];
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let last = path.last().copied()?;
            for next in graph.get(last).into_iter().flatten().copied() {
                if next == start {
                    return Some(path);
                }
                if seen.insert(next) {
                    longer.push(path.iter().copied().chain([next]).collect());
                }
            }
        }
        paths = longer;
    }
    None
}

/// The top-level module of a file of the root crate; nothing for the exempt ones.
fn module(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "docs")).then_some(name)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn beside(from: &str, to: &str) -> bool {
    BESIDE.iter().any(|(module, neighbours)| *module == from && neighbours.contains(&to))
}

/// The first segment of every path that starts at the crate's root, groups included.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, word) in source.words().filter(|(_, word)| *word == "crate") {
        let at = skip_blanks(&source.code, start + word.len());
        let Some(rest) = source.code[at..].strip_prefix("::") else {
            continue;
        };
        let open = skip_blanks(&source.code, source.code.len() - rest.len());
        if source.code[open..].starts_with('{') {
            let end = source.closing(open).saturating_sub(1).max(open + 1);
            for item in group_items(&source.code, open + 1, end) {
                found.push((source.line_at(item), segment(&source.code, item)));
            }
        } else {
            found.push((source.line_at(start), segment(&source.code, open)));
        }
    }
    found
}

/// Where each item of a `{a::b, c::{d, e}}` group starts, given the inside of the braces.
fn group_items(code: &str, from: usize, to: usize) -> Vec<usize> {
    let (mut depth, mut fresh, mut items) = (0_usize, true, Vec::new());
    for (index, byte) in code.bytes().enumerate().take(to).skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => fresh = true,
            byte if fresh && !byte.is_ascii_whitespace() => {
                items.push(index);
                fresh = false;
            }
            _ => {}
        }
    }
    items
}

fn segment(code: &str, at: usize) -> String {
    let rest = code[at..].strip_prefix("r#").unwrap_or(&code[at..]);
    let word: String = rest.chars().take_while(|c| c.is_ascii() && is_word(*c as u8)).collect();
    if word.is_empty() { rest.chars().take(1).collect() } else { word }
}

fn skip_blanks(code: &str, from: usize) -> usize {
    from + code[from..].bytes().take_while(u8::is_ascii_whitespace).count()
}

/// Chains of `super::` that reach the crate's root, where they would slip past the table.
fn climbs(source: &Source) -> Vec<Finding> {
    let inline = source.inline_modules();
    let (mut findings, mut chain_end, mut chain) = (Vec::new(), 0, 0);
    for (start, word) in source.words().filter(|(_, word)| *word == "super") {
        chain = if start == chain_end && chain > 0 { chain + 1 } else { 1 };
        let Some(rest) = source.code[start + word.len()..].strip_prefix("::") else {
            continue;
        };
        chain_end = source.code.len() - rest.len();
        let nested = inline.iter().filter(|span| span.contains(&start)).count();
        if chain == file_depth(&source.path) + nested {
            let what = "`super` reaches the root of the crate: write `crate::module` instead";
            findings.push(Finding::new(&source.path, source.line_at(start), RULE, what));
        }
    }
    findings
}

/// How many modules deep the file is: 1 for `src/store.rs` and `src/log/mod.rs`.
fn file_depth(path: &str) -> usize {
    let parts = path.split('/').count();
    if path.ends_with("/mod.rs") { parts - 2 } else { parts - 1 }
}

#[cfg(test)]
mod tests {
    use super::{check, cycles, edges};
    use crate::source::Source;

    fn complaint(path: &str, text: &str) -> String {
        let found: Vec<String> =
            check(&Source::new(path, text)).iter().map(ToString::to_string).collect();
        found.join("\n")
    }

    #[test]
    fn an_import_from_a_higher_layer_is_caught() {
        let found = complaint("src/log/mod.rs", "//! Log.\n\nuse crate::engine::Engine;\n");
        assert!(found.starts_with("src/log/mod.rs:3: [layers] `log` (layer 2) imports `engine`"));
    }

    #[test]
    fn an_import_from_a_stranger_beside_is_caught() {
        let found = complaint("src/log/mod.rs", "use crate::index::Index;");
        assert!(found.contains("`log` and `index` are strangers in layer 2"), "{found}");
    }

    #[test]
    fn a_path_in_the_middle_of_code_is_caught() {
        let found = complaint("src/wheel/mod.rs", "fn f() {\n    g(crate :: log::len())\n}");
        assert!(found.starts_with("src/wheel/mod.rs:2: "), "{found}");
    }

    #[test]
    fn a_nested_group_is_searched() {
        let text = "use crate::{error::{Error, Result}, format::x,\n    store::Store};";
        let found = complaint("src/engine/mod.rs", text);
        assert!(found.starts_with("src/engine/mod.rs:2: "), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }

    #[test]
    fn a_re_export_through_the_root_is_caught() {
        for text in ["use crate::Store;", "use crate::*;", "use crate::{Record as R};"] {
            let found = complaint("src/engine/mod.rs", text);
            assert!(found.contains("is no module of the table"), "{text}: {found}");
        }
    }

    #[test]
    fn a_module_missing_from_the_table_is_an_error() {
        let found = complaint("src/novelty.rs", "");
        assert!(found.contains("module `novelty` is in no layer: add it to LAYERS"), "{found}");
    }

    #[test]
    fn a_climb_to_the_root_is_caught() {
        assert!(complaint("src/log/mod.rs", "use super::engine::Engine;").contains("`super`"));
        assert!(complaint("src/log/lane.rs", "use super::super::engine::E;").contains("`super`"));
        assert_eq!(complaint("src/log/lane.rs", "use super::Log;"), "");
        assert_eq!(complaint("src/store.rs", "mod tests { use super::Store; }"), "");
    }

    #[test]
    fn imports_downwards_and_of_ones_own_parts_are_fine() {
        let text = "use crate::engine::x::Y;\nuse crate::{error::Error, log::{self, view}};\n\
                    /// [`crate::Store`]\nconst A: &str = \"crate::store\";\npub(crate) struct B;";
        assert_eq!(complaint("src/engine/mod.rs", text), "");
        assert_eq!(complaint("src/store.rs", "use crate::inspect::Problem;"), "");
        assert_eq!(complaint("src/lib.rs", "pub use crate::novelty::Thing;"), "");
        assert_eq!(complaint("src/docs.rs", "use crate::Store;"), "");
    }

    #[test]
    fn a_cycle_is_printed_with_its_path() {
        let mut found = edges(&Source::new("src/time.rs", "use crate::sys::clock;"));
        found.extend(edges(&Source::new("src/sys/clock.rs", "\nuse crate::key::Key;")));
        assert!(cycles(&found).is_empty());
        found.extend(edges(&Source::new("src/key.rs", "use crate::time::Timestamp;")));
        let lines: Vec<String> = cycles(&found).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("src/key.rs:1: [cycles] "), "{lines:?}");
        assert!(lines[0].contains("key -> time -> sys -> key"), "{lines:?}");
    }
}
