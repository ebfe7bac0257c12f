//! The shape of Rust files: headers, and the length of files, functions and lines.

use crate::source::Source;
use crate::{Finding, is_product};

const SENTENCE_MAX: usize = 99;
const CODE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const WIDTH_MAX: usize = 100;

/// A file starts with `//!` and a first sentence of under 100 characters.
pub(crate) fn header(source: &Source) -> Vec<Finding> {
    let finding = |what| vec![Finding::new(&source.path, 1, "header", what)];
    if !source.text.starts_with("//!") {
        return finding("no header: start with `//!` and one sentence on what is here".to_owned());
    }
    let lines = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = lines.join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    match paragraph[..end].chars().count() {
        0 => finding("the header is empty: say in one sentence what is here".to_owned()),
        length if length > SENTENCE_MAX => finding(format!(
            "the header's first sentence has {length} characters: at most {SENTENCE_MAX}"
        )),
        _ => Vec::new(),
    }
}

/// Code lines for code; all lines for tests.
pub(crate) fn file_length(source: &Source) -> Vec<Finding> {
    let (length, max, unit) = if is_test(&source.path) {
        (source.text.lines().count(), TEST_LINES_MAX, "lines")
    } else {
        (code_length(source), CODE_LINES_MAX, "code lines")
    };
    if length <= max {
        return Vec::new();
    }
    let what = format!("{length} {unit}, at most {max}: split the file along its parts");
    vec![Finding::new(&source.path, 1, "file length", what)]
}

fn is_test(path: &str) -> bool {
    !is_product(path) && (path.starts_with("tests/") || path.contains("/tests/"))
}

/// Lines that are neither blank, nor comments, nor part of an inline test module.
fn code_length(source: &Source) -> usize {
    let mut total = source.code_lines(0..source.code.len());
    for span in source.inline_modules() {
        let name = source.code[span.start + "mod".len()..].trim_start();
        let gated = source.code[..span.start].trim_end().ends_with("#[cfg(test)]");
        if gated && name.starts_with("tests") {
            total -= source.code_lines(span);
        }
    }
    total
}

/// From the word `fn` to the closing brace, blank and comment lines left out.
pub(crate) fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (start, word) in source.words().filter(|(_, word)| *word == "fn") {
        let rest = source.code[start + word.len()..].trim_start();
        let Some(name) = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next() else {
            continue;
        };
        let Some(open) = body(source, start).filter(|_| !name.is_empty()) else {
            continue;
        };
        let length = source.code_lines(start..source.closing(open));
        if length > FUNCTION_LINES_MAX {
            let what = format!(
                "`{name}` has {length} lines, at most {FUNCTION_LINES_MAX}: name a part of it"
            );
            findings.push(Finding::new(
                &source.path,
                source.line_at(start),
                "function length",
                what,
            ));
        }
    }
    findings
}

/// Where the body of the function whose `fn` is at `start` opens; nothing for a declaration.
fn body(source: &Source, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, byte) in source.code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' if depth == 0 => return None,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(index),
            b';' | b'}' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// No line is wider than the formatter's width, strings and comments included.
pub(crate) fn line_width(source: &Source) -> Vec<Finding> {
    let widths = (1..).zip(source.text.lines().map(|line| line.chars().count()));
    let wide = widths.filter(|(_, width)| *width > WIDTH_MAX);
    let finding = |(line, width)| {
        let what = format!("{width} columns, at most {WIDTH_MAX}: break the line");
        Finding::new(&source.path, line, "width", what)
    };
    wide.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::{CODE_LINES_MAX, FUNCTION_LINES_MAX, WIDTH_MAX};
    use super::{file_length, function_length, header, line_width};
    use crate::Finding;
    use crate::source::Source;

    fn complaint(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> String {
        let found: Vec<String> =
            rule(&Source::new(path, text)).iter().map(ToString::to_string).collect();
        found.join("\n")
    }

    #[test]
    fn a_missing_header_is_caught() {
        let found = complaint(header, "src/a.rs", "use std::fs;\n\n//! Late.\n");
        assert!(found.starts_with("src/a.rs:1: [header] no header"), "{found}");
        assert!(complaint(header, "src/a.rs", "//!\n").contains("empty"));
    }

    #[test]
    fn a_long_first_sentence_is_caught_over_two_lines() {
        let text = format!("//! {}\n//! {}.\n", "word ".repeat(10).trim_end(), "w".repeat(49));
        let found = complaint(header, "src/a.rs", &text);
        assert!(found.contains("first sentence has 100 characters"), "{found}");
    }

    #[test]
    fn a_short_first_sentence_may_be_followed_by_more() {
        let text = format!("//! Short and clear. {}\n", "More ".repeat(40));
        assert_eq!(complaint(header, "src/a.rs", &text), "");
    }

    #[test]
    fn a_long_source_file_is_caught() {
        let text = "const A: u8 = 1;\n".repeat(CODE_LINES_MAX + 1);
        let found = complaint(file_length, "src/a.rs", &text);
        assert!(found.contains("501 code lines"), "{found}");
    }

    #[test]
    fn comments_blanks_and_inline_tests_are_not_counted_as_code() {
        let code = "const A: u8 = 1;\n\n// why\n/// what\n".repeat(CODE_LINES_MAX - 1);
        let body = "    const B: u8 = 1;\n".repeat(40);
        let text = format!("{code}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert_eq!(complaint(file_length, "src/a.rs", &text), "");
        let kept = text.replace("#[cfg(test)]", "#[cfg(unix)]");
        assert!(complaint(file_length, "src/a.rs", &kept).contains("code lines"));
    }

    #[test]
    fn a_long_test_file_is_caught_with_its_comments() {
        let text = "// why\n".repeat(501);
        assert!(complaint(file_length, "tests/a.rs", &text).contains("501 lines"));
        assert!(complaint(file_length, "crates/c/tests/a.rs", &text).contains("501 lines"));
        assert_eq!(complaint(file_length, "src/a.rs", &text), "");
    }

    #[test]
    fn a_long_function_is_caught_at_its_first_line() {
        let body = "    a();\n".repeat(FUNCTION_LINES_MAX - 1);
        let text = format!("\nfn f(x: [u8; 2]) {{\n{body}}}\n");
        let found = complaint(function_length, "src/a.rs", &text);
        assert!(found.starts_with("src/a.rs:2: [function length] `f` has 71 lines"), "{found}");
    }

    #[test]
    fn a_brace_in_a_literal_does_not_lengthen_a_function() {
        let rest = "const A: u8 = 1;\n".repeat(FUNCTION_LINES_MAX + 1);
        let text = format!("fn f() {{\n    g('{{', \"{{\"); // {{\n}}\n{rest}");
        assert_eq!(complaint(function_length, "src/a.rs", &text), "");
    }

    #[test]
    fn a_function_type_and_a_declaration_have_no_body() {
        let rest = "const A: u8 = 1;\n".repeat(FUNCTION_LINES_MAX + 1);
        let text = format!("type F = fn(u8);\ntrait T {{ fn f(); }}\nmod m {{\n{rest}}}\n");
        assert_eq!(complaint(function_length, "src/a.rs", &text), "");
    }

    #[test]
    fn a_wide_line_is_caught() {
        let text = format!("//! A.\n// {}\n", "x".repeat(WIDTH_MAX - 2));
        let found = complaint(line_width, "src/a.rs", &text);
        assert!(found.starts_with("src/a.rs:2: [width] 101 columns"), "{found}");
        assert_eq!(complaint(line_width, "src/a.rs", &"x".repeat(WIDTH_MAX)), "");
    }
}
