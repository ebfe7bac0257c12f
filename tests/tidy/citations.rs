//! Tests that the documents name: each is there, as a test, in the file named.

use crate::Finding;
use crate::tree::{File, Tree};

/// The pages whose code spans of the form `file.rs::function` name tests.
const PAGES: &[&str] = &["docs/guarantees.md", "docs/testing.md", "docs/http.md"];
/// Promises in the first page, and bugs of others in the second.
const PROMISES: usize = 16;
const REGRESSIONS: usize = 50;

/// Every test that a page names exists, and so does every file.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.files.iter().filter(|file| PAGES.contains(&file.path.as_str()));
    pages.flat_map(|page| citations(page).filter_map(|cited| gone(tree, page, cited))).collect()
}

/// Every promise is held by a test, and every regression has its row.
pub(crate) fn complete(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let text = |path: &str| {
        tree.files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    };
    let promises = text(PAGES[0]);
    for number in 1..=PROMISES {
        let section = promises.split_once(&format!("\n## {number}. ")).map(|(_, rest)| rest);
        let section = section.and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
        if !section.contains(".rs::") {
            let what = format!("promise {number} is missing, or names no test that holds it");
            findings.push(Finding::new(PAGES[0], 1, "promises", what));
        }
    }
    let regressions = text(PAGES[1]);
    for number in 1..=REGRESSIONS {
        if !regressions.contains(&format!("\n| R{number:02} | ")) {
            let what = format!("R{number:02} has no row: a test, or why it cannot occur");
            findings.push(Finding::new(PAGES[1], 1, "regressions", what));
        }
    }
    findings
}

/// A code span that leads to a Rust file, and perhaps to a function in it; with its line.
fn citations(page: &File) -> impl Iterator<Item = (usize, &str)> {
    page.text.lines().enumerate().flat_map(|(number, line)| {
        let spans = line.split('`').skip(1).step_by(2);
        let cited = spans.filter(|span| {
            let path = span.split("::").next().unwrap_or_default();
            path.ends_with(".rs") && path.contains('/') && !path.contains('*')
        });
        cited.map(move |span| (number + 1, span))
    })
}

/// What is wrong with a citation.
fn gone(tree: &Tree, page: &File, (line, cited): (usize, &str)) -> Option<Finding> {
    let (path, name) = match cited.split_once("::") {
        Some((path, name)) => (path, Some(name)),
        None => (cited, None),
    };
    let finding = |what: String| Some(Finding::new(&page.path, line, "citations", what));
    let Some(file) = tree.files.iter().find(|file| file.path == path) else {
        return finding(format!("there is no file {path}"));
    };
    let name = name?;
    if is_test(&file.text, name) {
        return None;
    }
    finding(format!("{path} has no test {name}: name the one that holds this now"))
}

/// True for a function of this name under `#[test]`.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().filter(|(_, line)| line.starts_with(&head)).any(|(at, _)| {
        let above = lines.iter().take(at).rev();
        let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        above.any(|line| *line == "#[test]")
    })
}

#[cfg(test)]
mod tests {
    use super::{PROMISES, REGRESSIONS, check, complete};
    use crate::tree::{File, Tree};

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| File::new(path, text)).collect() }
    }

    fn found(page: &str) -> Vec<String> {
        let test = "#[test]\n#[cfg(x)]\nfn a_test() {}\nfn no_test() {}\n";
        let files = [("docs/testing.md", page), ("tests/it/a.rs", test)];
        check(&tree(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_that_is_there_may_be_named() {
        assert!(found("as `tests/it/a.rs::a_test` and `tests/it/a.rs` show").is_empty());
        assert!(found("`a::b`, `x.rs`, `src/*_tests.rs`").is_empty());
    }

    #[test]
    fn a_test_that_is_gone_is_caught_and_so_is_a_function_that_is_none() {
        for name in ["gone", "no_test", "a_tes"] {
            let page = format!("first\n`tests/it/a.rs::{name}`");
            assert_eq!(found(&page).len(), 1, "{name}");
            assert!(found(&page)[0].starts_with("docs/testing.md:2: [citations] "));
        }
    }

    #[test]
    fn a_file_that_is_gone_is_caught() {
        assert_eq!(found("`tests/it/b.rs::a_test`").len(), 1);
        assert_eq!(found("`tests/b.rs`").len(), 1);
    }

    #[test]
    fn a_promise_without_a_test_and_a_regression_without_a_row_are_caught() {
        let promise = |i: usize| format!("\n## {i}. A promise\n\n`src/a.rs::b`\n");
        let row = |i: usize| format!("\n| R{i:02} | what | test |");
        let promises: String = (1..=PROMISES).map(promise).collect();
        let rows: String = (1..=REGRESSIONS).map(row).collect();
        let all = [("docs/guarantees.md", promises.as_str()), ("docs/testing.md", rows.as_str())];
        assert!(complete(&tree(&all)).is_empty());
        let less = promises.replacen("`src/a.rs::b`", "nothing", 1);
        let fewer = rows.replace("R07", "R7");
        let some = [("docs/guarantees.md", less.as_str()), ("docs/testing.md", fewer.as_str())];
        assert_eq!(complete(&tree(&some)).len(), 2);
    }
}
