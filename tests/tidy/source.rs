//! Rust text with its comments and literals blanked out, so that rules see code alone.

use std::ops::Range;

/// One Rust file in three forms of the same length, line by line.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Comments and literals are spaces, and every byte is ASCII.
    pub(crate) code: String,
    /// Only comments are spaces; used to tell a line of code from a remark.
    pub(crate) uncommented: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut lexer = Lexer::new(text.as_bytes());
        lexer.run();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: String::from_utf8_lossy(&lexer.code).into_owned(),
            uncommented: String::from_utf8_lossy(&lexer.uncommented).into_owned(),
        }
    }

    /// The line, from 1, of a byte of `code`.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        1 + self.code[..offset].bytes().filter(|byte| *byte == b'\n').count()
    }

    /// How many lines of the range of `code` hold more than blanks and comments.
    pub(crate) fn code_lines(&self, range: Range<usize>) -> usize {
        self.uncommented[range].lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// Every whole identifier or keyword of the code, with where it starts.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let bytes = self.code.as_bytes();
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < bytes.len() {
                let start = at;
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                if at > start {
                    return Some((start, &self.code[start..at]));
                }
                at += 1;
            }
            None
        })
    }

    /// The bodies of `mod name { ... }`: the word `mod`, and the end of the closing brace.
    pub(crate) fn inline_modules(&self) -> Vec<Range<usize>> {
        let found = self.words().filter(|(_, word)| *word == "mod").filter_map(|(start, word)| {
            let rest = &self.code[start + word.len()..];
            let name_ends = rest.find(['{', ';'])?;
            let open = start + word.len() + name_ends;
            rest[name_ends..].starts_with('{').then(|| start..self.closing(open))
        });
        found.collect()
    }

    /// Just past the bracket that closes the one at `open`, or the end of the file.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (index, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b'}' | b')' | b']' => depth = depth.saturating_sub(1),
                _ => continue,
            }
            if depth == 0 {
                return index + 1;
            }
        }
        self.code.len()
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

struct Lexer<'a> {
    text: &'a [u8],
    code: Vec<u8>,
    uncommented: Vec<u8>,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8]) -> Self {
        let ascii: Vec<u8> = text.iter().map(|b| if b.is_ascii() { *b } else { b' ' }).collect();
        // A character outside ASCII still is code, or part of a literal: keep its line visible.
        let visible = text.iter().map(|b| if b.is_ascii() { *b } else { b'?' }).collect();
        Self { text, code: ascii, uncommented: visible, at: 0 }
    }

    fn run(&mut self) {
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            if rest.starts_with(b"//") {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                self.blank(end, true);
            } else if rest.starts_with(b"/*") {
                self.blank(block_comment(rest), true);
            } else if let Some(length) = literal(rest) {
                self.blank(length, false);
            } else if is_word(rest[0]) {
                // A whole word at once, so that the r of `for` never opens a raw string.
                self.at += rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
            } else {
                self.at += 1;
            }
        }
    }

    fn blank(&mut self, length: usize, comment: bool) {
        let end = (self.at + length).min(self.text.len());
        for index in self.at..end {
            if self.text[index] == b'\n' {
                continue;
            }
            self.code[index] = b' ';
            if comment {
                self.uncommented[index] = b' ';
            }
        }
        self.at = end;
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string or character that `rest` starts with, if it starts with one.
fn literal(rest: &[u8]) -> Option<usize> {
    let marks = rest.iter().take(2).take_while(|byte| b"bcr".contains(byte)).count();
    let raw = rest[..marks].contains(&b'r');
    let hashes = rest[marks..].iter().take_while(|byte| **byte == b'#').count();
    match rest.get(marks + hashes) {
        Some(b'"') if raw => Some(raw_string(rest, marks + hashes + 1, hashes)),
        Some(b'"') if hashes == 0 => Some(quoted(rest, marks + 1, b'"')),
        Some(b'\'') if hashes == 0 && (marks == 0 || rest[..marks] == *b"b") => {
            character(rest, marks + 1)
        }
        _ => None,
    }
}

fn raw_string(rest: &[u8], from: usize, hashes: usize) -> usize {
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let found = rest[from..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |index| from + index + end.len())
}

fn quoted(rest: &[u8], from: usize, end: u8) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == end => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Nothing when the quote starts a lifetime.
fn character(rest: &[u8], from: usize) -> Option<usize> {
    if rest.get(from) == Some(&b'\\') {
        return Some(quoted(rest, from, b'\''));
    }
    let text = &rest[from..rest.len().min(from + 4)];
    let width = text.utf8_chunks().next()?.valid().chars().next()?.len_utf8();
    (rest.get(from + width) == Some(&b'\'')).then_some(from + width + 1)
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn code(text: &str) -> String {
        Source::new("a.rs", text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_not_code() {
        assert_eq!(code("a // unsafe {\nb /* x /* y */ z */ c"), "a b c");
    }

    #[test]
    fn strings_are_not_code() {
        assert_eq!(code(r#"a("unsafe \" {", b"}}", c"x") d"#), "a( , , ) d");
        assert_eq!(code(r###"for x in r#"a " b"# { r"\" }"###), "for x in { }");
    }

    #[test]
    fn characters_are_not_code_but_lifetimes_are() {
        assert_eq!(code(r"f('{', b'}', '\'', '\u{7f}', 'x')"), "f( , , , , )");
        assert_eq!(code("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
    }

    #[test]
    fn raw_identifiers_are_code() {
        assert_eq!(code("r#type = 1;"), "r#type = 1;");
    }

    #[test]
    fn the_forms_keep_their_length_and_lines() {
        let text = "let a = \"\u{e9}\n\"; // \u{e9}\nb";
        let source = Source::new("a.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.uncommented.len(), text.len());
        assert_eq!(source.line_at(text.len() - 1), 3);
    }

    #[test]
    fn inline_modules_are_found_with_their_end() {
        let source = Source::new("a.rs", "mod x;\nmod tests { fn f() {} }\nfn g() {}");
        let spans: Vec<&str> =
            source.inline_modules().into_iter().map(|span| &source.code[span]).collect();
        assert_eq!(spans, ["mod tests { fn f() {} }"]);
    }
}
