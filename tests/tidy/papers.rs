//! The written pages: which of them the rustdoc holds, and what a changelog starts with.

use crate::Finding;
use crate::tree::{File, Tree};

/// Every page under `docs` is included by `src/lib.rs` or by the `docs` module.
pub(crate) fn pages(tree: &Tree) -> Vec<Finding> {
    let holders = tree.files.iter().filter(|file| holds_docs(&file.path));
    let included: Vec<&str> = holders.flat_map(|file| inclusions(&file.text)).collect();
    let page = |file: &&File| file.path.starts_with("docs/") && file.path.ends_with(".md");
    let orphan = |file: &&File| !included.iter().any(|path| names_page(path, &file.path));
    let finding = |file: &File| {
        let what = "the page is in no rustdoc: include it with `include_str!` in src/docs.rs";
        Finding::new(&file.path, 1, "pages", what)
    };
    tree.files.iter().filter(page).filter(orphan).map(finding).collect()
}

fn holds_docs(path: &str) -> bool {
    matches!(path, "src/lib.rs" | "src/docs.rs") || path.starts_with("src/docs/")
}

/// The literal paths given to `include_str!`.
fn inclusions(text: &str) -> impl Iterator<Item = &str> {
    text.split("include_str!").skip(1).filter_map(|rest| rest.split('"').nth(1))
}

/// Whether an included path, such as `../docs/a.md`, leads to the page.
fn names_page(included: &str, page: &str) -> bool {
    included.trim_start_matches("../").trim_start_matches('/') == page
}

/// Every changelog has a heading for a version or for what is not released yet.
pub(crate) fn changelogs(tree: &Tree) -> Vec<Finding> {
    let logs = tree.files.iter().filter(|file| file.name() == "CHANGELOG.md");
    let empty = logs.filter(|file| !file.text.lines().any(is_version_heading));
    let finding = |path: &str| {
        let what = "no heading: add `## [Unreleased]` or `## [x.y.z] - date`";
        Finding::new(path, 1, "changelog", what)
    };
    let mut findings: Vec<Finding> = empty.map(|file| finding(&file.path)).collect();
    if !tree.files.iter().any(|file| file.path == "CHANGELOG.md") {
        findings.push(finding("CHANGELOG.md"));
    }
    findings
}

fn is_version_heading(line: &str) -> bool {
    let Some(title) = line.strip_prefix("## ") else {
        return false;
    };
    let title = title.trim_start_matches('[');
    title.starts_with("Unreleased")
        || (title.starts_with(|c: char| c.is_ascii_digit()) && title.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::{changelogs, pages};
    use crate::tree::{File, Tree};

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| File::new(path, text)).collect() }
    }

    #[test]
    fn a_page_outside_of_the_rustdoc_is_caught() {
        let docs = "#[doc = include_str!(\"../docs/a.md\")]\npub mod a {}";
        let found = pages(&tree(&[("docs/a.md", ""), ("docs/b.md", ""), ("src/docs.rs", docs)]));
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("docs/b.md:1: [pages] "));
    }

    #[test]
    fn an_inclusion_elsewhere_does_not_count() {
        let text = "include_str!(\"../docs/a.md\")";
        assert_eq!(pages(&tree(&[("docs/a.md", ""), ("src/store.rs", text)])).len(), 1);
        assert_eq!(pages(&tree(&[("docs/a.md", ""), ("src/lib.rs", text)])).len(), 0);
    }

    #[test]
    fn a_page_is_told_from_another_whose_name_it_ends() {
        let text = "include_str!(\"../docs/format.md\")";
        assert_eq!(pages(&tree(&[("docs/mat.md", ""), ("src/lib.rs", text)])).len(), 1);
    }

    #[test]
    fn a_changelog_without_a_version_heading_is_caught() {
        let found = changelogs(&tree(&[("CHANGELOG.md", "# Changelog\n\nUnreleased\n")]));
        assert_eq!(found.len(), 1);
        for text in ["## [Unreleased]\n", "# C\n## 0.1.0\n", "## [1.2.3] - 2030-01-01\n"] {
            assert!(changelogs(&tree(&[("CHANGELOG.md", text)])).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_missing_changelog_is_caught() {
        assert_eq!(changelogs(&tree(&[("README.md", "")])).len(), 1);
    }
}
