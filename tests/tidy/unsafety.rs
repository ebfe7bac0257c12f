//! Where unsafe code may stand, and that each piece of it says why it is sound.

use crate::source::Source;
use crate::{Finding, UNSAFE_HOMES};

/// How far above a block its reason may be.
const REASON_LINES: usize = 12;

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let at_home = UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home));
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for (start, word) in source.words().filter(|(_, word)| *word == "unsafe") {
        let line = source.line_at(start);
        let next = source.code[start + word.len()..].trim_start();
        let what = if !at_home {
            "unsafe code outside of its home: wrap it in src/sys and call that"
        } else if (next.starts_with('{') || is_impl(next)) && !has_reason(&lines, line) {
            "unsafe code without a reason: put a `// SAFETY:` comment right above it"
        } else {
            continue;
        };
        findings.push(Finding::new(&source.path, line, "unsafe", what));
    }
    findings
}

fn is_impl(next: &str) -> bool {
    next.strip_prefix("impl").is_some_and(|rest| rest.starts_with([' ', '<', '\n']))
}

/// A reason within the lines above; `line` counts from 1.
fn has_reason(lines: &[&str], line: usize) -> bool {
    let above = &lines[line.saturating_sub(1 + REASON_LINES)..line - 1];
    above.iter().any(|line| line.trim_start().starts_with("// SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::{REASON_LINES, check};
    use crate::source::Source;

    fn complaint(path: &str, text: &str) -> String {
        let found: Vec<String> =
            check(&Source::new(path, text)).iter().map(ToString::to_string).collect();
        found.join("\n")
    }

    #[test]
    fn unsafe_code_away_from_home_is_caught_even_with_a_reason() {
        let text = "fn f() {\n    // SAFETY: fine.\n    unsafe { g() }\n}\n";
        let found = complaint("src/log/mod.rs", text);
        assert!(found.starts_with("src/log/mod.rs:3: [unsafe] unsafe code outside"), "{found}");
        assert!(complaint("tests/a.rs", "unsafe fn f() {}").contains("outside"));
    }

    #[test]
    fn a_block_without_a_reason_is_caught() {
        let found = complaint("src/sys/a.rs", "fn f() {\n    unsafe { g() }\n}\n");
        assert!(found.starts_with("src/sys/a.rs:2: [unsafe] unsafe code without"), "{found}");
    }

    #[test]
    fn an_impl_without_a_reason_is_caught() {
        assert!(complaint("src/sys/a.rs", "unsafe impl Send for A {}").contains("without"));
        assert!(complaint("src/sys/a.rs", "unsafe impl<T> Send for A<T> {}").contains("without"));
    }

    #[test]
    fn a_reason_too_far_above_is_caught() {
        let text = |gap| format!("// SAFETY: far.\n{}unsafe {{ g() }}", "f();\n".repeat(gap));
        assert!(complaint("src/sys/a.rs", &text(REASON_LINES)).contains("without"));
        assert_eq!(complaint("src/sys/a.rs", &text(REASON_LINES - 1)), "");
    }

    #[test]
    fn the_word_in_comments_strings_and_lint_names_is_fine() {
        let text = "// unsafe\nconst A: &str = \"unsafe {\";\n#![allow(unsafe_code)]\n";
        assert_eq!(complaint("src/log/mod.rs", text), "");
    }

    #[test]
    fn an_unsafe_function_at_home_needs_no_block_comment() {
        assert_eq!(complaint("src/sys/a.rs", "pub(crate) unsafe fn f() {}"), "");
    }
}
