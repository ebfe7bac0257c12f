//! A salvage that is cut short before any of its changes can be begun anew, and loses nothing more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use std::sync::Arc;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::Ignore;
use crate::salvage::{apply, examine, salvage};
use crate::sys::files::Directory;

fn open(path: &Path) -> Result<Engine> {
    let config = Config { stripes: 16, ..Config::default() };
    Engine::open(Arc::new(Directory::open_exclusive(path)?), config)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A store of several segments, sealed and not, with damage of each kind.
fn damaged(path: &Path, close: bool) {
    let store = open(path).unwrap();
    for number in 0..400_u64 {
        let (key, lifetime) = (format!("key {number}"), 3_600_000 << (number % 5 * 2));
        assert!(!store.check_and_set(key.as_bytes(), &[7; 40], lifetime, &mut Ignore).unwrap());
    }
    store.sync().unwrap();
    if close {
        store.close().unwrap();
    } else {
        drop(store);
    }
    let edit = |number: u64, edit: fn(&mut Vec<u8>)| {
        let path = path.join(crate::format::layout::segment_file(number));
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    edit(1, |bytes| bytes[5_000] ^= 1);
    edit(2, |bytes| bytes.truncate(6_000));
    edit(3, |bytes| bytes[30] ^= 1);
    fs::remove_file(path.join("0000000004.seg")).unwrap();
    let manifest = path.join("MANIFEST");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[20] ^= 8;
    fs::write(&manifest, bytes).unwrap();
}

fn known(path: &Path) -> BTreeSet<u64> {
    let store = open(path).unwrap();
    let knows = |number: &u64| store.get(format!("key {number}").as_bytes(), &mut Ignore).unwrap();
    (0..400).filter(knows).collect()
}

#[test]
fn a_salvage_cut_short_anywhere_can_be_begun_anew_and_keeps_as_much() {
    for close in [true, false] {
        let original = tempfile::tempdir().unwrap();
        damaged(original.path(), close);
        let whole = tempfile::tempdir().unwrap();
        copy(original.path(), whole.path());
        let report = salvage(whole.path(), None).unwrap();
        assert!(report.forgets());
        let kept = known(whole.path());
        assert!(kept.len() > 200 && kept.len() < 400, "{}", kept.len());
        let mut cuts = 0;
        for steps in 0.. {
            let directory = tempfile::tempdir().unwrap();
            copy(original.path(), directory.path());
            if !cut_after(directory.path(), steps) {
                break;
            }
            cuts += 1;
            // Either refused as before, or marked; and what is found then is right.
            if let Ok(store) = open(directory.path()) {
                assert!(store.recovery.salvaged.is_some(), "after {steps} steps");
                drop(store);
                assert_eq!(known(directory.path()), kept, "after {steps} steps");
            }
            salvage(directory.path(), None).unwrap();
            assert_eq!(known(directory.path()), kept, "after {steps} steps");
            let salvaged = open(directory.path()).unwrap().recovery.salvaged;
            assert!(salvaged.is_some(), "after {steps} steps");
            assert_every_damaged_file_is_there(original.path(), directory.path());
        }
        assert!(cuts > 10, "{cuts}");
    }
}

/// Ends a salvage before a change; false if it made fewer.
fn cut_after(path: &Path, steps: u32) -> bool {
    let directory = Directory::open_exclusive(path).unwrap();
    let mut plan = examine::examine(&directory, None).unwrap();
    let mut left = steps;
    let mut cut = false;
    let mut before = || {
        cut = left == 0;
        left = left.saturating_sub(1);
        if cut { Err(Error::Closed) } else { Ok(()) }
    };
    let _ = apply::apply(&directory, &mut plan, &mut before);
    cut
}

fn assert_every_damaged_file_is_there(original: &Path, salvaged: &Path) {
    let contents = |path: &Path| -> BTreeSet<Vec<u8>> {
        fs::read_dir(path).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    };
    let kept = contents(salvaged);
    for number in 1..4 {
        let name = crate::format::layout::segment_file(number);
        let damaged = fs::read(original.join(&name)).unwrap();
        assert!(kept.contains(&damaged), "{name}");
    }
}
