//! Characters, words and names that stay out of the repository.

use crate::source::{Source, is_word};
use crate::tree::File;
use crate::{FOREIGN_NAMES, Finding};

/// Marks of unfinished work; split, as is every such word here, so as not to match themselves.
const MARKERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
/// Identifier parts that say too little or belong to another trade, by how they start.
const PREFIXES: &[&str] = &["evict", "shard", "manager", "helper"];
/// The same, whole.
const PARTS: &[&str] = &["util", "utils", "utility", "utilities", "misc"];
/// Names of package registries.
const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("docs", ".rs"),
    concat!("py", "pi.org"),
    concat!("npm", "js"),
];
/// Folders of one machine.
const ROOTS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/t", "mp/")];
/// The promise that no store can make alone, and the words that take it back.
const PROMISE: &str = concat!("exactly", "-once");
const DENIALS: &[&str] = &["not", "no", "never", "cannot", "nothing", "without"];

/// No character outside ASCII.
pub(crate) fn ascii(file: &File) -> Vec<Finding> {
    let strange = |line: &str| line.chars().enumerate().find(|(_, c)| !c.is_ascii());
    let found = numbered(file).filter_map(|(number, line)| Some((number, strange(line)?)));
    let finding = |(line, (column, c)): (usize, (usize, char))| {
        let what = format!(
            "column {} holds U+{:04X}: write it in ASCII, or as an escape",
            column + 1,
            u32::from(c)
        );
        Finding::new(&file.path, line, "ascii", what)
    };
    found.map(finding).collect()
}

/// No mark of unfinished work.
pub(crate) fn markers(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(file) {
        for marker in words(line).filter(|word| MARKERS.contains(word)) {
            let what = format!("`{marker}` marks unfinished work: finish it, or take it out");
            findings.push(Finding::new(&file.path, number, "markers", what));
        }
    }
    findings
}

/// No identifier or file name with a part that the house keeps out.
pub(crate) fn names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in source.path.split('/').flat_map(words) {
        if let Some(word) = kept_out(part) {
            let what = format!("`{word}` in the file's name: call it by what it does");
            findings.push(Finding::new(&source.path, 1, "names", what));
        }
    }
    for (start, name) in source.words().filter(|(_, name)| !FOREIGN_NAMES.contains(name)) {
        if let Some(word) = kept_out(name) {
            let what = format!("`{word}` in `{name}`: name it after what it is or does");
            findings.push(Finding::new(&source.path, source.line_at(start), "names", what));
        }
    }
    findings
}

/// The first part of the identifier that is kept out of names.
fn kept_out(name: &str) -> Option<String> {
    parts(name).into_iter().find(|part| {
        PARTS.contains(&part.as_str()) || PREFIXES.iter().any(|prefix| part.starts_with(prefix))
    })
}

/// The lower-case parts of a name in snake case, camel case or capitals.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_ascii_uppercase() && lower) {
            parts.push(String::new());
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if let Some(part) = parts.last_mut().filter(|_| c != '_') {
            part.push(c.to_ascii_lowercase());
        }
    }
    parts
}

/// The delivery promise stands only where the same or a neighbouring line denies it.
pub(crate) fn promises(file: &File) -> Vec<Finding> {
    let lines: Vec<String> = file.text.lines().map(str::to_ascii_lowercase).collect();
    let mut findings = Vec::new();
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.contains(PROMISE)) {
        let near = &lines[index.saturating_sub(1)..lines.len().min(index + 2)];
        let denied = near.iter().any(|line| words(line).any(|word| DENIALS.contains(&word)));
        if !denied {
            let what = format!("`{PROMISE}` is promised here: say what is done, and what is not");
            findings.push(Finding::new(&file.path, index + 1, "promises", what));
        }
    }
    findings
}

/// No registry host; and outside of tests no folder of one machine.
pub(crate) fn places(file: &File) -> Vec<Finding> {
    let test = file.path.starts_with("tests/") || file.path.contains("/tests/");
    let mut findings = Vec::new();
    for (number, line) in numbered(file) {
        for host in HOSTS.iter().filter(|host| names_host(line, host)) {
            let what = format!("`{host}` is a registry's host: name the package alone");
            findings.push(Finding::new(&file.path, number, "hosts", what));
        }
        let shell = line.contains("TMPDIR");
        for root in ROOTS.iter().filter(|root| !test && !shell && starts_a_path(line, root)) {
            let what =
                format!("`{root}` is a place on one machine: use a relative path or $TMPDIR");
            findings.push(Finding::new(&file.path, number, "paths", what));
        }
    }
    findings
}

/// Whether `host` occurs other than as a file's name below a folder.
fn names_host(line: &str, host: &str) -> bool {
    line.match_indices(host).any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with('/') || before.ends_with("//")
    })
}

/// Whether `root` occurs as the start of a path, and not in the middle of one.
fn starts_a_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].bytes().next_back();
        before.is_none_or(|byte| !is_word(byte) && !b".-~})>*".contains(&byte))
    })
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.lines())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii() || !is_word(c as u8)).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{HOSTS, MARKERS, PROMISE, ROOTS};
    use super::{ascii, markers, names, parts, places, promises};
    use crate::Finding;
    use crate::source::Source;
    use crate::tree::File;

    fn lines(found: &[Finding]) -> String {
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_character_outside_ascii_is_caught_with_its_place() {
        let found = lines(&ascii(&File::new("docs/a.md", "ok\na \u{2014} b\n")));
        assert!(found.starts_with("docs/a.md:2: [ascii] column 3 holds U+2014"), "{found}");
    }

    #[test]
    fn every_mark_of_unfinished_work_is_caught() {
        for marker in MARKERS {
            let text = format!("\n// {marker}: later\n");
            let found = lines(&markers(&File::new("src/a.rs", &text)));
            assert!(found.starts_with("src/a.rs:2: [markers] "), "{marker}: {found}");
        }
    }

    #[test]
    fn a_marker_inside_a_longer_word_is_fine() {
        let text = format!("mktemp a.{}{} {}H3", MARKERS[2], MARKERS[2], &MARKERS[2][1..]);
        assert_eq!(lines(&markers(&File::new("a.sh", &text))), "");
    }

    #[test]
    fn a_word_kept_out_of_names_is_caught_in_every_case() {
        for name in ["evict_all", "KeyEvictor", "SHARDS_MAX", "LockManager", "my_util", "miscKeys"]
        {
            let text = format!("\nfn f() {{ {name}(); }}");
            let found = lines(&names(&Source::new("src/a.rs", &text)));
            assert!(found.starts_with("src/a.rs:2: [names] "), "{name}: {found}");
        }
    }

    #[test]
    fn a_word_kept_out_of_names_is_caught_in_file_names() {
        for path in ["src/log/helpers.rs", "src/utils/mod.rs", "src/lock_manager.rs"] {
            let found = lines(&names(&Source::new(path, "")));
            assert!(found.contains("in the file's name"), "{path}: {found}");
        }
    }

    #[test]
    fn comments_foreign_names_and_longer_words_are_fine() {
        let text = "// no shards\nuse crossbeam_utils::X;\nfn utilised() { maintainer(\"misc\") }";
        assert_eq!(lines(&names(&Source::new("src/maintainer.rs", text))), "");
    }

    #[test]
    fn names_are_split_at_underscores_and_capitals() {
        assert_eq!(parts("KeyHasher_x2Y"), ["key", "hasher", "x2", "y"]);
        assert_eq!(parts("SHARD_MAX"), ["shard", "max"]);
    }

    #[test]
    fn a_bare_delivery_promise_is_caught() {
        let text = format!("Gives {PROMISE} delivery.\n");
        let found = lines(&promises(&File::new("README.md", &text)));
        assert!(found.starts_with("README.md:1: [promises] "), "{found}");
        let denied = format!("This is not\n{PROMISE} delivery.\n");
        assert_eq!(lines(&promises(&File::new("README.md", &denied))), "");
    }

    #[test]
    fn every_registry_host_is_caught_in_tests_too() {
        for host in HOSTS {
            for line in [format!("see {host}"), format!("https://{host}/x")] {
                let found = lines(&places(&File::new("tests/a.rs", &line)));
                assert!(found.starts_with("tests/a.rs:1: [hosts] "), "{line}: {found}");
            }
        }
    }

    #[test]
    fn a_source_file_named_like_a_registry_host_is_fine() {
        let line = format!("the pages are in src/{}", HOSTS[1]);
        assert_eq!(lines(&places(&File::new("tests/a.rs", &line))), "");
    }

    #[test]
    fn every_path_of_one_machine_is_caught() {
        for root in ROOTS {
            for line in [format!("cd {root}x"), format!("\"{root}x\""), format!("{root}x")] {
                let found = lines(&places(&File::new("docs/a.md", &line)));
                assert!(found.starts_with("docs/a.md:1: [paths] "), "{line}: {found}");
            }
        }
    }

    #[test]
    fn relative_paths_tests_and_temporary_folders_are_fine() {
        for root in ROOTS {
            let relative = format!("ls ./x.{root} src{root} $HOME{root}");
            assert_eq!(lines(&places(&File::new("a.sh", &relative))), "");
            let shell = format!("d=${{TMPDIR:-{root}}}/x");
            assert_eq!(lines(&places(&File::new("docs/a.md", &shell))), "");
            assert_eq!(lines(&places(&File::new("tests/a.rs", &format!("f({root})")))), "");
        }
    }
}
