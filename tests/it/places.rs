//! Directories that are something else, are in use, or hold files of others.
//!
//! Whatever is refused stays untouched; whatever is foreign stays where it is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use oncelog::{Error, Store, inspect};

use crate::setup::{directory, files, maintain, small};

/// Names the directory that [`the_other_process_opens_the_named_directory`] opens.
const OTHER: &str = "ONCELOG_TEST_OPEN";

fn names(directory: &Path) -> Vec<String> {
    files(directory, "").iter().map(|path| path.display().to_string()).collect()
}

#[test]
fn a_path_to_a_file_or_below_one_is_not_a_directory() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "text").unwrap();
    for path in [file.clone(), file.join("below")] {
        let refused = small().open(&path);
        assert!(matches!(&refused, Err(Error::NotADirectory { path: p }) if *p == path));
        assert!(inspect::stat(&path).is_err());
    }
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_missing_directory_is_made_with_its_parents_for_the_owner_alone() {
    let directory = directory();
    let path = directory.path().join("a/b/store");
    let store = small().open(&path).unwrap();
    assert!(store.recovery().created);
    assert_eq!(store.path(), path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    store.insert("a").unwrap();
    for file in files(&path, "") {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_as_it_was() {
    let directory = directory();
    fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let before = names(directory.path());
    let refused = small().open(directory.path());
    assert!(matches!(&refused, Err(Error::NotAStore { path }) if path == directory.path()));
    assert!(inspect::verify(directory.path()).is_err());
    assert_eq!(names(directory.path()), before);
    assert_eq!(fs::read(directory.path().join("letter.txt")).unwrap(), b"dear");
}

#[test]
fn foreign_files_in_a_store_are_ignored_and_kept() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    small().open(directory.path()).unwrap().insert("a").unwrap();
    let plain = [".DS_Store", "STORE~", "MANIFEST.bak", "notes.txt", ".hidden", "0000000077.seg"];
    for name in plain {
        fs::write(at(name), format!("contents of {name}, long enough for a head {:90}", 1))
            .unwrap();
    }
    fs::create_dir(at("0000000088.seg")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/file"), "inside").unwrap();
    symlink("STORE", at("0000000066.seg")).unwrap();
    symlink("nowhere", at("MANIFEST.unfinished~")).unwrap();
    std::os::unix::net::UnixListener::bind(at("0000000055.seg")).unwrap();
    let fifo = at("0000000099.seg");
    let made = Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success());
    for round in 0..3 {
        let store = small().open(directory.path()).unwrap();
        assert!(store.contains("a").unwrap(), "round {round}");
        store.insert(format!("key {round}")).unwrap();
        maintain(&store);
        if round > 0 {
            store.close().unwrap();
        }
        assert!(inspect::verify(directory.path()).unwrap().is_sound());
        for name in plain {
            let kept = fs::read_to_string(at(name)).unwrap();
            assert!(kept.starts_with(&format!("contents of {name},")), "{name}");
        }
        assert_eq!(fs::read(at("sub/file")).unwrap(), b"inside");
        assert!(fs::metadata(at("0000000088.seg")).unwrap().is_dir());
        assert!(fs::symlink_metadata(at("0000000066.seg")).unwrap().is_symlink());
        assert!(!made || fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_directory_with_hidden_files_alone_counts_as_empty() {
    let directory = directory();
    fs::write(directory.path().join(".DS_Store"), "x").unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    assert!(small().open(directory.path()).unwrap().recovery().created);
}

#[test]
fn another_version_of_the_format_is_named_and_not_touched() {
    let directory = directory();
    small().open(directory.path()).unwrap().close().unwrap();
    let identity = directory.path().join("STORE");
    let mut bytes = fs::read(&identity).unwrap();
    bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
    fs::write(&identity, &bytes).unwrap();
    let before = names(directory.path());
    let refused = small().open(directory.path());
    let Err(Error::UnsupportedFormat { path, found, supported }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((path, found, supported), (identity.clone(), 7, 1));
    assert!(matches!(
        inspect::stat(directory.path()),
        Err(Error::UnsupportedFormat { found: 7, .. })
    ));
    assert_eq!(fs::read(&identity).unwrap(), bytes);
    assert_eq!(names(directory.path()), before);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_of_the_system() {
    let directory = directory();
    let path = directory.path().join("closed");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(path.join(".probe"), "x").is_ok() {
        let _ = writeln!(std::io::stderr(), "skipped: this user may write everywhere");
        return;
    }
    assert!(matches!(small().open(&path), Err(Error::Io { .. })));
}

#[test]
fn a_second_handle_in_this_process_is_refused_until_the_first_ends() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    assert!(inspect::stat(directory.path()).unwrap().in_use);
    let refused = small().open(directory.path());
    assert!(matches!(&refused, Err(Error::AlreadyOpen { path }) if path == directory.path()));
    store.insert("a").unwrap();
    store.close().unwrap();
    assert!(!inspect::stat(directory.path()).unwrap().in_use);
    let store = small().open(directory.path()).unwrap();
    assert!(store.contains("a").unwrap());
    drop(store);
    small().open(directory.path()).unwrap();
}

#[test]
fn a_second_opener_is_refused_by_every_path_to_the_directory() {
    let room = directory();
    let path = room.path().join("store");
    let store = small().open(&path).unwrap();
    symlink(&path, room.path().join("link")).unwrap();
    symlink(room.path(), room.path().join("parent")).unwrap();
    let here = std::env::current_dir().unwrap();
    // As many steps up as the present folder is deep, and down again.
    let up = "../".repeat(here.components().count() - 1);
    let paths = [
        room.path().join("link"),
        room.path().join("parent/store"),
        path.join("."),
        path.join("../store"),
        Path::new(&up).join(path.strip_prefix("/").unwrap()),
    ];
    for other in &paths {
        assert!(other.join("STORE").exists(), "{other:?}");
        let refused = small().open(other);
        assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{other:?}: {refused:?}");
    }
    drop(store);
    for other in &paths {
        small().open(other).unwrap();
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_ends() {
    let directory = directory();
    let store = Store::open(directory.path()).unwrap();
    let answer = |expected: &str| {
        let name = "places::the_other_process_opens_the_named_directory";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(OTHER, directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && text.contains(expected), "{text}");
    };
    answer(&format!("refused: {}", directory.path().display()));
    store.close().unwrap();
    answer("opened");
}

/// Does nothing unless another test runs it in a process of its own.
#[test]
fn the_other_process_opens_the_named_directory() {
    let Some(path) = std::env::var_os(OTHER) else { return };
    let answer = match small().open(path) {
        Ok(_store) => "opened".to_string(),
        Err(Error::AlreadyOpen { path }) => format!("refused: {}", path.display()),
        Err(error) => format!("failed: {error}"),
    };
    writeln!(std::io::stderr(), "{answer}").unwrap();
}

#[test]
fn a_store_without_its_identity_or_its_manifest_is_not_taken_for_an_empty_one() {
    for missing in ["STORE", "MANIFEST"] {
        for close in [true, false] {
            let directory = directory();
            let store = small().open(directory.path()).unwrap();
            store.insert("a").unwrap();
            if close {
                store.close().unwrap();
            } else {
                drop(store);
            }
            fs::remove_file(directory.path().join(missing)).unwrap();
            let before = names(directory.path());
            assert!(small().open(directory.path()).is_err(), "{missing}, close: {close}");
            assert!(inspect::verify(directory.path()).is_err());
            assert_eq!(names(directory.path()), before);
        }
    }
}

#[test]
fn a_creation_cut_short_is_finished_by_the_next_open() {
    let whole = directory();
    drop(small().open(whole.path()).unwrap());
    let states: [&[&str]; 4] =
        [&[], &["MANIFEST.unfinished"], &["MANIFEST"], &["MANIFEST", "STORE.unfinished"]];
    for left in states {
        let directory = directory();
        fs::write(directory.path().join("LOCK"), "").unwrap();
        for name in left {
            let from = name.trim_end_matches(".unfinished");
            fs::copy(whole.path().join(from), directory.path().join(name)).unwrap();
        }
        let store = small().open(directory.path());
        let store = store.unwrap_or_else(|e| panic!("cut short at {left:?}: {e}"));
        assert!(store.recovery().created && store.insert("a").unwrap());
        store.close().unwrap();
        assert!(small().open(directory.path()).unwrap().contains("a").unwrap());
    }
}
